//! `hearth egress`: what microVMs may reach, and what they have tried.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use hearth_api::{EgressDecision, EgressDecisions};
use http::Method;
use serde_json::{Value, json};

use crate::Connected;
use crate::client::{Client, encode, is_exception};
use crate::microvms;
use crate::render;

/// `hearth egress`.
#[derive(Debug, Subcommand)]
pub enum EgressCommand {
    /// Show what a microVM has tried to reach, and what was decided
    Log(Connected<LogArgs>),
    /// Make an egress policy of rules, or replace the rules of the one that there is
    Set(Connected<SetArgs>),
    /// Show the rules of an egress policy
    Show(Connected<ShowArgs>),
    /// Delete an egress policy that nobody uses
    Delete(Connected<ShowArgs>),
}

/// Arguments of `hearth egress log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Id of a microVM, or the beginning of it
    id: String,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `hearth egress set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Name of the policy
    name: String,
    /// A domain to allow, like example.com or *.example.com, on ports 80 and 443; may be given
    /// several times
    #[arg(long, value_name = "DOMAIN")]
    allow: Vec<String>,
    /// A file with a JSON list of rules, or - for the standard input
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `hearth egress show` and `hearth egress delete`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Name or ARN of the policy
    name: String,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

/// Carries out a command.
pub(crate) async fn run(command: EgressCommand) -> anyhow::Result<ExitCode> {
    match command {
        EgressCommand::Log(command) => {
            let (client, args) = command.open()?;
            log(&client, &args).await
        }
        EgressCommand::Set(command) => {
            let (client, args) = command.open()?;
            set(&client, &args).await
        }
        EgressCommand::Show(command) => {
            let (client, args) = command.open()?;
            show(&client, &args).await
        }
        EgressCommand::Delete(command) => {
            let (client, args) = command.open()?;
            delete(&client, &args).await
        }
    }
}

async fn log(client: &Client, args: &LogArgs) -> anyhow::Result<ExitCode> {
    let id = microvms::resolve_id(client, &args.id).await?;
    let answer = client.extension(Method::GET, &format!("/microvms/{}/egress", encode(&id))).await?;
    if args.json {
        render::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let decisions: EgressDecisions = serde_json::from_value(answer).context("the answer is not readable")?;
    let header = ["FIRST", "LAST", "COUNT", "VERDICT", "PROTOCOL", "NAME", "ADDRESS", "PORT", "WHY"];
    render::line(&render::table(&header, decisions.decisions.into_iter().map(row)))?;
    if decisions.lost > 0 {
        render::warn(&format!("{} more are not kept", decisions.lost));
    }
    Ok(ExitCode::SUCCESS)
}

fn row(made: EgressDecision) -> Vec<String> {
    let time = |time: hearth_api::Timestamp| time.0.strftime("%H:%M:%S").to_string();
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let why = made.reason.or_else(|| made.rule.map(|rule| format!("rule {rule}")));
    vec![
        time(made.first),
        time(made.last),
        made.count.to_string(),
        made.verdict,
        made.protocol,
        hearth_api::visible(&dash(made.name)).into_owned(),
        dash(made.address.map(|address| address.to_string())),
        dash(made.port.map(|port| port.to_string())),
        dash(why),
    ]
}

async fn set(client: &Client, args: &SetArgs) -> anyhow::Result<ExitCode> {
    let rules = rules(args)?;
    let path = format!("/egress-policies/{}", encode(&args.name));
    let replaced = client.extension_body(Method::PUT, &path, json!({ "rules": rules })).await;
    let answer = match replaced {
        Err(error) if is_exception(&error, "ResourceNotFoundException") => {
            let new = json!({ "name": args.name, "rules": rules });
            client.extension_body(Method::POST, "/egress-policies", new).await?
        }
        answer => answer?,
    };
    if args.json {
        render::json(&answer)?;
    } else {
        render::line(answer["networkConnectorArn"].as_str().unwrap_or_default())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Those of the file, then the domains of the command line.
fn rules(args: &SetArgs) -> anyhow::Result<Vec<Value>> {
    let mut rules: Vec<Value> = match &args.rules {
        None => Vec::new(),
        Some(path) => {
            let text = if path.as_os_str() == "-" {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("the standard input cannot be read")?;
                text
            } else {
                std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?
            };
            serde_json::from_str(&text)
                .with_context(|| format!("{} is not a JSON list of rules", path.display()))?
        }
    };
    rules.extend(args.allow.iter().map(|domain| json!({ "domain": domain })));
    if rules.is_empty() && args.rules.is_none() {
        bail!("no rules are given: name domains with --allow, or a file with --rules");
    }
    Ok(rules)
}

async fn show(client: &Client, args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let answer = client.extension(Method::GET, &format!("/egress-policies/{}", encode(&args.name))).await?;
    if args.json {
        render::json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let rules = answer["rules"].as_array().cloned().unwrap_or_default();
    let rows = rules.iter().enumerate().map(|(index, rule)| {
        let destination = if rule["domain"].is_null() { &rule["cidr"] } else { &rule["domain"] };
        let ports =
            rule["ports"].as_array().map(|ports| ports.iter().map(text).collect::<Vec<_>>().join(","));
        let usual = if rule["domain"].is_null() { "all" } else { "80,443" };
        let protocol = match rule["protocol"].as_str() {
            Some(protocol) => protocol,
            None if rule["domain"].is_null() => "all",
            None => "tcp",
        };
        vec![
            (index + 1).to_string(),
            text(destination),
            protocol.to_owned(),
            ports.unwrap_or_else(|| usual.to_owned()),
        ]
    });
    render::line(&render::table(&["RULE", "DESTINATION", "PROTOCOL", "PORTS"], rows))?;
    Ok(ExitCode::SUCCESS)
}

async fn delete(client: &Client, args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let answer = client.network_connector(Method::DELETE, &args.name).await?;
    if args.json {
        render::json(&answer)?;
    } else {
        render::line(&format!("{} is deleted", args.name))?;
    }
    Ok(ExitCode::SUCCESS)
}
