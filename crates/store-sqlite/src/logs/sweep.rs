//! Removing what is too old, too much or deleted, in steps that are too short to hold up a writer.
//!
//! Every account has a step of its own for each kind of thing that goes, so that an account that
//! makes much work delays nobody else's. A step looks for what it will remove before it takes
//! the lock for writing.

use std::collections::BTreeMap;

use hearth_api::{AccountId, Timestamp};
use hearth_records::{EVENT_OVERHEAD_BYTES, LogSweep};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::log_quotas::{bytes_of, streams_of};
use crate::{Result, Store, to_json};

/// Rows that one step removes at most.
const STEP: i64 = 1000;
/// Rows that a deleted group counts for besides its own events and streams: it takes
/// several statements.
const GROUP_ROWS: i64 = 10;
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// Finds deleted streams through the account's groups, so that other accounts' are not looked at.
pub(super) const DELETED_STREAMS: &str =
    "SELECT s.id FROM log_groups AS g CROSS JOIN log_streams AS s ON s.group_id = g.id
    WHERE g.account = ? AND s.gone = 1 LIMIT ?";
pub(super) const EMPTY_STREAMS: &str =
    "SELECT s.id FROM log_groups AS g CROSS JOIN log_streams AS s ON s.group_id = g.id
    WHERE g.account = ?1 AND g.retention_days IS NOT NULL AND s.used_at < ?2 - g.retention_days * ?3
      AND s.stored_bytes = 0 LIMIT ?4";

/// An event to be removed.
struct Victim {
    id: i64,
    group: i64,
    stream: i64,
    bytes: i64,
}

