//! What is on disk.
//!
//! ```text
//! <root>/.temporary/            files being written and what is being removed; emptied at start
//! <root>/<bucket>/bucket.json   which has the bucket's id, see `bucket`
//! <root>/<bucket>/<id>/settings/{lifecycle,cors,notification}.xml  see `settings_files`
//! <root>/<bucket>/<id>/objects/<SHA-256 of the key>                the current version
//! <root>/<bucket>/<id>/versions/<SHA-256 of the key>/<version>     all others, see `versions`
//! <root>/<bucket>/<id>/uploads/<upload id>/{upload.json,<part number>}
//! ```
//!
//! Hashes are in hex. Buckets from before they had ids have no directory `<id>`: what is in it
//! stands in that of the name.
//!
//! Files of objects: see `object_file`.

use std::fs;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_api::AccountId;
use hearth_auth::sigv4::sha256_hex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use super::StorageError;
use super::bucket::Bucket;
use super::index::Index;
use super::locks::Locks;
pub(super) use super::object_file::{
    Attributes, ObjectRecord, OpenObject, Summary, Tags, open_if_there, summary_if_there,
};
use super::object_file::{MAGIC, TAIL_LENGTH};
use super::usage::{Reservation, StorageLimits, Usage, bytes_in, charge, freed_by};

const TEMPORARY: &str = ".temporary";

/// The directory with all buckets.
#[derive(Debug)]
pub(super) struct Disk {
    root: Arc<Path>,
    /// Owner of buckets that say none.
    first_account: AccountId,
    pub(super) locks: Locks,
    pub(super) index: Index,
    pub(super) usage: Arc<Usage>,
}

