//! Rows of microVMs.

use std::sync::Arc;

use hearth_api::{AccountId, EndpointLabel, ImageArn, ImageVersion, MicrovmId, MicrovmState, Timestamp};
use hearth_records::{
    ClientToken, InsertedMicrovm, MicrovmFilter, MicrovmRecord, MicrovmSummary, Quotas, TokenClaim,
};
use rusqlite::Row;
use sqlx::SqlitePool;

use crate::client_tokens;
use crate::quotas::of_microvm;
use crate::{Error, Result, Store, from_json, readable, to_json};

/// The columns of a record: not `*`, for which SQLite computes the generated one.
macro_rules! record_columns {
    () => {
        "id, account, image_arn, image_version, state, generation, state_reason, endpoint_label, started_at, \
         suspended_at, terminated_at, settings, token_revocations"
    };
}
impl Store {
    /// Records a new microVM together with its client token; the row is written only when the token
    /// is fresh and the version can still be launched.
    pub async fn insert_microvm(
        &self,
        record: &MicrovmRecord,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<InsertedMicrovm> {
        let (pool, record, quotas) = (self.pool.clone(), record.clone(), *quotas);
        let id = record.id.clone();
        self.recent.change(id, async move { insert(&pool, &record, token.as_ref(), &quotas).await }).await
    }

    /// Goes up with every change of any microVM: what was read after this was asked is as it is in
    /// the database for as long as this gives the same number.
    pub fn microvm_changes(&self) -> u64 {
        self.recent.changes()
    }

    /// Writes the members of a microVM that change during its life.
    pub async fn update_microvm(&self, record: &MicrovmRecord) -> Result<()> {
        let update = sqlx::query(
            "UPDATE microvms SET state = ?, generation = ?, state_reason = ?, suspended_at = ?, terminated_at = ?
             WHERE id = ?",
        )
        .bind(record.state.as_str())
        .bind(record.generation as i64)
        .bind(record.state_reason.clone())
        .bind(record.suspended_at.map(Timestamp::as_millis))
        .bind(record.terminated_at.map(Timestamp::as_millis))
        .bind(record.id.as_str().to_owned());
        // What runs does not survive a power failure, so its row need not: nobody waits for the
        // disk to be told of it.
        let runs =
            matches!(record.state, MicrovmState::Pending | MicrovmState::Running | MicrovmState::Suspending);
        let pool = if runs { self.relaxed.clone() } else { self.pool.clone() };
        let update = async move { Ok(update.execute(&pool).await.map(drop)?) };
        self.recent.change(record.id.clone(), update).await
    }

    /// Counts a revocation of the tokens of a microVM; how many there have been then, `None`
    /// without such a microVM. It is on the disk when this returns.
    pub async fn revoke_tokens(&self, id: &MicrovmId) -> Result<Option<u64>> {
        let query = "UPDATE microvms SET token_revocations = token_revocations + 1 WHERE id = ?
             RETURNING token_revocations";
        let revoke = sqlx::query_scalar::<_, i64>(query).bind(id.as_str().to_owned());
        let pool = self.pool.clone();
        let revoke = async move { Ok(revoke.fetch_optional(&pool).await?.map(|times| times as u64)) };
        self.recent.change(id.clone(), revoke).await
    }

    /// How many times the tokens of each microVM have been revoked, of those that have not ended
    /// and where they have been at all.
    #[expect(clippy::unused_async, reason = "where a read is done is not the caller's business")]
    pub async fn token_revocations(&self) -> Result<Vec<(MicrovmId, u64)>> {
        let query = "SELECT id, token_revocations FROM microvms
             WHERE state <> 'TERMINATED' AND token_revocations > 0";
        let read = |row: &Row<'_>| {
            Ok((MicrovmId::from_stored(row.get::<_, String>(0)?), row.get::<_, i64>(1)? as u64))
        };
        self.readers.all(query, [], read)
    }

    /// How much of a microVM's output is in its log stream; `None` before its first line.
    #[expect(clippy::unused_async, reason = "where a read is done is not the caller's business")]
    pub async fn output_position(&self, id: &MicrovmId) -> Result<Option<u64>> {
        let query = "SELECT output_position FROM microvms WHERE id = ?";
        let found = self.readers.all(query, [id.as_str()], |row| Ok(row.get::<_, Option<i64>>(0)?))?;
        Ok(found.into_iter().flatten().next().map(|position| position as u64))
    }

    /// One microVM.
    #[expect(clippy::unused_async, reason = "where a read is done is not the caller's business")]
    pub async fn microvm(&self, id: &MicrovmId) -> Result<Option<MicrovmRecord>> {
        let query = concat!("SELECT ", record_columns!(), " FROM microvms WHERE id = ?");
        let read = || Ok(self.readers.all(query, [id.as_str()], record)?.pop());
        Ok(self.recent.get(id, read)?.map(Arc::unwrap_or_clone))
    }

    /// At most `limit` microVMs, newest first, behind the place of the one that started at `after`
    /// and has this id, whether or not it is still recorded.
    #[expect(clippy::unused_async, reason = "where a read is done is not the caller's business")]
    pub async fn microvms(
        &self,
        filter: &MicrovmFilter,
        after: Option<(Timestamp, &MicrovmId)>,
        limit: u32,
    ) -> Result<Vec<MicrovmSummary>> {
        let (after_started, after_id) =
            after.map_or((i64::MAX, ""), |(started_at, id)| (started_at.as_millis(), id.as_str()));
        let parameters = rusqlite::params![
            filter.account.as_str(),
            filter.image_arn.as_ref().map(ToString::to_string),
            filter.image_version.map(|version| version.0),
            after_started,
            after_id,
            limit,
        ];
        self.readers.all(page_query(filter), parameters, summary)
    }

