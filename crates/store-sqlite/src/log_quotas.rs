//! How many log groups and streams an account may have, and how many bytes in them, so that no
//! account takes the disk from all.

use hearth_api::{AccountId, Timestamp};
use hearth_records::{EVENT_OVERHEAD_BYTES, LogQuota, LogQuotas};
use rusqlite::Connection;

use crate::quotas::number;
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
pub(crate) fn check_group(quotas: &LogQuotas, connection: &Connection, account: &AccountId) -> Result<()> {
    let Some(limit) = quotas.groups else { return Ok(()) };
    let query = "SELECT count(*) FROM log_groups WHERE account = ?";
    if number(connection, query, [account.as_str()])? < u64::from(limit) {
        Ok(())
    } else {
        Err(Error::LogQuota(LogQuota::Groups(limit)))
    }
}

/// Refuses another stream.
pub(crate) fn check_stream(
    quotas: &LogQuotas,
    connection: &Connection,
    account: &AccountId,
    maker: Maker,
) -> Result<()> {
    let Some(limit) = quotas.streams else { return Ok(()) };
    let streams = streams_of(connection, account)?;
    if streams < maker.limit(limit.into()) { Ok(()) } else { Err(Error::LogQuota(LogQuota::Streams(limit))) }
}

/// Refuses events that do not fit.
pub(crate) fn check_events(
    quotas: &LogQuotas,
    connection: &Connection,
    account: &AccountId,
    events: &[(Timestamp, String)],
) -> Result<()> {
    let Some(limit) = quotas.bytes else { return Ok(()) };
    let more: u64 = events.iter().map(|(_, message)| message.len() as u64 + EVENT_OVERHEAD_BYTES).sum();
    check_bytes(connection, account, limit.saturating_sub(more), limit)
}

/// Refuses output of an account that has far too much.
pub(crate) fn check_output(quotas: &LogQuotas, connection: &Connection, account: &AccountId) -> Result<()> {
    let Some(limit) = quotas.bytes else { return Ok(()) };
    check_bytes(connection, account, Maker::Output.limit(limit), limit)
}

fn check_bytes(connection: &Connection, account: &AccountId, most: u64, limit: u64) -> Result<()> {
    if bytes_of(connection, account)? <= most { Ok(()) } else { Err(Error::LogQuota(LogQuota::Bytes(limit))) }
}

/// Bytes that an account has in its log groups.
pub(crate) fn bytes_of(connection: &Connection, account: &AccountId) -> Result<u64> {
    let query = "SELECT coalesce(sum(stored_bytes), 0) FROM log_groups WHERE account = ?";
    number(connection, query, [account.as_str()])
}

/// Streams that an account has in its log groups.
pub(crate) fn streams_of(connection: &Connection, account: &AccountId) -> Result<u64> {
    let query = "SELECT coalesce(sum(stream_count), 0) FROM log_groups WHERE account = ?";
    number(connection, query, [account.as_str()])
}
