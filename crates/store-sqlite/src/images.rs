//! Rows of images, versions and builds.

use async_trait::async_trait;
use hearth_api::{
    AccountId, Architecture, BuildId, BuildState, ImageArn, ImageState, ImageVersion, ImageVersionState,
    ImageVersionStatus, Timestamp,
};
use hearth_records::{
    BegunUpdate, BuildRecord, Change, ClientToken, ImageRecord, ImageVersionRecord, ImageVersions, Images,
    InsertedImage, Quotas, Result as Recorded, TokenClaim,
};
use rusqlite::{Connection, Row, Transaction, params};

use crate::quotas::of_image;
use crate::rows::{json, moment, optional_json, parsed, to_json};
use crate::writer::Durability;
use crate::{Result, Store, client_tokens, image_changes, rows};

#[async_trait]
impl ImageVersions for Store {
    async fn image_version(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
    ) -> Recorded<Option<ImageVersionRecord>> {
        let query = "SELECT * FROM image_versions WHERE arn = ? AND version = ?";
        let key = (arn.to_string(), version.0);
        self.read(|connection| rows::one(connection, query, key, version_record))
    }

    async fn image_versions(&self, arn: &ImageArn) -> Recorded<Vec<ImageVersionRecord>> {
        let query = "SELECT * FROM image_versions WHERE arn = ? ORDER BY version DESC";
        self.read(|connection| rows::all(connection, query, [arn.to_string()], version_record))
    }
}

