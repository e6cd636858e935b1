//! Removing what is too old, too much or deleted, in steps that are too short to hold up a writer.

use hearth_api::Timestamp;
use sqlx::{Row as _, SqliteConnection};

use super::EVENT_OVERHEAD_BYTES;
use crate::{Result, Store, to_json};

/// Events that one step removes at most.
const STEP: i64 = 1000;
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// An event to be removed.
struct Victim {
    id: i64,
    stream: i64,
    bytes: i64,
}

impl Store {
    /// Removes up to a thousand events: those of deleted groups and streams, those older than their group's retention,
    /// and the oldest ones of groups with more than `maximum_group_bytes`. Streams whose events have all expired go too.
    /// True when there is more to do.
    pub async fn sweep_logs(&self, now: Timestamp, maximum_group_bytes: Option<u64>) -> Result<bool> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let connection = &mut *transaction;
        let now = now.as_millis();
        let more = sweep_deleted_group(connection).await?
            || sweep_deleted_stream(connection).await?
            || sweep_expired(connection, now).await?
            || sweep_empty_streams(connection, now).await?
            || match maximum_group_bytes {
                Some(maximum) => sweep_oversized(connection, maximum as i64).await?,
                None => false,
            }
            || match self.log_quotas.bytes {
                Some(maximum) => sweep_full_account(connection, maximum as i64).await?,
                None => false,
            };
        transaction.commit().await?;
        Ok(more)
    }
}

async fn sweep_deleted_group(connection: &mut SqliteConnection) -> Result<bool> {
    let id: Option<i64> = sqlx::query_scalar("SELECT id FROM log_groups WHERE gone = 1 LIMIT 1")
        .fetch_optional(&mut *connection)
        .await?;
    let Some(id) = id else { return Ok(false) };
    let statements = [
        "DELETE FROM log_events WHERE id IN (SELECT id FROM log_events WHERE group_id = ?1 LIMIT ?2)",
        "DELETE FROM log_streams WHERE id IN (SELECT id FROM log_streams WHERE group_id = ?1 LIMIT ?2)",
        "DELETE FROM log_groups WHERE id = ?1 AND ?2 > 0",
    ];
    for statement in statements {
        let removed = sqlx::query(statement).bind(id).bind(STEP).execute(&mut *connection).await?;
        if removed.rows_affected() as i64 == STEP {
            break;
        }
    }
    Ok(true)
}

async fn sweep_deleted_stream(connection: &mut SqliteConnection) -> Result<bool> {
    let id: Option<i64> = sqlx::query_scalar("SELECT id FROM log_streams WHERE gone = 1 LIMIT 1")
        .fetch_optional(&mut *connection)
        .await?;
    let Some(id) = id else { return Ok(false) };
    let removed = sqlx::query(
        "DELETE FROM log_events WHERE id IN (SELECT id FROM log_events WHERE stream_id = ? LIMIT ?)",
    )
    .bind(id)
    .bind(STEP)
    .execute(&mut *connection)
    .await?;
    if (removed.rows_affected() as i64) < STEP {
        sqlx::query("DELETE FROM log_streams WHERE id = ?").bind(id).execute(connection).await?;
    }
    Ok(true)
}

async fn sweep_expired(connection: &mut SqliteConnection, now: i64) -> Result<bool> {
    let found = sqlx::query(
        "SELECT id, retention_days FROM log_groups WHERE retention_days IS NOT NULL AND EXISTS
             (SELECT 1 FROM log_events WHERE group_id = log_groups.id AND timestamp < ?1 - retention_days * ?2)
         LIMIT 1",
    )
    .bind(now)
    .bind(DAY_MILLIS)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(found) = found else { return Ok(false) };
    let group: i64 = found.try_get("id")?;
    let before = now - found.try_get::<i64, _>("retention_days")? * DAY_MILLIS;
    let victims = oldest(connection, group, before).await?;
    remove(connection, group, &victims).await?;
    Ok(true)
}

async fn sweep_oversized(connection: &mut SqliteConnection, maximum: i64) -> Result<bool> {
    let found = sqlx::query(
        "SELECT id, stored_bytes FROM log_groups WHERE stored_bytes > ?
             AND EXISTS (SELECT 1 FROM log_events WHERE group_id = log_groups.id) LIMIT 1",
    )
    .bind(maximum)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(found) = found else { return Ok(false) };
    let group: i64 = found.try_get("id")?;
    let excess = found.try_get::<i64, _>("stored_bytes")? - maximum;
    remove_oldest(connection, group, excess).await?;
    Ok(true)
}

