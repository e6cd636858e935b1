//! Changes of images, versions and builds, each with its events in one transaction.
//!
//! A writer names what it saw. A refusal is a value and comes before the first statement that
//! writes.

use hearth_api::{ImageArn, ImageState, ImageVersion, Timestamp};
use hearth_records::{
    Actor, BegunUpdate, Building, Change, ClientToken, ImageRecord, ImageVersionRecord, InsertedImage,
    NewEvent, Origin, Quotas, TokenClaim, Told, Unchanged, Written,
};
use rusqlite::{Connection, Transaction};

use crate::events::tell;
use crate::image_rows::{
    building_of, builds_of, image_of, insert_build, insert_image, insert_version, update_build, update_image,
    update_version, version_of, versions_of,
};
use crate::quotas::{of_image, of_version};
use crate::{Result, client_tokens, rows};

pub(crate) fn insert(
    tx: &Transaction<'_>,
    new: &Building,
    actor: Option<Actor>,
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
    let image = &new.image;
    if rows::value(tx, "SELECT EXISTS (SELECT 1 FROM images WHERE arn = ?)", [image.arn.to_string()])? {
        return Ok(InsertedImage::NameTaken);
    }
    if let Some(quota) = of_image(quotas, tx, &image.arn.account)? {
        return Ok(InsertedImage::QuotaExceeded(quota));
    }
    client_tokens::insert(tx, token)?;
    client_tokens::keep_newest(tx, token)?;
    insert_image(tx, image)?;
    let origin = Origin::api(actor);
    tell(tx, &image.appeared(&origin, Timestamp::now()))?;
    insert_parts(tx, new, &origin)?;
    Ok(InsertedImage::Inserted)
}

fn insert_parts(tx: &Transaction<'_>, new: &Building, origin: &Origin) -> Result<()> {
    insert_version(tx, &new.version)?;
    insert_build(tx, &new.build)?;
    let now = Timestamp::now();
    tell(tx, &new.version.appeared(origin, now))?;
    tell(tx, &new.build.appeared(origin, now))
}

pub(crate) fn begin_update(
    tx: &Transaction<'_>,
    (was, to): (&ImageRecord, &Building),
    actor: Option<Actor>,
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
    if let Some(refused) = refused(tx, was)? {
        return Ok(BegunUpdate::Changed(refused));
    }
    if let Some(quota) = of_version(quotas, tx, &was.arn)? {
        return Ok(BegunUpdate::QuotaExceeded(quota));
    }
    client_tokens::insert(tx, token)?;
    client_tokens::keep_newest(tx, token)?;
    let origin = Origin::api(actor);
    write_image(tx, was, &to.image, &origin)?;
    insert_parts(tx, to, &origin)?;
    Ok(BegunUpdate::Changed(Change::Written(Written::Yes)))
}

pub(crate) fn change_build(
    tx: &Transaction<'_>,
    was: &Building,
    to: &Building,
    origin: &Origin,
) -> Result<Written<Building>> {
    let known = building_of(tx, &was.build.id)?;
    let is_same = known.as_ref().is_some_and(|known| {
        let image = to.image == was.image || is_same_image(&known.image, &was.image);
        image && known.is_still(was)
    });
    if !is_same {
        return Ok(Written::Stale(known.map(Box::new)));
    }
    update_build(tx, &to.build)?;
    tell_all(tx, &to.build.changed_from(&was.build, origin, Timestamp::now()))?;
    write_version(tx, &was.version, &to.version, origin)?;
    if to.image != was.image {
        write_image(tx, &was.image, &to.image, origin)?;
    }
    Ok(Written::Yes)
}

pub(crate) fn set_version_status(
    tx: &Transaction<'_>,
    image: &ImageRecord,
    (was, to): (&ImageVersionRecord, &ImageVersionRecord),
    origin: &Origin,
) -> Result<Change<ImageVersionRecord>> {
    if let Some(refused) = refused_of_version(tx, image, was)? {
        return Ok(refused);
    }
    write_version(tx, was, to, origin)?;
    let latest_active_version = latest(tx, &image.arn, LATEST_ACTIVE)?;
    let after = ImageRecord { latest_active_version, ..image.entering(image.state, to.updated_at) };
    write_image(tx, image, &after, origin)?;
    Ok(Change::Written(Written::Yes))
}

pub(crate) fn begin_version_deletion(
    tx: &Transaction<'_>,
    image: &ImageRecord,
    (was, to): (&ImageVersionRecord, &ImageVersionRecord),
    origin: &Origin,
) -> Result<Change<ImageVersionRecord>> {
    if let Some(refused) = refused_of_version(tx, image, was)? {
        return Ok(refused);
    }
    let versions = "SELECT count(*) FROM image_versions WHERE arn = ?";
    if rows::value::<i64>(tx, versions, [image.arn.to_string()])? == 1 {
        return Ok(Change::Refused(Unchanged::LastVersion));
    }
    if alive(tx, &image.arn, Some(was.version))? {
        return Ok(Change::Refused(Unchanged::InUse));
    }
    write_version(tx, was, to, origin)?;
    write_image(tx, image, &image.entering(ImageState::Updating, to.updated_at), origin)?;
    Ok(Change::Written(Written::Yes))
}

