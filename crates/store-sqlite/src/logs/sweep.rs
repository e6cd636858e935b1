//! Removing what is too old, too much or deleted, in steps that are too short to hold up other
//! changes.
//!
//! Every account has a step of its own for each kind of thing that goes, so that an account that
//! makes much work delays nobody else's. A step looks for what it will remove ([`find`]) before it
//! is the writer's turn ([`Excess::remove`]).

use std::collections::BTreeMap;

use hearth_api::{AccountId, Timestamp};
use hearth_records::{EVENT_OVERHEAD_BYTES, LogQuotas, LogSweep};
use rusqlite::{Connection, Params, Row, params};

use crate::log_quotas::{bytes_of, streams_of};
use crate::rows::{STEP, to_json};
use crate::{Result, rows};

/// Rows that a deleted group counts for besides its own events and streams: it takes
/// several statements.
const GROUP_ROWS: usize = 10;
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// Finds deleted streams through the account's groups, so that other accounts' are not looked at.
pub(super) const DELETED_STREAMS: &str =
    "SELECT s.id FROM log_groups AS g CROSS JOIN log_streams AS s ON s.group_id = g.id
    WHERE g.account = ? AND s.gone = 1 LIMIT ?";
pub(super) const EMPTY_STREAMS: &str =
    "SELECT s.id FROM log_groups AS g CROSS JOIN log_streams AS s ON s.group_id = g.id
    WHERE g.account = ?1 AND g.retention_days IS NOT NULL AND s.used_at < ?2 - g.retention_days * ?3
      AND s.stored_bytes = 0 LIMIT ?4";

/// Accounts that have log groups, deleted ones included.
pub(super) fn accounts(connection: &Connection) -> Result<Vec<AccountId>> {
    // From one account to the next in the index, past all groups in between.
    let query = "WITH RECURSIVE a (account) AS (
             SELECT min(account) FROM log_groups
             UNION ALL
             SELECT (SELECT min(account) FROM log_groups WHERE account > a.account) FROM a
             WHERE a.account IS NOT NULL)
         SELECT account FROM a WHERE account IS NOT NULL";
    rows::all(connection, query, [], |row| Ok(AccountId::from_stored(row.get::<_, String>(0)?)))
}

/// What one step removes.
#[derive(Debug)]
pub(super) enum Excess {
    /// Deleted groups of the account.
    DeletedGroups(AccountId),
    /// Deleted streams.
    DeletedStreams(Vec<i64>),
    /// Events of a group from before a moment, in milliseconds since 1970.
    ExpiredEvents { group: i64, before: i64 },
    /// Streams without events.
    EmptyStreams(Vec<i64>),
    /// So many streams of a group, those first that were not written to for longest.
    Streams { group: i64, excess: i64, account: AccountId, limit: u32 },
    /// The oldest events of a group, until it has so many bytes less.
    Events { group: i64, bytes: i64 },
}

/// Looks for what a sweep of an account has to remove.
pub(super) fn find(
    connection: &Connection,
    account: &AccountId,
    what: LogSweep,
    now: Timestamp,
    maximum_group_bytes: Option<u64>,
    quotas: &LogQuotas,
) -> Result<Option<Excess>> {
    let now = now.as_millis();
    match what {
        LogSweep::DeletedGroups => {
            let found = deleted_group(connection, account)?;
            Ok(found.map(|_| Excess::DeletedGroups(account.clone())))
        }
        LogSweep::DeletedStreams => {
            let found = ids(connection, DELETED_STREAMS, (account.as_str(), STEP as i64))?;
            Ok(found.map(Excess::DeletedStreams))
        }
        LogSweep::ExpiredEvents => expired(connection, account, now),
        LogSweep::EmptyStreams => {
            let parameters = (account.as_str(), now, DAY_MILLIS, STEP as i64);
            Ok(ids(connection, EMPTY_STREAMS, parameters)?.map(Excess::EmptyStreams))
        }
        // What is deleted still counts, and goes before anything else gives way.
        LogSweep::ExcessStreams | LogSweep::ExcessEvents if has_deleted(connection, account)? => Ok(None),
        LogSweep::ExcessStreams => excess_streams(connection, account, quotas),
        LogSweep::ExcessEvents => match large_group(connection, account, maximum_group_bytes)? {
            Some(found) => Ok(Some(found)),
            None => full_account(connection, account, quotas),
        },
    }
}

fn deleted_group(connection: &Connection, account: &AccountId) -> Result<Option<i64>> {
    let query = "SELECT id FROM log_groups WHERE account = ? AND gone = 1 LIMIT 1";
    rows::one(connection, query, [account.as_str()], |row| Ok(row.get(0)?))
}

/// Ids that a query finds, if there are any.
fn ids(connection: &Connection, query: &str, parameters: impl Params) -> Result<Option<Vec<i64>>> {
    let found = rows::all(connection, query, parameters, |row| Ok(row.get(0)?))?;
    Ok((!found.is_empty()).then_some(found))
}

