//! `hearth run`.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use hearth_api::managed_connector_arn;
use http::Method;
use serde_json::{Value, json};

use crate::client::{Client, is_exception};
use crate::images;
use crate::microvms;
use crate::render;

/// When a microVM is suspended unless the user says otherwise: as in AWS's walk
/// through the service.
const IDLE_SECONDS: u32 = 900;
/// How long `--wait` waits.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Arguments of `hearth run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Name or ARN of an image, or the beginning of its name
    image: String,
    /// Version of the image, like 2.0; by default the newest that was built
    #[arg(long)]
    version: Option<String>,
    #[command(flatten)]
    policy: IdleArgs,
    /// Terminate this many seconds after the start
    #[arg(long, value_name = "SECONDS")]
    max_duration: Option<u32>,
    /// What the endpoint lets in; may be given several times; http by default
    #[arg(long, value_enum, value_name = "KIND")]
    ingress: Vec<Ingress>,
    /// What the microVM may reach: the name or ARN of an egress policy or another network
    /// connector, `none` or `internet`; by default what the image may, and that by default is the
    /// internet
    #[arg(long, value_name = "POLICY")]
    egress: Option<String>,
    /// Wait until the microVM is RUNNING
    #[arg(long)]
    wait: bool,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

/// The idle policy.
#[derive(Debug, Args)]
struct IdleArgs {
    /// Suspend after this many seconds without a byte through the endpoint
    #[arg(long, value_name = "SECONDS", default_value_t = IDLE_SECONDS)]
    idle: u32,
    /// Terminate after this many seconds in suspension
    #[arg(long, value_name = "SECONDS", default_value_t = 28_800)]
    suspended: u32,
    /// Requests do not wake the microVM when it is suspended
    #[arg(long)]
    no_auto_resume: bool,
    /// Run without an idle policy, as RunMicrovm without `idlePolicy` does: never suspended by
    /// itself, never woken by a request
    #[arg(long, conflicts_with_all = ["idle", "suspended", "no_auto_resume"])]
    no_idle_policy: bool,
}

/// The managed ingress connectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ingress {
    /// HTTP to every port
    Http,
    /// Shells
    Shell,
    /// The service's ALL_INGRESS, which excludes shells
    All,
    /// Nothing
    None,
}

impl Ingress {
    /// Name of the connector.
    fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP_INGRESS",
            Self::Shell => "SHELL_INGRESS",
            Self::All => "ALL_INGRESS",
            Self::None => "NO_INGRESS",
        }
    }
}

/// Launches a microVM and prints its id.
pub(crate) async fn run(client: &Client, args: RunArgs) -> anyhow::Result<ExitCode> {
    let arn = images::resolve_arn(client, &args.image).await?;
    let region = &client.connection().region;
    let mut wanted = request(&args, &arn, region);
    if let Some(egress) = &args.egress {
        wanted["egressNetworkConnectors"] = json!([egress_connector(client, egress, region).await?]);
    }
    let mut answer = launch(client, &arn, wanted).await?;
    let id = answer["microvmId"].as_str().unwrap_or_default().to_owned();
    if args.wait {
        answer = microvms::wait_for_state(client, &id, "RUNNING", TIMEOUT).await?;
    }
    if args.json {
        render::json(&answer)?;
    } else {
        render::line(&id)?;
    }
    if io::stderr().is_terminal() {
        render::warn(&args.policy.describe());
    }
    Ok(ExitCode::SUCCESS)
}

/// The ARN of an egress connector.
async fn egress_connector(client: &Client, named: &str, region: &str) -> anyhow::Result<String> {
    match named {
        "none" => Ok(managed_connector_arn(region, "NO_EGRESS")),
        "internet" => Ok(managed_connector_arn(region, "INTERNET_EGRESS")),
        arn if arn.starts_with("arn:") => Ok(arn.to_owned()),
        name => {
            let connector = client.network_connector(Method::GET, name).await?;
            let arn = connector["Arn"].as_str().context("a network connector without an ARN was answered")?;
            Ok(arn.to_owned())
        }
    }
}

async fn launch(client: &Client, arn: &str, request: Value) -> anyhow::Result<Value> {
    let refused = match microvms::run(client, request).await {
        Err(error) if is_exception(&error, "ResourceNotFoundException") => error,
        answer => return answer,
    };
    // A user without the right to look at images gets the service's own sentence alone.
    Err(match images::why_not_launchable(client, arn).await {
        Ok(Some(reason)) => anyhow!(reason).context(refused.to_string()),
        Ok(None) | Err(_) => refused,
    })
}

impl IdleArgs {
    /// What will become of the microVM, for people who did not ask.
    fn describe(&self) -> String {
        if self.no_idle_policy {
            return "it runs until it is terminated; once suspended, only `hearth resume` wakes it"
                .to_owned();
        }
        let wakes =
            if self.no_auto_resume { "`hearth resume` wakes it" } else { "the next request wakes it" };
        format!(
            "it is suspended after {} s without traffic; {wakes}; after {} s of suspension it is terminated",
            self.idle, self.suspended
        )
    }
}

fn request(args: &RunArgs, arn: &str, region: &str) -> Value {
    let mut request = json!({ "imageIdentifier": arn });
    if !args.policy.no_idle_policy {
        request["idlePolicy"] = json!({
            "maxIdleDurationSeconds": args.policy.idle,
            "suspendedDurationSeconds": args.policy.suspended,
            "autoResumeEnabled": !args.policy.no_auto_resume,
        });
    }
    if let Some(version) = &args.version {
        request["imageVersion"] = json!(version);
    }
    if let Some(seconds) = args.max_duration {
        request["maximumDurationInSeconds"] = json!(seconds);
    }
    if !args.ingress.is_empty() {
        let connectors = args.ingress.iter().map(|kind| managed_connector_arn(region, kind.name()));
        request["ingressNetworkConnectors"] = connectors.collect();
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_idle_policy_is_complete_or_absent() {
        let mut args = RunArgs {
            image: "app".to_owned(),
            version: Some("2.0".to_owned()),
            policy: IdleArgs { idle: 90, suspended: 600, no_auto_resume: false, no_idle_policy: true },
            max_duration: Some(60),
            ingress: Vec::new(),
            egress: None,
            wait: false,
            json: false,
        };
        let expected =
            json!({ "imageIdentifier": "arn", "imageVersion": "2.0", "maximumDurationInSeconds": 60 });
        assert_eq!(request(&args, "arn", "r"), expected);
        args.policy.no_idle_policy = false;
        let policy = json!({
            "maxIdleDurationSeconds": 90, "suspendedDurationSeconds": 600, "autoResumeEnabled": true,
        });
        assert_eq!(request(&args, "arn", "r")["idlePolicy"], policy);
        args.ingress = vec![Ingress::Http, Ingress::Shell];
        let arn = |name| format!("arn:aws:lambda:r:aws:network-connector:aws-network-connector:{name}");
        let expected = json!([arn("HTTP_INGRESS"), arn("SHELL_INGRESS")]);
        assert_eq!(request(&args, "arn", "r")["ingressNetworkConnectors"], expected);
    }
}
