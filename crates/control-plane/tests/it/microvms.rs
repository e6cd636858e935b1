//! MicroVMs and their tokens.

use hearth_api::{ImageVersionStatus, MicrovmState};
use hearth_records::Microvms as _;
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{Api, REGION, image_arn, with};

fn run(extra: Value) -> Value {
    with(json!({ "imageIdentifier": image_arn("app") }), extra)
}

async fn with_image() -> Api {
    let api = Api::start().await;
    api.built_image("app", |_| ()).await;
    api
}

#[tokio::test]
async fn running_answers_pending_at_once_with_defaults_and_nulls() {
    let api = with_image().await;
    let reply = api.call("POST", "microvms", run(json!({}))).await;
    assert_eq!(reply.status, StatusCode::OK, "{:?}", reply.body);
    let body = reply.body;
    let id = body["microvmId"].as_str().unwrap();
    let endpoint = body["endpoint"].as_str().unwrap();
    let label = endpoint.strip_suffix(&format!(".lambda-microvm.{REGION}.localhost")).unwrap();
    assert!(id.starts_with("microvm-") && !id.ends_with(label));
    let connector =
        |name: &str| format!("arn:aws:lambda:{REGION}:aws:network-connector:aws-network-connector:{name}");
    let expected = json!({
        "microvmId": id,
        "state": "PENDING",
        "endpoint": endpoint,
        "imageArn": image_arn("app"),
        "imageVersion": "1.0",
        "executionRoleArn": null,
        "idlePolicy": null,
        "maximumDurationInSeconds": 28800,
        "startedAt": body["startedAt"],
        "terminatedAt": null,
        "stateReason": null,
        "kmsKeyIdentifier": null,
        "terminationReasonCode": null,
        "ingressNetworkConnectors": [connector("HTTP_INGRESS")],
        "egressNetworkConnectors": [connector("INTERNET_EGRESS")],
    });
    assert_eq!(body, expected);

    // This host cannot launch anything; the record stays and says why.
    let ended = api.wait(&format!("microvms/{id}"), |body| body["state"] == "TERMINATED").await;
    assert!(!ended["stateReason"].as_str().unwrap().is_empty());
    assert!(ended["terminatedAt"].as_f64().unwrap() >= ended["startedAt"].as_f64().unwrap());
}

#[tokio::test]
async fn an_endpoint_on_another_port_says_so() {
    let api = Api::start_with(|config| config.endpoint_port = 8443).await;
    api.built_image("app", |_| ()).await;
    let body = api.call("POST", "microvms", run(json!({}))).await.body;
    assert!(body["endpoint"].as_str().unwrap().ends_with(".localhost:8443"));
}

#[tokio::test]
async fn only_active_versions_run_and_one_text_says_so() {
    let api = with_image().await;
    api.built_image("off", |version| version.status = ImageVersionStatus::Inactive).await;
    for (name, version) in
        [("none", None), ("off", None), ("off", Some("1.0")), ("app", Some("2.0")), ("app", Some("1"))]
    {
        let mut request = json!({ "imageIdentifier": image_arn(name) });
        let mut expected = format!("No active version found for MicroVM image {}", image_arn(name));
        if let Some(version) = version {
            request["imageVersion"] = json!(version);
            expected = format!("{expected} and version {version}");
        }
        let reply = api.call("POST", "microvms", request).await;
        assert_eq!((reply.status, reply.message()), (StatusCode::NOT_FOUND, expected.as_str()));
        assert_eq!(reply.error_type(), "ResourceNotFoundException");
    }
}