fn has_deleted(connection: &Connection, account: &AccountId) -> Result<bool> {
    Ok(deleted_group(connection, account)?.is_some()
        || ids(connection, DELETED_STREAMS, (account.as_str(), 1))?.is_some())
}

fn expired(connection: &Connection, account: &AccountId, now: i64) -> Result<Option<Excess>> {
    let query = "SELECT id, retention_days FROM log_groups
         WHERE account = ?1 AND retention_days IS NOT NULL AND EXISTS
             (SELECT 1 FROM log_events WHERE group_id = log_groups.id AND timestamp < ?2 - retention_days * ?3)
         LIMIT 1";
    rows::one(connection, query, (account.as_str(), now, DAY_MILLIS), |row| {
        let before = now - row.get::<_, i64>("retention_days")? * DAY_MILLIS;
        Ok(Excess::ExpiredEvents { group: row.get("id")?, before })
    })
}

/// Streams of the group that has most.
fn excess_streams(
    connection: &Connection,
    account: &AccountId,
    quotas: &LogQuotas,
) -> Result<Option<Excess>> {
    let Some(limit) = quotas.streams else { return Ok(None) };
    let excess = streams_of(connection, account)?.saturating_sub(limit.into()) as i64;
    if excess == 0 {
        return Ok(None);
    }
    let query = "SELECT id FROM log_groups WHERE account = ? ORDER BY stream_count DESC LIMIT 1";
    rows::one(connection, query, [account.as_str()], |row| {
        Ok(Excess::Streams { group: row.get(0)?, excess, account: account.clone(), limit })
    })
}

fn large_group(connection: &Connection, account: &AccountId, maximum: Option<u64>) -> Result<Option<Excess>> {
    let Some(maximum) = maximum.map(|bytes| bytes as i64) else { return Ok(None) };
    let query = "SELECT id, stored_bytes FROM log_groups WHERE account = ? AND stored_bytes > ?
             AND EXISTS (SELECT 1 FROM log_events WHERE group_id = log_groups.id)
         ORDER BY stored_bytes DESC LIMIT 1";
    rows::one(connection, query, (account.as_str(), maximum), |row| {
        Ok(Excess::Events { group: row.get(0)?, bytes: row.get::<_, i64>(1)? - maximum })
    })
}

/// The largest group of an account whose groups have too much together.
fn full_account(connection: &Connection, account: &AccountId, quotas: &LogQuotas) -> Result<Option<Excess>> {
    let Some(maximum) = quotas.bytes else { return Ok(None) };
    let bytes = bytes_of(connection, account)?.saturating_sub(maximum) as i64;
    if bytes == 0 {
        return Ok(None);
    }
    let query = "SELECT id FROM log_groups WHERE account = ?
             AND EXISTS (SELECT 1 FROM log_events WHERE group_id = log_groups.id)
         ORDER BY stored_bytes DESC LIMIT 1";
    rows::one(connection, query, [account.as_str()], |row| Ok(Excess::Events { group: row.get(0)?, bytes }))
}

impl Excess {
    /// Removes it, or as much of it as one step takes. True when there may be more.
    pub(super) fn remove(self, tx: &Connection) -> Result<bool> {
        match self {
            Self::DeletedGroups(account) => remove_deleted_groups(tx, &account),
            Self::DeletedStreams(streams) => remove_deleted_streams(tx, &streams),
            Self::ExpiredEvents { group, before } => {
                remove_events(tx, &oldest(tx, group, before)?)?;
                Ok(true)
            }
            Self::EmptyStreams(streams) => {
                let delete = "DELETE FROM log_streams WHERE id IN (SELECT value FROM json_each(?)) AND stored_bytes = 0";
                rows::run(tx, delete, [to_json(&streams)])?;
                Ok(streams.len() == STEP)
            }
            Self::Streams { group, excess, account, limit } => {
                let delete = "UPDATE log_streams SET gone = 1 WHERE id IN (
                         SELECT id FROM log_streams WHERE group_id = ? AND gone = 0 ORDER BY used_at LIMIT ?)";
                let removed = rows::run(tx, delete, (group, excess.min(STEP as i64)))?;
                // An operator who has raised nothing at an upgrade would otherwise not see why
                // lines are missing.
                tracing::warn!(%account, removed, limit, "log streams beyond the quota were removed, those not written to for longest");
                Ok(removed > 0)
            }
            Self::Events { group, bytes } => {
                let mut victims = oldest(tx, group, i64::MAX)?;
                victims.truncate(needed(&victims, bytes));
                remove_events(tx, &victims)?;
                Ok(!victims.is_empty())
            }
        }
    }
}

