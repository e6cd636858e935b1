//! Changes of images that must not overlap: each looks at the image's state and moves it
//! on in one transaction.

use hearth_api::{ImageArn, ImageState, ImageVersion, ImageVersionStatus, Timestamp};
use hearth_records::{
    BegunUpdate, BuildRecord, Change, ClientToken, ImageRecord, ImageVersionRecord, Quotas, TokenClaim,
};
use sqlx::SqliteConnection;

use crate::client_tokens;
use crate::images::{insert_build, insert_version};
use crate::quotas::of_version;
use crate::{Result, Store, readable};

/// The newest version that can be launched; `NULL` when there is none.
const LATEST_ACTIVE: &str = "(SELECT max(version) FROM image_versions
    WHERE arn = images.arn AND state = 'SUCCESSFUL' AND status = 'ACTIVE')";
const LATEST_FAILED: &str =
    "(SELECT max(version) FROM image_versions WHERE arn = images.arn AND state = 'FAILED')";

impl Store {
    /// Begins an update: `image` is UPDATING and counts one version more than it did, `version`
    /// and `build` are new.
    pub async fn begin_update(
        &self,
        image: &ImageRecord,
        version: &ImageVersionRecord,
        build: &BuildRecord,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<BegunUpdate> {
        // A repeat needs none.
        let room = self.check_room();
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let claim = client_tokens::claim(&mut transaction, token.as_ref()).await?;
        if claim != TokenClaim::Fresh {
            return Ok(BegunUpdate::Token(claim));
        }
        room?;
        if let Some(refused) = unsettled(&mut transaction, &image.arn).await? {
            return Ok(BegunUpdate::Changed(refused));
        }
        if let Some(quota) = of_version(quotas, &mut transaction, &image.arn).await? {
            return Ok(BegunUpdate::QuotaExceeded(quota));
        }
        let updated = sqlx::query(
            "UPDATE images SET state = ?, last_version = ?, updated_at = ? WHERE arn = ? AND last_version = ?",
        )
        .bind(image.state.as_str())
        .bind(image.last_version.0)
        .bind(image.updated_at.as_millis())
        .bind(image.arn.to_string())
        .bind(image.last_version.0 - 1)
        .execute(&mut *transaction)
        .await?;
        if updated.rows_affected() == 0 {
            // Somebody else's update began and ended since the image was read.
            return Ok(BegunUpdate::Changed(Change::Busy(ImageState::Updating)));
        }
        client_tokens::keep_newest(&mut transaction, token.as_ref()).await?;
        insert_version(&mut transaction, version).await?;
        insert_build(&mut transaction, build).await?;
        transaction.commit().await?;
        Ok(BegunUpdate::Changed(Change::Made))
    }

    /// Lets a version be launched, or no longer.
    pub async fn set_version_status(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        status: ImageVersionStatus,
        now: Timestamp,
    ) -> Result<Change> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if let Some(refused) = unsettled(&mut transaction, arn).await? {
            return Ok(refused);
        }
        let updated =
            sqlx::query("UPDATE image_versions SET status = ?, updated_at = ? WHERE arn = ? AND version = ?")
                .bind(status.as_str())
                .bind(now.as_millis())
                .bind(arn.to_string())
                .bind(version.0)
                .execute(&mut *transaction)
                .await?;
        if updated.rows_affected() == 0 {
            return Ok(Change::NotFound);
        }
        let image =
            format!("UPDATE images SET latest_active = {LATEST_ACTIVE}, updated_at = ? WHERE arn = ?");
        sqlx::query(sqlx::AssertSqlSafe(image))
            .bind(now.as_millis())
            .bind(arn.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Change::Made)
    }

