//! ListEvents: what the API's own changes leave.

use http::StatusCode;
use serde_json::{Value, json};

use crate::authorization::allow;
use crate::support::{ACCOUNT, Api, configuration, image_arn, signed_by, with};

/// The events of a resource, which a root user sees all of.
async fn events(api: &Api, resource: &str) -> Vec<Value> {
    events_for(api, ("AKID", "secret"), &format!("resource={resource}")).await
}

/// What the owner of a key sees.
async fn events_for(api: &Api, (access_key, secret): (&str, &str), query: &str) -> Vec<Value> {
    let path = format!("/hearth/2026-11-22/events?after=0&maxResults=1000&{query}");
    let reply = api.send(signed_by(access_key, secret, "lambda", "GET", &path, b"")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    let Value::Array(events) = reply.body["events"].clone() else { panic!("{}", reply.body) };
    events
}

/// Of what, what about it, from what, to what, and what has set it going.
fn line(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
    let members = ["resourceType", "imageVersion", "what", "from", "to", "cause"].map(text);
    members.join(" ").replace("microvm-image", "image")
}

fn lines(events: &[Value]) -> Vec<String> {
    events.iter().map(line).collect()
}

#[tokio::test]
async fn a_connectors_life_is_told_when_it_is_decided() {
    let api = Api::start().await;
    let request = json!({
        "Name": "vpc",
        "OperatorRole": format!("arn:aws:iam::{ACCOUNT}:role/operator"),
        "ClientToken": "t",
        "Configuration": { "VpcEgressConfiguration": {
            "SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"], "NetworkProtocol": "IPv4",
            "AssociatedComputeResourceTypes": ["MicroVm"],
        } },
    });
    let made = api.call_at("POST", "/2026-04-04/network-connectors", request.clone()).await;
    let again = api.call_at("POST", "/2026-04-04/network-connectors", request).await;
    assert_eq!((made.status, &made.body), (StatusCode::ACCEPTED, &again.body));
    let arn = made.body["Arn"].as_str().unwrap();
    let path = format!("/2026-04-04/network-connectors/{}", made.body["Id"].as_str().unwrap());
    let told = events(&api, arn).await;
    let expected =
        ["network-connector - STATE - PENDING API", "network-connector - STATE PENDING ACTIVE API"];
    assert_eq!(lines(&told), expected, "a repeated call changes nothing");
    let time = |event: &Value| event["time"].as_f64().unwrap();
    assert!(time(&told[1]) > time(&told[0]), "it is said when it will be so");
    for event in &told {
        assert_eq!((&event["resource"], &event["principal"]), (&json!(arn), &json!(root())));
        assert_eq!(event["requestId"], made.headers["x-amzn-requestid"].to_str().unwrap());
    }

    while api.call_at("GET", &path, Value::Null).await.body["State"] != "ACTIVE" {
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    let role = json!({ "OperatorRole": format!("arn:aws:iam::{ACCOUNT}:role/other") });
    assert_eq!(api.call_at("PUT", &path, role).await.status, StatusCode::ACCEPTED);
    for _ in 0..2 {
        assert_eq!(api.call_at("DELETE", &path, Value::Null).await.status, StatusCode::ACCEPTED);
    }
    let expected = [
        "network-connector - VERSION 1 2 API",
        "network-connector - STATE ACTIVE DELETING API",
        "network-connector - STATE DELETING - API",
    ];
    assert_eq!(lines(&events(&api, arn).await)[2..], expected);
}

fn root() -> String {
    format!("arn:aws:iam::{ACCOUNT}:root")
}

#[tokio::test]
async fn an_images_life_is_told_with_its_versions_and_builds() {
    let api = Api::start().await;
    let target = format!("microvm-images/{}", image_arn("app"));
    let made = api.call("POST", "microvm-images", with(configuration(), json!({ "name": "app" }))).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    api.wait(&target, |image| image["state"] == "CREATE_FAILED").await;
    let tagged = format!("/2017-03-31/tags/{}", image_arn("app"));
    let tagged = api.call_at("POST", &tagged, json!({ "Tags": { "a": "1", "b": "2" } })).await;
    let status = json!({ "status": "INACTIVE" });
    let patched = api.call("PATCH", &format!("{target}/versions/1.0"), status).await;
    assert_eq!(patched.status, StatusCode::OK, "{}", patched.body);
    let updated = api.call("PUT", &target, configuration()).await;
    assert_eq!(updated.status, StatusCode::OK, "{}", updated.body);
    api.wait(&target, |image| image["state"] == "UPDATE_FAILED").await;
    let dropped = api.call("DELETE", &format!("{target}/versions/1.0"), Value::Null).await;
    api.wait(&target, |image| image["state"] == "UPDATED").await;
    let deleted = api.call("DELETE", &target, Value::Null).await;
    while api.get(&target).await.status != StatusCode::NOT_FOUND {
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }

    let told = events(&api, &image_arn("app")).await;
    assert_eq!(
        lines(&told),
        [
            "image - STATE - CREATING API",
            "image-version 1.0 STATE - PENDING API",
            "image-build 1.0 STATE - PENDING API",
            "image-build 1.0 STATE PENDING FAILED BUILD",
            "image-version 1.0 STATE PENDING FAILED BUILD",
            "image - STATE CREATING CREATE_FAILED BUILD",
            "image - TAGS 0 2 API",
            "image-version 1.0 STATUS ACTIVE INACTIVE API",
            "image - STATE CREATE_FAILED UPDATING API",
            "image-version 2.0 STATE - PENDING API",
            "image-build 2.0 STATE - PENDING API",
            "image-build 2.0 STATE PENDING FAILED BUILD",
            "image-version 2.0 STATE PENDING FAILED BUILD",
            "image - STATE UPDATING UPDATE_FAILED BUILD",
            "image-version 1.0 STATE FAILED DELETING API",
            "image - STATE UPDATE_FAILED UPDATING API",
            "image-build 1.0 STATE FAILED - API",
            "image-version 1.0 STATE DELETING - API",
            "image - STATE UPDATING UPDATED API",
            "image - STATE UPDATED DELETING API",
            "image-build 2.0 STATE FAILED - API",
            "image-version 2.0 STATE FAILED - API",
            "image - STATE DELETING - API",
        ]
    );
    let sequence: Vec<_> = told.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert!(sequence.is_sorted_by(|one, next| one < next), "{sequence:?}");
    for (numbers, reply) in [
        (0..3, &made),
        (6..7, &tagged),
        (7..8, &patched),
        (8..11, &updated),
        (14..19, &dropped),
        (19..23, &deleted),
    ] {
        for event in &told[numbers] {
            assert_eq!(event["principal"], root());
            assert_eq!(event["requestId"], reply.headers["x-amzn-requestid"].to_str().unwrap(), "{event}");
        }
    }
    assert_eq!((&told[3]["principal"], &told[3]["requestId"]), (&Value::Null, &Value::Null));
    assert!(told[3]["reason"].as_str().unwrap().starts_with("S3_NO_SUCH_KEY"), "{}", told[3]);
    assert_eq!((&told[4]["reason"], &told[16]["reason"]), (&Value::Null, &Value::Null));
    assert!(told.iter().all(|event| event["resource"] == image_arn("app")));
}

#[tokio::test]
async fn one_sees_the_events_of_what_one_may_list_them_of() {
    let api = Api::start().await;
    api.built_image("app", |_| ()).await;
    api.built_image("other", |_| ()).await;
    let connector = crate::network_connectors::recorded(&api, "vpc", 2000, None).await;
    let connector = crate::network_connectors::connector_arn(&connector);
    let app = image_arn("app");
    for (may, expected) in [(&app, 3), (&connector, 2), (&"*".to_owned(), 3 + 3 + 2)] {
        let statement = json!({ "Effect": "Allow", "Action": "lambda:ListEvents", "Resource": may });
        allow(&api, Some(json!([statement]))).await;
        let seen = events_for(&api, ("AKIAANN", "ann"), "waitSeconds=0").await;
        assert_eq!(seen.len(), expected, "{may}");
        assert!(may == "*" || seen.iter().all(|event| event["resource"] == **may), "{seen:?}");
    }
}
