//! The outbox. Changes are made one after the other, so an event with a smaller number never
//! appears later than one with a greater number.

use async_trait::async_trait;
use hearth_api::{AccountId, Timestamp};
use hearth_records::{Actor, Cause, Event, EventQuery, EventStart, Events, NewEvent, Origin, Resource, What};
use rusqlite::{Row, Transaction, params};

use crate::rows::{STEP, moment, readable, text, to_json};
use crate::writer::Durability;
use crate::{Result, Store, rows};

macro_rules! page {
    ($index:literal, $order:literal) => {
        concat!(
            "SELECT sequence, at, account, kind, resource, part, what, was, became, reason, cause, principal,
                 request_id
             FROM events WHERE ",
            $index,
            " AND sequence > ?3 ORDER BY sequence ",
            $order,
            " LIMIT ?4"
        )
    };
}

#[async_trait]
impl Events for Store {
    async fn events(&self, query: &EventQuery<'_>) -> hearth_records::Result<Vec<Event>> {
        let (after, newest_first) = match query.start {
            EventStart::After(after) => (after, false),
            EventStart::Last => (0, true),
        };
        // The plus keeps SQLite from the index of the account where that of the resource leads
        // to less. Both parameters are in both, so that they have the same numbers.
        let statement = match (query.resource, newest_first) {
            (None, false) => page!("account = ?1 AND ?2 IS NULL", "ASC"),
            (None, true) => page!("account = ?1 AND ?2 IS NULL", "DESC"),
            (Some(_), false) => page!("+account = ?1 AND resource = ?2", "ASC"),
            (Some(_), true) => page!("+account = ?1 AND resource = ?2", "DESC"),
        };
        let parameters = params![query.account.as_str(), query.resource, after as i64, query.limit];
        let mut found = self.read(|connection| rows::all(connection, statement, parameters, event))?;
        if newest_first {
            found.reverse();
        }
        Ok(found)
    }

    async fn newest_event(&self) -> hearth_records::Result<u64> {
        let query = "SELECT coalesce(max(sequence), 0) FROM events";
        Ok(self.read(|connection| rows::value::<i64>(connection, query, []))? as u64)
    }

    async fn wait_for_event(&self, after: u64) {
        let mut changes = self.changed.subscribe();
        while self.newest_event().await.is_ok_and(|newest| newest <= after) {
            // An error means that the store has gone, and there will be none.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn sweep_events(&self, before: Timestamp) -> hearth_records::Result<bool> {
        let statement =
            "DELETE FROM events WHERE sequence IN (SELECT sequence FROM events ORDER BY sequence LIMIT ?2)
             AND at < ?1";
        self.write_bulk(Durability::Process, move |tx| {
            Ok(rows::run(tx, statement, params![before.as_millis(), STEP as i64])? == STEP)
        })
        .await
    }
}

/// Writes an event, in the transaction of what it tells of.
pub(crate) fn tell(tx: &Transaction<'_>, event: &NewEvent) -> Result<()> {
    let (kind, resource, part) = event.resource.parts();
    let actor = event.origin.actor.as_ref();
    rows::run(
        tx,
        "INSERT INTO events (at, account, kind, resource, part, what, was, became, reason, cause, principal,
             request_id)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            event.at.as_millis(),
            event.account.as_str(),
            kind,
            resource,
            part,
            event.what.as_str(),
            event.from,
            event.to,
            event.reason.as_ref().map(to_json),
            event.origin.cause.as_str(),
            actor.map(|actor| &actor.principal),
            actor.map(|actor| &actor.request_id),
        ],
    )?;
    Ok(())
}

