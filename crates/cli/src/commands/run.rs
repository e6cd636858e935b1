//! `hearth run`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use hearth_api::managed_connector_arn;
use serde_json::{Value, json};

use crate::client::Client;
use crate::images;
use crate::microvms;
use crate::render;

/// How long `--wait` waits.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Arguments of `hearth run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Name or ARN of an image, or the beginning of its name
    image: String,
    /// Suspend after this many seconds without a byte through the endpoint; never by default
    #[arg(long, value_name = "SECONDS")]
    idle: Option<u32>,
    /// Terminate after this many seconds in suspension
    #[arg(long, value_name = "SECONDS", requires = "idle", default_value_t = 28_800)]
    suspended: u32,
    /// Requests do not wake the microVM when it is suspended
    #[arg(long, requires = "idle")]
    no_auto_resume: bool,
    /// Terminate this many seconds after the start
    #[arg(long, value_name = "SECONDS")]
    max_duration: Option<u32>,
    /// What the endpoint lets in; may be given several times; http by default
    #[arg(long, value_enum, value_name = "KIND")]
    ingress: Vec<Ingress>,
    /// Wait until the microVM is RUNNING
    #[arg(long)]
    wait: bool,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
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
    let mut answer = microvms::run(client, request(&args, &arn, &client.connection().region)).await?;
    let id = answer["microvmId"].as_str().unwrap_or_default().to_owned();
    if args.wait {
        answer = microvms::wait_for_state(client, &id, "RUNNING", TIMEOUT).await?;
    }
    if args.json {
        render::json(&answer)?;
    } else {
        render::line(&id)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn request(args: &RunArgs, arn: &str, region: &str) -> Value {
    let mut request = json!({ "imageIdentifier": arn });
    if let Some(idle) = args.idle {
        request["idlePolicy"] = json!({
            "maxIdleDurationSeconds": idle,
            "suspendedDurationSeconds": args.suspended,
            "autoResumeEnabled": !args.no_auto_resume,
        });
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
            idle: None,
            suspended: 600,
            no_auto_resume: false,
            max_duration: Some(60),
            ingress: Vec::new(),
            wait: false,
            json: false,
        };
        let expected = json!({ "imageIdentifier": "arn", "maximumDurationInSeconds": 60 });
        assert_eq!(request(&args, "arn", "r"), expected);
        args.idle = Some(90);
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
