//! Tags.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{ACCOUNT, Api, image_arn};

fn target(name: &str) -> String {
    format!("/2017-03-31/tags/{}", image_arn(name))
}

#[tokio::test]
async fn tags_are_set_listed_and_taken_away() {
    let api = Api::start().await;
    api.built_image("app", |_| ()).await;
    let encoded = target("app").replace(':', "%3A");
    let list = || api.call_at("GET", &encoded, Value::Null);
    assert_eq!(list().await.body, json!({ "Tags": { "team": "a" } }));
    let reply = api.call_at("POST", &target("app"), json!({ "Tags": { "team": "b", "stage": "" } })).await;
    assert_eq!((reply.status, reply.body), (StatusCode::NO_CONTENT, Value::Null));
    assert_eq!(list().await.body, json!({ "Tags": { "stage": "", "team": "b" } }));
    let image = api.get(&format!("microvm-images/{}", image_arn("app"))).await.body;
    assert_eq!(image["tags"], json!({ "stage": "", "team": "b" }));
    let untag = format!("{}?tagKeys=team&tagKeys=none&tagKeys=stage", target("app"));
    assert_eq!(api.call_at("DELETE", &untag, Value::Null).await.status, StatusCode::NO_CONTENT);
    assert_eq!(list().await.body, json!({ "Tags": {} }));
}

#[tokio::test]
async fn network_connectors_have_tags_too() {
    let api = Api::start().await;
    let request = json!({
        "Name": "vpc",
        "OperatorRole": format!("arn:aws:iam::{ACCOUNT}:role/operator"),
        "ClientToken": "t",
        "Tags": { "a": "1" },
        "Configuration": { "VpcEgressConfiguration": {
            "SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"], "NetworkProtocol": "IPv4",
            "AssociatedComputeResourceTypes": ["MicroVm"],
        } },
    });
    let made = api.call_at("POST", "/2026-04-04/network-connectors", request).await;
    let target = format!("/2017-03-31/tags/{}", made.body["Arn"].as_str().unwrap());
    api.call_at("POST", &target, json!({ "Tags": { "b": "2" } })).await;
    api.call_at("DELETE", &format!("{target}?tagKeys=a"), Value::Null).await;
    assert_eq!(api.call_at("GET", &target, Value::Null).await.body, json!({ "Tags": { "b": "2" } }));
    let none = "/2017-03-31/tags/arn:aws:lambda:us-east-1:000000000000:network-connector:nc-none";
    assert_eq!(api.call_at("GET", none, Value::Null).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_cannot_be_tagged_is_refused_and_changes_nothing() {
    let api = Api::start().await;
    api.built_image("app", |_| ()).await;
    let many: serde_json::Map<_, _> = (0..50).map(|n| (format!("k{n}"), json!("v"))).collect();
    for (path, body, status, expected) in [
        (target("none"), json!({ "Tags": {} }), StatusCode::NOT_FOUND, "MicroVMImage not found"),
        (target("app"), json!({}), StatusCode::BAD_REQUEST, "Value null at 'tags'"),
        (
            target("app"),
            json!({ "Tags": { "a%": "" } }),
            StatusCode::BAD_REQUEST,
            "regular expression pattern",
        ),
        (target("app"), json!({ "Tags": { "aws:x": "" } }), StatusCode::BAD_REQUEST, "reserved"),
        (target("app"), json!({ "Tags": many }), StatusCode::BAD_REQUEST, "at most 50 tags"),
        ("/2017-03-31/tags/app".to_owned(), json!({ "Tags": {} }), StatusCode::BAD_REQUEST, "at 'resource'"),
    ] {
        let reply = api.call_at("POST", &path, body).await;
        assert_eq!(reply.status, status, "{:?}", reply.body);
        assert!(reply.message().contains(expected), "{}", reply.message());
    }
    let reply = api.call_at("DELETE", &target("app"), Value::Null).await;
    assert_eq!((reply.status, reply.message().contains("'tagKeys'")), (StatusCode::BAD_REQUEST, true));
    assert_eq!(api.call_at("GET", &target("app"), Value::Null).await.body["Tags"], json!({ "team": "a" }));
}

/// The kind: an answer, or what is read of a request, takes no more memory than the request.
#[tokio::test]
async fn values_are_counted_before_they_are_read_and_few_violations_are_told() {
    let api = Api::start().await;
    let tags = |count: usize, value: Value| {
        Value::Object((0..count).map(|n| (n.to_string(), value.clone())).collect())
    };
    let long = json!("x".repeat(5000));
    for (tags, told) in [
        (tags(20_001, json!("")), "must not have more than 20000 values"),
        (tags(1000, json!(1)), "20 validation errors detected"),
        (tags(30, long), "Value at 'tags"),
    ] {
        let reply = api.call_at("POST", &target("none"), json!({ "Tags": tags })).await;
        assert_eq!((reply.status, reply.error_type()), (StatusCode::BAD_REQUEST, "ValidationException"));
        assert!(reply.message().contains(told), "{}", reply.message());
        assert!(reply.message().len() < 8 << 10, "{}", reply.message().len());
    }
}
