//! Egress policies: connectors with rules.

use http::StatusCode;
use serde_json::{Value, json};

use super::{call, get};
use crate::support::{Api, Reply, signed};

const POLICIES: &str = "/hearth/2026-11-22/egress-policies";

async fn ask(api: &Api, method: &str, name: &str, body: Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let target = format!("{POLICIES}{name}");
    api.send(signed("secret", "lambda", method, &target, body.as_bytes())).await
}

fn message(reply: &Reply) -> &str {
    reply.body["message"].as_str().or(reply.body["Message"].as_str()).unwrap_or_default()
}

#[tokio::test]
async fn a_policy_is_a_connector_whose_rules_can_be_replaced() {
    let api = Api::start().await;
    let rules =
        json!([{ "domain": "pypi.org" }, { "cidr": "192.0.2.0/24", "protocol": "tcp", "ports": ["22"] }]);
    let made = ask(&api, "POST", "", json!({ "name": "pip", "rules": rules })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    assert_eq!((&made.body["rules"], &made.body["state"]), (&rules, &json!("ACTIVE")));
    let arn = made.body["networkConnectorArn"].as_str().unwrap().to_owned();
    let again = ask(&api, "POST", "", json!({ "name": "pip", "rules": [] })).await;
    assert_eq!((again.status, again.error_type()), (StatusCode::CONFLICT, "ResourceConflictException"));

    let listed = get(&api, "").await;
    assert_eq!(listed.body["NetworkConnectors"][0]["Type"], "EGRESS_POLICY", "{}", listed.body);
    assert_eq!(get(&api, "/pip").await.body["Arn"], arn);
    let changed = ask(&api, "PUT", "/pip", json!({ "rules": [{ "domain": "*.Example.com" }] })).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.body);
    let shown = ask(&api, "GET", "/pip", Value::Null).await;
    assert_eq!(shown.body["rules"], json!([{ "domain": "*.Example.com" }]));
    assert_eq!(shown.body["networkConnectorArn"], arn);

    let update = call(&api, "PUT", "/pip", json!({ "OperatorRole": super::ROLE })).await;
    assert!(
        update.status == StatusCode::BAD_REQUEST && message(&update).contains("only the rules"),
        "{}",
        update.body
    );
    assert_eq!(call(&api, "DELETE", "/pip", Value::Null).await.status, StatusCode::ACCEPTED);
    let gone = ask(&api, "PUT", "/pip", json!({ "rules": [] })).await;
    assert!(matches!(gone.status, StatusCode::CONFLICT | StatusCode::NOT_FOUND), "{}", gone.body);
}

#[tokio::test]
async fn rules_that_are_none_change_nothing() {
    let api = Api::start().await;
    ask(&api, "POST", "", json!({ "name": "p", "rules": [{ "domain": "a.org" }] })).await;
    let many = |count| json!(vec![json!({ "domain": "a.org" }); count]);
    for (rules, sentence) in [
        (
            json!([{ "domain": "*.com" }]),
            "Rule 1 is not valid: \"*.com\" would allow names that anybody can register",
        ),
        (json!([{ "domain": "a.org" }, {}]), "Rule 2 is not valid: a rule has either a domain or a cidr."),
        (many(5_000), "A policy has at most 1000 rules; this one has 5000."),
        (many(10_000), "must not have more than 20000 values"),
        (json!([{ "domain": 1 }]), "domain"),
        (json!("a.org"), "rules"),
        (Value::Null, "rules"),
    ] {
        for (method, target) in [("PUT", "/p"), ("POST", "")] {
            let reply = ask(&api, method, target, json!({ "name": "q", "rules": rules })).await;
            assert!(
                reply.status == StatusCode::BAD_REQUEST && message(&reply).contains(sentence),
                "{}",
                reply.body
            );
        }
    }
    assert_eq!(ask(&api, "GET", "/p", Value::Null).await.body["rules"], json!([{ "domain": "a.org" }]));
    assert_eq!(ask(&api, "GET", "/q", Value::Null).await.status, StatusCode::NOT_FOUND);
    let id = super::recorded(&api, "vpc", 1000, None).await;
    let none = ask(&api, "GET", &format!("/{id}"), Value::Null).await;
    assert!(message(&none).contains("is no egress policy"), "{}", none.body);
}

#[tokio::test]
async fn the_operator_says_what_is_reached_by_default_and_a_policy_that_is_missing_opens_nothing() {
    let api = Api::start_with(|config| {
        config.default_egress.all = "NO_EGRESS".to_owned();
        config.default_egress.by_account = [(crate::support::ACCOUNT.to_owned(), "pip".to_owned())].into();
    })
    .await;
    let image = json!({
        "name": "app", "codeArtifact": { "uri": "s3://b/k" }, "buildRoleArn": "arn:aws:iam::000000000000:role/build",
        "baseImageArn": "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
    });
    let create = async || api.call_at("POST", "/2025-09-09/microvm-images", image.clone()).await;
    let refused = create().await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.body);
    assert!(
        message(&refused).contains("its egress policy pip allows, and it has none of that name"),
        "{}",
        refused.body
    );
    let made = ask(&api, "POST", "", json!({ "name": "pip", "rules": [] })).await;
    let created = create().await;
    assert_eq!(
        created.body["egressNetworkConnectors"][0], made.body["networkConnectorArn"],
        "{}",
        created.body
    );
}