impl Disk {
    pub(super) fn open(
        root: &Path,
        first_account: &AccountId,
        limits: StorageLimits,
    ) -> Result<Self, StorageError> {
        let temporary = root.join(TEMPORARY);
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StorageError::io(&temporary)(error));
            }
            _ => fs::create_dir_all(&temporary).map_err(StorageError::io(&temporary))?,
        }
        let disk = Self {
            root: root.into(),
            first_account: first_account.clone(),
            locks: Locks::default(),
            index: Index::default(),
            usage: Arc::new(Usage::new(limits)),
        };
        disk.find_all()?;
        Ok(disk)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn first_account(&self) -> AccountId {
        self.first_account.clone()
    }

    pub(super) fn limits(&self) -> StorageLimits {
        self.usage.limits()
    }

    /// Path of an object, whether or not there is one.
    #[expect(clippy::unused_self, reason = "as all that lies on the disk is asked for")]
    pub(super) fn object_path(&self, bucket: &Bucket, key: &str) -> PathBuf {
        bucket.contents().join("objects").join(sha256_hex(key.as_bytes()))
    }

    /// The current version of an object.
    pub(super) fn object(&self, bucket: &Bucket, key: &str) -> Result<OpenObject, StorageError> {
        if let Some(object) = open_if_there(&self.object_path(bucket, key))? {
            return Ok(object);
        }
        self.check_there(bucket)?;
        Err(StorageError::NoSuchKey(key.to_owned()))
    }

    /// A file that vanishes unless it is committed.
    pub(super) fn temporary(&self) -> Result<NamedTempFile, StorageError> {
        let directory = self.root.join(TEMPORARY);
        NamedTempFile::new_in(&directory).map_err(StorageError::io(&directory))
    }

    /// Takes `bytes` of what the bucket's account may have.
    pub(super) fn reserve(&self, bucket: &Bucket, bytes: u64) -> Result<Reservation, StorageError> {
        Reservation::new(&self.usage, &bucket.owner, &self.root, bytes)
    }

    /// Claims room for bytes that the account has already and that move into another file.
    pub(super) fn reserve_for_moving(
        &self,
        bucket: &Bucket,
        bytes: u64,
    ) -> Result<Reservation, StorageError> {
        Reservation::moving(&self.usage, &bucket.owner, &self.root, bytes)
    }

    /// Completes `content` (whose bytes are written) with its record and moves it to `path` in one
    /// step, durably. The bucket is held.
    pub(super) fn commit(
        &self,
        bucket: &Bucket,
        (mut content, reservation): (NamedTempFile, Reservation),
        record: &ObjectRecord,
        path: &Path,
    ) -> Result<(), StorageError> {
        let json = serde_json::to_vec(record).expect("invariant: a record has string keys only");
        let mut write_tail = || {
            let file = content.as_file_mut();
            file.seek(SeekFrom::Start(record.size))?;
            file.write_all(&json)?;
            file.write_all(&(json.len() as u32).to_be_bytes())?;
            file.write_all(MAGIC)?;
            file.sync_all()
        };
        write_tail().map_err(StorageError::io(path))?;
        let freed = freed_by(path);
        content.persist(path).map_err(|error| StorageError::io(path)(error.error))?;
        reservation.keep(record.size + json.len() as u64 + TAIL_LENGTH);
        self.usage.release(&bucket.owner, freed);
        Ok(())
    }

    /// Removes a file of a bucket; that it is not there is fine.
    pub(super) fn remove(&self, bucket: &Bucket, path: &Path) -> Result<(), StorageError> {
        let freed = freed_by(path);
        remove_file(path)?;
        self.usage.release(&bucket.owner, freed);
        Ok(())
    }

    /// Writes a small file of a bucket in one step, durably; what it takes is
    /// counted for the account.
    pub(super) fn write_counted(
        &self,
        owner: &AccountId,
        path: &Path,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        let (before, length) = (freed_by(path), bytes.len() as u64);
        let growth = charge(length).saturating_sub(before);
        // What does not grow is never refused, so that settings can be deleted when nothing
        // is left of the quota.
        let reservation =
            (growth > 0).then(|| Reservation::new(&self.usage, owner, &self.root, growth)).transpose()?;
        self.write_durably(path, bytes)?;
        match reservation {
            Some(reservation) => {
                reservation.keep(length);
                self.usage.release(owner, before);
            }
            None => self.usage.release(owner, before - charge(length)),
        }
        Ok(())
    }

    /// Writes a file in one step.
    pub(super) fn write_durably(&self, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
        let mut content = self.temporary()?;
        content
            .write_all(bytes)
            .and_then(|()| content.as_file().sync_all())
            .map_err(StorageError::io(content.path()))?;
        content.persist(path).map(drop).map_err(|error| StorageError::io(path)(error.error))
    }

    /// Where nothing is, for what is to be removed.
    pub(super) fn unused_path(&self) -> PathBuf {
        self.root.join(TEMPORARY).join(uuid::Uuid::new_v4().to_string())
    }

    /// Removes an unfinished upload.
    pub(super) fn remove_upload(&self, bucket: &Bucket, directory: &Path) -> Result<(), StorageError> {
        self.remove_upload_of(&bucket.owner, directory)
    }

    pub(super) fn remove_upload_of(&self, owner: &AccountId, directory: &Path) -> Result<(), StorageError> {
        let freed = bytes_in(directory)?;
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io(directory)(error)),
            _ => {
                self.usage.release(owner, freed);
                Ok(())
            }
        }
    }
}

/// Paths in a directory as they are found, since there can be millions; none when it is not there.
pub(super) fn entries(
    directory: &Path,
) -> Result<impl Iterator<Item = Result<PathBuf, StorageError>> + Send + use<>, StorageError> {
    let found = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        found => Some(found.map_err(StorageError::io(directory))?),
    };
    let directory = directory.to_owned();
    Ok(found
        .into_iter()
        .flatten()
        .map(move |entry| entry.map(|entry| entry.path()).map_err(StorageError::io(&directory))))
}

/// Removes a file; that it is not there is fine.
fn remove_file(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io(path)(error)),
        _ => Ok(()),
    }
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StorageError> {
    let json = serde_json::to_vec(value).expect("invariant: records have string keys only");
    fs::write(path, json).map_err(StorageError::io(path))
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StorageError> {
    #[cfg(test)]
    super::object_file::count_read();
    let read = || serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from);
    read().map_err(StorageError::io(path))
}

/// Runs file work away from the async threads.
pub(super) async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.expect("invariant: file work does not panic")
}
