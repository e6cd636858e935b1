//! `hearth events`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use hearth_api::{EventItem, EventPage};
use http::Method;
use serde_json::json;

use crate::client::{Client, encode};
use crate::following::Following;
use crate::images;
use crate::microvms;
use crate::render;
use crate::resolve;

/// How long the server holds a request for events, in seconds: the longest that it does.
const WAIT_SECONDS: u32 = 20;

/// Arguments of `hearth events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Only of this microVM (id or the beginning of it), image or network connector (name or ARN)
    #[arg(value_name = "ID|IMAGE|ARN")]
    resource: Option<String>,
    /// Go on with events as they come
    #[arg(short, long)]
    follow: bool,
    /// Begin behind the event of this number, instead of with the last ones
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// Most events to begin with
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    number: u32,
    /// Print the API's JSON, one event per line
    #[arg(long)]
    json: bool,
}

/// Prints what has changed, and with `--follow` what will.
pub(crate) async fn run(client: &Client, args: EventsArgs) -> anyhow::Result<ExitCode> {
    let resource = match &args.resource {
        Some(resource) => Some(resolve(client, resource).await?),
        None => None,
    };
    let (mut after, mut wait) = (args.after, 0);
    let mut following = Following::default();
    loop {
        let mut query = format!("maxResults={}&waitSeconds={wait}", args.number);
        query.extend(after.map(|after| format!("&after={after}")));
        query.extend(resource.as_ref().map(|resource| format!("&resource={}", encode(resource))));
        let answer = following
            .ask(async || client.extension_with(Method::GET, "/events", query.clone()).await)
            .await?;
        let page: EventPage = serde_json::from_value(answer).context("the answer is not readable")?;
        for event in &page.events {
            render::line(&if args.json { json!(event).to_string() } else { sentence(event) })?;
        }
        if !args.follow {
            return Ok(ExitCode::SUCCESS);
        }
        (after, wait) = (Some(page.next_after), WAIT_SECONDS);
    }
}

/// An ARN, the name of an image, or a microVM.
async fn resolve(client: &Client, text: &str) -> anyhow::Result<String> {
    if text.starts_with("arn:") || resolve::is_whole_microvm_id(text) {
        return Ok(text.to_owned());
    }
    let images = images::typed(images::list(client).await?)?;
    match images.into_iter().find(|image| image.name == text) {
        Some(image) => Ok(image.arn),
        None => microvms::resolve_id(client, text).await,
    }
}

/// One event, to be read by people: when, what, from what to what, and why.
fn sentence(event: &EventItem) -> String {
    let resource = event.resource.rsplit_once(':').map_or(event.resource.as_str(), |(_, name)| name);
    let part = event.build_id.as_ref().or(event.image_version.as_ref());
    let part = part.map(|part| format!(" {part}")).unwrap_or_default();
    let what = match event.what.as_str() {
        "STATE" => String::new(),
        other => format!("{} ", other.to_lowercase()),
    };
    let change = match (&event.from, &event.to) {
        (Some(from), Some(to)) => format!("{from} → {to}"),
        (None, Some(to)) => format!("new: {to}"),
        (Some(from), None) => format!("{from}, gone"),
        (None, None) => "gone".to_owned(),
    };
    let by = event.principal.as_ref().map(|principal| format!(" by {principal}")).unwrap_or_default();
    let reason = event.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let time = event.time.0.strftime("%Y-%m-%d %H:%M:%S");
    format!("{} {time} {resource}{part} {what}{change} ({}{by}){reason}", event.sequence, event.cause)
}

#[cfg(test)]
mod tests {
    use hearth_api::Timestamp;

    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let event = EventItem {
            sequence: 7,
            time: Timestamp::from_millis(0),
            resource_type: "microvm".into(),
            resource: "microvm-1".into(),
            image_arn: Some("arn:aws:lambda:us-east-1:000000000000:microvm-image:app".into()),
            image_version: None,
            build_id: None,
            what: "STATE".into(),
            from: Some("RUNNING".into()),
            to: Some("TERMINATING".into()),
            reason: Some("Success.".into()),
            cause: "API".into(),
            principal: Some("arn:aws:iam::000000000000:root".into()),
            request_id: Some("id".into()),
        };
        let line = "7 1970-01-01 00:00:00 microvm-1 RUNNING → TERMINATING (API by arn:aws:iam::000000000000:root): Success.";
        assert_eq!(sentence(&event), line);
        let build = EventItem {
            resource: "arn:aws:lambda:us-east-1:000000000000:microvm-image:app".into(),
            build_id: Some("build-1".into()),
            from: None,
            reason: None,
            principal: None,
            cause: "HOST".into(),
            what: "OWNER".into(),
            ..event
        };
        assert_eq!(sentence(&build), "7 1970-01-01 00:00:00 app build-1 owner new: TERMINATING (HOST)");
    }
}
