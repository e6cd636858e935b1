//! `hearth token`.

use std::process::ExitCode;

use clap::Args;

use crate::client::Client;
use crate::microvms;
use crate::render;

/// Arguments of `hearth token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Id of a microVM, or the beginning of it
    id: String,
    /// A port that the token opens; may be given several times; all ports by default
    #[arg(short, long = "port")]
    ports: Vec<u16>,
    /// Minutes until it expires, at most 60
    #[arg(long, default_value_t = 60)]
    minutes: u32,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

/// Prints the value of the header `X-aws-proxy-auth`.
pub(crate) async fn run(client: &Client, args: TokenArgs) -> anyhow::Result<ExitCode> {
    let id = microvms::resolve_id(client, &args.id).await?;
    let answer = microvms::create_auth_token(client, &id, &args.ports, args.minutes).await?;
    if args.json {
        render::json(&answer)?;
    } else {
        render::line(answer["authToken"]["X-aws-proxy-auth"].as_str().unwrap_or_default())?;
    }
    Ok(ExitCode::SUCCESS)
}
