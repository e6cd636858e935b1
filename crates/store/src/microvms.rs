//! Rows of microVMs.

use hearth_api::{AccountId, EndpointLabel, ImageArn, ImageVersion, MicrovmId, MicrovmState, Timestamp};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::client_tokens::{self, ClientToken};
use crate::quotas::{Quota, Quotas};
use crate::records::{MicrovmRecord, TokenClaim};
use crate::{Error, Result, Store, from_json, readable, to_json};

/// Which microVMs to list.
#[derive(Debug, Clone)]
pub struct MicrovmFilter {
    /// Owner.
    pub account: AccountId,
    /// Only of this image.
    pub image_arn: Option<ImageArn>,
    /// Only of this version.
    pub image_version: Option<ImageVersion>,
}

/// What became of [`Store::insert_microvm`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InsertedMicrovm {
    /// The row is there.
    Inserted,
    /// The version may not be launched any more.
    VersionGone,
    /// The account has as much as it may have.
    QuotaExceeded(Quota),
    /// The client token was used before.
    Token(TokenClaim),
}

impl Store {
    /// Records a new microVM together with its client token; the row is written only when the token is fresh and the
    /// version can still be launched.
    pub async fn insert_microvm(
        &self,
        record: &MicrovmRecord,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<InsertedMicrovm> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let claim = client_tokens::claim(&mut transaction, token.as_ref()).await?;
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
        if let Some(quota) = quotas.of_microvm(&mut transaction, &record.account, memory_mib).await? {
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

    /// Writes the members of a microVM that change during its life.
    pub async fn update_microvm(&self, record: &MicrovmRecord) -> Result<()> {
        sqlx::query(
            "UPDATE microvms SET state = ?, generation = ?, state_reason = ?, suspended_at = ?, terminated_at = ?
             WHERE id = ?",
        )
        .bind(record.state.as_str())
        .bind(record.generation as i64)
        .bind(&record.state_reason)
        .bind(record.suspended_at.map(Timestamp::as_millis))
        .bind(record.terminated_at.map(Timestamp::as_millis))
        .bind(record.id.as_str())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The microVM that has ended and whose endpoint's host name begins with this label.
    pub async fn microvm_of_endpoint(&self, label: &str) -> Result<Option<MicrovmId>> {
        let id: Option<String> =
            sqlx::query_scalar("SELECT id FROM microvms WHERE endpoint_label = ? AND state = 'TERMINATED'")
                .bind(label)
                .fetch_optional(&self.pool)
                .await?;
        Ok(id.map(MicrovmId::from_stored))
    }

    /// One microVM.
    pub async fn microvm(&self, id: &MicrovmId) -> Result<Option<MicrovmRecord>> {
        let row = sqlx::query("SELECT * FROM microvms WHERE id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(record).transpose()
    }

    /// At most `limit` microVMs, newest first, behind the one named `after`.
    pub async fn microvms(
        &self,
        filter: &MicrovmFilter,
        after: Option<&MicrovmId>,
        limit: u32,
    ) -> Result<Vec<MicrovmRecord>> {
        let (after_started, after_id) = match after {
            None => (i64::MAX, String::new()),
            Some(id) => match self.microvm(id).await? {
                Some(last) => (last.started_at.as_millis(), id.to_string()),
                None => return Ok(Vec::new()),
            },
        };
        let rows = sqlx::query(page_query(filter))
            .bind(filter.account.as_str())
            .bind(filter.image_arn.as_ref().map(ToString::to_string))
            .bind(filter.image_version.map(|version| version.0))
            .bind(after_started)
            .bind(after_id)
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(record).collect()
    }

    /// Every microVM that has not ended, of all accounts.
    pub async fn microvms_alive(&self) -> Result<Vec<MicrovmRecord>> {
        let rows =
            sqlx::query("SELECT * FROM microvms WHERE state <> 'TERMINATED'").fetch_all(&self.pool).await?;
        rows.iter().map(record).collect()
    }
}

/// A query for a page, in a form for which SQLite takes the index that leads to the wanted records alone. With the plus it
/// leaves the account's index aside.
fn page_query(filter: &MicrovmFilter) -> &'static str {
    macro_rules! page {
        ($wanted:literal) => {
            concat!(
                "SELECT * FROM microvms WHERE ",
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

fn record(row: &SqliteRow) -> Result<MicrovmRecord> {
    let moment = |column: &str| -> Result<Option<Timestamp>, Error> {
        Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_millis))
    };
    Ok(MicrovmRecord {
        id: MicrovmId::from_stored(row.try_get::<String, _>("id")?),
        account: AccountId::from_stored(row.try_get::<String, _>("account")?),
        image_arn: readable("image_arn", row.try_get("image_arn")?, ImageArn::parse)?,
        image_version: ImageVersion(row.try_get("image_version")?),
        state: readable("state", row.try_get("state")?, MicrovmState::parse)?,
        generation: row.try_get::<i64, _>("generation")? as u64,
        state_reason: row.try_get("state_reason")?,
        endpoint_label: EndpointLabel::from_stored(row.try_get::<String, _>("endpoint_label")?),
        started_at: Timestamp::from_millis(row.try_get("started_at")?),
        suspended_at: moment("suspended_at")?,
        terminated_at: moment("terminated_at")?,
        settings: from_json("settings", row.try_get("settings")?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How SQLite would run it.
    async fn plan(store: &Store, query: &str) -> String {
        let explain = format!("EXPLAIN QUERY PLAN {query}");
        let rows = sqlx::query(sqlx::AssertSqlSafe(explain)).fetch_all(&store.pool).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>().join("; ")
    }

    #[tokio::test]
    async fn a_page_costs_the_same_whatever_else_is_recorded() {
        let store = Store::in_memory().await.unwrap();
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
            let plan = plan(&store, page_query(&filter)).await;
            assert!(plan.ends_with(&format!("USING INDEX {index}")), "{plan}");
        }
    }
}
