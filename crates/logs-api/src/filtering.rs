//! FilterLogEvents: events of a group that fit. A call ends after a bounded number of
//! bytes, whatever fits.

use std::sync::Arc;

use hearth_records::{EventOrder, LogEvent, LogPosition, LogQuery};
use hearth_service::pages::Tokens;
use hearth_service::{Call, Error};

use crate::filter::Filter;
use crate::model::{FilterLogEventsRequest, FilterLogEventsResponse, FilteredEvent};
use crate::reading::{MAXIMUM_EVENTS, bad_token, page_limit, place, range, read_position, the_group};
use crate::turns::Reader;
use crate::{Logs, invalid, missing};

/// Bytes of messages after which a page ends.
const PAGE_BYTES: usize = 1 << 20;
/// Events that one call looks at before it answers, however few fit the pattern.
const SCANNED_EVENTS: u32 = 50_000;
/// Bytes that one call reads.
const SCANNED_BYTES: u64 = 16 << 20;
/// Bytes that one call looks through, those of a line once for each term of the pattern.
const MATCHED_BYTES: u64 = 256 << 20;
/// Events that are read at once.
const CHUNK: u32 = 2_000;

/// Which events fit.
#[derive(Debug)]
struct Wanted {
    names: Vec<String>,
    prefix: String,
    filter: Filter,
    limit: usize,
}

/// What a call has found so far.
#[derive(Debug, Default)]
struct Found {
    events: Vec<FilteredEvent>,
    /// Messages of `events`.
    bytes: usize,
}

impl Wanted {
    fn fits(&self, event: &LogEvent) -> bool {
        event.stream.starts_with(&self.prefix)
            && (self.names.is_empty() || self.names.contains(&event.stream))
            && self.filter.matches(&event.message)
    }
}

impl Found {
    /// Adds the events that fit, until the page is full; then the place of the last
    /// one that was looked at.
    fn add(&mut self, events: Vec<LogEvent>, wanted: &Wanted) -> Option<LogPosition> {
        for event in events {
            let position = event.position();
            if wanted.fits(&event) {
                self.bytes += event.message.len();
                self.events.push(filtered(event));
            }
            if self.events.len() == wanted.limit || self.bytes >= PAGE_BYTES {
                return Some(position);
            }
        }
        None
    }
}

impl Logs {
    /// The token names the last event that was looked at.
    pub(super) async fn filter_log_events(
        &self,
        call: &Call,
        request: FilterLogEventsRequest,
    ) -> Result<FilterLogEventsResponse, Error> {
        let limit = page_limit(request.limit, MAXIMUM_EVENTS) as usize;
        if request.log_stream_names.is_some() && request.log_stream_name_prefix.is_some() {
            return Err(invalid("Only one of logStreamNames and logStreamNamePrefix may be given."));
        }
        let filter = Filter::parse(request.filter_pattern.as_deref().unwrap_or(""))?;
        let account = &call.caller().account;
        let group = self.group_name(account, the_group(call))?;
        let (start, before) = range(request.start_time, request.end_time);
        let tokens = self.tokens(call);
        let token = request.next_token.as_deref().map(|token| {
            let place = tokens.open(token).ok();
            place.and_then(|place| read_position(&place)).ok_or_else(bad_token)
        });
        let wanted = Arc::new(Wanted {
            names: request.log_stream_names.unwrap_or_default(),
            prefix: request.log_stream_name_prefix.unwrap_or_default(),
            filter,
            limit,
        });
        let query = LogQuery {
            account,
            group: &group,
            // One stream has an index of its own.
            stream: wanted.names.first().filter(|_| wanted.names.len() == 1).map(String::as_str),
            after: token.transpose()?.map_or(start, |token| token.max(start)),
            before,
            order: EventOrder::Oldest,
            limit: CHUNK,
        };
        let reader = self.turns.enter(account)?;
        self.check_streams(&reader, &query, &wanted.names).await?;
        self.find(&reader, query, &wanted, &tokens).await
    }

    /// Reads and matches a page at a time, each in a turn of its own.
    async fn find(
        &self,
        reader: &Arc<Reader>,
        mut query: LogQuery<'_>,
        wanted: &Arc<Wanted>,
        tokens: &Tokens,
    ) -> Result<FilterLogEventsResponse, Error> {
        let (mut found, mut looked_at, mut bytes) = (Found::default(), 0, 0);
        loop {
            let turn = reader.turn().await;
            let page = self.store.log_events(&query).await?.map_err(missing)?;
            looked_at += page.looked_at;
            bytes += page.bytes;
            let wanted_here = wanted.clone();
            let (so_far, end) = turn
                .work(move || {
                    let end = found.add(page.events, &wanted_here);
                    (found, end)
                })
                .await;
            found = so_far;
            if end.is_some() {
                return Ok(filtered_page(found, end, tokens));
            }
            if !page.full {
                return Ok(filtered_page(found, None, tokens));
            }
            query.after = page.last.unwrap_or(query.after);
            let matched = bytes.saturating_mul(wanted.filter.terms() as u64);
            if looked_at >= SCANNED_EVENTS || bytes >= SCANNED_BYTES || matched >= MATCHED_BYTES {
                return Ok(filtered_page(found, Some(query.after), tokens));
            }
        }
    }

    /// Every stream that is named must exist.
    async fn check_streams(
        &self,
        reader: &Arc<Reader>,
        query: &LogQuery<'_>,
        names: &[String],
    ) -> Result<(), Error> {
        let _turn = reader.turn().await;
        for name in names {
            let first = LogQuery { stream: Some(name), limit: 1, ..*query };
            self.store.log_events(&first).await?.map_err(missing)?;
        }
        Ok(())
    }
}

fn filtered(event: LogEvent) -> FilteredEvent {
    FilteredEvent {
        log_stream_name: event.stream,
        timestamp: event.timestamp.as_millis(),
        ingestion_time: event.ingested_at.as_millis(),
        message: event.message,
        event_id: format!("{:056}", event.id),
    }
}

fn filtered_page(found: Found, next: Option<LogPosition>, tokens: &Tokens) -> FilterLogEventsResponse {
    let next_token = next.map(|next| tokens.for_a_day(&place(next)));
    FilterLogEventsResponse { events: found.events, searched_log_streams: [], next_token }
}