#[async_trait]
impl Images for Store {
    async fn insert_image(
        &self,
        image: &ImageRecord,
        version: &ImageVersionRecord,
        build: &BuildRecord,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Recorded<InsertedImage> {
        let (image, version, build, quotas) = (image.clone(), version.clone(), build.clone(), *quotas);
        let room = self.room();
        self.write(Durability::Disk, move |tx| {
            insert(tx, (&image, &version, &build), token.as_ref(), &quotas, room)
        })
        .await
    }

    async fn image(&self, arn: &ImageArn) -> Recorded<Option<ImageRecord>> {
        let query = "SELECT * FROM images WHERE arn = ?";
        self.read(|connection| rows::one(connection, query, [arn.to_string()], image_record))
    }

    async fn images(
        &self,
        account: &AccountId,
        after: Option<&str>,
        limit: u32,
    ) -> Recorded<Vec<ImageRecord>> {
        let query = "SELECT * FROM images WHERE account = ? AND name > ? ORDER BY name LIMIT ?";
        let parameters = params![account.as_str(), after.unwrap_or(""), limit];
        self.read(|connection| rows::all(connection, query, parameters, image_record))
    }

    async fn all_images(&self) -> Recorded<Vec<ImageRecord>> {
        self.read(|connection| rows::all(connection, "SELECT * FROM images ORDER BY arn", [], image_record))
    }

    async fn finish_build(
        &self,
        image: &ImageRecord,
        version: &ImageVersionRecord,
        build: &BuildRecord,
    ) -> Recorded<()> {
        let (image, version, build) = (image.clone(), version.clone(), build.clone());
        self.write(Durability::Disk, move |tx| {
            update_build(tx, &build)?;
            update_version(tx, &version)?;
            update_image(tx, &image)
        })
        .await
    }

    async fn begin_build(&self, version: &ImageVersionRecord, build: &BuildRecord) -> Recorded<()> {
        let (version, build) = (version.clone(), build.clone());
        self.write(Durability::Disk, move |tx| {
            update_build(tx, &build)?;
            update_version(tx, &version)
        })
        .await
    }

    async fn delete_image(&self, arn: &ImageArn) -> Recorded<()> {
        let arn = arn.to_string();
        self.write(Durability::Disk, move |tx| {
            rows::run(tx, "DELETE FROM images WHERE arn = ?", [arn]).map(drop)
        })
        .await
    }

    async fn unfinished_deletions(&self) -> Recorded<Vec<(ImageArn, ImageVersion)>> {
        let query = "SELECT arn, version FROM image_versions WHERE state = 'DELETING'";
        let read =
            |row: &Row<'_>| Ok((parsed(row, "arn", ImageArn::parse)?, ImageVersion(row.get("version")?)));
        self.read(|connection| rows::all(connection, query, [], read))
    }

    async fn builds(&self, arn: &ImageArn, version: ImageVersion) -> Recorded<Vec<BuildRecord>> {
        let query = "SELECT * FROM image_builds WHERE arn = ? AND version = ? ORDER BY created_at DESC, id";
        let key = (arn.to_string(), version.0);
        self.read(|connection| rows::all(connection, query, key, build_record))
    }

    async fn build(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        id: &BuildId,
    ) -> Recorded<Option<BuildRecord>> {
        let query = "SELECT * FROM image_builds WHERE id = ? AND arn = ? AND version = ?";
        let key = (id.as_str(), arn.to_string(), version.0);
        self.read(|connection| rows::one(connection, query, key, build_record))
    }

    async fn unfinished_builds(&self) -> Recorded<Vec<BuildRecord>> {
        let query = "SELECT * FROM image_builds WHERE state IN ('PENDING', 'IN_PROGRESS')";
        self.read(|connection| rows::all(connection, query, [], build_record))
    }

    async fn begin_update(
        &self,
        image: &ImageRecord,
        version: &ImageVersionRecord,
        build: &BuildRecord,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Recorded<BegunUpdate> {
        let (image, version, build, quotas) = (image.clone(), version.clone(), build.clone(), *quotas);
        let room = self.room();
        self.write(Durability::Disk, move |tx| {
            image_changes::begin_update(tx, (&image, &version, &build), token.as_ref(), &quotas, room)
        })
        .await
    }

    async fn set_version_status(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        status: ImageVersionStatus,
        now: Timestamp,
    ) -> Recorded<Change> {
        let arn = arn.clone();
        self.write(Durability::Disk, move |tx| {
            image_changes::set_version_status(tx, &arn, version, status, now)
        })
        .await
    }

    async fn begin_version_deletion(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        now: Timestamp,
    ) -> Recorded<Change> {
        let arn = arn.clone();
        self.write(Durability::Disk, move |tx| image_changes::begin_version_deletion(tx, &arn, version, now))
            .await
    }

    async fn finish_version_deletion(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        now: Timestamp,
    ) -> Recorded<()> {
        let arn = arn.clone();
        self.write(Durability::Disk, move |tx| image_changes::finish_version_deletion(tx, &arn, version, now))
            .await
    }

    async fn begin_image_deletion(&self, arn: &ImageArn, now: Timestamp) -> Recorded<Change> {
        let arn = arn.clone();
        self.write(Durability::Disk, move |tx| image_changes::begin_image_deletion(tx, &arn, now)).await
    }
}

fn insert(
    tx: &Transaction<'_>,
    (image, version, build): (&ImageRecord, &ImageVersionRecord, &BuildRecord),
    token: Option<&ClientToken>,
    quotas: &Quotas,
    room: Result<()>,
) -> Result<InsertedImage> {
    let claim = client_tokens::look_up(tx, token)?;
    if claim != TokenClaim::Fresh {
        return Ok(InsertedImage::Token(claim));
    }
    // A repeat needs none.
    room?;
    let arn = image.arn.to_string();
    if rows::value(tx, "SELECT EXISTS (SELECT 1 FROM images WHERE arn = ?)", [&arn])? {
        return Ok(InsertedImage::NameTaken);
    }
    if let Some(quota) = of_image(quotas, tx, &image.arn.account)? {
        return Ok(InsertedImage::QuotaExceeded(quota));
    }
    client_tokens::insert(tx, token)?;
    client_tokens::keep_newest(tx, token)?;
    rows::run(
        tx,
        "INSERT INTO images (arn, account, name, id, state, last_version, latest_active, latest_failed,
             created_at, updated_at, tags)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            arn,
            image.arn.account.as_str(),
            image.arn.name.as_str(),
            image.id,
            image.state.as_str(),
            image.last_version.0,
            image.latest_active_version.map(|version| version.0),
            image.latest_failed_version.map(|version| version.0),
            image.created_at.as_millis(),
            image.updated_at.as_millis(),
            to_json(&image.tags),
        ],
    )?;
    insert_version(tx, version)?;
    insert_build(tx, build)?;
    Ok(InsertedImage::Inserted)
}

