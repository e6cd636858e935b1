//! The trait of the crate `records` for logs, by the methods of [`Store`].

use std::collections::BTreeMap;

use async_trait::async_trait;
use hearth_api::{AccountId, MicrovmId, Timestamp};
use hearth_records::{
    CreatedLogStream, Found, LogDestination, LogGroupRecord, LogPage, LogQuery, LogStreamRecord, LogSweep,
    Logs, Result, StreamQuery,
};

use crate::Store;

#[async_trait]
impl Logs for Store {
    async fn adopt_log_groups(&self, account: &AccountId) -> Result<()> {
        Ok(Store::adopt_log_groups(self, account).await?)
    }

    async fn create_log_group(
        &self,
        account: &AccountId,
        name: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<bool> {
        Ok(Store::create_log_group(self, account, name, tags).await?)
    }

    async fn create_log_stream(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
    ) -> Result<CreatedLogStream> {
        Ok(Store::create_log_stream(self, account, group, stream).await?)
    }

    async fn delete_log_group(&self, account: &AccountId, name: &str) -> Result<bool> {
        Ok(Store::delete_log_group(self, account, name).await?)
    }

    async fn delete_log_stream(&self, account: &AccountId, group: &str, stream: &str) -> Result<Found<()>> {
        Ok(Store::delete_log_stream(self, account, group, stream).await?)
    }

    async fn set_log_retention(&self, account: &AccountId, group: &str, days: Option<u32>) -> Result<bool> {
        Ok(Store::set_log_retention(self, account, group, days).await?)
    }

    async fn replace_log_tags(
        &self,
        account: &AccountId,
        group: &str,
        before: &BTreeMap<String, String>,
        after: &BTreeMap<String, String>,
    ) -> Result<bool> {
        Ok(Store::replace_log_tags(self, account, group, before, after).await?)
    }

    async fn log_group(&self, account: &AccountId, name: &str) -> Result<Option<LogGroupRecord>> {
        Ok(Store::log_group(self, account, name).await?)
    }

    async fn append_output(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
        lines: &[(Timestamp, String)],
        progress: Option<(&MicrovmId, u64)>,
    ) -> Result<()> {
        Ok(Store::append_output(self, account, group, stream, lines, progress).await?)
    }

    async fn may_write_log(&self, destination: &LogDestination) -> Result<std::result::Result<(), String>> {
        Ok(Store::may_write_log(self, destination).await?)
    }

    async fn put_log_events(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
        events: &[(Timestamp, String)],
    ) -> Result<Found<()>> {
        Ok(Store::put_log_events(self, account, group, stream, events).await?)
    }

    async fn log_events(&self, query: &LogQuery<'_>) -> Result<Found<LogPage>> {
        Ok(Store::log_events(self, query).await?)
    }

    async fn newest_log_event(&self) -> Result<i64> {
        Ok(Store::newest_log_event(self).await?)
    }

    async fn log_events_written(
        &self,
        account: &AccountId,
        groups: &[String],
        between: (i64, i64),
        limit: u32,
    ) -> Result<LogPage> {
        Ok(Store::log_events_written(self, account, groups, between, limit).await?)
    }

    async fn log_streams(&self, query: &StreamQuery<'_>) -> Result<Option<Vec<LogStreamRecord>>> {
        Ok(Store::log_streams(self, query).await?)
    }

    async fn log_groups(
        &self,
        account: &AccountId,
        prefix: &str,
        pattern: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<LogGroupRecord>> {
        Ok(Store::log_groups(self, account, prefix, pattern, after, limit).await?)
    }

    async fn accounts_with_logs(&self) -> Result<Vec<AccountId>> {
        Ok(Store::accounts_with_logs(self).await?)
    }

    async fn sweep_logs(
        &self,
        account: &AccountId,
        what: LogSweep,
        now: Timestamp,
        maximum_group_bytes: Option<u64>,
    ) -> Result<bool> {
        Ok(Store::sweep_logs(self, account, what, now, maximum_group_bytes).await?)
    }
}