impl Store {
    /// Accounts that have log groups, deleted ones included.
    pub async fn accounts_with_logs(&self) -> Result<Vec<AccountId>> {
        // From one account to the next in the index, past all groups in between.
        let accounts: Vec<String> = sqlx::query_scalar(
            "WITH RECURSIVE a (account) AS (
                 SELECT min(account) FROM log_groups
                 UNION ALL
                 SELECT (SELECT min(account) FROM log_groups WHERE account > a.account) FROM a
                 WHERE a.account IS NOT NULL)
             SELECT account FROM a WHERE account IS NOT NULL",
        )
        .fetch_all(&self.log_readers)
        .await?;
        Ok(accounts.into_iter().map(AccountId::from_stored).collect())
    }

    /// Removes up to a thousand rows of one kind that an account has. True when there may be more.
    pub async fn sweep_logs(
        &self,
        account: &AccountId,
        what: LogSweep,
        now: Timestamp,
        maximum_group_bytes: Option<u64>,
    ) -> Result<bool> {
        let now = now.as_millis();
        match what {
            LogSweep::DeletedGroups => self.sweep_deleted_groups(account).await,
            LogSweep::DeletedStreams => self.sweep_deleted_streams(account).await,
            LogSweep::ExpiredEvents => self.sweep_expired(account, now).await,
            LogSweep::EmptyStreams => self.sweep_empty_streams(account, now).await,
            // What is deleted still counts, and goes before anything else gives way.
            LogSweep::ExcessStreams | LogSweep::ExcessEvents if self.has_deleted_logs(account).await? => {
                Ok(false)
            }
            LogSweep::ExcessStreams => self.sweep_excess_streams(account).await,
            LogSweep::ExcessEvents => Ok(self.sweep_large_group(account, maximum_group_bytes).await?
                || self.sweep_full_account(account).await?),
        }
    }

    async fn has_deleted_logs(&self, account: &AccountId) -> Result<bool> {
        let mut connection = self.log_readers.acquire().await?;
        Ok(deleted_group(&mut connection, account).await?.is_some()
            || !ids(&mut connection, DELETED_STREAMS, account, 1).await?.is_empty())
    }

    async fn sweep_deleted_groups(&self, account: &AccountId) -> Result<bool> {
        if deleted_group(&mut *self.log_readers.acquire().await?, account).await?.is_none() {
            return Ok(false);
        }
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut left = STEP;
        while left > 0
            && let Some(id) = deleted_group(&mut transaction, account).await?
        {
            left -= GROUP_ROWS;
            let statements = [
                "DELETE FROM log_events WHERE id IN (SELECT id FROM log_events WHERE group_id = ?1 LIMIT ?2)",
                "DELETE FROM log_streams WHERE id IN (SELECT id FROM log_streams WHERE group_id = ?1 LIMIT ?2)",
                "DELETE FROM log_groups WHERE id = ?1 AND ?2 > 0",
            ];
            for statement in statements {
                let removed =
                    sqlx::query(statement).bind(id).bind(left.max(0)).execute(&mut *transaction).await?;
                left -= removed.rows_affected() as i64;
                if left <= 0 {
                    break;
                }
            }
        }
        transaction.commit().await?;
        Ok(left <= 0)
    }

    async fn sweep_deleted_streams(&self, account: &AccountId) -> Result<bool> {
        let mut connection = self.log_readers.acquire().await?;
        let streams = ids(&mut connection, DELETED_STREAMS, account, STEP).await?;
        drop(connection);
        if streams.is_empty() {
            return Ok(false);
        }
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let rows = sqlx::query(
            "SELECT e.id, e.group_id, e.stream_id, octet_length(e.message) + ?1 AS bytes
             FROM json_each(?2) AS s CROSS JOIN log_events AS e ON e.stream_id = s.value LIMIT ?3",
        )
        .bind(EVENT_OVERHEAD_BYTES as i64)
        .bind(to_json(&streams))
        .bind(STEP)
        .fetch_all(&mut *transaction)
        .await?;
        let victims = rows.iter().map(victim).collect::<Result<Vec<_>>>()?;
        remove(&mut transaction, &victims).await?;
        remove_emptied(&mut transaction, &streams).await?;
        transaction.commit().await?;
        Ok(streams.len() as i64 == STEP || victims.len() as i64 == STEP)
    }

    async fn sweep_expired(&self, account: &AccountId, now: i64) -> Result<bool> {
        let found = sqlx::query(
            "SELECT id, retention_days FROM log_groups
             WHERE account = ?1 AND retention_days IS NOT NULL AND EXISTS
                 (SELECT 1 FROM log_events WHERE group_id = log_groups.id AND timestamp < ?2 - retention_days * ?3)
             LIMIT 1",
        )
        .bind(account.as_str())
        .bind(now)
        .bind(DAY_MILLIS)
        .fetch_optional(&self.log_readers)
        .await?;
        let Some(found) = found else { return Ok(false) };
        let before = now - found.try_get::<i64, _>("retention_days")? * DAY_MILLIS;
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let victims = oldest(&mut transaction, found.try_get("id")?, before).await?;
        remove(&mut transaction, &victims).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn sweep_empty_streams(&self, account: &AccountId, now: i64) -> Result<bool> {
        let streams: Vec<i64> = sqlx::query_scalar(EMPTY_STREAMS)
            .bind(account.as_str())
            .bind(now)
            .bind(DAY_MILLIS)
            .bind(STEP)
            .fetch_all(&self.log_readers)
            .await?;
        if streams.is_empty() {
            return Ok(false);
        }
        sqlx::query(
            "DELETE FROM log_streams WHERE id IN (SELECT value FROM json_each(?)) AND stored_bytes = 0",
        )
        .bind(to_json(&streams))
        .execute(&self.pool)
        .await?;
        Ok(streams.len() as i64 == STEP)
    }

    /// Deletes streams of the group that has most, those first that were not written
    /// to for longest.
    async fn sweep_excess_streams(&self, account: &AccountId) -> Result<bool> {
        let Some(limit) = self.log_quotas.streams else { return Ok(false) };
        let mut connection = self.log_readers.acquire().await?;
        let excess = streams_of(&mut connection, account).await?.saturating_sub(limit.into());
        let group: Option<i64> = sqlx::query_scalar(
            "SELECT id FROM log_groups WHERE account = ? ORDER BY stream_count DESC LIMIT 1",
        )
        .bind(account.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        drop(connection);
        let (1.., Some(group)) = (excess, group) else { return Ok(false) };
        let deleted = sqlx::query(
            "UPDATE log_streams SET gone = 1 WHERE id IN (
                 SELECT id FROM log_streams WHERE group_id = ? AND gone = 0 ORDER BY used_at LIMIT ?)",
        )
        .bind(group)
        .bind(STEP.min(excess as i64))
        .execute(&self.pool)
        .await?;
        let removed = deleted.rows_affected();
        // An operator who has raised nothing at an upgrade would otherwise not see why lines are
        // missing.
        tracing::warn!(%account, removed, limit, "log streams beyond the quota were removed, those not written to for longest");
        Ok(removed > 0)
    }

    async fn sweep_large_group(&self, account: &AccountId, maximum: Option<u64>) -> Result<bool> {
        let Some(maximum) = maximum else { return Ok(false) };
        let found = sqlx::query(
            "SELECT id, stored_bytes FROM log_groups WHERE account = ? AND stored_bytes > ?
                 AND EXISTS (SELECT 1 FROM log_events WHERE group_id = log_groups.id)
             ORDER BY stored_bytes DESC LIMIT 1",
        )
        .bind(account.as_str())
        .bind(maximum as i64)
        .fetch_optional(&self.log_readers)
        .await?;
        let Some(found) = found else { return Ok(false) };
        let excess = found.try_get::<i64, _>("stored_bytes")? - maximum as i64;
        self.remove_oldest(found.try_get("id")?, excess).await
    }

    /// The oldest events of the largest group of an account whose groups have too much together.
    async fn sweep_full_account(&self, account: &AccountId) -> Result<bool> {
        let Some(maximum) = self.log_quotas.bytes else { return Ok(false) };
        let mut connection = self.log_readers.acquire().await?;
        let bytes = bytes_of(&mut connection, account).await?;
        if bytes <= maximum {
            return Ok(false);
        }
        let group: Option<i64> = sqlx::query_scalar(
            "SELECT id FROM log_groups WHERE account = ?
                 AND EXISTS (SELECT 1 FROM log_events WHERE group_id = log_groups.id)
             ORDER BY stored_bytes DESC LIMIT 1",
        )
        .bind(account.as_str())
        .fetch_optional(&mut *connection)
        .await?;
        drop(connection);
        let Some(group) = group else { return Ok(false) };
        self.remove_oldest(group, (bytes - maximum) as i64).await
    }

    /// Removes the oldest events of a group until it has `excess` bytes less, or as
    /// many as one step takes.
    async fn remove_oldest(&self, group: i64, mut excess: i64) -> Result<bool> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut victims = oldest(&mut transaction, group, i64::MAX).await?;
        let needed = victims.iter().take_while(|victim| {
            let wanted = excess > 0;
            excess -= victim.bytes;
            wanted
        });
        let needed = needed.count();
        victims.truncate(needed);
        remove(&mut transaction, &victims).await?;
        transaction.commit().await?;
        Ok(needed > 0)
    }
}

