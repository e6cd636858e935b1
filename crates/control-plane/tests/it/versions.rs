//! Later versions of an image: updates, activation, deletion.

use hearth_api::{ImageArn, ImageVersion, ImageVersionState, MicrovmState};
use hearth_records::{
    BegunUpdate, BuildRecord, Building, Cause, Change, ImageVersionRecord, ImageVersions as _, Images as _,
    NodeId, Origin, Quotas, Written,
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{Api, configuration, image_arn, with};

fn target(suffix: &str) -> String {
    format!("microvm-images/{}{suffix}", image_arn("app"))
}

/// An image with a successful version 1.0 and a successful version 2.0.
async fn with_two_versions() -> Api {
    let api = Api::start().await;
    let arn = api.built_image("app", |_| ()).await;
    let was = updating(&api, &arn).await;
    let mut to = was.clone();
    to.version = was.version.entering(ImageVersionState::Successful, was.image.updated_at);
    to.build = was.build.entering(hearth_api::BuildState::Successful);
    to.image = was.image.entering(hearth_api::ImageState::Updated, was.image.updated_at);
    to.image.latest_active_version = Some(ImageVersion(2));
    let written = api.store.change_build(&was, &to, &Origin::of(Cause::Build)).await.unwrap();
    assert_eq!(written, Written::Yes);
    api
}

/// Begins an update to version 2.0 that nobody builds.
async fn updating(api: &Api, arn: &ImageArn) -> Building {
    let was = api.store.image(arn).await.unwrap().unwrap();
    let first = api.store.image_version(arn, ImageVersion::FIRST).await.unwrap().unwrap();
    let mut image = was.entering(hearth_api::ImageState::Updating, was.updated_at);
    image.last_version = ImageVersion(2);
    let (node, now) = (NodeId::nobody(), was.updated_at);
    let version = ImageVersionRecord::pending(arn.clone(), ImageVersion(2), first.configuration, node, now);
    let to = Building { image, build: BuildRecord::pending(&version), version };
    let begun = api.store.begin_update(&was, &to, None, None, &Quotas::default()).await.unwrap();
    assert_eq!(begun, BegunUpdate::Changed(Change::Written(Written::Yes)));
    to
}

#[tokio::test]
async fn an_update_is_a_new_version_that_inherits_nothing() {
    let api = Api::start().await;
    api.built_image("app", |version| version.configuration.description = Some("old".to_owned())).await;
    let reply = api.call("PUT", &target(""), configuration()).await;
    assert_eq!(reply.status, StatusCode::OK, "{:?}", reply.body);
    let body = reply.body;
    assert_eq!((&body["imageVersion"], &body["state"]), (&json!("2.0"), &json!("UPDATING")));
    assert_eq!(body["latestActiveImageVersion"], "1.0", "until the new one is built");
    assert_eq!((&body["description"], &body["hooks"]), (&Value::Null, &Value::Null));
    assert_eq!(body["resources"], json!([{ "minimumMemoryInMiB": 2048 }]));
    assert!(body.get("tags").is_none(), "an update has no tags, in or out");

    // Nothing can be built here: the version is used up all the same, and the old one stays.
    let failed = api.wait(&target(""), |image| image["state"] == "UPDATE_FAILED").await;
    assert_eq!(failed["latestFailedImageVersion"], "2.0");
    assert_eq!(failed["latestActiveImageVersion"], "1.0");
    assert_eq!(failed["tags"], json!({ "team": "a" }));
    let third = api.call("PUT", &target(""), configuration()).await;
    assert_eq!(third.body["imageVersion"], "3.0");
    let versions = api.get(&target("/versions")).await.body;
    let numbers: Vec<&Value> =
        versions["items"].as_array().unwrap().iter().map(|item| &item["imageVersion"]).collect();
    assert_eq!(numbers, ["3.0", "2.0", "1.0"]);
}

#[tokio::test]
async fn an_update_can_be_repeated_by_its_client_token() {
    let api = Api::start().await;
    api.built_image("app", |_| ()).await;
    let request = with(configuration(), json!({ "clientToken": "t" }));
    let first = api.call("PUT", &target(""), request.clone()).await;
    api.wait(&target(""), |image| image["state"] == "UPDATE_FAILED").await;
    let again = api.call("PUT", &target(""), request.clone()).await;
    assert_eq!((again.status, &again.body), (StatusCode::OK, &first.body));
    let other = api.call("PUT", &target(""), with(request, json!({ "description": "x" }))).await;
    assert_eq!(other.message(), "The provided clientToken was used with different request parameters.");
    assert_eq!(api.get(&target("/versions")).await.body["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn updates_of_nothing_of_a_busy_image_and_without_members_are_refused() {
    let api = Api::start().await;
    let missing = api.call("PUT", &target(""), configuration()).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert_eq!(missing.message(), format!("MicroVMImage not found for MicroVMImageID: {}", image_arn("app")));
    let arn = api.built_image("app", |_| ()).await;
    let empty = api.call("PUT", &target(""), json!({})).await;
    assert!(empty.message().starts_with("3 validation errors detected: Value null at 'baseImageArn'"));

    updating(&api, &arn).await;
    let patch = json!({ "status": "INACTIVE" });
    for (method, suffix, body) in [
        ("PUT", "", configuration()),
        ("PATCH", "/versions/1.0", patch),
        ("DELETE", "/versions/1.0", Value::Null),
    ] {
        let reply = api.call(method, &target(suffix), body).await;
        assert_eq!((reply.status, reply.error_type()), (StatusCode::CONFLICT, "ConflictException"));
        assert_eq!(reply.message(), "MicroVM Image is already in state: UPDATING");
    }
    let reply = api.call("DELETE", &target(""), Value::Null).await;
    let expected = format!("Cannot delete MicroVM image in its current state: {}", image_arn("app"));
    assert_eq!((reply.status, reply.message()), (StatusCode::BAD_REQUEST, expected.as_str()));
}

#[tokio::test]
async fn the_newest_active_version_is_launched() {
    let api = with_two_versions().await;
    let run = async |version: Option<&str>| {
        let request = json!({ "imageIdentifier": image_arn("app"), "imageVersion": version });
        api.call("POST", "microvms", request).await
    };
    assert_eq!(run(None).await.body["imageVersion"], "2.0");
    let reply = api.call("PATCH", &target("/versions/2.0"), json!({ "status": "INACTIVE" })).await;
    assert_eq!((reply.status, &reply.body["status"]), (StatusCode::OK, &json!("INACTIVE")));
    assert_eq!(api.get(&target("")).await.body["latestActiveImageVersion"], "1.0");
    assert_eq!(run(None).await.body["imageVersion"], "1.0");
    assert_eq!(run(Some("2.0")).await.status, StatusCode::NOT_FOUND);
    api.call("PATCH", &target("/versions/1.0"), json!({ "status": "INACTIVE" })).await;
    assert_eq!(api.get(&target("")).await.body["latestActiveImageVersion"], Value::Null);
    let message = format!("No active version found for MicroVM image {}", image_arn("app"));
    assert_eq!(run(None).await.message(), message);
    api.call("PATCH", &target("/versions/2.0"), json!({ "status": "ACTIVE" })).await;
    assert_eq!(run(None).await.body["imageVersion"], "2.0");

    let bad = api.call("PATCH", &target("/versions/2.0"), json!({ "status": "ON" })).await;
    assert!(bad.message().contains("Member must satisfy enum value set: [ACTIVE, INACTIVE]"));
    let missing = api.call("PATCH", &target("/versions/3.0"), json!({ "status": "ACTIVE" })).await;
    assert_eq!(
        missing.message(),
        format!("MicroVMImage not found for MicroVMImage: {}, Version: 3.0", image_arn("app"))
    );
}

#[tokio::test]
async fn a_deleted_version_is_gone_and_its_number_is_not_given_again() {
    let api = with_two_versions().await;
    let reply = api.call("DELETE", &target("/versions/2.0"), Value::Null).await;
    let expected = json!({ "imageIdentifier": image_arn("app"), "imageVersion": "2.0", "state": "DELETING" });
    assert_eq!((reply.status, reply.body), (StatusCode::OK, expected));
    let image = api.wait(&target(""), |image| image["state"] == "UPDATED").await;
    assert_eq!(image["latestActiveImageVersion"], "1.0");
    assert_eq!(api.get(&target("/versions/2.0")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(api.get(&target("/versions/2.0/builds")).await.status, StatusCode::NOT_FOUND);
    let last = api.call("DELETE", &target("/versions/1.0"), Value::Null).await;
    assert_eq!(last.message(), "This is the last version. Please delete the entire image");
    assert_eq!(api.call("PUT", &target(""), configuration()).await.body["imageVersion"], "3.0");
}

#[tokio::test]
async fn a_version_with_microvms_stays() {
    let api = with_two_versions().await;
    api.recorded_microvm(MicrovmState::Suspended).await;
    let reply = api.call("DELETE", &target("/versions/1.0"), Value::Null).await;
    assert_eq!((reply.status, reply.error_type()), (StatusCode::BAD_REQUEST, "ValidationException"));
    assert_eq!(reply.message(), "Cannot delete microvm image with running microvms.");
    assert_eq!(api.call("DELETE", &target("/versions/2.0"), Value::Null).await.status, StatusCode::OK);
}
