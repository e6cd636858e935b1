//! Rows of images, versions and builds.

use hearth_api::{
    AccountId, Architecture, BuildId, BuildState, ImageArn, ImageState, ImageVersion, ImageVersionState,
    ImageVersionStatus, Timestamp,
};
use hearth_records::{
    BuildRecord, ClientToken, ImageRecord, ImageVersionRecord, InsertedImage, Quotas, TokenClaim,
};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::client_tokens;
use crate::quotas::of_image;
use crate::{Result, Store, from_json, readable, to_json};

impl Store {
    /// Records a new image with its first version and build, together with its client token.
    pub async fn insert_image(
        &self,
        image: &ImageRecord,
        version: &ImageVersionRecord,
        build: &BuildRecord,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<InsertedImage> {
        // A repeat needs none.
        let room = self.check_room();
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let claim = client_tokens::claim(&mut transaction, token.as_ref()).await?;
        if claim != TokenClaim::Fresh {
            return Ok(InsertedImage::Token(claim));
        }
        room?;
        let exceeded = of_image(quotas, &mut transaction, &image.arn.account).await?;
        let inserted = sqlx::query(
            "INSERT INTO images (arn, account, name, id, state, last_version, latest_active, latest_failed,
                 created_at, updated_at, tags)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(image.arn.to_string())
        .bind(image.arn.account.as_str())
        .bind(image.arn.name.as_str())
        .bind(&image.id)
        .bind(image.state.as_str())
        .bind(image.last_version.0)
        .bind(image.latest_active_version.map(|version| version.0))
        .bind(image.latest_failed_version.map(|version| version.0))
        .bind(image.created_at.as_millis())
        .bind(image.updated_at.as_millis())
        .bind(to_json(&image.tags))
        .execute(&mut *transaction)
        .await?;
        if inserted.rows_affected() == 0 {
            return Ok(InsertedImage::NameTaken);
        }
        if let Some(quota) = exceeded {
            return Ok(InsertedImage::QuotaExceeded(quota));
        }
        client_tokens::keep_newest(&mut transaction, token.as_ref()).await?;
        insert_version(&mut transaction, version).await?;
        insert_build(&mut transaction, build).await?;
        transaction.commit().await?;
        Ok(InsertedImage::Inserted)
    }

    /// One image.
    pub async fn image(&self, arn: &ImageArn) -> Result<Option<ImageRecord>> {
        let row = sqlx::query("SELECT * FROM images WHERE arn = ?")
            .bind(arn.to_string())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(image_record).transpose()
    }

    /// At most `limit` images of an account by name, behind the name `after`.
    pub async fn images(
        &self,
        account: &AccountId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<ImageRecord>> {
        let rows = sqlx::query("SELECT * FROM images WHERE account = ? AND name > ? ORDER BY name LIMIT ?")
            .bind(account.as_str())
            .bind(after.unwrap_or(""))
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(image_record).collect()
    }

    /// Every image, of all accounts.
    pub async fn all_images(&self) -> Result<Vec<ImageRecord>> {
        let rows = sqlx::query("SELECT * FROM images ORDER BY arn").fetch_all(&self.pool).await?;
        rows.iter().map(image_record).collect()
    }

    /// Writes what the end of a build changes: of the build, its version and its image, all at
    /// once, so that whoever sees one settled finds the others settled.
    pub async fn finish_build(
        &self,
        image: &ImageRecord,
        version: &ImageVersionRecord,
        build: &BuildRecord,
    ) -> Result<()> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        update_build(&mut transaction, build).await?;
        update_version(&mut transaction, version).await?;
        update_image(&mut transaction, image).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Writes what the begin of a build changes.
    pub async fn begin_build(&self, version: &ImageVersionRecord, build: &BuildRecord) -> Result<()> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        update_build(&mut transaction, build).await?;
        update_version(&mut transaction, version).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Removes an image with its versions and builds.
    pub async fn delete_image(&self, arn: &ImageArn) -> Result<()> {
        sqlx::query("DELETE FROM images WHERE arn = ?").bind(arn.to_string()).execute(&self.pool).await?;
        Ok(())
    }

    /// One version.
    pub async fn image_version(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
    ) -> Result<Option<ImageVersionRecord>> {
        let row = sqlx::query("SELECT * FROM image_versions WHERE arn = ? AND version = ?")
            .bind(arn.to_string())
            .bind(version.0)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(version_record).transpose()
    }

    /// All versions of an image, newest first.
    pub async fn image_versions(&self, arn: &ImageArn) -> Result<Vec<ImageVersionRecord>> {
        let rows = sqlx::query("SELECT * FROM image_versions WHERE arn = ? ORDER BY version DESC")
            .bind(arn.to_string())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(version_record).collect()
    }

    /// Every version that is being deleted, of all images.
    pub async fn unfinished_deletions(&self) -> Result<Vec<(ImageArn, ImageVersion)>> {
        let rows = sqlx::query("SELECT * FROM image_versions WHERE state = 'DELETING'").fetch_all(&self.pool);
        let records = rows.await?.iter().map(version_record).collect::<Result<Vec<_>>>()?;
        Ok(records.into_iter().map(|record| (record.arn, record.version)).collect())
    }

    /// All builds of a version, newest first.
    pub async fn builds(&self, arn: &ImageArn, version: ImageVersion) -> Result<Vec<BuildRecord>> {
        let rows = sqlx::query(
            "SELECT * FROM image_builds WHERE arn = ? AND version = ? ORDER BY created_at DESC, id",
        )
        .bind(arn.to_string())
        .bind(version.0)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(build_record).collect()
    }

    /// One build.
    pub async fn build(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        id: &BuildId,
    ) -> Result<Option<BuildRecord>> {
        let row = sqlx::query("SELECT * FROM image_builds WHERE id = ? AND arn = ? AND version = ?")
            .bind(id.as_str())
            .bind(arn.to_string())
            .bind(version.0)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(build_record).transpose()
    }

    /// Every build that is not over, of all accounts.
    pub async fn unfinished_builds(&self) -> Result<Vec<BuildRecord>> {
        let rows = sqlx::query("SELECT * FROM image_builds WHERE state IN ('PENDING', 'IN_PROGRESS')")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(build_record).collect()
    }
}

async fn update_image(connection: &mut sqlx::SqliteConnection, image: &ImageRecord) -> Result<()> {
    sqlx::query(
        "UPDATE images SET state = ?, latest_active = ?, latest_failed = ?, updated_at = ? WHERE arn = ?",
    )
    .bind(image.state.as_str())
    .bind(image.latest_active_version.map(|version| version.0))
    .bind(image.latest_failed_version.map(|version| version.0))
    .bind(image.updated_at.as_millis())
    .bind(image.arn.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

async fn update_version(connection: &mut sqlx::SqliteConnection, version: &ImageVersionRecord) -> Result<()> {
    sqlx::query(
        "UPDATE image_versions SET state = ?, status = ?, app = ?, updated_at = ? WHERE arn = ? AND version = ?",
    )
    .bind(version.state.as_str())
    .bind(version.status.as_str())
    .bind(version.app.as_ref().map(to_json))
    .bind(version.updated_at.as_millis())
    .bind(version.arn.to_string())
    .bind(version.version.0)
    .execute(connection)
    .await?;
    Ok(())
}

async fn update_build(connection: &mut sqlx::SqliteConnection, build: &BuildRecord) -> Result<()> {
    sqlx::query("UPDATE image_builds SET state = ?, state_reason = ?, snapshot = ? WHERE id = ?")
        .bind(build.state.as_str())
        .bind(&build.state_reason)
        .bind(build.snapshot.as_ref().map(to_json))
        .bind(build.id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn insert_version(
    connection: &mut sqlx::SqliteConnection,
    version: &ImageVersionRecord,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO image_versions (arn, version, state, status, configuration, app, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(version.arn.to_string())
    .bind(version.version.0)
    .bind(version.state.as_str())
    .bind(version.status.as_str())
    .bind(to_json(&version.configuration))
    .bind(version.app.as_ref().map(to_json))
    .bind(version.created_at.as_millis())
    .bind(version.updated_at.as_millis())
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn insert_build(connection: &mut sqlx::SqliteConnection, build: &BuildRecord) -> Result<()> {
    sqlx::query(
        "INSERT INTO image_builds (id, arn, version, state, architecture, state_reason, snapshot, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(build.id.as_str())
    .bind(build.arn.to_string())
    .bind(build.version.0)
    .bind(build.state.as_str())
    .bind(build.architecture.as_str())
    .bind(&build.state_reason)
    .bind(build.snapshot.as_ref().map(to_json))
    .bind(build.created_at.as_millis())
    .execute(connection)
    .await?;
    Ok(())
}

fn image_record(row: &SqliteRow) -> Result<ImageRecord> {
    Ok(ImageRecord {
        arn: readable("arn", row.try_get("arn")?, ImageArn::parse)?,
        id: row.try_get("id")?,
        state: readable("state", row.try_get("state")?, ImageState::parse)?,
        last_version: ImageVersion(row.try_get("last_version")?),
        latest_active_version: row.try_get::<Option<u32>, _>("latest_active")?.map(ImageVersion),
        latest_failed_version: row.try_get::<Option<u32>, _>("latest_failed")?.map(ImageVersion),
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        updated_at: Timestamp::from_millis(row.try_get("updated_at")?),
        tags: from_json("tags", row.try_get("tags")?)?,
    })
}

fn version_record(row: &SqliteRow) -> Result<ImageVersionRecord> {
    Ok(ImageVersionRecord {
        arn: readable("arn", row.try_get("arn")?, ImageArn::parse)?,
        version: ImageVersion(row.try_get("version")?),
        state: readable("state", row.try_get("state")?, ImageVersionState::parse)?,
        status: readable("status", row.try_get("status")?, ImageVersionStatus::parse)?,
        configuration: from_json("configuration", row.try_get("configuration")?)?,
        app: row.try_get::<Option<String>, _>("app")?.map(|text| from_json("app", &text)).transpose()?,
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        updated_at: Timestamp::from_millis(row.try_get("updated_at")?),
    })
}

fn build_record(row: &SqliteRow) -> Result<BuildRecord> {
    let snapshot = row.try_get::<Option<String>, _>("snapshot")?;
    Ok(BuildRecord {
        arn: readable("arn", row.try_get("arn")?, ImageArn::parse)?,
        version: ImageVersion(row.try_get("version")?),
        id: BuildId::from_stored(row.try_get::<String, _>("id")?),
        state: readable("state", row.try_get("state")?, BuildState::parse)?,
        architecture: readable("architecture", row.try_get("architecture")?, Architecture::parse)?,
        state_reason: row.try_get("state_reason")?,
        snapshot: snapshot.map(|text| from_json("snapshot", &text)).transpose()?,
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
    })
}