/// The oldest events of the largest group of an account whose groups have too much together.
async fn sweep_full_account(connection: &mut SqliteConnection, maximum: i64) -> Result<bool> {
    let found = sqlx::query(
        "SELECT account, sum(stored_bytes) AS bytes FROM log_groups GROUP BY account HAVING bytes > ? LIMIT 1",
    )
    .bind(maximum)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(found) = found else { return Ok(false) };
    let group: Option<i64> = sqlx::query_scalar(
        "SELECT id FROM log_groups WHERE account = ?
             AND EXISTS (SELECT 1 FROM log_events WHERE group_id = log_groups.id)
         ORDER BY stored_bytes DESC LIMIT 1",
    )
    .bind(found.try_get::<String, _>("account")?)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(group) = group else { return Ok(false) };
    remove_oldest(connection, group, found.try_get::<i64, _>("bytes")? - maximum).await?;
    Ok(true)
}

/// Removes the oldest events of a group until it has `excess` bytes less, or as many as one step takes.
async fn remove_oldest(connection: &mut SqliteConnection, group: i64, mut excess: i64) -> Result<()> {
    let mut victims = oldest(connection, group, i64::MAX).await?;
    let needed = victims.iter().take_while(|victim| {
        let wanted = excess > 0;
        excess -= victim.bytes;
        wanted
    });
    let needed = needed.count();
    victims.truncate(needed);
    remove(connection, group, &victims).await
}

/// Streams without events that nothing was written to for their group's retention.
async fn sweep_empty_streams(connection: &mut SqliteConnection, now: i64) -> Result<bool> {
    let removed = sqlx::query(
        "DELETE FROM log_streams WHERE id IN (
             SELECT log_streams.id FROM log_groups JOIN log_streams ON group_id = log_groups.id
             WHERE retention_days IS NOT NULL AND log_streams.stored_bytes = 0
               AND max(log_streams.created_at, coalesce(last_ingested_at, 0)) < ? - retention_days * ? LIMIT ?)",
    )
    .bind(now)
    .bind(DAY_MILLIS)
    .bind(STEP)
    .execute(connection)
    .await?;
    Ok(removed.rows_affected() as i64 == STEP)
}

async fn oldest(connection: &mut SqliteConnection, group: i64, before: i64) -> Result<Vec<Victim>> {
    let rows = sqlx::query(
        "SELECT id, stream_id, octet_length(message) + ? AS bytes FROM log_events
         WHERE group_id = ? AND timestamp < ? ORDER BY timestamp, id LIMIT ?",
    )
    .bind(EVENT_OVERHEAD_BYTES as i64)
    .bind(group)
    .bind(before)
    .bind(STEP)
    .fetch_all(connection)
    .await?;
    let victim = |row: &sqlx::sqlite::SqliteRow| {
        Ok(Victim { id: row.try_get("id")?, stream: row.try_get("stream_id")?, bytes: row.try_get("bytes")? })
    };
    rows.iter().map(victim).collect()
}

async fn remove(connection: &mut SqliteConnection, group: i64, victims: &[Victim]) -> Result<()> {
    let ids: Vec<i64> = victims.iter().map(|victim| victim.id).collect();
    sqlx::query("DELETE FROM log_events WHERE id IN (SELECT value FROM json_each(?))")
        .bind(to_json(&ids))
        .execute(&mut *connection)
        .await?;
    let mut streams = std::collections::BTreeMap::<i64, i64>::new();
    for victim in victims {
        *streams.entry(victim.stream).or_default() += victim.bytes;
    }
    for (stream, bytes) in streams {
        sqlx::query("UPDATE log_streams SET stored_bytes = stored_bytes - ? WHERE id = ?")
            .bind(bytes)
            .bind(stream)
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query("UPDATE log_groups SET stored_bytes = stored_bytes - ? WHERE id = ?")
        .bind(victims.iter().map(|victim| victim.bytes).sum::<i64>())
        .bind(group)
        .execute(connection)
        .await?;
    Ok(())
}
