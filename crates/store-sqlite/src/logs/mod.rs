//! Log groups, streams and their lines.
//!
//! Events have one order everywhere: by timestamp, then in the order they were written. Deleting a
//! group or stream hides it at once; `sweep_logs` removes its events little by little.
//!
//! Lines and sweeps are written behind the changes of records. What may take long to read is read
//! off the caller's thread, [`LOG_READERS`](hearth_records::LOG_READERS) pages at a time.
//!
//! Reading order: this file, `groups`, `append`, `read`, `listing`, `sweep`.

mod append;
#[cfg(test)]
mod bounds_tests;
mod groups;
mod listing;
mod read;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use async_trait::async_trait;
use hearth_api::{AccountId, MicrovmId, Timestamp};
use hearth_records::{
    CreatedLogStream, Found, LogActions, LogDestination, LogGroupRecord, LogPage, LogQuery, LogStreamRecord,
    LogSweep, Logs, MissingLog, Result as Recorded, StreamQuery, WrittenFor,
};
use rusqlite::Connection;

use crate::rows::to_json;
use crate::writer::Durability;
use crate::{Result, Store, rows};
use append::Output;

#[async_trait]
impl Logs for Store {
    async fn adopt_log_groups(&self, account: &AccountId) -> Recorded<()> {
        let adopt = "UPDATE log_groups SET account = ? WHERE account = ''";
        let account = account.clone();
        self.write(Durability::Disk, move |tx| rows::run(tx, adopt, [account.as_str()]).map(drop)).await
    }

    async fn create_log_group(
        &self,
        account: &AccountId,
        name: &str,
        tags: &BTreeMap<String, String>,
    ) -> Recorded<bool> {
        self.room()?;
        let (account, name, tags, quotas) =
            (account.clone(), name.to_owned(), to_json(tags), self.limits.get().logs);
        self.write(Durability::Disk, move |tx| groups::create(tx, &quotas, &account, &name, &tags)).await
    }

    async fn create_log_stream(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
    ) -> Recorded<CreatedLogStream> {
        self.room()?;
        let (account, group, stream, quotas) =
            (account.clone(), group.to_owned(), stream.to_owned(), self.limits.get().logs);
        self.write(Durability::Disk, move |tx| groups::create_stream(tx, &quotas, &account, &group, &stream))
            .await
    }

    async fn delete_log_group(&self, account: &AccountId, name: &str) -> Recorded<bool> {
        let delete = "UPDATE log_groups SET gone = 1 WHERE account = ? AND name = ? AND gone = 0";
        let (account, name) = (account.clone(), name.to_owned());
        let deleted = self.write(Durability::Disk, move |tx| rows::run(tx, delete, (account.as_str(), name)));
        Ok(deleted.await? == 1)
    }

    async fn delete_log_stream(&self, account: &AccountId, group: &str, stream: &str) -> Recorded<Found<()>> {
        let (account, group, stream) = (account.clone(), group.to_owned(), stream.to_owned());
        self.write(Durability::Disk, move |tx| match stream_id(tx, &account, &group, &stream)? {
            Ok((_, stream)) => {
                rows::run(tx, "UPDATE log_streams SET gone = 1 WHERE id = ?", [stream])?;
                Ok(Ok(()))
            }
            Err(missing) => Ok(Err(missing)),
        })
        .await
    }

    async fn set_log_retention(&self, account: &AccountId, group: &str, days: Option<u32>) -> Recorded<bool> {
        let set = "UPDATE log_groups SET retention_days = ? WHERE account = ? AND name = ? AND gone = 0";
        let (account, group) = (account.clone(), group.to_owned());
        let set = self.write(Durability::Disk, move |tx| rows::run(tx, set, (days, account.as_str(), group)));
        Ok(set.await? == 1)
    }

    async fn replace_log_tags(
        &self,
        account: &AccountId,
        group: &str,
        before: &BTreeMap<String, String>,
        after: &BTreeMap<String, String>,
    ) -> Recorded<bool> {
        self.room()?;
        let replace =
            "UPDATE log_groups SET tags = ? WHERE account = ? AND name = ? AND gone = 0 AND tags = ?";
        let parameters = (to_json(after), account.as_str().to_owned(), group.to_owned(), to_json(before));
        Ok(self.write(Durability::Disk, move |tx| rows::run(tx, replace, parameters)).await? == 1)
    }

    async fn log_group(&self, account: &AccountId, name: &str) -> Recorded<Option<LogGroupRecord>> {
        self.read(|connection| groups::group(connection, account, name))
    }

    async fn append_output(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
        lines: &[(Timestamp, String)],
        progress: Option<(&MicrovmId, u64)>,
    ) -> Recorded<()> {
        self.room()?;
        let output = Output {
            account: account.clone(),
            group: group.to_owned(),
            stream: stream.to_owned(),
            lines: lines.to_vec(),
            progress: progress.map(|(microvm, position)| (microvm.clone(), position)),
        };
        let (quotas, retention_days) = (self.limits.get().logs, self.log_retention_days);
        self.write_bulk(Durability::Process, move |tx| output.append(tx, &quotas, retention_days)).await
    }

