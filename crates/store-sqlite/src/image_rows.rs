//! Rows of images, versions and builds, written and read.

use hearth_api::{
    Architecture, BuildId, BuildState, ImageArn, ImageState, ImageVersion, ImageVersionState,
    ImageVersionStatus,
};
use hearth_records::{BuildRecord, Building, ImageRecord, ImageVersionRecord, NodeId, Owner};
use rusqlite::{Connection, Row, params};

use crate::rows::{json, moment, optional_json, parsed, to_json};
use crate::{Result, rows};

pub(crate) fn insert_image(tx: &Connection, image: &ImageRecord) -> Result<()> {
    rows::run(
        tx,
        "INSERT INTO images (arn, generation, account, name, id, state, last_version, latest_active, latest_failed,
             created_at, updated_at, tags)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            image.arn.to_string(),
            image.generation as i64,
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
    Ok(())
}

pub(crate) fn insert_version(tx: &Connection, version: &ImageVersionRecord) -> Result<()> {
    rows::run(
        tx,
        "INSERT INTO image_versions (arn, version, generation, owner_node, owner_epoch, state, status,
             configuration, app, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            version.arn.to_string(),
            version.version.0,
            version.generation as i64,
            version.owner.node.as_str(),
            version.owner.epoch as i64,
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
        "INSERT INTO image_builds (id, arn, version, generation, owner_node, owner_epoch, state, architecture,
             state_reason, snapshot, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            build.id.as_str(),
            build.arn.to_string(),
            build.version.0,
            build.generation as i64,
            build.owner.node.as_str(),
            build.owner.epoch as i64,
            build.state.as_str(),
            build.architecture.as_str(),
            build.state_reason,
            build.snapshot.as_ref().map(to_json),
            build.created_at.as_millis(),
        ],
    )?;
    Ok(())
}

pub(crate) fn update_image(tx: &Connection, image: &ImageRecord) -> Result<()> {
    rows::run(
        tx,
        "UPDATE images SET generation = ?, state = ?, last_version = ?, latest_active = ?, latest_failed = ?,
             updated_at = ? WHERE arn = ?",
        params![
            image.generation as i64,
            image.state.as_str(),
            image.last_version.0,
            image.latest_active_version.map(|version| version.0),
            image.latest_failed_version.map(|version| version.0),
            image.updated_at.as_millis(),
            image.arn.to_string(),
        ],
    )?;
    Ok(())
}

pub(crate) fn update_version(tx: &Connection, version: &ImageVersionRecord) -> Result<()> {
    rows::run(
        tx,
        "UPDATE image_versions SET generation = ?, owner_node = ?, owner_epoch = ?, state = ?, status = ?,
             app = ?, updated_at = ? WHERE arn = ? AND version = ?",
        params![
            version.generation as i64,
            version.owner.node.as_str(),
            version.owner.epoch as i64,
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

pub(crate) fn update_build(tx: &Connection, build: &BuildRecord) -> Result<()> {
    rows::run(
        tx,
        "UPDATE image_builds SET generation = ?, owner_node = ?, owner_epoch = ?, state = ?, state_reason = ?,
             snapshot = ? WHERE id = ?",
        params![
            build.generation as i64,
            build.owner.node.as_str(),
            build.owner.epoch as i64,
            build.state.as_str(),
            build.state_reason,
            build.snapshot.as_ref().map(to_json),
            build.id.as_str(),
        ],
    )?;
    Ok(())
}

/// One image.
pub(crate) fn image_of(connection: &Connection, arn: &ImageArn) -> Result<Option<ImageRecord>> {
    let query = "SELECT * FROM images WHERE arn = ?";
    rows::one(connection, query, [arn.to_string()], image_record)
}

/// One version of an image.
pub(crate) fn version_of(
    connection: &Connection,
    arn: &ImageArn,
    version: ImageVersion,
) -> Result<Option<ImageVersionRecord>> {
    let query = "SELECT * FROM image_versions WHERE arn = ? AND version = ?";
    rows::one(connection, query, (arn.to_string(), version.0), version_record)
}

/// All versions of an image, newest first.
pub(crate) fn versions_of(connection: &Connection, arn: &ImageArn) -> Result<Vec<ImageVersionRecord>> {
    let query = "SELECT * FROM image_versions WHERE arn = ? ORDER BY version DESC";
    rows::all(connection, query, [arn.to_string()], version_record)
}

/// All builds of a version, newest first.
pub(crate) fn builds_of(
    connection: &Connection,
    arn: &ImageArn,
    version: ImageVersion,
) -> Result<Vec<BuildRecord>> {
    let query = "SELECT * FROM image_builds WHERE arn = ? AND version = ? ORDER BY created_at DESC, id";
    rows::all(connection, query, (arn.to_string(), version.0), build_record)
}

/// A build with its version and image.
pub(crate) fn building_of(connection: &Connection, id: &BuildId) -> Result<Option<Building>> {
    let query = "SELECT * FROM image_builds WHERE id = ?";
    let Some(build) = rows::one(connection, query, [id.as_str()], build_record)? else { return Ok(None) };
    let Some(version) = version_of(connection, &build.arn, build.version)? else { return Ok(None) };
    let image = image_of(connection, &build.arn)?;
    Ok(image.map(|image| Building { image, version, build }))
}

pub(crate) fn image_record(row: &Row<'_>) -> Result<ImageRecord> {
    Ok(ImageRecord {
        arn: parsed(row, "arn", ImageArn::parse)?,
        id: row.get("id")?,
        generation: generation(row)?,
        state: parsed(row, "state", ImageState::parse)?,
        last_version: ImageVersion(row.get("last_version")?),
        latest_active_version: row.get::<_, Option<u32>>("latest_active")?.map(ImageVersion),
        latest_failed_version: row.get::<_, Option<u32>>("latest_failed")?.map(ImageVersion),
        created_at: moment(row, "created_at")?,
        updated_at: moment(row, "updated_at")?,
        tags: json(row, "tags")?,
    })
}

pub(crate) fn version_record(row: &Row<'_>) -> Result<ImageVersionRecord> {
    Ok(ImageVersionRecord {
        arn: parsed(row, "arn", ImageArn::parse)?,
        version: ImageVersion(row.get("version")?),
        generation: generation(row)?,
        owner: owner(row)?,
        state: parsed(row, "state", ImageVersionState::parse)?,
        status: parsed(row, "status", ImageVersionStatus::parse)?,
        configuration: json(row, "configuration")?,
        app: optional_json(row, "app")?,
        created_at: moment(row, "created_at")?,
        updated_at: moment(row, "updated_at")?,
    })
}

pub(crate) fn build_record(row: &Row<'_>) -> Result<BuildRecord> {
    Ok(BuildRecord {
        arn: parsed(row, "arn", ImageArn::parse)?,
        version: ImageVersion(row.get("version")?),
        id: BuildId::from_stored(row.get::<_, String>("id")?),
        generation: generation(row)?,
        owner: owner(row)?,
        state: parsed(row, "state", BuildState::parse)?,
        architecture: parsed(row, "architecture", Architecture::parse)?,
        state_reason: row.get("state_reason")?,
        snapshot: optional_json(row, "snapshot")?,
        created_at: moment(row, "created_at")?,
    })
}

fn owner(row: &Row<'_>) -> Result<Owner> {
    let node = NodeId::from_stored(row.get::<_, String>("owner_node")?);
    Ok(Owner { node, epoch: row.get::<_, i64>("owner_epoch")? as u64 })
}

fn generation(row: &Row<'_>) -> Result<u64> {
    Ok(row.get::<_, i64>("generation")? as u64)
}