async fn deleted_group(connection: &mut SqliteConnection, account: &AccountId) -> Result<Option<i64>> {
    let found = sqlx::query_scalar("SELECT id FROM log_groups WHERE account = ? AND gone = 1 LIMIT 1")
        .bind(account.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(found)
}

async fn ids(
    connection: &mut SqliteConnection,
    query: &'static str,
    account: &AccountId,
    limit: i64,
) -> Result<Vec<i64>> {
    Ok(sqlx::query_scalar(query).bind(account.as_str()).bind(limit).fetch_all(connection).await?)
}

async fn oldest(connection: &mut SqliteConnection, group: i64, before: i64) -> Result<Vec<Victim>> {
    let rows = sqlx::query(
        "SELECT id, group_id, stream_id, octet_length(message) + ? AS bytes FROM log_events
         WHERE group_id = ? AND timestamp < ? ORDER BY timestamp, id LIMIT ?",
    )
    .bind(EVENT_OVERHEAD_BYTES as i64)
    .bind(group)
    .bind(before)
    .bind(STEP)
    .fetch_all(connection)
    .await?;
    rows.iter().map(victim).collect()
}

fn victim(row: &SqliteRow) -> Result<Victim> {
    Ok(Victim {
        id: row.try_get("id")?,
        group: row.try_get("group_id")?,
        stream: row.try_get("stream_id")?,
        bytes: row.try_get("bytes")?,
    })
}

/// Removes events and gives their bytes back to their streams and groups.
async fn remove(connection: &mut SqliteConnection, victims: &[Victim]) -> Result<()> {
    if victims.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = victims.iter().map(|victim| victim.id).collect();
    sqlx::query("DELETE FROM log_events WHERE id IN (SELECT value FROM json_each(?))")
        .bind(to_json(&ids))
        .execute(&mut *connection)
        .await?;
    for (table, bytes) in [
        ("log_streams", sums(victims.iter().map(|victim| (victim.stream, victim.bytes)))),
        ("log_groups", sums(victims.iter().map(|victim| (victim.group, victim.bytes)))),
    ] {
        give_back(connection, table, &bytes).await?;
    }
    Ok(())
}

/// Removes those of some deleted streams that have no events left.
async fn remove_emptied(connection: &mut SqliteConnection, streams: &[i64]) -> Result<()> {
    let rows = sqlx::query(
        "SELECT s.id, s.group_id, s.stored_bytes FROM json_each(?) AS j CROSS JOIN log_streams AS s ON s.id = j.value
         WHERE s.gone = 1 AND NOT EXISTS (SELECT 1 FROM log_events WHERE stream_id = s.id)",
    )
    .bind(to_json(&streams))
    .fetch_all(&mut *connection)
    .await?;
    let (mut emptied, mut bytes) = (Vec::<i64>::new(), Vec::new());
    for row in &rows {
        emptied.push(row.try_get("id")?);
        bytes.push((row.try_get("group_id")?, row.try_get("stored_bytes")?));
    }
    // Earlier versions removed events of deleted streams without a word: what they left in the sum
    // goes with the stream.
    give_back(connection, "log_groups", &sums(bytes)).await?;
    sqlx::query("DELETE FROM log_streams WHERE id IN (SELECT value FROM json_each(?))")
        .bind(to_json(&emptied))
        .execute(connection)
        .await?;
    Ok(())
}

fn sums(bytes: impl IntoIterator<Item = (i64, i64)>) -> Vec<(i64, i64)> {
    let mut sums = BTreeMap::<i64, i64>::new();
    for (id, bytes) in bytes {
        *sums.entry(id).or_default() += bytes;
    }
    sums.into_iter().collect()
}

/// Subtracts from the bytes of streams or groups, all in one statement.
async fn give_back(connection: &mut SqliteConnection, table: &str, bytes: &[(i64, i64)]) -> Result<()> {
    let statement = format!(
        "UPDATE {table} SET stored_bytes = stored_bytes - removed.bytes
         FROM (SELECT value ->> 0 AS id, value ->> 1 AS bytes FROM json_each(?)) AS removed
         WHERE {table}.id = removed.id"
    );
    sqlx::query(sqlx::AssertSqlSafe(statement)).bind(to_json(&bytes)).execute(connection).await?;
    Ok(())
}
