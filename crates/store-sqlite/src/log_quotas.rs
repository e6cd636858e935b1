//! How many log groups and streams an account may have, and how many bytes in them, so that no
//! account takes the disk from all.

use hearth_api::{AccountId, Timestamp};
use hearth_records::{EVENT_OVERHEAD_BYTES, LogQuota, LogQuotas};
use sqlx::SqliteConnection;

use crate::{Error, Result};

/// Output of builds and microVMs may exceed bytes and streams by this part until the oldest of the
/// account are removed; beyond it new lines are lost.
const OUTPUT_MARGIN: u64 = 8;

/// Whose streams or events are to be made: what clients ask for is refused at the quota,
/// output a little above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    Client,
    Output,
}

impl Maker {
    fn limit(self, quota: u64) -> u64 {
        match self {
            Self::Client => quota,
            Self::Output => quota.saturating_add(quota / OUTPUT_MARGIN),
        }
    }
}

/// Refuses another group.
pub(crate) async fn check_group(
    quotas: &LogQuotas,
    connection: &mut SqliteConnection,
    account: &AccountId,
) -> Result<()> {
    let Some(limit) = quotas.groups else { return Ok(()) };
    let query = "SELECT count(*) FROM log_groups WHERE account = ?";
    if number(connection, query, account.as_str()).await? < u64::from(limit) {
        Ok(())
    } else {
        Err(Error::LogQuota(LogQuota::Groups(limit)))
    }
}

/// Refuses another stream.
pub(crate) async fn check_stream(
    quotas: &LogQuotas,
    connection: &mut SqliteConnection,
    account: &AccountId,
    maker: Maker,
) -> Result<()> {
    let Some(limit) = quotas.streams else { return Ok(()) };
    let streams = streams_of(connection, account).await?;
    if streams < maker.limit(limit.into()) { Ok(()) } else { Err(Error::LogQuota(LogQuota::Streams(limit))) }
}

/// Refuses events that do not fit.
pub(crate) async fn check_events(
    quotas: &LogQuotas,
    connection: &mut SqliteConnection,
    account: &AccountId,
    events: &[(Timestamp, String)],
) -> Result<()> {
    let Some(limit) = quotas.bytes else { return Ok(()) };
    let more: u64 = events.iter().map(|(_, message)| message.len() as u64 + EVENT_OVERHEAD_BYTES).sum();
    check_bytes(connection, account, limit.saturating_sub(more), limit).await
}

/// Refuses output of an account that has far too much.
pub(crate) async fn check_output(
    quotas: &LogQuotas,
    connection: &mut SqliteConnection,
    account: &AccountId,
) -> Result<()> {
    let Some(limit) = quotas.bytes else { return Ok(()) };
    check_bytes(connection, account, Maker::Output.limit(limit), limit).await
}

async fn check_bytes(
    connection: &mut SqliteConnection,
    account: &AccountId,
    most: u64,
    limit: u64,
) -> Result<()> {
    if bytes_of(connection, account).await? <= most {
        Ok(())
    } else {
        Err(Error::LogQuota(LogQuota::Bytes(limit)))
    }
}

/// Bytes that an account has in its log groups.
pub(crate) async fn bytes_of(connection: &mut SqliteConnection, account: &AccountId) -> Result<u64> {
    let query = "SELECT coalesce(sum(stored_bytes), 0) FROM log_groups WHERE account = ?";
    number(connection, query, account.as_str()).await
}

/// Streams that an account has in its log groups.
pub(crate) async fn streams_of(connection: &mut SqliteConnection, account: &AccountId) -> Result<u64> {
    let query = "SELECT coalesce(sum(stream_count), 0) FROM log_groups WHERE account = ?";
    number(connection, query, account.as_str()).await
}

async fn number(connection: &mut SqliteConnection, query: &'static str, parameter: &str) -> Result<u64> {
    let found: i64 = sqlx::query_scalar(query).bind(parameter).fetch_one(connection).await?;
    Ok(u64::try_from(found).unwrap_or(0))
}