    /// Every microVM that has not ended, of all accounts.
    #[expect(clippy::unused_async, reason = "where a read is done is not the caller's business")]
    pub async fn microvms_alive(&self) -> Result<Vec<MicrovmRecord>> {
        let query = concat!("SELECT ", record_columns!(), " FROM microvms WHERE state <> 'TERMINATED'");
        self.readers.all(query, [], record)
    }
}

/// See [`Store::insert_microvm`].
async fn insert(
    pool: &SqlitePool,
    record: &MicrovmRecord,
    token: Option<&ClientToken>,
    quotas: &Quotas,
) -> Result<InsertedMicrovm> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let claim = client_tokens::claim(&mut transaction, token).await?;
    if claim != TokenClaim::Fresh {
        return Ok(InsertedMicrovm::Token(claim));
    }
    let launchable: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM image_versions JOIN images USING (arn)
             WHERE arn = ? AND version = ? AND image_versions.state = 'SUCCESSFUL' AND status = 'ACTIVE'
                 AND images.state <> 'DELETING')",
    )
    .bind(record.image_arn.to_string())
    .bind(record.image_version.0)
    .fetch_one(&mut *transaction)
    .await?;
    if !launchable {
        return Ok(InsertedMicrovm::VersionGone);
    }
    let memory_mib = record.settings.minimum_memory_mib;
    if let Some(quota) = of_microvm(quotas, &mut transaction, &record.account, memory_mib).await? {
        return Ok(InsertedMicrovm::QuotaExceeded(quota));
    }
    sqlx::query(
        "INSERT INTO microvms (id, account, image_arn, image_version, state, generation, state_reason,
             endpoint_label, started_at, suspended_at, terminated_at, settings)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(record.id.as_str())
    .bind(record.account.as_str())
    .bind(record.image_arn.to_string())
    .bind(record.image_version.0)
    .bind(record.state.as_str())
    .bind(record.generation as i64)
    .bind(&record.state_reason)
    .bind(record.endpoint_label.as_str())
    .bind(record.started_at.as_millis())
    .bind(record.suspended_at.map(Timestamp::as_millis))
    .bind(record.terminated_at.map(Timestamp::as_millis))
    .bind(to_json(&record.settings))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(InsertedMicrovm::Inserted)
}

/// A query for a page, in a form for which SQLite takes the index that leads to the wanted records
/// alone. With the plus it leaves the account's index aside.
fn page_query(filter: &MicrovmFilter) -> &'static str {
    macro_rules! page {
        ($wanted:literal) => {
            concat!(
                "SELECT id, image_arn, image_version, state, started_at FROM microvms WHERE ",
                $wanted,
                " AND started_at <= ?4 AND (started_at < ?4 OR id > ?5) ORDER BY started_at DESC, id LIMIT ?6"
            )
        };
    }
    match (&filter.image_arn, filter.image_version) {
        (None, _) => page!("account = ?1 AND (?3 IS NULL OR image_version = ?3)"),
        (Some(_), None) => page!("+account = ?1 AND image_arn = ?2"),
        (Some(_), Some(_)) => page!("+account = ?1 AND image_arn = ?2 AND image_version = ?3"),
    }
}

/// Reads by position, as `record_columns` has them: a name would be looked for in each row.
fn record(row: &Row<'_>) -> Result<MicrovmRecord> {
    let moment =
        |column: usize| Ok::<_, Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis));
    Ok(MicrovmRecord {
        id: MicrovmId::from_stored(row.get::<_, String>(0)?),
        account: AccountId::from_stored(row.get::<_, String>(1)?),
        image_arn: readable("image_arn", text(row, 2)?, ImageArn::parse)?,
        image_version: ImageVersion(row.get(3)?),
        state: readable("state", text(row, 4)?, MicrovmState::parse)?,
        generation: row.get::<_, i64>(5)? as u64,
        state_reason: row.get(6)?,
        endpoint_label: EndpointLabel::from_stored(row.get::<_, String>(7)?),
        started_at: Timestamp::from_millis(row.get(8)?),
        suspended_at: moment(9)?,
        terminated_at: moment(10)?,
        settings: from_json("settings", text(row, 11)?)?,
        token_revocations: row.get::<_, i64>(12)? as u64,
    })
}

fn summary(row: &Row<'_>) -> Result<MicrovmSummary> {
    Ok(MicrovmSummary {
        id: MicrovmId::from_stored(row.get::<_, String>(0)?),
        image_arn: readable("image_arn", text(row, 1)?, ImageArn::parse)?,
        image_version: ImageVersion(row.get(2)?),
        state: readable("state", text(row, 3)?, MicrovmState::parse)?,
        started_at: Timestamp::from_millis(row.get(4)?),
    })
}

/// A column of text, where it lies.
fn text<'row>(row: &'row Row<'_>, column: impl rusqlite::RowIndex) -> Result<&'row str> {
    Ok(row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_costs_the_same_whatever_else_is_recorded() {
        let store = Store::temporary().await.unwrap();
        let image = ImageArn::parse("arn:aws:lambda:us-east-1:000000000000:microvm-image:app");
        for (image_arn, image_version, index) in [
            (None, None, "microvms_by_account (account=? AND started_at<?)"),
            (image.clone(), None, "microvms_by_image (image_arn=? AND started_at<?)"),
            (
                image,
                Some(ImageVersion::FIRST),
                "microvms_by_version (image_arn=? AND image_version=? AND started_at<?)",
            ),
        ] {
            let filter =
                MicrovmFilter { account: AccountId::from_stored("000000000000"), image_arn, image_version };
            let plan = store.plan(page_query(&filter)).await;
            assert!(plan.ends_with(&format!("USING INDEX {index}")), "{plan}");
        }
    }
}