fn update_image(tx: &Connection, image: &ImageRecord) -> Result<()> {
    rows::run(
        tx,
        "UPDATE images SET state = ?, latest_active = ?, latest_failed = ?, updated_at = ? WHERE arn = ?",
        params![
            image.state.as_str(),
            image.latest_active_version.map(|version| version.0),
            image.latest_failed_version.map(|version| version.0),
            image.updated_at.as_millis(),
            image.arn.to_string(),
        ],
    )?;
    Ok(())
}

fn update_version(tx: &Connection, version: &ImageVersionRecord) -> Result<()> {
    rows::run(
        tx,
        "UPDATE image_versions SET state = ?, status = ?, app = ?, updated_at = ? WHERE arn = ? AND version = ?",
        params![
            version.state.as_str(),
            version.status.as_str(),
            version.app.as_ref().map(to_json),
            version.updated_at.as_millis(),
            version.arn.to_string(),
            version.version.0,
        ],
    )?;
    Ok(())
}

fn update_build(tx: &Connection, build: &BuildRecord) -> Result<()> {
    rows::run(
        tx,
        "UPDATE image_builds SET state = ?, state_reason = ?, snapshot = ? WHERE id = ?",
        params![
            build.state.as_str(),
            build.state_reason,
            build.snapshot.as_ref().map(to_json),
            build.id.as_str(),
        ],
    )?;
    Ok(())
}

pub(crate) fn insert_version(tx: &Connection, version: &ImageVersionRecord) -> Result<()> {
    rows::run(
        tx,
        "INSERT INTO image_versions (arn, version, state, status, configuration, app, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            version.arn.to_string(),
            version.version.0,
            version.state.as_str(),
            version.status.as_str(),
            to_json(&version.configuration),
            version.app.as_ref().map(to_json),
            version.created_at.as_millis(),
            version.updated_at.as_millis(),
        ],
    )?;
    Ok(())
}

pub(crate) fn insert_build(tx: &Connection, build: &BuildRecord) -> Result<()> {
    rows::run(
        tx,
        "INSERT INTO image_builds (id, arn, version, state, architecture, state_reason, snapshot, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            build.id.as_str(),
            build.arn.to_string(),
            build.version.0,
            build.state.as_str(),
            build.architecture.as_str(),
            build.state_reason,
            build.snapshot.as_ref().map(to_json),
            build.created_at.as_millis(),
        ],
    )?;
    Ok(())
}

fn image_record(row: &Row<'_>) -> Result<ImageRecord> {
    Ok(ImageRecord {
        arn: parsed(row, "arn", ImageArn::parse)?,
        id: row.get("id")?,
        state: parsed(row, "state", ImageState::parse)?,
        last_version: ImageVersion(row.get("last_version")?),
        latest_active_version: row.get::<_, Option<u32>>("latest_active")?.map(ImageVersion),
        latest_failed_version: row.get::<_, Option<u32>>("latest_failed")?.map(ImageVersion),
        created_at: moment(row, "created_at")?,
        updated_at: moment(row, "updated_at")?,
        tags: json(row, "tags")?,
    })
}

fn version_record(row: &Row<'_>) -> Result<ImageVersionRecord> {
    Ok(ImageVersionRecord {
        arn: parsed(row, "arn", ImageArn::parse)?,
        version: ImageVersion(row.get("version")?),
        state: parsed(row, "state", ImageVersionState::parse)?,
        status: parsed(row, "status", ImageVersionStatus::parse)?,
        configuration: json(row, "configuration")?,
        app: optional_json(row, "app")?,
        created_at: moment(row, "created_at")?,
        updated_at: moment(row, "updated_at")?,
    })
}

fn build_record(row: &Row<'_>) -> Result<BuildRecord> {
    Ok(BuildRecord {
        arn: parsed(row, "arn", ImageArn::parse)?,
        version: ImageVersion(row.get("version")?),
        id: BuildId::from_stored(row.get::<_, String>("id")?),
        state: parsed(row, "state", BuildState::parse)?,
        architecture: parsed(row, "architecture", Architecture::parse)?,
        state_reason: row.get("state_reason")?,
        snapshot: optional_json(row, "snapshot")?,
        created_at: moment(row, "created_at")?,
    })
}
