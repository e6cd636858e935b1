//! Groups and streams: made, described, changed, deleted.

use std::collections::BTreeMap;

use hearth_api::{AccountId, Timestamp};
use hearth_records::{CreatedLogStream, Found, LogGroupRecord, MissingLog};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{group_id, stream_id};
use crate::log_quotas::{Maker, check_group, check_stream};
use crate::{Result, Store, from_json, to_json};

impl Store {
    /// Gives the groups that were made when there was one account only to that account.
    pub async fn adopt_log_groups(&self, account: &AccountId) -> Result<()> {
        sqlx::query("UPDATE log_groups SET account = ? WHERE account = ''")
            .bind(account.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Makes a group that keeps its events for ever; false when it exists.
    pub async fn create_log_group(
        &self,
        account: &AccountId,
        name: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<bool> {
        self.room()?;
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if group_id(&mut transaction, account, name).await?.is_some() {
            return Ok(false);
        }
        check_group(&self.log_quotas, &mut transaction, account).await?;
        let made = sqlx::query(
            "INSERT INTO log_groups (account, name, created_at, tags) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(account.as_str())
        .bind(name)
        .bind(Timestamp::now().as_millis())
        .bind(to_json(tags))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(made.rows_affected() == 1)
    }

    /// Makes an empty stream.
    pub async fn create_log_stream(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
    ) -> Result<CreatedLogStream> {
        self.room()?;
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let group = match stream_id(&mut transaction, account, group, stream).await? {
            Ok(_) => return Ok(CreatedLogStream::Exists),
            Err(MissingLog::Stream) => group_id(&mut transaction, account, group).await?,
            Err(MissingLog::Group) => None,
        };
        let Some(group) = group else { return Ok(CreatedLogStream::NoGroup) };
        check_stream(&self.log_quotas, &mut transaction, account, Maker::Client).await?;
        let made = sqlx::query(
            "INSERT INTO log_streams (group_id, name, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(group)
        .bind(stream)
        .bind(Timestamp::now().as_millis())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(if made.rows_affected() == 1 { CreatedLogStream::Created } else { CreatedLogStream::Exists })
    }

    /// Deletes a group with everything in it; false when there is none.
    pub async fn delete_log_group(&self, account: &AccountId, name: &str) -> Result<bool> {
        let gone = sqlx::query("UPDATE log_groups SET gone = 1 WHERE account = ? AND name = ? AND gone = 0")
            .bind(account.as_str())
            .bind(name)
            .execute(&self.pool)
            .await?;
        Ok(gone.rows_affected() == 1)
    }

    /// Deletes a stream with its events. Its bytes count until they are removed.
    pub async fn delete_log_stream(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
    ) -> Result<Found<()>> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let stream = match stream_id(&mut transaction, account, group, stream).await? {
            Ok((_, stream)) => stream,
            Err(missing) => return Ok(Err(missing)),
        };
        sqlx::query("UPDATE log_streams SET gone = 1 WHERE id = ?")
            .bind(stream)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Ok(()))
    }

    /// Sets how long a group keeps its events, `None` for ever; false when there is no such group.
    pub async fn set_log_retention(
        &self,
        account: &AccountId,
        group: &str,
        days: Option<u32>,
    ) -> Result<bool> {
        let set = sqlx::query(
            "UPDATE log_groups SET retention_days = ? WHERE account = ? AND name = ? AND gone = 0",
        )
        .bind(days)
        .bind(account.as_str())
        .bind(group)
        .execute(&self.pool)
        .await?;
        Ok(set.rows_affected() == 1)
    }

    /// Replaces the tags of a group if they are still as they were `before`; false when they are
    /// not, or when there is no such group.
    pub async fn replace_log_tags(
        &self,
        account: &AccountId,
        group: &str,
        before: &BTreeMap<String, String>,
        after: &BTreeMap<String, String>,
    ) -> Result<bool> {
        self.room()?;
        let update =
            "UPDATE log_groups SET tags = ? WHERE account = ? AND name = ? AND gone = 0 AND tags = ?";
        let updated = sqlx::query(update)
            .bind(to_json(after))
            .bind(account.as_str())
            .bind(group)
            .bind(to_json(before))
            .execute(&self.pool)
            .await?;
        Ok(updated.rows_affected() == 1)
    }

    /// One group.
    pub async fn log_group(&self, account: &AccountId, name: &str) -> Result<Option<LogGroupRecord>> {
        let row = sqlx::query("SELECT * FROM log_groups WHERE account = ? AND name = ? AND gone = 0")
            .bind(account.as_str())
            .bind(name)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(group_record).transpose()
    }
}

pub(super) fn group_record(row: &SqliteRow) -> Result<LogGroupRecord> {
    Ok(LogGroupRecord {
        name: row.try_get("name")?,
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        retention_days: row.try_get("retention_days")?,
        stored_bytes: row.try_get::<i64, _>("stored_bytes")?.max(0) as u64,
        tags: from_json("tags", row.try_get("tags")?)?,
    })
}
