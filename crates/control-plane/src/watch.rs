//! Events on their way to one caller, who gets those that it may see.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use hearth_api::{ErrorKind, EventItem, EventPage};
use hearth_identity::{Caller, Identities};
use hearth_records::{Event, EventQuery, EventStart, Records, Resource, Taggable};
use hearth_service::places::Place;
use hearth_service::{Asked, Error, to_json};
use tokio::time::{Instant, timeout_at};

use crate::config::Context;

/// IAM action; it is asked about the image or network connector of each event.
const ACTION: &str = "lambda:ListEvents";
/// Events of a page, when the caller does not say.
const PAGE: u32 = 100;
/// Longest life of a stream; clients connect again.
const LONGEST_STREAM: Duration = Duration::from_mins(15);
/// A stream says at least so often that it is there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// One caller's view of the events.
#[derive(Debug)]
pub struct Watch {
    store: Arc<dyn Records>,
    identities: Arc<Identities>,
    caller: Caller,
    resource: Option<String>,
    start: EventStart,
    limit: u32,
    wait: Duration,
    /// Goes back when nobody waits any more.
    _place: Place,
}

impl Context {
    /// What the caller wants to see.
    pub(crate) fn watch(&self, asked: &Asked) -> Result<Watch, Error> {
        let input = asked.input();
        let last_seen = input.get("last-event-id").and_then(|id| id.parse().ok());
        let after = last_seen.or_else(|| input.large_number("after"));
        let place = self.waiting.take(&asked.caller().account).ok_or_else(|| {
            let waiting = self.waiting.limit();
            let message = format!("{waiting} requests of the account wait for events already.");
            Error::new(ErrorKind::Throttling, message)
        })?;
        Ok(Watch {
            store: self.services.store.clone(),
            identities: self.services.identities.clone(),
            caller: asked.caller().clone(),
            resource: input.get("resource").map(str::to_owned),
            start: after.map_or(EventStart::Last, EventStart::After),
            limit: input.number("maxResults").unwrap_or(PAGE),
            wait: Duration::from_secs(input.number("waitSeconds").unwrap_or_default().into()),
            _place: place,
        })
    }
}

impl Watch {
    /// The next events, as soon as there are some or the caller has waited long enough.
    pub(crate) async fn page(mut self) -> Result<EventPage, Error> {
        let end = Instant::now() + self.wait;
        self.next(end).await
    }

    async fn next(&mut self, end: Instant) -> Result<EventPage, Error> {
        loop {
            // Before the events are read: what comes meanwhile is not waited for.
            let newest = self.store.newest_event().await?;
            let query = EventQuery {
                account: &self.caller.account,
                start: self.start,
                resource: self.resource.as_deref(),
                limit: self.limit,
            };
            let found = self.store.events(&query).await?;
            let last = found.last().map(|event| event.sequence);
            let is_full = found.len() == self.limit as usize;
            let seen = match self.start {
                EventStart::After(after) => after.max(last.unwrap_or_default()),
                EventStart::Last => last.unwrap_or_default(),
            };
            let next_after = if is_full { seen } else { seen.max(newest) };
            let events = self.visible(found).await?;
            self.start = EventStart::After(next_after);
            let waits = events.is_empty() && Instant::now() < end;
            if !waits {
                return Ok(EventPage { events, next_after });
            }
            if !is_full && timeout_at(end, self.store.wait_for_event(next_after)).await.is_err() {
                return Ok(EventPage { events, next_after });
            }
        }
    }

    /// Those that the caller may see now.
    async fn visible(&self, found: Vec<Event>) -> Result<Vec<EventItem>, Error> {
        let mut known: HashMap<String, bool> = HashMap::new();
        let mut visible = Vec::new();
        for event in found {
            let on = authorised_on(&event.event.resource);
            let arn = on.arn();
            if !known.contains_key(&arn) {
                known.insert(arn.clone(), self.may_see(&on).await?);
            }
            if known[&arn] {
                visible.push(item(event));
            }
        }
        Ok(visible)
    }

    async fn may_see(&self, on: &Taggable) -> Result<bool, Error> {
        let arn = on.arn();
        if self.caller.rules(&arn) {
            return Ok(true);
        }
        let tags = self.store.tags(on).await?.unwrap_or_default();
        let request = self.caller.request(ACTION, &arn).with_resource_tags(&tags);
        Ok(self.identities.decide(&self.caller, &request, None).denial(&request).is_none())
    }
}

/// What has to be allowed for an event to be seen: as for all operations, the image of a microVM.
fn authorised_on(resource: &Resource) -> Taggable {
    match resource {
        Resource::Microvm(_, arn)
        | Resource::Image(arn)
        | Resource::ImageVersion(arn, _)
        | Resource::Build(arn, ..) => Taggable::Image(arn.clone()),
        Resource::NetworkConnector(arn) => Taggable::NetworkConnector(arn.clone()),
    }
}

fn item(Event { sequence, event }: Event) -> EventItem {
    let (resource_type, resource, _) = event.resource.parts();
    let (image_arn, image_version, build_id) = match &event.resource {
        Resource::Microvm(_, arn) => (Some(arn.to_string()), None, None),
        Resource::ImageVersion(_, version) => (None, Some(version.to_string()), None),
        Resource::Build(_, version, id) => (None, Some(version.to_string()), Some(id.to_string())),
        Resource::Image(_) | Resource::NetworkConnector(_) => (None, None, None),
    };
    let (principal, request_id) = event.origin.actor.map(|actor| (actor.principal, actor.request_id)).unzip();
    EventItem {
        sequence,
        time: event.at,
        resource_type: resource_type.to_owned(),
        resource,
        image_arn,
        image_version,
        build_id,
        what: event.what.as_str().to_owned(),
        from: event.from.map(Into::into),
        to: event.to.map(Into::into),
        reason: event.reason.map(|reason| reason.to_string()),
        cause: event.origin.cause.as_str().to_owned(),
        principal,
        request_id,
    }
}

/// The events as a stream: each with its number as id, and a comment when there is nothing to say.
/// It ends after a while, or when the records cannot be read; the client connects again and says
/// which event it has seen last.
pub(crate) fn stream(watch: Watch) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let end = Instant::now() + LONGEST_STREAM;
    futures::stream::unfold(Some(watch), move |watch| async move {
        let mut watch = watch.filter(|_| Instant::now() < end)?;
        match watch.next((Instant::now() + SIGN_OF_LIFE).min(end)).await {
            Ok(page) => Some((Ok(frames(&page)), Some(watch))),
            Err(_) => None,
        }
    })
}

fn frames(page: &EventPage) -> Bytes {
    if page.events.is_empty() {
        // The id lets a client that comes back skip what it may not see.
        return format!("id: {}\n: nothing yet\n\n", page.next_after).into();
    }
    let frame = |event: &EventItem| format!("id: {}\ndata: {}\n\n", event.sequence, to_json(event));
    page.events.iter().map(frame).collect::<String>().into()
}
