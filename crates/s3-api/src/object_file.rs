//! An object's file, or a part's: its bytes, then its [`ObjectRecord`] as JSON, then the record's
//! length (4 bytes, big endian) and a magic number. So one rename replaces content and description
//! together, and keys need not be file names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use s3s::{S3Result, dto, s3_error};
use serde::{Deserialize, Serialize};

use super::StorageError;
use super::checksums::{ChecksumType, Checksums};

pub(super) const MAGIC: &[u8; 4] = b"HS3\x01";
/// Bytes after the record: its length and the magic number.
pub(super) const TAIL_LENGTH: u64 = 8;

/// Headers that are given back as they were stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attributes {
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) content_type: Option<String>,
    #[serde(default)]
    pub(super) expires: Option<dto::Timestamp>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Longest user-defined metadata: names and values ("Working with object metadata",
/// S3 user guide: 2 KB).
const MAXIMUM_METADATA_BYTES: usize = 2 * 1024;
/// Longest headers that are not metadata of the user; S3 takes 8 KB of headers in all.
const MAXIMUM_HEADER_BYTES: usize = 8 * 1024;

impl Attributes {
    /// Refuses what is longer than S3 keeps.
    pub(super) fn checked(self) -> S3Result<Self> {
        let metadata: usize = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        if metadata > MAXIMUM_METADATA_BYTES {
            return Err(s3_error!(
                MetadataTooLarge,
                "Your metadata headers exceed the maximum allowed metadata size: they have {metadata} bytes, and \
                 {MAXIMUM_METADATA_BYTES} are allowed."
            ));
        }
        let headers = [
            &self.cache_control,
            &self.content_disposition,
            &self.content_encoding,
            &self.content_language,
            &self.content_type,
        ];
        if headers.into_iter().flatten().map(String::len).sum::<usize>() > MAXIMUM_HEADER_BYTES {
            return Err(s3_error!(
                RequestHeaderSectionTooLarge,
                "Your request header and query parameters exceed the maximum allowed size."
            ));
        }
        Ok(self)
    }
}

/// Everything known of an object (or of a part of an upload) besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ObjectRecord {
    pub(super) key: String,
    pub(super) size: u64,
    /// Without quotes.
    pub(super) e_tag: String,
    /// Milliseconds since 1970.
    pub(super) modified_ms: i64,
    pub(super) checksums: Checksums,
    /// Of what the checksums are; simple objects have none of parts.
    #[serde(default)]
    pub(super) checksum_type: ChecksumType,
    pub(super) attributes: Attributes,
    #[serde(default)]
    pub(super) tags: Tags,
    /// `None` is the version that S3 calls `null`.
    #[serde(default)]
    pub(super) version: Option<String>,
    #[serde(default)]
    pub(super) delete_marker: bool,
    /// Nanoseconds since 1970: the order of an object's versions.
    #[serde(default)]
    pub(super) sequence: u64,
}

impl ObjectRecord {
    /// Of an object that arrives now; which version it is will be seen when it is put in place.
    pub(super) fn new(key: String, size: u64, e_tag: String) -> Self {
        Self {
            key,
            size,
            e_tag,
            modified_ms: jiff::Timestamp::now().as_millisecond(),
            checksums: Checksums::default(),
            checksum_type: ChecksumType::default(),
            attributes: Attributes::default(),
            tags: Tags::new(),
            version: None,
            delete_marker: false,
            sequence: 0,
        }
    }

    /// What its checksums are of; nothing when there are none.
    pub(super) fn shown_checksum_type(&self) -> Option<dto::ChecksumType> {
        (!self.checksums.is_empty()).then(|| self.checksum_type.to_dto())
    }
}

/// Tags by key.
pub(super) type Tags = BTreeMap<String, String>;

/// What listings and lifecycle rules go by: of a record that can be long, the part that is short.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Summary {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) e_tag: String,
    pub(super) modified_ms: i64,
    #[serde(default)]
    pub(super) version: Option<String>,
    #[serde(default)]
    pub(super) delete_marker: bool,
    #[serde(default)]
    pub(super) sequence: u64,
}

/// An object opened for reading; the file stands at the first byte.
#[derive(Debug)]
pub(super) struct OpenObject {
    pub(super) record: ObjectRecord,
    pub(super) file: File,
}

impl OpenObject {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (mut file, size, json) = described(path)?;
        let record: ObjectRecord = serde_json::from_slice(&json)?;
        if record.size != size {
            return Err(unreadable());
        }
        file.rewind()?;
        Ok(Self { record, file })
    }

    /// Copies the object's bytes.
    pub(super) fn copy_to(&mut self, target: &mut File) -> io::Result<()> {
        let copied = io::copy(&mut (&self.file).take(self.record.size), target)?;
        if copied == self.record.size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// An object's file, the length of its bytes, and its record.
fn described(path: &Path) -> io::Result<(File, u64, Vec<u8>)> {
    let mut file = File::open(path)?;
    #[cfg(test)]
    count_read();
    let tail_at = file.metadata()?.len().checked_sub(TAIL_LENGTH).ok_or_else(unreadable)?;
    let mut tail = [0; TAIL_LENGTH as usize];
    file.seek(SeekFrom::Start(tail_at))?;
    file.read_exact(&mut tail)?;
    let (length, magic) = tail.split_at(4);
    let length = u32::from_be_bytes(length.try_into().expect("invariant: four of eight bytes"));
    let size = tail_at.checked_sub(length.into()).filter(|_| magic == MAGIC).ok_or_else(unreadable)?;
    let mut json = vec![0; length as usize];
    file.seek(SeekFrom::Start(size))?;
    file.read_exact(&mut json)?;
    Ok((file, size, json))
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not an object file")
}

/// `None`: there is no such file.
pub(super) fn open_if_there(path: &Path) -> Result<Option<OpenObject>, StorageError> {
    match OpenObject::open(path) {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io(path)(error)),
    }
}

/// The summary of an object's file; `None` when there is no such file.
pub(super) fn summary_if_there(path: &Path) -> Result<Option<Summary>, StorageError> {
    let read = || {
        let (_, size, json) = described(path)?;
        let summary: Summary = serde_json::from_slice(&json)?;
        if summary.size == size { Ok(summary) } else { Err(unreadable()) }
    };
    match read() {
        Ok(summary) => Ok(Some(summary)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io(path)(error)),
    }
}

#[cfg(test)]
thread_local! {
    static READS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Descriptions that were read from the disk on this thread, of buckets, objects and uploads.
#[cfg(test)]
pub(super) fn reads() -> u64 {
    READS.get()
}

#[cfg(test)]
pub(super) fn count_read() {
    READS.set(READS.get() + 1);
}
