//! Follows log streams by FilterLogEvents.

use std::collections::HashMap;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::{Client, is_exception};

/// Events that arrive late by up to this many milliseconds are still seen.
const LATENESS_MILLISECONDS: i64 = 5_000;

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogEvent {
    /// Stream.
    pub(crate) log_stream_name: String,
    /// Milliseconds since 1970.
    pub(crate) timestamp: i64,
    /// The line.
    pub(crate) message: String,
    /// Unique in the group.
    pub(crate) event_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    events: Vec<LogEvent>,
    next_token: Option<String>,
}

/// A log group that is read as it grows.
#[derive(Debug)]
pub(crate) struct LogTail {
    group: String,
    stream_prefix: String,
    start_milliseconds: i64,
    seen: HashMap<String, i64>,
}

impl LogTail {
    /// Reads the streams of `group` whose names begin with `stream_prefix`, from
    /// `start_seconds` since 1970.
    pub(crate) fn new(group: String, stream_prefix: &str, start_seconds: f64) -> Self {
        Self {
            group,
            stream_prefix: stream_prefix.to_owned(),
            start_milliseconds: (start_seconds * 1000.0) as i64,
            seen: HashMap::new(),
        }
    }

    /// What came since the last call. A group that does not exist yet has no events.
    pub(crate) async fn poll(&mut self, client: &Client) -> anyhow::Result<Vec<LogEvent>> {
        let mut fresh = Vec::new();
        let mut token = None;
        loop {
            let mut request = json!({ "logGroupName": self.group, "startTime": self.start_milliseconds });
            if !self.stream_prefix.is_empty() {
                request["logStreamNamePrefix"] = json!(self.stream_prefix);
            }
            if let Some(token) = token {
                request["nextToken"] = json!(token);
            }
            let page = match client.logs("FilterLogEvents", &request).await {
                Ok(page) => page,
                Err(error) if is_exception(&error, "ResourceNotFoundException") => break,
                // What has come is shown; the next call goes on behind it.
                Err(_) if !fresh.is_empty() => break,
                Err(error) => return Err(error),
            };
            let page: Page = serde_json::from_value(page).context("the log events are not readable")?;
            fresh.extend(page.events.into_iter().filter(|event| self.is_new(event)));
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        self.forget_old(&fresh);
        Ok(fresh)
    }

    fn is_new(&mut self, event: &LogEvent) -> bool {
        self.seen.insert(event.event_id.clone(), event.timestamp).is_none()
    }

    /// The next call starts shortly before the newest event; ids older than that need
    /// not be known any more.
    fn forget_old(&mut self, fresh: &[LogEvent]) {
        let newest = fresh.iter().map(|event| event.timestamp).max();
        if let Some(newest) = newest {
            let start = self.start_milliseconds.max(newest - LATENESS_MILLISECONDS);
            self.start_milliseconds = start;
            self.seen.retain(|_, timestamp| *timestamp >= start);
        }
    }
}

/// The log group of an image, its builds and its microVMs (the service's default).
pub(crate) fn group_of_image(name: &str) -> String {
    format!("/aws/lambda-microvms/{name}")
}

/// The log stream of a microVM: the UTC day of its start, the version of its image, its id.
pub(crate) fn stream_of_microvm(id: &str, image_version: &str, started_at_seconds: f64) -> String {
    let moment = jiff::Timestamp::from_second(started_at_seconds as i64).unwrap_or_default();
    format!("{}[{image_version}]{id}", moment.strftime("%Y/%m/%d"))
}

/// What tells the streams of one image apart: `build`, `snapshot` or the beginning
/// of a microVM's id.
pub(crate) fn short_stream(stream: &str) -> &str {
    let tail = stream.rsplit_once(']').map_or(stream, |(_, tail)| tail);
    match tail.strip_prefix("microvm-") {
        Some(uuid) => uuid.get(..8).unwrap_or(uuid),
        None => tail.split('-').next().unwrap_or(tail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, timestamp: i64) -> LogEvent {
        let message = "line".to_owned();
        LogEvent { log_stream_name: "s".to_owned(), timestamp, message, event_id: id.to_owned() }
    }

    #[test]
    fn events_are_shown_once_and_forgotten_when_they_cannot_come_again() {
        let mut tail = LogTail::new("g".to_owned(), "", 0.0);
        let first = [event("1", 1_000), event("2", 20_000)];
        assert!(first.iter().all(|event| tail.is_new(event)));
        tail.forget_old(&first);
        assert_eq!(tail.start_milliseconds, 15_000);
        assert!(!tail.is_new(&event("2", 20_000)));
        assert!(tail.is_new(&event("3", 20_000)));
        assert!(!tail.seen.contains_key("1"));
    }

    #[test]
    fn streams_have_the_form_of_the_service() {
        let id = "microvm-123e4567-e89b-12d3-a456-426614174000";
        let stream = stream_of_microvm(id, "1.0", 1_767_225_600.5);
        assert_eq!(stream, format!("2026/01/01[1.0]{id}"));
        assert_eq!(short_stream(&stream), "123e4567");
        assert_eq!(short_stream("2026/01/01[1.0]snapshot-123e4567"), "snapshot");
        assert_eq!(short_stream("mine"), "mine");
    }
}