    /// Marks a version DELETING and its image UPDATING. From then on it is not launched.
    pub async fn begin_version_deletion(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        now: Timestamp,
    ) -> Result<Change> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if let Some(refused) = unsettled(&mut transaction, arn).await? {
            return Ok(refused);
        }
        let versions: Vec<u32> = sqlx::query_scalar("SELECT version FROM image_versions WHERE arn = ?")
            .bind(arn.to_string())
            .fetch_all(&mut *transaction)
            .await?;
        if !versions.contains(&version.0) {
            return Ok(Change::NotFound);
        }
        if versions.len() == 1 {
            return Ok(Change::LastVersion);
        }
        if alive(&mut transaction, arn, Some(version)).await? {
            return Ok(Change::InUse);
        }
        sqlx::query(
            "UPDATE image_versions SET state = 'DELETING', updated_at = ? WHERE arn = ? AND version = ?",
        )
        .bind(now.as_millis())
        .bind(arn.to_string())
        .bind(version.0)
        .execute(&mut *transaction)
        .await?;
        set_state(&mut transaction, arn, ImageState::Updating, now).await?;
        transaction.commit().await?;
        Ok(Change::Made)
    }

    /// Removes a version that is DELETING, with its builds; its image is UPDATED.
    pub async fn finish_version_deletion(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        now: Timestamp,
    ) -> Result<()> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for table in ["image_builds", "image_versions"] {
            sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE arn = ? AND version = ?")))
                .bind(arn.to_string())
                .bind(version.0)
                .execute(&mut *transaction)
                .await?;
        }
        let image = format!(
            "UPDATE images SET state = 'UPDATED', latest_active = {LATEST_ACTIVE}, latest_failed = {LATEST_FAILED},
                 updated_at = ? WHERE arn = ?"
        );
        sqlx::query(sqlx::AssertSqlSafe(image))
            .bind(now.as_millis())
            .bind(arn.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Marks an image DELETING. From then on none of its versions is launched.
    pub async fn begin_image_deletion(&self, arn: &ImageArn, now: Timestamp) -> Result<Change> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if let Some(refused) = unsettled(&mut transaction, arn).await? {
            return Ok(refused);
        }
        if alive(&mut transaction, arn, None).await? {
            return Ok(Change::InUse);
        }
        set_state(&mut transaction, arn, ImageState::Deleting, now).await?;
        transaction.commit().await?;
        Ok(Change::Made)
    }
}

/// Why an image cannot be changed now, if it cannot.
async fn unsettled(connection: &mut SqliteConnection, arn: &ImageArn) -> Result<Option<Change>> {
    let state: Option<String> = sqlx::query_scalar("SELECT state FROM images WHERE arn = ?")
        .bind(arn.to_string())
        .fetch_optional(connection)
        .await?;
    let Some(state) = state else { return Ok(Some(Change::NotFound)) };
    let state = readable("state", &state, ImageState::parse)?;
    let settled = !matches!(
        state,
        ImageState::Creating | ImageState::Updating | ImageState::Deleting | ImageState::Deleted
    );
    Ok((!settled).then_some(Change::Busy(state)))
}

async fn alive(
    connection: &mut SqliteConnection,
    arn: &ImageArn,
    version: Option<ImageVersion>,
) -> Result<bool> {
    // The plus keeps SQLite from looking at all records of the image: those that
    // have not ended are few.
    let found = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM microvms
             WHERE +image_arn = ?1 AND (?2 IS NULL OR image_version = ?2) AND state <> 'TERMINATED')",
    )
    .bind(arn.to_string())
    .bind(version.map(|version| version.0))
    .fetch_one(connection)
    .await?;
    Ok(found)
}

async fn set_state(
    connection: &mut SqliteConnection,
    arn: &ImageArn,
    state: ImageState,
    now: Timestamp,
) -> Result<()> {
    sqlx::query("UPDATE images SET state = ?, updated_at = ? WHERE arn = ?")
        .bind(state.as_str())
        .bind(now.as_millis())
        .bind(arn.to_string())
        .execute(connection)
        .await?;
    Ok(())
}
