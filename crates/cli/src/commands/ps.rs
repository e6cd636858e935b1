//! `hearth ps`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::client::Client;
use crate::microvms;
use crate::render;

/// Arguments of `hearth ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Also those that are TERMINATED
    #[arg(short, long)]
    all: bool,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

/// Lists microVMs.
pub(crate) async fn run(client: &Client, args: &PsArgs) -> anyhow::Result<ExitCode> {
    let mut items = microvms::list(client).await?;
    items.retain(|item| args.all || item["state"] != "TERMINATED");
    if args.json {
        render::json(&json!({ "items": items }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = render::now_seconds();
    let rows = microvms::typed(items)?.into_iter().map(|item| {
        let age = render::age(now, item.started_at);
        let image = render::image_name(&item.image_arn).to_owned();
        vec![item.microvm_id, image, item.image_version, item.state, age]
    });
    render::line(&render::table(&["ID", "IMAGE", "VERSION", "STATE", "AGE"], rows))?;
    Ok(ExitCode::SUCCESS)
}
