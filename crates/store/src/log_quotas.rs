//! How many log groups an account may have, and how many bytes in them, so that no account takes the disk from all.

use hearth_api::{AccountId, Timestamp};
use sqlx::SqliteConnection;

use crate::logs::EVENT_OVERHEAD_BYTES;
use crate::{Error, Result};

/// Output of builds and microVMs may exceed the bytes by this part until the oldest lines of the account are removed;
/// beyond it new lines are lost.
const OUTPUT_MARGIN: u64 = 8;

/// How much an account may have; `None` is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogQuotas {
    /// Log groups.
    pub groups: Option<u32>,
    /// Bytes of all log groups, deleted ones included until their lines are removed.
    pub bytes: Option<u64>,
}

/// A quota that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogQuota {
    /// [`LogQuotas::groups`].
    #[error("the account has {0} log groups, and more are not allowed: delete some")]
    Groups(u32),
    /// [`LogQuotas::bytes`].
    #[error("the log groups of the account may hold {} MiB together: delete some, or let their events expire", .0 >> 20)]
    Bytes(u64),
}

impl LogQuotas {
    /// Refuses another group.
    pub(crate) async fn check_group(
        &self,
        connection: &mut SqliteConnection,
        account: &AccountId,
    ) -> Result<()> {
        let Some(limit) = self.groups else { return Ok(()) };
        let groups: i64 = sqlx::query_scalar("SELECT count(*) FROM log_groups WHERE account = ?")
            .bind(account.as_str())
            .fetch_one(connection)
            .await?;
        if groups < i64::from(limit) { Ok(()) } else { Err(Error::LogQuota(LogQuota::Groups(limit))) }
    }

    /// Refuses events that do not fit.
    pub(crate) async fn check_events(
        &self,
        connection: &mut SqliteConnection,
        account: &AccountId,
        events: &[(Timestamp, String)],
    ) -> Result<()> {
        let Some(limit) = self.bytes else { return Ok(()) };
        let more: u64 = events.iter().map(|(_, message)| message.len() as u64 + EVENT_OVERHEAD_BYTES).sum();
        check_bytes(connection, account, limit.saturating_sub(more), limit).await
    }

    /// Refuses output of an account that has far too much, or that would need another group.
    pub(crate) async fn check_output(
        &self,
        connection: &mut SqliteConnection,
        account: &AccountId,
        group: &str,
    ) -> Result<()> {
        if self.groups.is_some() && crate::logs::group_id(connection, account, group).await?.is_none() {
            self.check_group(connection, account).await?;
        }
        let Some(limit) = self.bytes else { return Ok(()) };
        check_bytes(connection, account, limit.saturating_add(limit / OUTPUT_MARGIN), limit).await
    }
}

async fn check_bytes(
    connection: &mut SqliteConnection,
    account: &AccountId,
    most: u64,
    limit: u64,
) -> Result<()> {
    let bytes: i64 =
        sqlx::query_scalar("SELECT coalesce(sum(stored_bytes), 0) FROM log_groups WHERE account = ?")
            .bind(account.as_str())
            .fetch_one(connection)
            .await?;
    if u64::try_from(bytes).unwrap_or(0) <= most {
        Ok(())
    } else {
        Err(Error::LogQuota(LogQuota::Bytes(limit)))
    }
}
