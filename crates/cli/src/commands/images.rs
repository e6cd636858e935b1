//! `hearth images`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::client::Client;
use crate::images;
use crate::render;

/// Arguments of `hearth images`.
#[derive(Debug, Args)]
pub struct ImagesArgs {
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

/// Lists images.
pub(crate) async fn run(client: &Client, args: &ImagesArgs) -> anyhow::Result<ExitCode> {
    let items = images::list(client).await?;
    if args.json {
        render::json(&json!({ "items": items }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = render::now_seconds();
    let rows = images::typed(items)?.into_iter().map(|image| {
        let version = render::or_dash(image.latest_active_image_version.as_deref());
        vec![image.name, version, image.state, render::age(now, image.created_at), image.arn]
    });
    render::line(&render::table(&["NAME", "VERSION", "STATE", "AGE", "ARN"], rows))?;
    Ok(ExitCode::SUCCESS)
}
