//! What AWS does not have: revocation of tokens, rotation of their keys, counters of endpoints.

use hearth_api::{AccountId, MicrovmId, MicrovmState};
use hearth_auth::TokenError;
use hearth_records::Microvms as _;
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::Api;

async fn token(api: &Api, id: &MicrovmId) -> String {
    let request = json!({ "expirationInMinutes": 1, "allowedPorts": [{ "allPorts": {} }] });
    let reply = api.call("POST", &format!("microvms/{id}/auth-token"), request).await;
    reply.body["authToken"]["X-aws-proxy-auth"].as_str().unwrap().to_owned()
}

fn verdict(api: &Api, token: &str) -> Option<TokenError> {
    api.token_keys.open(token).err()
}

#[tokio::test]
async fn tokens_are_revoked_for_one_microvm_and_made_anew() {
    let api = Api::start().await;
    api.built_image("app", |_| ()).await;
    let id = api.recorded_microvm(MicrovmState::Suspended).await;
    let other = api.recorded_microvm(MicrovmState::Running).await;
    let (first, others) = (token(&api, &id).await, token(&api, &other).await);
    for times in 1..3 {
        let path = format!("/hearth/2026-11-22/microvms/{id}/auth-tokens");
        let reply = api.call_at("DELETE", &path, Value::Null).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
        assert_eq!(reply.body, json!({ "microvmId": id, "revocations": times }));
        assert_eq!(verdict(&api, &first), Some(TokenError::Revoked));
        let next = token(&api, &id).await;
        assert_eq!(verdict(&api, &next), None);
        assert_eq!(verdict(&api, &others), None);
    }
    assert_eq!(api.store.token_revocations().await.unwrap(), [(id, 2)]);

    let missing = "/hearth/2026-11-22/microvms/microvm-none/auth-tokens";
    let reply = api.call_at("DELETE", missing, Value::Null).await;
    assert_eq!((reply.status, reply.error_type()), (StatusCode::NOT_FOUND, "ResourceNotFoundException"));
}

#[tokio::test]
async fn counters_are_those_of_the_microvm() {
    let api = Api::start().await;
    api.built_image("app", |_| ()).await;
    let id = api.recorded_microvm(MicrovmState::Running).await;
    let reply =
        api.call_at("GET", &format!("/hearth/2026-11-22/microvms/{id}/endpoint-counters"), Value::Null).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    let expected = json!({
        "since": 1_700_000_000.0, "requests": id.as_str().len(), "errors": 0, "resumeWaits": 1,
        "resumeWaitMilliseconds": 2, "bytesIn": 3, "bytesOut": 4,
    });
    assert_eq!(reply.body, expected);
}

#[tokio::test]
async fn keys_are_rotated_for_the_operator_and_not_too_often() {
    let path = "/hearth/2026-11-22/endpoint-token-keys";
    let api = Api::start().await;
    let reply = api.call_at("POST", path, Value::Null).await;
    assert_eq!((reply.status, reply.error_type()), (StatusCode::CONFLICT, "ConflictException"));
    assert!(reply.message().contains("8 times"), "{}", reply.message());
    let api = Api::start_with(|config| config.operator = AccountId::from_stored("999999999999")).await;
    let reply = api.call_at("POST", path, Value::Null).await;
    assert_eq!((reply.status, reply.error_type()), (StatusCode::FORBIDDEN, "AccessDeniedException"));
}
