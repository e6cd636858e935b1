//! Log groups, streams and their lines.
//!
//! Events have one order everywhere: by timestamp, then in the order they were written. Deleting a
//! group or stream hides it at once; [`sweep_logs`](crate::Store::sweep_logs) removes its events
//! little by little.
//!
//! Reading order: this file, `append`, `read`, `listing`, `sweep`, `writer`.

mod append;
#[cfg(test)]
mod bounds_tests;
mod groups;
mod listing;
mod read;
mod records;
mod sweep;
#[cfg(test)]
mod tests;

use hearth_api::AccountId;
use hearth_records::{Found, MissingLog};
use sqlx::{Row as _, SqliteConnection};

use crate::Result;

/// Id of a group.
pub(crate) async fn group_id(
    connection: &mut SqliteConnection,
    account: &AccountId,
    group: &str,
) -> Result<Option<i64>> {
    let row = sqlx::query("SELECT id FROM log_groups WHERE account = ? AND name = ? AND gone = 0")
        .bind(account.as_str())
        .bind(group)
        .fetch_optional(connection)
        .await?;
    row.map(|row| Ok(row.try_get("id")?)).transpose()
}

/// Ids of a group and of one of its streams.
async fn stream_id(
    connection: &mut SqliteConnection,
    account: &AccountId,
    group: &str,
    stream: &str,
) -> Result<Found<(i64, i64)>> {
    let Some(group) = group_id(connection, account, group).await? else {
        return Ok(Err(MissingLog::Group));
    };
    let row = sqlx::query("SELECT id FROM log_streams WHERE group_id = ? AND name = ? AND gone = 0")
        .bind(group)
        .bind(stream)
        .fetch_optional(connection)
        .await?;
    row.map(|row| Ok((group, row.try_get("id")?))).transpose().map(|ids| ids.ok_or(MissingLog::Stream))
}