#[tokio::test]
async fn a_client_token_names_one_microvm_even_when_the_image_is_gone() {
    let api = with_image().await;
    let request = run(json!({ "clientToken": "t" }));
    let first = api.call("POST", "microvms", request.clone()).await.body;
    let id = first["microvmId"].as_str().unwrap().to_owned();
    api.wait(&format!("microvms/{id}"), |body| body["state"] == "TERMINATED").await;
    let image = format!("microvm-images/{}", image_arn("app"));
    api.call("DELETE", &image, Value::Null).await;
    api.wait(&image, |body| body["message"].is_string()).await;
    assert_eq!(api.call("POST", "microvms", request).await.body, first);
    let other = api.call("POST", "microvms", run(json!({ "clientToken": "t", "imageVersion": "1.0" }))).await;
    assert_eq!((other.status, other.error_type()), (StatusCode::BAD_REQUEST, "ValidationException"));
    assert_eq!(api.get("microvms").await.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn bad_settings_are_refused() {
    let api = with_image().await;
    let idle = |seconds: u32| {
        json!({ "idlePolicy": {
            "maxIdleDurationSeconds": seconds, "suspendedDurationSeconds": 60, "autoResumeEnabled": true,
        } })
    };
    for (extra, expected) in [
        (
            idle(59),
            "Value '59' at 'idlePolicy.maxIdleDurationSeconds' failed to satisfy constraint: Member must have value \
             greater than or equal to 60",
        ),
        (json!({ "idlePolicy": { "maxIdleDurationSeconds": 60 } }), "2 validation errors detected"),
        (json!({ "maximumDurationInSeconds": 28801 }), "less than or equal to 28800"),
        (json!({ "runHookPayload": "x" }), "The run hook must be enabled"),
        (json!({ "runHookPayload": "x".repeat(4097) }), "length less than or equal to 4096"),
        (json!({ "imageIdentifier": "app" }), "Malformed ARN"),
        (json!({ "egressNetworkConnectors": ["arn:a", "arn:b"] }), "Only one egress network connector"),
    ] {
        let reply = api.call("POST", "microvms", run(extra)).await;
        assert_eq!((reply.status, reply.error_type()), (StatusCode::BAD_REQUEST, "ValidationException"));
        assert!(reply.message().contains(expected), "{}", reply.message());
    }
    let longer = Api::start_with(|config| config.maximum_duration_seconds = 0).await;
    longer.built_image("app", |_| ()).await;
    let reply = longer.call("POST", "microvms", run(json!({ "maximumDurationInSeconds": 604_800 }))).await;
    assert_eq!((reply.status, &reply.body["maximumDurationInSeconds"]), (StatusCode::OK, &json!(604_800)));
    let reply = longer.call("POST", "microvms", run(json!({}))).await;
    assert_eq!(reply.body["maximumDurationInSeconds"], 28_800);
    let shorter = Api::start_with(|config| config.maximum_duration_seconds = 60).await;
    shorter.built_image("app", |_| ()).await;
    let reply = shorter.call("POST", "microvms", run(json!({}))).await;
    assert_eq!(reply.body["maximumDurationInSeconds"], 60);
    let lower = Api::start_with(|config| config.minimum_idle_seconds = 1).await;
    lower.built_image("app", |_| ()).await;
    assert_eq!(lower.call("POST", "microvms", run(idle(1))).await.status, StatusCode::OK);
}

#[tokio::test]
async fn after_the_end_nothing_changes_but_terminating_again_is_fine() {
    let api = with_image().await;
    let id =
        api.call("POST", "microvms", run(json!({}))).await.body["microvmId"].as_str().unwrap().to_owned();
    let microvm = format!("microvms/{id}");
    api.wait(&microvm, |body| body["state"] == "TERMINATED").await;
    for request in ["suspend", "resume"] {
        let reply = api.call("POST", &format!("{microvm}/{request}"), Value::Null).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        let expected = format!("The MicroVM {id} has been terminated and its state cannot be changed.");
        assert_eq!(reply.message(), expected);
    }
    let reply = api.call("DELETE", &microvm, Value::Null).await;
    assert_eq!((reply.status, reply.body), (StatusCode::OK, json!({})));
    for (method, target) in [("GET", ""), ("DELETE", ""), ("POST", "/suspend"), ("POST", "/resume")] {
        let reply = api.call(method, &format!("microvms/microvm-none{target}"), Value::Null).await;
        assert_eq!(
            (reply.status, reply.message()),
            (StatusCode::NOT_FOUND, "MicroVM not found: microvm-none")
        );
    }
}

#[tokio::test]
async fn microvms_are_listed_with_five_members_newest_first() {
    let api = with_image().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let body = api.call("POST", "microvms", run(json!({}))).await.body;
        ids.push(body["microvmId"].as_str().unwrap().to_owned());
    }
    let (mut seen, mut query) = (Vec::new(), "maxResults=2".to_owned());
    loop {
        let page = api.get(&format!("microvms?{query}")).await.body;
        for item in page["items"].as_array().unwrap() {
            assert_eq!(item.as_object().unwrap().len(), 5);
            seen.push(item["microvmId"].as_str().unwrap().to_owned());
        }
        match page["nextToken"].as_str() {
            Some(token) => query = format!("maxResults=2&nextToken={token}"),
            None => break,
        }
    }
    seen.sort();
    ids.sort();
    assert_eq!(seen, ids);
    for (query, expected) in [
        (format!("imageIdentifier={}", image_arn("app")), 3),
        (format!("imageIdentifier={}", image_arn("other")), 0),
        ("imageVersion=2.0".to_owned(), 0),
    ] {
        let found = api.get(&format!("microvms?{query}")).await.body["items"].as_array().unwrap().len();
        assert_eq!(found, expected, "{query}");
    }
}

#[tokio::test]
async fn a_token_opens_the_ports_that_were_asked_for() {
    let api = with_image().await;
    let id = api.recorded_microvm(MicrovmState::Suspended).await;
    let target = format!("microvms/{id}/auth-token");
    let ports = json!([{ "port": 8080 }, { "range": { "startPort": 9000, "endPort": 9001 } }]);
    for (extra, expected) in [
        (json!({ "expirationInMinutes": 61 }), "ExpirationMinutes 61 exceeded max allowed of 60."),
        (json!({ "expirationInMinutes": 0 }), "greater than or equal to 1"),
        (json!({ "allowedPorts": [] }), "length greater than or equal to 1"),
        (json!({ "allowedPorts": [{ "port": 70000 }] }), "less than or equal to 65535"),
        (json!({ "allowedPorts": [{}] }), "exactly one of [port, range, allPorts]"),
        (json!({ "allowedPorts": [{ "range": { "startPort": 2, "endPort": 1 } }] }), "ends before it starts"),
    ] {
        let request = with(json!({ "expirationInMinutes": 5, "allowedPorts": ports }), extra);
        let reply = api.call("POST", &target, request).await;
        assert!(reply.message().contains(expected), "{}", reply.message());
    }
    let request = json!({ "expirationInMinutes": 5, "allowedPorts": ports });
    let reply = api.call("POST", &target, request.clone()).await;
    let tokens = reply.body["authToken"].as_object().unwrap();
    assert_eq!(tokens.keys().collect::<Vec<_>>(), ["X-aws-proxy-auth"]);
    let token = tokens["X-aws-proxy-auth"].as_str().unwrap();
    let now = jiff::Timestamp::now().as_second();
    let claims = api.token_keys.open(token).unwrap();
    assert_eq!(claims.microvm, id);
    assert!(claims.opens(9001) && !claims.opens(9002));
    assert!(claims.is_valid_at(now + 290) && !claims.is_valid_at(now + 310));

    let ended = api.recorded_microvm(MicrovmState::Terminated).await;
    let reply = api.call("POST", &format!("microvms/{ended}/auth-token"), request).await;
    assert!(reply.message().contains("has been terminated"));
    let foreign = json!({ "expirationInMinutes": 5, "allowedPorts": [{ "allPorts": {} }] });
    let reply = api.call("POST", "microvms/microvm-none/auth-token", foreign).await;
    assert_eq!(reply.message(), "MicroVM not found: microvm-none");
}

#[tokio::test]
async fn a_shell_token_needs_the_shell_connector() {
    let api = with_image().await;
    let id = api.recorded_microvm(MicrovmState::Running).await;
    let request = json!({ "expirationInMinutes": 60 });
    let reply = api.call("POST", &format!("microvms/{id}/shell-auth-token"), request.clone()).await;
    assert_eq!((reply.status, reply.error_type()), (StatusCode::BAD_REQUEST, "ValidationException"));
    assert_eq!(
        reply.message(),
        "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM."
    );
    let id = api.recorded_microvm_with(MicrovmState::Running, &["SHELL_INGRESS", "ALL_INGRESS"]).await;
    let reply = api.call("POST", &format!("microvms/{id}/shell-auth-token"), request.clone()).await;
    assert_eq!(
        reply.message(),
        "ALL_INGRESS cannot be combined with other ingress network connectors; use HTTP_INGRESS and/or \
         SHELL_INGRESS instead"
    );
    let id = api.recorded_microvm_with(MicrovmState::Running, &["HTTP_INGRESS", "SHELL_INGRESS"]).await;
    let target = format!("microvms/{id}/shell-auth-token");
    let reply = api.call("POST", &target, request).await;
    let token = reply.body["authToken"]["X-aws-proxy-auth"].as_str().unwrap();
    let claims = api.token_keys.open(token).unwrap();
    assert_eq!((&claims.microvm, claims.kind), (&id, hearth_auth::TokenKind::Shell));
    assert!(claims.opens(8022) && !claims.opens(8080));
    let late = api.call("POST", &target, json!({ "expirationInMinutes": 61 })).await;
    assert_eq!(late.message(), "ExpirationMinutes 61 exceeded max allowed of 60.");
}

#[tokio::test]
async fn a_list_goes_on_where_a_record_has_expired() {
    let api = with_image().await;
    for _ in 0..4 {
        api.recorded_microvm(MicrovmState::Suspended).await;
    }
    let ended = json!(api.recorded_microvm(MicrovmState::Terminated).await.to_string());
    let all = api.get("microvms").await.body;
    let all: Vec<&Value> =
        all["items"].as_array().unwrap().iter().map(|microvm| &microvm["microvmId"]).collect();
    let place = all.iter().position(|id| **id == ended).unwrap();
    let page = api.get(&format!("microvms?maxResults={}", place + 1)).await.body;
    assert_eq!(page["items"][place]["microvmId"], ended);
    let Some(token) = page["nextToken"].as_str() else {
        assert_eq!(place, all.len() - 1, "only the last page has no successor");
        return;
    };
    api.store.sweep_ended_microvms(hearth_api::Timestamp::now()).await.unwrap();
    assert_eq!(api.get("microvms").await.body["items"].as_array().unwrap().len(), 4, "it has expired");
    let rest = api.get(&format!("microvms?nextToken={token}")).await.body;
    let rest: Vec<&Value> =
        rest["items"].as_array().unwrap().iter().map(|microvm| &microvm["microvmId"]).collect();
    assert_eq!(rest, all[place + 1..]);
}
