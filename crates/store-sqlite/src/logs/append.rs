//! Writing events.

use hearth_api::{AccountId, MicrovmId, Timestamp};
use hearth_records::{EVENT_OVERHEAD_BYTES, Found, LogActions, LogDestination, MissingLog, WrittenFor};
use sqlx::{Sqlite, SqliteConnection, SqliteTransaction};

use super::{group_id, stream_id};
use crate::log_quotas::{Maker, check_events, check_group, check_output, check_stream};
use crate::{Result, Store};

/// Rows of one INSERT statement.
const ROWS: usize = 500;

impl Store {
    /// Appends lines in order, making the group and stream when they do not exist. A new group gets
    /// the retention of [`Store::with_log_retention`].
    pub async fn append_log(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
        lines: &[(Timestamp, String)],
    ) -> Result<()> {
        self.append_output(account, group, stream, lines, None).await
    }

    /// The same; with them it is recorded how far a microVM's output has been written.
    pub(crate) async fn append_output(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
        lines: &[(Timestamp, String)],
        progress: Option<(&MicrovmId, u64)>,
    ) -> Result<()> {
        self.room()?;
        let mut transaction = self.relaxed.begin_with("BEGIN IMMEDIATE").await?;
        check_output(&self.log_quotas, &mut transaction, account).await?;
        let ids = match stream_id(&mut transaction, account, group, stream).await? {
            Ok(ids) => ids,
            Err(_) => self.make_stream(&mut transaction, account, group, stream).await?,
        };
        if let Some((microvm, position)) = progress {
            sqlx::query("UPDATE microvms SET output_position = ? WHERE id = ?")
                .bind(position as i64)
                .bind(microvm.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        append(transaction, ids, lines).await
    }

    /// Makes a stream for output, and its group where that is missing too; their ids.
    async fn make_stream(
        &self,
        connection: &mut SqliteConnection,
        account: &AccountId,
        group: &str,
        stream: &str,
    ) -> Result<(i64, i64)> {
        let now = Timestamp::now().as_millis();
        let group = if let Some(id) = group_id(connection, account, group).await? {
            id
        } else {
            check_group(&self.log_quotas, connection, account).await?;
            let made = sqlx::query(
                "INSERT INTO log_groups (account, name, created_at, retention_days) VALUES (?, ?, ?, ?)",
            )
            .bind(account.as_str())
            .bind(group)
            .bind(now)
            .bind(self.log_retention_days)
            .execute(&mut *connection)
            .await?;
            made.last_insert_rowid()
        };
        check_stream(&self.log_quotas, connection, account, Maker::Output).await?;
        let made = sqlx::query("INSERT INTO log_streams (group_id, name, created_at) VALUES (?, ?, ?)")
            .bind(group)
            .bind(stream)
            .bind(now)
            .execute(connection)
            .await?;
        Ok((group, made.last_insert_rowid()))
    }

    /// Whether output may be written to its destination now, or why not. The service's own
    /// streams need no permission.
    pub async fn may_write_log(
        &self,
        destination: &LogDestination,
    ) -> Result<std::result::Result<(), String>> {
        if destination.written_for == WrittenFor::Service {
            return Ok(Ok(()));
        }
        let mut connection = self.pool.acquire().await?;
        let LogDestination { account, group, stream, .. } = destination;
        let found = stream_id(&mut connection, account, group, stream).await?;
        drop(connection);
        let actions =
            LogActions { create_group: found == Err(MissingLog::Group), create_stream: found.is_err() };
        let tags = self.log_group(account, group).await?.map(|group| group.tags).unwrap_or_default();
        Ok(match &self.log_rights {
            Some(rights) => rights.may_write(destination, actions, &tags),
            None => Err("nobody can tell who may".to_owned()),
        })
    }

    /// Appends events to a stream that exists. They must be in the order of their times.
    pub async fn put_log_events(
        &self,
        account: &AccountId,
        group: &str,
        stream: &str,
        events: &[(Timestamp, String)],
    ) -> Result<Found<()>> {
        self.room()?;
        let mut transaction = self.relaxed.begin_with("BEGIN IMMEDIATE").await?;
        check_events(&self.log_quotas, &mut transaction, account, events).await?;
        match stream_id(&mut transaction, account, group, stream).await? {
            Ok(ids) => Ok(Ok(append(transaction, ids, events).await?)),
            Err(missing) => Ok(Err(missing)),
        }
    }
}

async fn append(
    mut transaction: SqliteTransaction<'_>,
    (group, stream): (i64, i64),
    events: &[(Timestamp, String)],
) -> Result<()> {
    let now = Timestamp::now().as_millis();
    for rows in events.chunks(ROWS) {
        insert(&mut transaction, (group, stream), now, rows).await?;
    }
    let bytes: u64 = events.iter().map(|(_, message)| message.len() as u64 + EVENT_OVERHEAD_BYTES).sum();
    sqlx::query("UPDATE log_groups SET stored_bytes = stored_bytes + ? WHERE id = ?")
        .bind(bytes as i64)
        .bind(group)
        .execute(&mut *transaction)
        .await?;
    let times = || events.iter().map(|(time, _)| time.as_millis());
    sqlx::query(
        "UPDATE log_streams SET stored_bytes = stored_bytes + ?1,
             first_event_at = min(coalesce(first_event_at, ?2), coalesce(?2, first_event_at)),
             last_event_at = max(coalesce(last_event_at, ?3), coalesce(?3, last_event_at)),
             last_ingested_at = ?4
         WHERE id = ?5",
    )
    .bind(bytes as i64)
    .bind(times().min())
    .bind(times().max())
    .bind(now)
    .bind(stream)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

async fn insert(
    connection: &mut SqliteConnection,
    (group, stream): (i64, i64),
    now: i64,
    events: &[(Timestamp, String)],
) -> Result<()> {
    let mut query = sqlx::QueryBuilder::<Sqlite>::new(
        "INSERT INTO log_events (group_id, stream_id, timestamp, ingested_at, message) ",
    );
    query.push_values(events, |mut row, (time, message)| {
        row.push_bind(group).push_bind(stream).push_bind(time.as_millis()).push_bind(now).push_bind(message);
    });
    query.build().persistent(events.len() == ROWS).execute(connection).await?;
    Ok(())
}
