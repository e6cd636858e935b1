//! The operations on microVMs that commands call.

use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Client, encode};
pub(crate) use crate::items::MicrovmItem;
use crate::resolve;

/// Between two looks at a state that is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What commands read of one microVM.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Microvm {
    /// What a list says too.
    #[serde(flatten)]
    pub(crate) item: MicrovmItem,
    /// Host name, with the port when that is not 443.
    pub(crate) endpoint: String,
    /// Why it ended.
    pub(crate) state_reason: Option<String>,
}

fn microvm_path(id: &str) -> String {
    format!("/microvms/{}", encode(id))
}

/// ListMicrovms, all pages.
pub(crate) async fn list(client: &Client) -> anyhow::Result<Vec<Value>> {
    client.list("/microvms").await
}

/// Reads listed microVMs.
pub(crate) fn typed(items: Vec<Value>) -> anyhow::Result<Vec<MicrovmItem>> {
    serde_json::from_value(Value::Array(items)).context("the list of microVMs is not readable")
}

/// RunMicrovm.
pub(crate) async fn run(client: &Client, request: Value) -> anyhow::Result<Value> {
    client.microvms(Method::POST, "/microvms", String::new(), Some(request)).await
}

/// GetMicrovm: the API's JSON.
pub(crate) async fn get(client: &Client, id: &str) -> anyhow::Result<Value> {
    client.microvms(Method::GET, &microvm_path(id), String::new(), None).await
}

/// GetMicrovm, read.
pub(crate) async fn describe(client: &Client, id: &str) -> anyhow::Result<Microvm> {
    serde_json::from_value(get(client, id).await?).context("the microVM is not readable")
}

/// SuspendMicrovm.
pub(crate) async fn suspend(client: &Client, id: &str) -> anyhow::Result<Value> {
    client.microvms(Method::POST, &format!("{}/suspend", microvm_path(id)), String::new(), None).await
}

/// ResumeMicrovm.
pub(crate) async fn resume(client: &Client, id: &str) -> anyhow::Result<Value> {
    client.microvms(Method::POST, &format!("{}/resume", microvm_path(id)), String::new(), None).await
}

/// TerminateMicrovm.
pub(crate) async fn terminate(client: &Client, id: &str) -> anyhow::Result<Value> {
    client.microvms(Method::DELETE, &microvm_path(id), String::new(), None).await
}

/// CreateMicrovmAuthToken for `ports`, all of them when there are none: the API's JSON.
pub(crate) async fn create_auth_token(
    client: &Client,
    id: &str,
    ports: &[u16],
    minutes: u32,
) -> anyhow::Result<Value> {
    let ports = match ports {
        [] => json!([{ "allPorts": {} }]),
        ports => ports.iter().map(|port| json!({ "port": port })).collect(),
    };
    let request = json!({ "expirationInMinutes": minutes, "allowedPorts": ports });
    let path = format!("{}/auth-token", microvm_path(id));
    client.microvms(Method::POST, &path, String::new(), Some(request)).await
}

/// Revokes every token of a microVM (an extension of Hearth's): the API's JSON.
pub(crate) async fn revoke_auth_tokens(client: &Client, id: &str) -> anyhow::Result<Value> {
    client.extension(Method::DELETE, &format!("{}/auth-tokens", microvm_path(id))).await
}

/// What has gone through the endpoint of a microVM (an extension of Hearth's): the API's JSON.
pub(crate) async fn endpoint_counters(client: &Client, id: &str) -> anyhow::Result<Value> {
    client.extension(Method::GET, &format!("{}/endpoint-counters", microvm_path(id))).await
}

/// CreateMicrovmShellAuthToken: the API's JSON.
pub(crate) async fn create_shell_auth_token(
    client: &Client,
    id: &str,
    minutes: u32,
) -> anyhow::Result<Value> {
    let request = json!({ "expirationInMinutes": minutes });
    let path = format!("{}/shell-auth-token", microvm_path(id));
    client.microvms(Method::POST, &path, String::new(), Some(request)).await
}

/// Waits until the microVM is in state `wanted`; the last answer of GetMicrovm. Ends with an error
/// when it terminates instead, or when `timeout` is over.
pub(crate) async fn wait_for_state(
    client: &Client,
    id: &str,
    wanted: &str,
    timeout: Duration,
) -> anyhow::Result<Value> {
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        let value = get(client, id).await?;
        let state = value["state"].as_str().unwrap_or_default();
        if state == wanted {
            return Ok(value);
        }
        if state == "TERMINATED" {
            let reason = value["stateReason"].as_str().unwrap_or("no reason was given");
            bail!("{id} terminated before it was {wanted}: {}", reason.trim_end_matches('.'));
        }
        if tokio::time::Instant::now() >= deadline {
            bail!("{id} is still {state} after {} s, not {wanted}", timeout.as_secs());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The id of the microVM that `wanted` means: an id, or the beginning of only one, with
/// or without `microvm-`.
pub(crate) async fn resolve_id(client: &Client, wanted: &str) -> anyhow::Result<String> {
    if resolve::is_whole_microvm_id(wanted) {
        return Ok(wanted.to_owned());
    }
    let microvms = typed(list(client).await?)?;
    Ok(resolve::microvm(&microvms, wanted)?.microvm_id.clone())
}