    async fn may_write_log(&self, destination: &LogDestination) -> Recorded<Result<(), String>> {
        if destination.written_for == WrittenFor::Service {
            return Ok(Ok(()));
        }
        let LogDestination { account, group, stream, .. } = destination;
        let (found, group) = self.read(|connection| {
            let found = stream_id(connection, account, group, stream)?;
            Ok((found, groups::group(connection, account, group)?))
        })?;
        let actions =
            LogActions { create_group: found == Err(MissingLog::Group), create_stream: found.is_err() };
        let tags = group.map(|group| group.tags).unwrap_or_default();
        Ok(match &self.log_rights {
            Some(rights) => rights.may_write(destination, actions, &tags),
            None => Err("nobody can tell who may".to_owned()),
        })
    }

    async fn put_log_events(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
        events: &[(Timestamp, String)],
    ) -> Recorded<Found<()>> {
        self.room()?;
        let (account, group, stream, events, quotas) =
            (account.clone(), group.to_owned(), stream.to_owned(), events.to_vec(), self.limits.get().logs);
        self.write_bulk(Durability::Process, move |tx| {
            append::put(tx, &quotas, (&account, &group, &stream), &events)
        })
        .await
    }

    async fn log_events(&self, query: &LogQuery<'_>) -> Recorded<Found<LogPage>> {
        let (account, group, stream) =
            (query.account.clone(), query.group.to_owned(), query.stream.map(str::to_owned));
        let LogQuery { after, before, order, limit, .. } = *query;
        self.read_logs(move |connection| {
            let (account, group, stream) = (&account, group.as_str(), stream.as_deref());
            read::events(connection, &LogQuery { account, group, stream, after, before, order, limit })
        })
        .await
    }

    async fn newest_log_event(&self) -> Recorded<i64> {
        let query = "SELECT coalesce(max(id), 0) FROM log_events";
        self.read(|connection| rows::value(connection, query, []))
    }

    async fn log_events_written(
        &self,
        account: &AccountId,
        groups: &[String],
        between: (i64, i64),
        limit: u32,
    ) -> Recorded<LogPage> {
        let (account, groups) = (account.clone(), to_json(&groups));
        self.read_logs(move |connection| read::written(connection, &account, &groups, between, limit)).await
    }

    async fn log_streams(&self, query: &StreamQuery<'_>) -> Recorded<Option<Vec<LogStreamRecord>>> {
        let listing = listing::Streams::new(query);
        self.read_logs(move |connection| listing.read(connection)).await
    }

    async fn log_groups(
        &self,
        account: &AccountId,
        prefix: &str,
        pattern: &str,
        after: &str,
        limit: u32,
    ) -> Recorded<Vec<LogGroupRecord>> {
        let range = listing::NameRange::new(prefix, Some(after), false);
        let (account, pattern) = (account.clone(), pattern.to_owned());
        self.read_logs(move |connection| listing::groups(connection, &account, &range, &pattern, limit)).await
    }

    async fn accounts_with_logs(&self) -> Recorded<Vec<AccountId>> {
        self.read_logs(sweep::accounts).await
    }

    async fn sweep_logs(
        &self,
        account: &AccountId,
        what: LogSweep,
        now: Timestamp,
        maximum_group_bytes: Option<u64>,
    ) -> Recorded<bool> {
        let (account, quotas) = (account.clone(), self.limits.get().logs);
        let find = move |connection: &Connection| {
            sweep::find(connection, &account, what, now, maximum_group_bytes, &quotas)
        };
        let Some(found) = self.read_logs(find).await? else { return Ok(false) };
        self.write_bulk(Durability::Disk, move |tx| found.remove(tx)).await
    }
}

/// Id of a group.
fn group_id(connection: &Connection, account: &AccountId, group: &str) -> Result<Option<i64>> {
    let query = "SELECT id FROM log_groups WHERE account = ? AND name = ? AND gone = 0";
    rows::one(connection, query, (account.as_str(), group), |row| Ok(row.get(0)?))
}

/// Ids of a group and of one of its streams.
fn stream_id(
    connection: &Connection,
    account: &AccountId,
    group: &str,
    stream: &str,
) -> Result<Found<(i64, i64)>> {
    let Some(group) = group_id(connection, account, group)? else {
        return Ok(Err(MissingLog::Group));
    };
    let query = "SELECT id FROM log_streams WHERE group_id = ? AND name = ? AND gone = 0";
    let found = rows::one(connection, query, (group, stream), |row| Ok((group, row.get(0)?)))?;
    Ok(found.ok_or(MissingLog::Stream))
}
