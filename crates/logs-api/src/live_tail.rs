//! StartLiveTail: new events, once a second, until the client goes or three hours have passed.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hearth_api::AccountId;
use hearth_identity::Caller;
use hearth_records::{LogEvent, MissingLog};
use hearth_service::places::Place;
use hearth_service::{Answer, Call, Error, Outcome, to_json};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::event_stream::{event, exception};
use crate::filter::Filter;
use crate::model::{SessionMetadata, SessionResult, SessionStart, SessionUpdate, StartLiveTailRequest};
use crate::{Logs, invalid, missing};

/// Events of one update; when more fit, it says that it is a sample.
const MAXIMUM_RESULTS: usize = 500;
/// Events that are looked at for one update.
const SCANNED_EVENTS: u32 = 10_000;
const UPDATE_PERIOD: Duration = Duration::from_secs(1);
const LONGEST_SESSION: Duration = Duration::from_hours(3);

impl Logs {
    pub(super) async fn start_live_tail(&self, call: &Call, request: StartLiveTailRequest) -> Outcome {
        let account = &call.caller().account;
        let identifiers = request.log_group_identifiers.unwrap_or_default();
        let (names, prefixes) = (request.log_stream_names, request.log_stream_name_prefixes);
        if names.is_some() && prefixes.is_some() {
            return Err(invalid("Only one of logStreamNames and logStreamNamePrefixes may be given."));
        }
        if (names.is_some() || prefixes.is_some()) && identifiers.len() != 1 {
            return Err(invalid("Streams may be chosen only in a session of exactly one log group."));
        }
        let pattern = request.log_event_filter_pattern.unwrap_or_default();
        let filter = Filter::parse(&pattern)?;
        let mut groups = Vec::new();
        for identifier in &identifiers {
            let name = self.group_name(account, identifier)?;
            self.store.log_group(account, &name).await?.ok_or_else(|| missing(MissingLog::Group))?;
            groups.push(name);
        }
        let place = self.live_tails.take(account).ok_or_else(|| {
            let limit = self.live_tails.limit();
            let message = format!("The account has {limit} Live Tail sessions already.");
            Error::new(crate::exception("LimitExceededException"), message)
        })?;
        let (names, prefixes) = (names.unwrap_or_default(), prefixes.unwrap_or_default());
        let started = SessionStart {
            request_id: uuid::Uuid::new_v4().to_string(),
            session_id: uuid::Uuid::new_v4().to_string(),
            log_group_identifiers: identifiers,
            log_stream_names: names.clone(),
            log_stream_name_prefixes: prefixes.clone(),
            log_event_filter_pattern: pattern,
        };
        let mut updates = tokio::time::interval_at(Instant::now() + UPDATE_PERIOD, UPDATE_PERIOD);
        updates.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let session = Session {
            after: self.store.newest_log_event().await?,
            store: self.store.clone(),
            arn_prefix: format!("arn:aws:logs:{}:{account}:log-group:", self.region),
            account: account.clone(),
            groups,
            wanted: Arc::new(Wanted { names, prefixes, filter }),
            updates,
            end: Instant::now() + LONGEST_SESSION,
            logs: self.clone(),
            caller: call.caller().clone(),
            _place: place,
        };
        // Clients of JSON protocols expect the members that are not streamed, of which there
        // are none, as an event.
        let first =
            [event("initial-response", b"{}"), event("sessionStart", to_json(&started).as_bytes())].concat();
        let first = futures::stream::iter([Bytes::from(first)]);
        let messages = futures::StreamExt::chain(first, futures::stream::unfold(Some(session), next));
        let messages = futures::StreamExt::map(messages, Ok::<_, std::convert::Infallible>);
        Ok(Answer::Stream("application/vnd.amazon.eventstream", Body::from_stream(messages)))
    }
}

/// Which events fit.
struct Wanted {
    names: Vec<String>,
    prefixes: Vec<String>,
    filter: Filter,
}

/// A session under way; it ends when the answer's body is dropped.
struct Session {
    store: Arc<dyn hearth_records::Logs>,
    account: AccountId,
    arn_prefix: String,
    groups: Vec<String>,
    wanted: Arc<Wanted>,
    /// The last event that was looked at.
    after: i64,
    updates: Interval,
    end: Instant,
    logs: Logs,
    caller: Caller,
    _place: Place,
}

/// The next message, and the session unless that was its last.
async fn next(session: Option<Session>) -> Option<(Bytes, Option<Session>)> {
    let mut session = session?;
    session.updates.tick().await;
    if let Err(refused) = session.still_allowed().await {
        return Some((exception("SessionStreamingException", &refused.message), None));
    }
    if Instant::now() >= session.end {
        return Some((exception("SessionTimeoutException", "The session has lasted three hours."), None));
    }
    match session.update().await {
        Ok(update) => Some((event("sessionUpdate", to_json(&update).as_bytes()), Some(session))),
        Err(error) => {
            tracing::error!(%error, "a Live Tail session ends");
            let message = "The service cannot read the log events.";
            Some((exception("SessionStreamingException", message), None))
        }
    }
}

impl Session {
    /// Refuses to go on for a caller that has been deleted, whose credentials are over, or
    /// that may not any more.
    async fn still_allowed(&self) -> Result<(), Error> {
        self.logs.identities.credential(&self.caller.access_key).map_err(hearth_api::Error::from)?;
        let caller = Caller { at: jiff::Timestamp::now(), ..self.caller.clone() };
        self.logs.still_allows(&caller, "logs:StartLiveTail", &self.groups).await
    }

    async fn update(&mut self) -> hearth_records::Result<SessionUpdate> {
        // While too many other calls of the account wait, there is nothing to show.
        let Ok(turn) = self.logs.turns.take(&self.account).await else {
            let session_metadata = SessionMetadata { sampled: true };
            return Ok(SessionUpdate { session_metadata, session_results: Vec::new() });
        };
        let newest = self.store.newest_log_event().await?;
        let range = (self.after, newest);
        let page = self.store.log_events_written(&self.account, &self.groups, range, SCANNED_EVENTS).await?;
        self.after = self.after.max(newest);
        let (wanted, arn_prefix) = (self.wanted.clone(), self.arn_prefix.clone());
        let matching = move || wanted.results(page.events, &arn_prefix);
        let mut results = turn.work(matching).await;
        let sampled = page.full || results.len() > MAXIMUM_RESULTS;
        results.truncate(MAXIMUM_RESULTS);
        Ok(SessionUpdate { session_metadata: SessionMetadata { sampled }, session_results: results })
    }
}

impl Wanted {
    /// What fits, one more than is shown.
    fn results(&self, events: Vec<LogEvent>, arn_prefix: &str) -> Vec<SessionResult> {
        events
            .into_iter()
            .filter(|event| self.fits(event))
            .take(MAXIMUM_RESULTS + 1)
            .map(|event| SessionResult {
                log_group_identifier: format!("{arn_prefix}{}", event.group),
                log_stream_name: event.stream,
                message: event.message,
                timestamp: event.timestamp.as_millis(),
                ingestion_time: event.ingested_at.as_millis(),
            })
            .collect()
    }

    fn fits(&self, event: &LogEvent) -> bool {
        let named = self.names.is_empty() && self.prefixes.is_empty()
            || self.names.contains(&event.stream)
            || self.prefixes.iter().any(|prefix| event.stream.starts_with(prefix.as_str()));
        named && self.filter.matches(&event.message)
    }
}
