//! Clients that do not wait for the answer.

use serde_json::json;

use crate::support::{Api, configuration, signed, with};

#[tokio::test]
async fn a_request_that_came_is_done_though_the_client_is_gone() {
    let api = Api::start().await;
    let body = with(configuration(), json!({ "name": "app" })).to_string();
    let request = signed("secret", "lambda", "POST", "/2025-09-09/microvm-images", body.as_bytes());
    // Dropping the future is what hyper does when the client hangs up.
    tokio::select! {
        biased;
        reply = api.send(request) => panic!("answered before the client could go: {reply:?}"),
        () = std::future::ready(()) => {}
    }
    let built = |images: &serde_json::Value| images["items"][0]["state"] == "CREATE_FAILED";
    api.wait("microvm-images", built).await;
}
