//! Groups and streams: made and described.

use hearth_api::{AccountId, Timestamp};
use hearth_records::{CreatedLogStream, LogGroupRecord, LogQuotas, MissingLog};
use rusqlite::{Connection, Row};

use super::{group_id, stream_id};
use crate::log_quotas::{Maker, check_group, check_stream};
use crate::rows::{json, moment};
use crate::{Result, rows};

/// Makes a group that keeps its events for ever; false when it exists.
pub(super) fn create(
    tx: &Connection,
    quotas: &LogQuotas,
    account: &AccountId,
    name: &str,
    tags: &str,
) -> Result<bool> {
    if group_id(tx, account, name)?.is_some() {
        return Ok(false);
    }
    check_group(quotas, tx, account)?;
    let insert = "INSERT INTO log_groups (account, name, created_at, tags) VALUES (?, ?, ?, ?)";
    rows::run(tx, insert, (account.as_str(), name, Timestamp::now().as_millis(), tags))?;
    Ok(true)
}

/// Makes an empty stream.
pub(super) fn create_stream(
    tx: &Connection,
    quotas: &LogQuotas,
    account: &AccountId,
    group: &str,
    stream: &str,
) -> Result<CreatedLogStream> {
    let Some(id) = group_id(tx, account, group)? else { return Ok(CreatedLogStream::NoGroup) };
    if stream_id(tx, account, group, stream)? != Err(MissingLog::Stream) {
        return Ok(CreatedLogStream::Exists);
    }
    check_stream(quotas, tx, account, Maker::Client)?;
    insert_stream(tx, id, stream)?;
    Ok(CreatedLogStream::Created)
}

/// Records a stream; its id.
pub(super) fn insert_stream(tx: &Connection, group: i64, stream: &str) -> Result<i64> {
    let insert = "INSERT INTO log_streams (group_id, name, created_at) VALUES (?, ?, ?)";
    rows::run(tx, insert, (group, stream, Timestamp::now().as_millis()))?;
    Ok(tx.last_insert_rowid())
}

/// One group.
pub(super) fn group(
    connection: &Connection,
    account: &AccountId,
    name: &str,
) -> Result<Option<LogGroupRecord>> {
    let query = "SELECT * FROM log_groups WHERE account = ? AND name = ? AND gone = 0";
    rows::one(connection, query, (account.as_str(), name), group_record)
}

pub(super) fn group_record(row: &Row<'_>) -> Result<LogGroupRecord> {
    Ok(LogGroupRecord {
        name: row.get("name")?,
        created_at: moment(row, "created_at")?,
        retention_days: row.get("retention_days")?,
        stored_bytes: row.get::<_, i64>("stored_bytes")?.max(0) as u64,
        tags: json(row, "tags")?,
    })
}
