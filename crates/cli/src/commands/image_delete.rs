//! `hearth image delete`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;

use crate::client::Client;
use crate::images;
use crate::render;

/// Files of an image are removed within this time.
const TIMEOUT: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Arguments of `hearth image delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Name or ARN
    image: String,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

/// Deletes an image and waits until its name is free.
pub(crate) async fn run(client: &Client, args: DeleteArgs) -> anyhow::Result<ExitCode> {
    // Deletion must not guess from the beginning of a name.
    let images = images::typed(images::list(client).await?)?;
    let Some(image) = images.iter().find(|image| image.name == args.image || image.arn == args.image) else {
        bail!("there is no image named {}; `hearth images` lists them", args.image);
    };
    let answer = images::delete(client, &image.arn).await?;
    wait_until_gone(client, &image.arn).await?;
    if args.json {
        render::json(&answer)?;
    } else {
        render::line(&format!("{} is deleted", image.name))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until the name of a deleted image is free.
pub(crate) async fn wait_until_gone(client: &Client, arn: &str) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    while let Some(image) = images::get(client, arn).await? {
        if image.state == "DELETE_FAILED" {
            bail!("{} cannot be deleted; the server's log says why", image.name);
        }
        if tokio::time::Instant::now() >= deadline {
            bail!("{} is still {} after {} s", image.name, image.state, TIMEOUT.as_secs());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}
