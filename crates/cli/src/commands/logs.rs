//! `hearth logs`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use serde_json::json;

use crate::client::Client;
use crate::following::Following;
use crate::images;
use crate::logs::{LogEvent, LogTail, group_of_image, short_stream, stream_of_microvm};
use crate::microvms;
use crate::render;
use crate::resolve;

/// Between two looks at a log that is followed.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Arguments of `hearth logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Id of a microVM or the beginning of it, or the name or ARN of an image
    #[arg(value_name = "ID|IMAGE")]
    subject: String,
    /// Go on with lines as they come
    #[arg(short, long)]
    follow: bool,
    /// Print the API's JSON, one event per line
    #[arg(long)]
    json: bool,
    /// Print lines as the app wrote them; escape sequences in them reach the terminal
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

/// Whether lines are marked with their stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Plain,
    WithStream,
}

/// Prints what was logged, and with `--follow` what will be.
pub(crate) async fn run(client: &Client, args: LogsArgs) -> anyhow::Result<ExitCode> {
    let (mut tail, form) = open(client, &args.subject).await?;
    let form = if args.json { Form::Json } else { form };
    let mut following = Following::default();
    loop {
        for event in following.ask(async || tail.poll(client).await).await? {
            let line = format_event(&event, form);
            if args.raw { render::raw_line(&line)? } else { render::line(line.trim_end_matches('\r'))? }
        }
        if !args.follow {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// An image when one has exactly this name or ARN, else a microVM.
async fn open(client: &Client, subject: &str) -> anyhow::Result<(LogTail, Form)> {
    if !resolve::is_whole_microvm_id(subject) {
        let images = images::typed(images::list(client).await?)?;
        if let Some(image) = images.iter().find(|image| image.name == subject || image.arn == subject) {
            return Ok((LogTail::new(group_of_image(&image.name), "", 0.0), Form::WithStream));
        }
    }
    let id = microvms::resolve_id(client, subject).await.map_err(|error| {
        if error.is::<crate::client::ApiError>() {
            error
        } else {
            anyhow!("{error}; and no image is named {subject}")
        }
    })?;
    let microvm = microvms::describe(client, &id).await?.item;
    let group = group_of_image(render::image_name(&microvm.image_arn));
    let stream = stream_of_microvm(&id, &microvm.image_version, microvm.started_at);
    Ok((LogTail::new(group, &stream, 0.0), Form::Plain))
}

fn format_event(event: &LogEvent, form: Form) -> String {
    match form {
        Form::Json => json!(event).to_string(),
        Form::Plain => event.message.clone(),
        Form::WithStream => format!("{:<8} | {}", short_stream(&event.log_stream_name), event.message),
    }
}
