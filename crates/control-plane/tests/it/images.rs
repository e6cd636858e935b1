//! Images, versions and builds.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{ACCOUNT, Api, REGION, configuration, image_arn, with};

fn request(extra: Value) -> Value {
    with(with(configuration(), json!({ "name": "app" })), extra)
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn creating_answers_with_defaults_and_nulls_and_the_failure_is_on_the_build() {
    let api = Api::start().await;
    let reply = api.call("POST", "microvm-images", request(json!({}))).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{:?}", reply.body);
    let body = reply.body;
    let mut members = keys(&body);
    members.sort_unstable();
    // As recorded from the service, and what its model has had since.
    let recorded = [
        "additionalOsCapabilities",
        "baseImageArn",
        "baseImageVersion",
        "buildPhaseOverrides",
        "buildRoleArn",
        "codeArtifact",
        "cpuConfigurations",
        "createdAt",
        "description",
        "egressNetworkConnectors",
        "environmentVariables",
        "hooks",
        "id",
        "imageArn",
        "imageVersion",
        "kmsKeyIdentifier",
        "latestActiveImageVersion",
        "latestFailedImageVersion",
        "logging",
        "name",
        "resources",
        "roleConfiguration",
        "state",
        "tags",
        "updatedAt",
    ];
    assert_eq!(members, recorded);
    assert_eq!(body["imageArn"], image_arn("app"));
    assert_eq!(body["state"], "CREATING");
    assert_eq!((&body["imageVersion"], &body["baseImageVersion"]), (&json!("1.0"), &json!("1.0")));
    assert_eq!(body["resources"], json!([{ "minimumMemoryInMiB": 2048 }]));
    let connector =
        format!("arn:aws:lambda:{REGION}:aws:network-connector:aws-network-connector:INTERNET_EGRESS");
    assert_eq!(body["egressNetworkConnectors"], json!([connector]));
    assert_eq!((&body["hooks"], &body["tags"]), (&Value::Null, &Value::Null));

    let image = format!("microvm-images/{}", image_arn("app"));
    let failed = api.wait(&image, |image| image["state"] == "CREATE_FAILED").await;
    assert_eq!(failed["latestFailedImageVersion"], "1.0");
    let builds = api.get(&format!("{image}/versions/1.0/builds")).await.body;
    assert_eq!(builds["items"][0]["buildState"], "FAILED");
    assert!(!builds["items"][0]["stateReason"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn a_customer_managed_key_is_refused_by_name_and_leaves_nothing() {
    let api = Api::start().await;
    let key = json!({ "kmsKeyIdentifier": "arn:aws:kms:us-east-1:000000000000:key/1234" });
    let refused = api.call("POST", "microvm-images", request(key.clone())).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.message().starts_with("kmsKeyIdentifier is not supported"), "{}", refused.message());
    let image = format!("microvm-images/{}", image_arn("app"));
    assert_eq!(api.get(&image).await.status, StatusCode::NOT_FOUND);
    let update = api.call("PUT", &image, with(configuration(), key)).await;
    assert!(update.message().starts_with("kmsKeyIdentifier is not supported"), "{}", update.message());
}

#[tokio::test]
async fn a_name_is_taken_once_and_a_client_token_repeats_the_answer() {
    let api = Api::start().await;
    let first = api.call("POST", "microvm-images", request(json!({ "clientToken": "t" }))).await;
    let again = api.call("POST", "microvm-images", request(json!({ "clientToken": "t" }))).await;
    assert_eq!((first.status, &first.body), (again.status, &again.body));
    let other = request(json!({ "clientToken": "t", "description": "other" }));
    let mismatch = api.call("POST", "microvm-images", other).await;
    assert_eq!(mismatch.message(), "The provided clientToken was used with different request parameters.");
    let taken = api.call("POST", "microvm-images", request(json!({}))).await;
    assert_eq!(taken.status, StatusCode::BAD_REQUEST);
    assert_eq!(taken.message(), "A MicroVM image with the name 'app' already exists in this account");
}

#[tokio::test]
async fn what_cannot_be_built_is_refused_before_anything_is_recorded() {
    let api = Api::start().await;
    let other_architecture = if cfg!(target_arch = "x86_64") { "ARM_64" } else { "X86_64" };
    for (extra, expected) in [
        (json!({ "name": null }), "Value null at 'name'"),
        (json!({ "codeArtifact": { "uri": "https://x/y" } }), "valid S3 URI in the format"),
        (json!({ "baseImageVersion": "999" }), "version 999 is available"),
        (json!({ "resources": [{ "minimumMemoryInMiB": 3000 }] }), "[512, 1024, 2048, 4096, 8192]"),
        (json!({ "cpuConfigurations": [{ "architecture": other_architecture }] }), "builds and runs"),
        (json!({ "environmentVariables": { "AWS_REGION": "x" } }), "'AWS_REGION' is reserved"),
        (json!({ "hooks": { "port": 9000, "microvmHooks": { "run": "ENABLED" } } }), "ready (/ready)"),
        (json!({ "egressNetworkConnectors": ["x"] }), "Malformed network connector ARN"),
    ] {
        let reply = api.call("POST", "microvm-images", request(extra)).await;
        assert_eq!((reply.status, reply.error_type()), (StatusCode::BAD_REQUEST, "ValidationException"));
        assert!(reply.message().contains(expected), "{}", reply.message());
    }
    assert_eq!(api.get("microvm-images").await.body, json!({ "items": [], "nextToken": null }));
}

#[tokio::test]
async fn tags_are_checked_when_an_image_is_made() {
    let api = Api::start().await;
    let many: serde_json::Map<_, _> = (0..51).map(|n| (format!("k{n}"), json!("v"))).collect();
    for (tags, expected) in [
        (json!({ "aws:x": "y" }), "begins with 'aws:', which is reserved"),
        (Value::from(many), "at most 50"),
    ] {
        let reply = api.call("POST", "microvm-images", request(json!({ "tags": tags }))).await;
        assert!(reply.message().contains(expected), "{}", reply.body);
    }
}

#[tokio::test]
async fn the_operator_may_let_every_architecture_stand_for_the_hosts() {
    let api = Api::start_with(|config| config.any_architecture = true).await;
    for (name, architecture) in [("arm", "ARM_64"), ("intel", "X86_64")] {
        let wanted = json!({ "name": name, "cpuConfigurations": [{ "architecture": architecture }] });
        let reply = api.call("POST", "microvm-images", request(wanted)).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.body);
        let builds = api.get(&format!("microvm-images/{}/versions/1.0/builds", image_arn(name))).await.body;
        let host = if cfg!(target_arch = "x86_64") { "X86_64" } else { "ARM_64" };
        assert_eq!(builds["items"][0]["architecture"], host, "{builds}");
    }
}

#[tokio::test]
async fn the_report_of_a_version_is_given_as_it_is_stored() {
    let api = Api::start().await;
    api.built_image("app", |_| ()).await;
    let target =
        |version| format!("/hearth/2026-11-22/microvm-images/{}/versions/{version}/report", image_arn("app"));
    for (version, sentence) in [("1.0", "There is no report for"), ("2.0", "2.0")] {
        let reply = api.call_at("GET", &target(version), Value::Null).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        assert!(reply.body["message"].as_str().unwrap().contains(sentence), "{:?}", reply.body);
    }
    let directory = api.directory.path().join(format!("images/{ACCOUNT}/app/1.0"));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("report.json"), r#"{"findings":[]}"#).unwrap();
    let reply = api.call_at("GET", &target("1.0"), Value::Null).await;
    assert_eq!((reply.status, reply.body), (StatusCode::OK, json!({ "findings": [] })));
}

#[tokio::test]
async fn a_built_image_shows_its_version_build_and_sizes() {
    let api = Api::start().await;
    api.built_image("app", |_| ()).await;
    let image = format!("microvm-images/{}", image_arn("app"));
    let shown = api.get(&image).await.body;
    assert_eq!(shown["tags"], json!({ "team": "a" }));
    assert_eq!((&shown["latestActiveImageVersion"], &shown["createdAt"]), (&json!("1.0"), &json!(1.7e9)));
    for spelling in ["1", "1.0"] {
        let version = api.get(&format!("{image}/versions/{spelling}")).await.body;
        assert_eq!(version["versionStateTimeBucket"], "SUCCESSFUL#23111422");
        assert_eq!((&version["status"], &version["stateReason"]), (&json!("ACTIVE"), &Value::Null));
    }
    let build = api.get(&format!("{image}/versions/1.0/builds/build-of-app")).await.body;
    assert_eq!(build["snapshotBuild"]["memorySnapshotSizeInBytes"], 3);
    assert_eq!(api.get(&format!("{image}/versions")).await.body["items"].as_array().unwrap().len(), 1);
    for missing in ["versions/2.0", "versions/x", "versions/1.0/builds/none", "versions/2.0/builds"] {
        let reply = api.get(&format!("{image}/{missing}")).await;
        assert_eq!(reply.error_type(), "ResourceNotFoundException", "{missing}");
        assert_eq!((&reply.body["resourceId"], &reply.body["resourceType"]), (&Value::Null, &Value::Null));
    }
}

#[tokio::test]
async fn images_are_listed_in_pages_and_filtered_after_counting() {
    let api = Api::start().await;
    for name in ["a1", "b1", "a2"] {
        api.built_image(name, |_| ()).await;
    }
    let names = |body: &Value| -> Vec<String> {
        body["items"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = api.get("microvm-images?maxResults=2&nameFilter=a").await.body;
    assert_eq!(names(&first), ["a1", "a2"]);
    let token = first["nextToken"].as_str().unwrap();
    let second = api.get(&format!("microvm-images?maxResults=2&nameFilter=a&nextToken={token}")).await.body;
    assert_eq!((names(&second).len(), &second["nextToken"]), (0, &Value::Null));
    for bad in ["maxResults=0", "maxResults=51", "maxResults=x", "nextToken=%21"] {
        let reply = api.get(&format!("microvm-images?{bad}")).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn there_is_one_managed_image_in_two_versions() {
    let api = Api::start().await;
    let images = api.get("managed-microvm-images").await.body;
    let arn = images["items"][0]["imageArn"].as_str().unwrap();
    assert_eq!(arn, format!("arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1"));
    let versions = api.get(&format!("managed-microvm-images/{arn}/versions?maxResults=1")).await.body;
    assert_eq!(versions["items"][0]["imageVersion"], "1");
    let token = versions["nextToken"].as_str().unwrap();
    let rest = api.get(&format!("managed-microvm-images/{arn}/versions?nextToken={token}")).await.body;
    assert_eq!((&rest["items"][0]["imageVersion"], &rest["nextToken"]), (&json!("0"), &Value::Null));
}

#[tokio::test]
async fn deleting_answers_deleting_and_then_the_image_is_gone() {
    let api = Api::start().await;
    api.built_image("app", |_| ()).await;
    let image = format!("microvm-images/{}", image_arn("app"));
    let reply = api.call("DELETE", &image, Value::Null).await;
    assert_eq!(reply.body, json!({ "imageIdentifier": image_arn("app"), "state": "DELETING" }));
    api.wait(&image, |body| body["message"].as_str().is_some_and(|text| text.contains("not found"))).await;
    assert_eq!(api.call("DELETE", &image, Value::Null).await.status, StatusCode::NOT_FOUND);
    assert!(reply.body["imageIdentifier"].as_str().unwrap().contains(ACCOUNT));
}
