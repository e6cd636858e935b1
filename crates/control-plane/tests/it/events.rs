//! ListEvents: what the API's own changes leave.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{ACCOUNT, Api};

/// The events of a resource, which a root user sees all of.
async fn events(api: &Api, resource: &str) -> Vec<Value> {
    let path = format!("/hearth/2026-11-22/events?after=0&maxResults=1000&resource={resource}");
    let reply = api.call_at("GET", &path, Value::Null).await;
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
