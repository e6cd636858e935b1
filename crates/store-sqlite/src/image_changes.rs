//! Changes of images that must not overlap: each looks at the image's state and moves it on in one
//! transaction.

use hearth_api::{ImageArn, ImageState, ImageVersion, ImageVersionStatus, Timestamp};
use hearth_records::{
    BegunUpdate, BuildRecord, Change, ClientToken, ImageRecord, ImageVersionRecord, InsertedImage, Quotas,
    TokenClaim,
};
use rusqlite::{Connection, Transaction, params};

use crate::image_rows::{insert_build, insert_image, insert_version};
use crate::quotas::{of_image, of_version};
use crate::{Result, client_tokens, rows};

/// The newest version that can be launched; `NULL` when there is none.
const LATEST_ACTIVE: &str = "(SELECT max(version) FROM image_versions
    WHERE arn = images.arn AND state = 'SUCCESSFUL' AND status = 'ACTIVE')";
const LATEST_FAILED: &str =
    "(SELECT max(version) FROM image_versions WHERE arn = images.arn AND state = 'FAILED')";

pub(crate) fn insert(
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
    if rows::value(tx, "SELECT EXISTS (SELECT 1 FROM images WHERE arn = ?)", [image.arn.to_string()])? {
        return Ok(InsertedImage::NameTaken);
    }
    if let Some(quota) = of_image(quotas, tx, &image.arn.account)? {
        return Ok(InsertedImage::QuotaExceeded(quota));
    }
    client_tokens::insert(tx, token)?;
    client_tokens::keep_newest(tx, token)?;
    insert_image(tx, image)?;
    insert_version(tx, version)?;
    insert_build(tx, build)?;
    Ok(InsertedImage::Inserted)
}

pub(crate) fn begin_update(
    tx: &Transaction<'_>,
    (image, version, build): (&ImageRecord, &ImageVersionRecord, &BuildRecord),
    token: Option<&ClientToken>,
    quotas: &Quotas,
    room: Result<()>,
) -> Result<BegunUpdate> {
    let claim = client_tokens::look_up(tx, token)?;
    if claim != TokenClaim::Fresh {
        return Ok(BegunUpdate::Token(claim));
    }
    // A repeat needs none.
    room?;
    if let Some(refused) = unsettled(tx, &image.arn)? {
        return Ok(BegunUpdate::Changed(refused));
    }
    if let Some(quota) = of_version(quotas, tx, &image.arn)? {
        return Ok(BegunUpdate::QuotaExceeded(quota));
    }
    let updated = rows::run(
        tx,
        "UPDATE images SET state = ?, last_version = ?, updated_at = ? WHERE arn = ? AND last_version = ?",
        params![
            image.state.as_str(),
            image.last_version.0,
            image.updated_at.as_millis(),
            image.arn.to_string(),
            image.last_version.0 - 1,
        ],
    )?;
    if updated == 0 {
        // Somebody else's update began and ended since the image was read.
        return Ok(BegunUpdate::Changed(Change::Busy(ImageState::Updating)));
    }
    client_tokens::insert(tx, token)?;
    client_tokens::keep_newest(tx, token)?;
    insert_version(tx, version)?;
    insert_build(tx, build)?;
    Ok(BegunUpdate::Changed(Change::Made))
}

pub(crate) fn set_version_status(
    tx: &Transaction<'_>,
    arn: &ImageArn,
    version: ImageVersion,
    status: ImageVersionStatus,
    now: Timestamp,
) -> Result<Change> {
    if let Some(refused) = unsettled(tx, arn)? {
        return Ok(refused);
    }
    let version_status = "UPDATE image_versions SET status = ?, updated_at = ? WHERE arn = ? AND version = ?";
    let parameters = params![status.as_str(), now.as_millis(), arn.to_string(), version.0];
    if rows::run(tx, version_status, parameters)? == 0 {
        return Ok(Change::NotFound);
    }
    let image = format!("UPDATE images SET latest_active = {LATEST_ACTIVE}, updated_at = ? WHERE arn = ?");
    rows::run(tx, &image, (now.as_millis(), arn.to_string()))?;
    Ok(Change::Made)
}