fn event(row: &Row<'_>) -> Result<Event> {
    let (name, part) = (text(row, 4)?, row.get::<_, Option<String>>(5)?);
    let resource = |kind: &str| Resource::parse(kind, name, part.as_deref());
    let what = |text: &str| What::ALL.into_iter().find(|what| what.as_str() == text);
    let cause = |text: &str| Cause::ALL.into_iter().find(|cause| cause.as_str() == text);
    let (principal, request_id) = (row.get(11)?, row.get(12)?);
    let actor = |(principal, request_id)| Actor { principal, request_id };
    let reason = row.get::<_, Option<String>>(9)?;
    Ok(Event {
        sequence: row.get::<_, i64>(0)? as u64,
        event: NewEvent {
            at: moment(row, 1)?,
            account: AccountId::from_stored(row.get::<_, String>(2)?),
            resource: readable("kind", text(row, 3)?, resource)?,
            what: readable("what", text(row, 6)?, what)?,
            from: row.get::<_, Option<String>>(7)?.map(Into::into),
            to: row.get::<_, Option<String>>(8)?.map(Into::into),
            reason: reason.map(|text| rows::from_json("reason", &text)).transpose()?,
            origin: Origin {
                cause: readable("cause", text(row, 10)?, cause)?,
                actor: Option::zip(principal, request_id).map(actor),
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use hearth_api::{ImageArn, ImageVersion, MicrovmId};

    use super::*;

    fn event(account: &str, resource: Resource, to: &'static str) -> NewEvent {
        NewEvent {
            at: Timestamp::from_millis(1000),
            account: AccountId::from_stored(account),
            resource,
            what: What::State,
            from: None,
            to: Some(to.into()),
            reason: Some(hearth_records::Reason::AppEnded { code: 3 }),
            origin: Origin::api(Some(Actor { principal: "p".to_owned(), request_id: "r".to_owned() })),
        }
    }

    async fn told(store: &Store, event: NewEvent) {
        store.write(Durability::Process, move |tx| tell(tx, &event)).await.unwrap();
    }

    fn image() -> ImageArn {
        ImageArn::parse("arn:aws:lambda:us-east-1:111122223333:microvm-image:app").unwrap()
    }

    #[tokio::test]
    async fn events_are_found_by_account_and_resource_in_their_order() {
        let store = Store::temporary().await.unwrap();
        let microvm = |id: &str| Resource::Microvm(MicrovmId::from_stored(id), image());
        let all = [
            event("1", microvm("a"), "LAUNCHING"),
            event("2", microvm("b"), "LAUNCHING"),
            event("1", Resource::ImageVersion(image(), ImageVersion(2)), "PENDING"),
            event("1", Resource::Image(image()), "UPDATING"),
            event("1", microvm("a"), "RUNNING"),
        ];
        for event in &all {
            told(&store, event.clone()).await;
        }
        let account = AccountId::from_stored("1");
        let arn = image().to_string();
        let find = async |resource: Option<&str>, start: EventStart, limit: u32| {
            let query = EventQuery { account: &account, start, resource, limit };
            let found = store.events(&query).await.unwrap();
            for found in &found {
                assert_eq!(found.event, all[found.sequence as usize - 1]);
            }
            found.into_iter().map(|event| event.sequence).collect::<Vec<_>>()
        };
        assert_eq!(find(None, EventStart::After(0), 10).await, [1, 3, 4, 5]);
        assert_eq!(find(None, EventStart::After(3), 1).await, [4]);
        assert_eq!(find(None, EventStart::Last, 2).await, [4, 5]);
        assert_eq!(find(Some("a"), EventStart::After(0), 10).await, [1, 5]);
        assert_eq!(find(Some("b"), EventStart::After(0), 10).await, [0_u64; 0], "another account's");
        assert_eq!(find(Some(&arn), EventStart::Last, 10).await, [3, 4]);
        for (resource, index) in [
            (false, "events_by_account (account=? AND sequence>?)"),
            (true, "events_by_resource (resource=? AND sequence>?)"),
        ] {
            let statement = if resource {
                page!("+account = ?1 AND resource = ?2", "DESC")
            } else {
                page!("account = ?1 AND ?2 IS NULL", "DESC")
            };
            let plan = store.plan(statement);
            assert!(plan.ends_with(&format!("USING INDEX {index}")), "{plan}");
        }
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_the_next_event_only() {
        let store = Store::temporary().await.unwrap();
        told(&store, event("1", Resource::Image(image()), "CREATING")).await;
        store.wait_for_event(0).await;
        let waiting = store.wait_for_event(1);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        store.write(Durability::Process, |_| Ok(())).await.unwrap();
        assert!(futures::poll!(&mut waiting).is_pending(), "another change");
        told(&store, event("2", Resource::Image(image()), "CREATED")).await;
        waiting.await;
    }

    #[tokio::test]
    async fn old_events_go_and_their_numbers_are_not_given_again() {
        let store = Store::temporary().await.unwrap();
        for _ in 0..=STEP {
            told(&store, event("1", Resource::Image(image()), "CREATING")).await;
        }
        assert!(!store.sweep_events(Timestamp::from_millis(1000)).await.unwrap());
        assert!(store.sweep_events(Timestamp::from_millis(1001)).await.unwrap());
        assert!(!store.sweep_events(Timestamp::from_millis(1001)).await.unwrap());
        told(&store, event("1", Resource::Image(image()), "CREATED")).await;
        assert_eq!(store.newest_event().await.unwrap(), STEP as u64 + 2);
    }
}
