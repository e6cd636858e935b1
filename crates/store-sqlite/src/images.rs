//! Images, their versions and builds.

use async_trait::async_trait;
use hearth_api::{AccountId, BuildId, ImageArn, ImageVersion};
use hearth_records::{
    Actor, BegunUpdate, BuildRecord, Building, Change, ClientToken, ImageRecord, ImageVersionRecord,
    ImageVersions, Images, InsertedImage, Origin, Quotas, Result as Recorded, Written,
};
use rusqlite::params;

use crate::image_rows::{
    build_record, building_of, builds_of, image_of, image_record, version_of, version_record, versions_of,
};
use crate::writer::Durability;
use crate::{Store, image_changes, rows};

#[async_trait]
impl ImageVersions for Store {
    async fn image_version(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
    ) -> Recorded<Option<ImageVersionRecord>> {
        self.read(|connection| version_of(connection, arn, version))
    }

    async fn image_versions(&self, arn: &ImageArn) -> Recorded<Vec<ImageVersionRecord>> {
        self.read(|connection| versions_of(connection, arn))
    }
}

#[async_trait]
impl Images for Store {
    async fn insert_image(
        &self,
        new: &Building,
        actor: Option<&Actor>,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Recorded<InsertedImage> {
        let (new, actor, quotas, room) = (new.clone(), actor.cloned(), *quotas, self.room());
        self.write(Durability::Disk, move |tx| {
            image_changes::insert(tx, &new, actor, token.as_ref(), &quotas, room)
        })
        .await
    }

    async fn image(&self, arn: &ImageArn) -> Recorded<Option<ImageRecord>> {
        self.read(|connection| image_of(connection, arn))
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

    async fn building(&self, id: &BuildId) -> Recorded<Option<Building>> {
        self.read(|connection| {
            // In one transaction, so that it is one moment.
            let moment = connection.unchecked_transaction()?;
            building_of(&moment, id)
        })
    }

    async fn change_build(
        &self,
        was: &Building,
        to: &Building,
        origin: &Origin,
    ) -> Recorded<Written<Building>> {
        let (was, to, origin) = (was.clone(), to.clone(), origin.clone());
        self.write(Durability::Disk, move |tx| image_changes::change_build(tx, &was, &to, &origin)).await
    }

    async fn delete_image(&self, was: &ImageRecord, origin: &Origin) -> Recorded<Written<ImageRecord>> {
        let (was, origin) = (was.clone(), origin.clone());
        self.write(Durability::Disk, move |tx| image_changes::delete_image(tx, &was, &origin)).await
    }

    async fn unfinished_deletions(&self) -> Recorded<Vec<ImageVersionRecord>> {
        let query = "SELECT * FROM image_versions WHERE state = 'DELETING'";
        self.read(|connection| rows::all(connection, query, [], version_record))
    }

    async fn builds(&self, arn: &ImageArn, version: ImageVersion) -> Recorded<Vec<BuildRecord>> {
        self.read(|connection| builds_of(connection, arn, version))
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
        was: &ImageRecord,
        to: &Building,
        actor: Option<&Actor>,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Recorded<BegunUpdate> {
        let (was, to, actor) = (was.clone(), to.clone(), actor.cloned());
        let (quotas, room) = (*quotas, self.room());
        self.write(Durability::Disk, move |tx| {
            image_changes::begin_update(tx, (&was, &to), actor, token.as_ref(), &quotas, room)
        })
        .await
    }

    async fn set_version_status(
        &self,
        image: &ImageRecord,
        was: &ImageVersionRecord,
        to: &ImageVersionRecord,
        origin: &Origin,
    ) -> Recorded<Change<ImageVersionRecord>> {
        let (image, was, to, origin) = (image.clone(), was.clone(), to.clone(), origin.clone());
        self.write(Durability::Disk, move |tx| {
            image_changes::set_version_status(tx, &image, (&was, &to), &origin)
        })
        .await
    }

    async fn begin_version_deletion(
        &self,
        image: &ImageRecord,
        was: &ImageVersionRecord,
        to: &ImageVersionRecord,
        origin: &Origin,
    ) -> Recorded<Change<ImageVersionRecord>> {
        let (image, was, to, origin) = (image.clone(), was.clone(), to.clone(), origin.clone());
        self.write(Durability::Disk, move |tx| {
            image_changes::begin_version_deletion(tx, &image, (&was, &to), &origin)
        })
        .await
    }

    async fn finish_version_deletion(
        &self,
        was: &ImageVersionRecord,
        origin: &Origin,
    ) -> Recorded<Written<ImageVersionRecord>> {
        let (was, origin) = (was.clone(), origin.clone());
        self.write(Durability::Disk, move |tx| image_changes::finish_version_deletion(tx, &was, &origin))
            .await
    }

    async fn begin_image_deletion(
        &self,
        was: &ImageRecord,
        to: &ImageRecord,
        origin: &Origin,
    ) -> Recorded<Change<ImageRecord>> {
        let (was, to, origin) = (was.clone(), to.clone(), origin.clone());
        self.write(Durability::Disk, move |tx| image_changes::begin_image_deletion(tx, &was, &to, &origin))
            .await
    }
}

#[cfg(test)]
mod tests {

    use hearth_records::NodeId;

    use super::*;

    #[tokio::test]
    async fn images_conform() {
        let store = Store::temporary().await.unwrap();
        hearth_records::testing::images_conform(&store).await;
    }

    #[tokio::test]
    async fn a_build_of_before_there_were_owners_is_nobodys() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hearth.db");
        let arn = "arn:aws:lambda:us-east-1:000000000000:microvm-image:app";
        let configuration = r#"{"baseImageArn":"a","buildRoleArn":"b","codeArtifact":{"uri":"c"}}"#;
        let rows = format!(
            "INSERT INTO images (arn, account, name, id, state, created_at, updated_at, tags)
                 VALUES ('{arn}', '000000000000', 'app', 'id', 'CREATING', 0, 0, '{{}}');
             INSERT INTO image_versions (arn, version, state, status, configuration, created_at, updated_at)
                 VALUES ('{arn}', 1, 'PENDING', 'ACTIVE', '{configuration}', 0, 0);
             INSERT INTO image_builds (id, arn, version, state, architecture, created_at)
                 VALUES ('b', '{arn}', 1, 'PENDING', 'X86_64', 0);"
        );
        crate::migrations::database_before(&path, 14).execute_batch(&rows).unwrap();
        let store = Store::open(&path).await.unwrap();
        let found = store.building(&BuildId::from_stored("b")).await.unwrap().unwrap();
        let nobody = hearth_records::Owner::nobody();
        assert_eq!((&found.build.owner, &found.version.owner), (&nobody, &nobody));
        let generations = (found.image.generation, found.version.generation, found.build.generation);
        assert_eq!(generations, (0, 0, 0));
        let claimed = found.claimed_by(&NodeId::from_stored("n"));
        let origin = Origin::of(hearth_records::Cause::Host);
        assert_eq!(store.change_build(&found, &claimed, &origin).await.unwrap(), Written::Yes);
    }
}
