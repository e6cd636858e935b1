//! `hearth token`, and what the operator does with tokens: `hearth token revoke`,
//! `hearth token rotate-keys`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use hearth_api::{EndpointTokenKeys, RevokedAuthTokens};
use http::Method;

use crate::Connected;
use crate::client::Client;
use crate::microvms;
use crate::render;

/// `hearth token ID`, or one of the commands below it.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct TokenCommand {
    #[command(subcommand)]
    command: Option<TokenSubcommand>,
    #[command(flatten)]
    make: Connected<TokenArgs>,
}

/// Arguments of `hearth token`.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Id of a microVM, or the beginning of it
    #[arg(required = true)]
    id: Option<String>,
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

/// What can be done to tokens.
#[derive(Debug, Subcommand)]
enum TokenSubcommand {
    /// Make every token of a microVM useless that has been made so far
    Revoke(Connected<RevokeArgs>),
    /// Make tokens with a new key from now on; what was made before stays good until it expires
    RotateKeys(Connected<RotateKeysArgs>),
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// Id of a microVM, or the beginning of it
    id: String,
}

#[derive(Debug, Args)]
struct RotateKeysArgs {}

/// Prints the value of the header `X-aws-proxy-auth`, or what was done.
pub(crate) async fn run(command: TokenCommand) -> anyhow::Result<ExitCode> {
    match command.command {
        Some(TokenSubcommand::Revoke(command)) => {
            let (client, args) = command.open()?;
            revoke(&client, &args.id).await?;
        }
        Some(TokenSubcommand::RotateKeys(command)) => {
            let (client, RotateKeysArgs {}) = command.open()?;
            rotate_keys(&client).await?;
        }
        None => {
            let (client, args) = command.make.open()?;
            make(&client, args).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn make(client: &Client, args: TokenArgs) -> anyhow::Result<()> {
    let id = args.id.context("there is no id")?;
    let id = microvms::resolve_id(client, &id).await?;
    let answer = microvms::create_auth_token(client, &id, &args.ports, args.minutes).await?;
    if args.json {
        return render::json(&answer);
    }
    render::line(answer["authToken"]["X-aws-proxy-auth"].as_str().unwrap_or_default())
}

async fn revoke(client: &Client, id: &str) -> anyhow::Result<()> {
    let id = microvms::resolve_id(client, id).await?;
    let answer = microvms::revoke_auth_tokens(client, &id).await?;
    let revoked: RevokedAuthTokens = serde_json::from_value(answer).context("the answer is not readable")?;
    render::line(&format!("The tokens of {} that were made until now are revoked.", revoked.microvm_id))
}

async fn rotate_keys(client: &Client) -> anyhow::Result<()> {
    let answer = client.extension(Method::POST, "/endpoint-token-keys").await?;
    let keys: EndpointTokenKeys = serde_json::from_value(answer).context("the answer is not readable")?;
    render::line(&format!("Tokens are made with key {} now; {} keys read them.", keys.key_id, keys.live_keys))
}
