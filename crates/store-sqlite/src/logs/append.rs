//! Writing events.

use hearth_api::{AccountId, MicrovmId, Timestamp};
use hearth_records::{EVENT_OVERHEAD_BYTES, Found, LogQuotas};
use rusqlite::{Connection, params};

use super::groups::insert_stream;
use super::{group_id, stream_id};
use crate::log_quotas::{Maker, check_events, check_group, check_output, check_stream};
use crate::{Result, rows};

/// Lines of a build or a microVM.
pub(super) struct Output {
    pub(super) account: AccountId,
    pub(super) group: String,
    pub(super) stream: String,
    pub(super) lines: Vec<(Timestamp, String)>,
    /// How far a microVM's output has been written with them.
    pub(super) progress: Option<(MicrovmId, u64)>,
}

impl Output {
    /// Appends the lines in order, making the group and stream when they do not exist.
    pub(super) fn append(
        &self,
        tx: &Connection,
        quotas: &LogQuotas,
        retention_days: Option<u32>,
    ) -> Result<()> {
        check_output(quotas, tx, &self.account)?;
        let ids = match stream_id(tx, &self.account, &self.group, &self.stream)? {
            Ok(ids) => ids,
            Err(_) => self.make_stream(tx, quotas, retention_days)?,
        };
        if let Some((microvm, position)) = &self.progress {
            let update = "UPDATE microvms SET output_position = ? WHERE id = ?";
            rows::run(tx, update, (*position as i64, microvm.as_str()))?;
        }
        append(tx, ids, &self.lines)
    }

    /// Makes the stream, and its group where that is missing too; their ids.
    fn make_stream(
        &self,
        tx: &Connection,
        quotas: &LogQuotas,
        retention_days: Option<u32>,
    ) -> Result<(i64, i64)> {
        let group = if let Some(id) = group_id(tx, &self.account, &self.group)? {
            id
        } else {
            check_group(quotas, tx, &self.account)?;
            let insert =
                "INSERT INTO log_groups (account, name, created_at, retention_days) VALUES (?, ?, ?, ?)";
            let now = Timestamp::now().as_millis();
            rows::run(tx, insert, (self.account.as_str(), &self.group, now, retention_days))?;
            tx.last_insert_rowid()
        };
        check_stream(quotas, tx, &self.account, Maker::Output)?;
        Ok((group, insert_stream(tx, group, &self.stream)?))
    }
}

/// Appends events to a stream that exists.
pub(super) fn put(
    tx: &Connection,
    quotas: &LogQuotas,
    (account, group, stream): (&AccountId, &str, &str),
    events: &[(Timestamp, String)],
) -> Result<Found<()>> {
    check_events(quotas, tx, account, events)?;
    match stream_id(tx, account, group, stream)? {
        Ok(ids) => Ok(Ok(append(tx, ids, events)?)),
        Err(missing) => Ok(Err(missing)),
    }
}

fn append(tx: &Connection, (group, stream): (i64, i64), events: &[(Timestamp, String)]) -> Result<()> {
    let now = Timestamp::now().as_millis();
    let mut insert = tx.prepare_cached(
        "INSERT INTO log_events (group_id, stream_id, timestamp, ingested_at, message) VALUES (?, ?, ?, ?, ?)",
    )?;
    for (time, message) in events {
        insert.execute((group, stream, time.as_millis(), now, message))?;
    }
    let bytes: u64 = events.iter().map(|(_, message)| message.len() as u64 + EVENT_OVERHEAD_BYTES).sum();
    let update = "UPDATE log_groups SET stored_bytes = stored_bytes + ? WHERE id = ?";
    rows::run(tx, update, (bytes as i64, group))?;
    let times = || events.iter().map(|(time, _)| time.as_millis());
    rows::run(
        tx,
        "UPDATE log_streams SET stored_bytes = stored_bytes + ?1,
             first_event_at = min(coalesce(first_event_at, ?2), coalesce(?2, first_event_at)),
             last_event_at = max(coalesce(last_event_at, ?3), coalesce(?3, last_event_at)),
             last_ingested_at = ?4
         WHERE id = ?5",
        params![bytes as i64, times().min(), times().max(), now, stream],
    )?;
    Ok(())
}