fn remove_deleted_groups(tx: &Connection, account: &AccountId) -> Result<bool> {
    let mut left = STEP;
    while left > 0
        && let Some(id) = deleted_group(tx, account)?
    {
        left = left.saturating_sub(GROUP_ROWS);
        for statement in [
            "DELETE FROM log_events WHERE id IN (SELECT id FROM log_events WHERE group_id = ?1 LIMIT ?2)",
            "DELETE FROM log_streams WHERE id IN (SELECT id FROM log_streams WHERE group_id = ?1 LIMIT ?2)",
            "DELETE FROM log_groups WHERE id = ?1 AND ?2 > 0",
        ] {
            left = left.saturating_sub(rows::run(tx, statement, (id, left as i64))?);
            if left == 0 {
                break;
            }
        }
    }
    Ok(left == 0)
}

fn remove_deleted_streams(tx: &Connection, streams: &[i64]) -> Result<bool> {
    let query = "SELECT e.id, e.group_id, e.stream_id, octet_length(e.message) + ?1 AS bytes
         FROM json_each(?2) AS s CROSS JOIN log_events AS e ON e.stream_id = s.value LIMIT ?3";
    let parameters = (EVENT_OVERHEAD_BYTES as i64, to_json(&streams), STEP as i64);
    let victims = rows::all(tx, query, parameters, victim)?;
    remove_events(tx, &victims)?;
    remove_emptied(tx, streams)?;
    Ok(streams.len() == STEP || victims.len() == STEP)
}

/// An event to be removed.
struct Victim {
    id: i64,
    group: i64,
    stream: i64,
    bytes: i64,
}

fn victim(row: &Row<'_>) -> Result<Victim> {
    Ok(Victim { id: row.get(0)?, group: row.get(1)?, stream: row.get(2)?, bytes: row.get(3)? })
}

/// The oldest events of a group, as many as one step takes.
fn oldest(tx: &Connection, group: i64, before: i64) -> Result<Vec<Victim>> {
    let query = "SELECT id, group_id, stream_id, octet_length(message) + ? AS bytes FROM log_events
         WHERE group_id = ? AND timestamp < ? ORDER BY timestamp, id LIMIT ?";
    rows::all(tx, query, params![EVENT_OVERHEAD_BYTES as i64, group, before, STEP as i64], victim)
}

/// How many of some events have so many bytes.
fn needed(victims: &[Victim], mut bytes: i64) -> usize {
    let wanted = |victim: &&Victim| {
        let wanted = bytes > 0;
        bytes -= victim.bytes;
        wanted
    };
    victims.iter().take_while(wanted).count()
}

/// Removes events and gives their bytes back to their streams and groups.
fn remove_events(tx: &Connection, victims: &[Victim]) -> Result<()> {
    if victims.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = victims.iter().map(|victim| victim.id).collect();
    let delete = "DELETE FROM log_events WHERE id IN (SELECT value FROM json_each(?))";
    rows::run(tx, delete, [to_json(&ids)])?;
    give_back(tx, "log_streams", victims.iter().map(|victim| (victim.stream, victim.bytes)))?;
    give_back(tx, "log_groups", victims.iter().map(|victim| (victim.group, victim.bytes)))
}

/// Removes those of some deleted streams that have no events left.
fn remove_emptied(tx: &Connection, streams: &[i64]) -> Result<()> {
    let query = "SELECT s.id, s.group_id, s.stored_bytes
         FROM json_each(?) AS j CROSS JOIN log_streams AS s ON s.id = j.value
         WHERE s.gone = 1 AND NOT EXISTS (SELECT 1 FROM log_events WHERE stream_id = s.id)";
    let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, (row.get(1)?, row.get(2)?)));
    let (emptied, bytes): (Vec<_>, Vec<_>) =
        rows::all(tx, query, [to_json(&streams)], read)?.into_iter().unzip();
    // Earlier versions removed events of deleted streams without a word: what they left in the sum
    // goes with the stream.
    give_back(tx, "log_groups", bytes)?;
    let delete = "DELETE FROM log_streams WHERE id IN (SELECT value FROM json_each(?))";
    rows::run(tx, delete, [to_json(&emptied)])?;
    Ok(())
}

/// Subtracts bytes from those of streams or groups, all in one statement.
fn give_back(tx: &Connection, table: &str, bytes: impl IntoIterator<Item = (i64, i64)>) -> Result<()> {
    let mut sums = BTreeMap::<i64, i64>::new();
    for (id, bytes) in bytes {
        *sums.entry(id).or_default() += bytes;
    }
    let sums: Vec<_> = sums.into_iter().collect();
    let statement = format!(
        "UPDATE {table} SET stored_bytes = stored_bytes - removed.bytes
         FROM (SELECT value ->> 0 AS id, value ->> 1 AS bytes FROM json_each(?)) AS removed
         WHERE {table}.id = removed.id"
    );
    rows::run(tx, &statement, [to_json(&sums)])?;
    Ok(())
}