pub(crate) fn finish_version_deletion(
    tx: &Transaction<'_>,
    was: &ImageVersionRecord,
    origin: &Origin,
) -> Result<Written<ImageVersionRecord>> {
    let known = version_of(tx, &was.arn, was.version)?;
    if !known.as_ref().is_some_and(|known| is_same_version(known, was)) {
        return Ok(Written::Stale(known.map(Box::new)));
    }
    let now = Timestamp::now();
    for build in builds_of(tx, &was.arn, was.version)? {
        tell(tx, &build.disappeared(origin, now))?;
    }
    tell(tx, &was.disappeared(origin, now))?;
    for table in ["image_builds", "image_versions"] {
        let statement = format!("DELETE FROM {table} WHERE arn = ? AND version = ?");
        rows::run(tx, &statement, (was.arn.to_string(), was.version.0))?;
    }
    if let Some(image) = image_of(tx, &was.arn)? {
        let after = ImageRecord {
            latest_active_version: latest(tx, &was.arn, LATEST_ACTIVE)?,
            latest_failed_version: latest(tx, &was.arn, LATEST_FAILED)?,
            ..image.entering(ImageState::Updated, now)
        };
        write_image(tx, &image, &after, origin)?;
    }
    Ok(Written::Yes)
}

pub(crate) fn begin_image_deletion(
    tx: &Transaction<'_>,
    was: &ImageRecord,
    to: &ImageRecord,
    origin: &Origin,
) -> Result<Change<ImageRecord>> {
    if let Some(refused) = refused(tx, was)? {
        return Ok(refused);
    }
    if alive(tx, &was.arn, None)? {
        return Ok(Change::Refused(Unchanged::InUse));
    }
    write_image(tx, was, to, origin)?;
    Ok(Change::Written(Written::Yes))
}

pub(crate) fn delete_image(
    tx: &Transaction<'_>,
    was: &ImageRecord,
    origin: &Origin,
) -> Result<Written<ImageRecord>> {
    let known = image_of(tx, &was.arn)?;
    if !known.as_ref().is_some_and(|known| is_same_image(known, was)) {
        return Ok(Written::Stale(known.map(Box::new)));
    }
    let now = Timestamp::now();
    for version in versions_of(tx, &was.arn)? {
        for build in builds_of(tx, &was.arn, version.version)? {
            tell(tx, &build.disappeared(origin, now))?;
        }
        tell(tx, &version.disappeared(origin, now))?;
    }
    tell(tx, &was.disappeared(origin, now))?;
    rows::run(tx, "DELETE FROM images WHERE arn = ?", [was.arn.to_string()])?;
    Ok(Written::Yes)
}

/// Writes a row that is what it `was`, as the transaction has seen, and tells of it.
fn write_image(tx: &Transaction<'_>, was: &ImageRecord, to: &ImageRecord, origin: &Origin) -> Result<()> {
    update_image(tx, to)?;
    tell_all(tx, &to.changed_from(was, origin, to.updated_at))
}

fn write_version(
    tx: &Transaction<'_>,
    was: &ImageVersionRecord,
    to: &ImageVersionRecord,
    origin: &Origin,
) -> Result<()> {
    update_version(tx, to)?;
    tell_all(tx, &to.changed_from(was, origin, to.updated_at))
}

fn tell_all(tx: &Transaction<'_>, events: &[NewEvent]) -> Result<()> {
    events.iter().try_for_each(|event| tell(tx, event))
}

/// An image of the same name that is made later has another id.
fn is_same_image(known: &ImageRecord, was: &ImageRecord) -> bool {
    known.id == was.id && known.generation == was.generation
}

/// A version of a later image of the same name was made at another time.
fn is_same_version(known: &ImageVersionRecord, was: &ImageVersionRecord) -> bool {
    let key = |record: &ImageVersionRecord| (record.created_at.as_millis(), record.generation);
    key(known) == key(was) && known.owner == was.owner
}

/// Why an image cannot be changed now, if it cannot.
fn refused(tx: &Connection, was: &ImageRecord) -> Result<Option<Change<ImageRecord>>> {
    Ok(match image_of(tx, &was.arn)? {
        Some(known) if is_same_image(&known, was) => {
            (!known.is_settled()).then_some(Change::Refused(Unchanged::Busy(known.state)))
        }
        known => Some(Change::Written(Written::Stale(known.map(Box::new)))),
    })
}

/// Why a version of an image cannot be changed now, if it cannot.
fn refused_of_version(
    tx: &Connection,
    image: &ImageRecord,
    was: &ImageVersionRecord,
) -> Result<Option<Change<ImageVersionRecord>>> {
    let known = version_of(tx, &was.arn, was.version)?;
    let is_same = known.as_ref().is_some_and(|known| is_same_version(known, was));
    Ok(match refused(tx, image)? {
        Some(Change::Refused(unchanged)) => Some(Change::Refused(unchanged)),
        None if is_same => None,
        _ => Some(Change::Written(Written::Stale(known.map(Box::new)))),
    })
}

/// The newest version that can be launched.
const LATEST_ACTIVE: &str = "SELECT max(version) FROM image_versions
    WHERE arn = ? AND state = 'SUCCESSFUL' AND status = 'ACTIVE'";
const LATEST_FAILED: &str = "SELECT max(version) FROM image_versions WHERE arn = ? AND state = 'FAILED'";

fn latest(tx: &Connection, arn: &ImageArn, query: &str) -> Result<Option<ImageVersion>> {
    let version: Option<u32> = rows::value(tx, query, [arn.to_string()])?;
    Ok(version.map(ImageVersion))
}

fn alive(tx: &Connection, arn: &ImageArn, version: Option<ImageVersion>) -> Result<bool> {
    // The plus keeps SQLite from looking at all records of the image: those that
    // have not ended are few.
    let query = "SELECT EXISTS (SELECT 1 FROM microvms
         WHERE +image_arn = ?1 AND (?2 IS NULL OR image_version = ?2) AND state <> 'TERMINATED')";
    rows::value(tx, query, (arn.to_string(), version.map(|version| version.0)))
}
