//! Images, their versions and builds.

use async_trait::async_trait;
use hearth_api::{AccountId, BuildId, ImageArn, ImageVersion, ImageVersionStatus, Timestamp};
use hearth_records::{
    BegunUpdate, BuildRecord, Change, ClientToken, ImageRecord, ImageVersionRecord, ImageVersions, Images,
    InsertedImage, Quotas, Result as Recorded,
};
use rusqlite::{Row, params};

use crate::image_rows::{
    build_record, image_record, update_build, update_image, update_version, version_record,
};
use crate::rows::parsed;
use crate::writer::Durability;
use crate::{Store, image_changes, rows};

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
            image_changes::insert(tx, (&image, &version, &build), token.as_ref(), &quotas, room)
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