pub(crate) fn begin_version_deletion(
    tx: &Transaction<'_>,
    arn: &ImageArn,
    version: ImageVersion,
    now: Timestamp,
) -> Result<Change> {
    if let Some(refused) = unsettled(tx, arn)? {
        return Ok(refused);
    }
    let query = "SELECT version FROM image_versions WHERE arn = ?";
    let versions = rows::all(tx, query, [arn.to_string()], |row| Ok(ImageVersion(row.get(0)?)))?;
    if !versions.contains(&version) {
        return Ok(Change::NotFound);
    }
    if versions.len() == 1 {
        return Ok(Change::LastVersion);
    }
    if alive(tx, arn, Some(version))? {
        return Ok(Change::InUse);
    }
    rows::run(
        tx,
        "UPDATE image_versions SET state = 'DELETING', updated_at = ? WHERE arn = ? AND version = ?",
        (now.as_millis(), arn.to_string(), version.0),
    )?;
    set_state(tx, arn, ImageState::Updating, now)?;
    Ok(Change::Made)
}

pub(crate) fn finish_version_deletion(
    tx: &Transaction<'_>,
    arn: &ImageArn,
    version: ImageVersion,
    now: Timestamp,
) -> Result<()> {
    for table in ["image_builds", "image_versions"] {
        let statement = format!("DELETE FROM {table} WHERE arn = ? AND version = ?");
        rows::run(tx, &statement, (arn.to_string(), version.0))?;
    }
    let image = format!(
        "UPDATE images SET state = 'UPDATED', latest_active = {LATEST_ACTIVE}, latest_failed = {LATEST_FAILED},
             updated_at = ? WHERE arn = ?"
    );
    rows::run(tx, &image, (now.as_millis(), arn.to_string()))?;
    Ok(())
}

pub(crate) fn begin_image_deletion(tx: &Transaction<'_>, arn: &ImageArn, now: Timestamp) -> Result<Change> {
    if let Some(refused) = unsettled(tx, arn)? {
        return Ok(refused);
    }
    if alive(tx, arn, None)? {
        return Ok(Change::InUse);
    }
    set_state(tx, arn, ImageState::Deleting, now)?;
    Ok(Change::Made)
}

/// Why an image cannot be changed now, if it cannot.
fn unsettled(tx: &Connection, arn: &ImageArn) -> Result<Option<Change>> {
    let query = "SELECT state FROM images WHERE arn = ?";
    let state = rows::one(tx, query, [arn.to_string()], |row| rows::parsed(row, "state", ImageState::parse))?;
    let Some(state) = state else { return Ok(Some(Change::NotFound)) };
    let settled = !matches!(
        state,
        ImageState::Creating | ImageState::Updating | ImageState::Deleting | ImageState::Deleted
    );
    Ok((!settled).then_some(Change::Busy(state)))
}

fn alive(tx: &Connection, arn: &ImageArn, version: Option<ImageVersion>) -> Result<bool> {
    // The plus keeps SQLite from looking at all records of the image: those that
    // have not ended are few.
    let query = "SELECT EXISTS (SELECT 1 FROM microvms
         WHERE +image_arn = ?1 AND (?2 IS NULL OR image_version = ?2) AND state <> 'TERMINATED')";
    rows::value(tx, query, (arn.to_string(), version.map(|version| version.0)))
}

fn set_state(tx: &Connection, arn: &ImageArn, state: ImageState, now: Timestamp) -> Result<()> {
    let statement = "UPDATE images SET state = ?, updated_at = ? WHERE arn = ?";
    rows::run(tx, statement, (state.as_str(), now.as_millis(), arn.to_string()))?;
    Ok(())
}
