//! An upload in progress: its parts, their checksums, and how they become an object.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{CompleteMultipartUploadInput, CompletedPart, CreateMultipartUploadInput, ETag, Part};
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::StorageError;
use super::bucket::Bucket;
use super::checksums::{Algorithm, ChecksumType, Checksums, checksums_of, set_checksums};
use super::conditions::Condition;
use super::disk::{Attributes, Disk, ObjectRecord, OpenObject, Tags, entries, read_json};
use super::objects::timestamp;
use super::usage::Reservation;
use super::versions::settle;

/// Smallest part but the last ("Amazon S3 multipart upload limits", S3 user guide).
const MINIMUM_PART_BYTES: u64 = 5 * 1024 * 1024;

/// What is fixed when an upload begins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct UploadRecord {
    pub(super) key: String,
    pub(super) attributes: Attributes,
    #[serde(default)]
    pub(super) tags: Tags,
    pub(super) initiated_ms: i64,
    /// `None` when the caller named none.
    #[serde(default)]
    pub(super) checksum: Option<(Algorithm, ChecksumType)>,
}

/// A part that the object is to have.
#[derive(Debug)]
struct ChosenPart {
    path: PathBuf,
    record: ObjectRecord,
}

/// An upload in progress.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) directory: PathBuf,
    pub(super) record: UploadRecord,
}

impl Upload {
    pub(super) fn open(bucket: &Bucket, upload_id: &str, key: &str) -> S3Result<Self> {
        let missing = no_upload;
        // A UUID is also what keeps the id from being a path.
        let upload_id = uuid::Uuid::parse_str(upload_id).map_err(|_| missing())?;
        let directory = bucket.uploads().join(upload_id.to_string());
        if !directory.join("upload.json").is_file() {
            return Err(missing());
        }
        let record: UploadRecord = read_json(&directory.join("upload.json"))?;
        if record.key == key { Ok(Self { directory, record }) } else { Err(missing()) }
    }

    /// The checksum that every part has, and of what the object's is.
    pub(super) fn checksum(&self) -> (Algorithm, ChecksumType) {
        self.record.checksum.unwrap_or((Algorithm::Crc64nvme, ChecksumType::FullObject))
    }

    /// Puts a part in place if the upload is still there.
    pub(super) fn put_part(
        &self,
        disk: &Disk,
        bucket: &Bucket,
        number: i32,
        content: (NamedTempFile, Reservation),
        record: &ObjectRecord,
    ) -> S3Result<()> {
        settle(&content)?;
        let _held = disk.hold(bucket)?;
        match disk.commit(bucket, content, record, &self.part_path(number)) {
            Err(_) if !self.directory.is_dir() => Err(no_upload()),
            other => Ok(other?),
        }
    }

    fn part_path(&self, number: i32) -> PathBuf {
        self.directory.join(number.to_string())
    }

    /// Numbers of the parts that are there, in order.
    fn part_numbers(&self) -> Result<Vec<i32>, StorageError> {
        let entries = fs::read_dir(&self.directory).map_err(StorageError::io(&self.directory))?;
        let mut numbers: Vec<i32> =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The parts that the caller names, checked. They are not kept open: there can be 10,000.
    fn chosen_parts(&self, wanted: &[CompletedPart]) -> S3Result<Vec<ChosenPart>> {
        if !wanted.is_sorted_by(|a, b| a.part_number < b.part_number) {
            return Err(s3_error!(InvalidPartOrder, "The list of parts was not in ascending order."));
        }
        let (algorithm, _) = self.checksum();
        let mut parts = Vec::with_capacity(wanted.len());
        for (index, part) in wanted.iter().enumerate() {
            let invalid = || s3_error!(InvalidPart, "One or more of the specified parts could not be found.");
            let number = part.part_number.ok_or_else(invalid)?;
            let path = self.part_path(number);
            let record = OpenObject::open(&path).map_err(|_| invalid())?.record;
            let sent: Checksums = checksums_of!(part);
            if sent.get(algorithm).is_some() && sent.get(algorithm) != record.checksums.get(algorithm) {
                return Err(invalid());
            }
            if part.e_tag.as_ref().is_none_or(|e_tag| e_tag.value() != record.e_tag) {
                return Err(invalid());
            }
            if index + 1 < wanted.len() && record.size < MINIMUM_PART_BYTES {
                return Err(s3_error!(EntityTooSmall, "A part other than the last is smaller than 5 MiB"));
            }
            parts.push(ChosenPart { path, record });
        }
        if parts.is_empty() {
            return Err(s3_error!(MalformedXML, "You must specify at least one part"));
        }
        Ok(parts)
    }

    /// The checksum of the object that these parts make.
    fn checksum_of(&self, parts: &[ChosenPart]) -> Result<Checksums, StorageError> {
        let (algorithm, kind) = self.checksum();
        let mut values = Vec::with_capacity(parts.len());
        for part in parts {
            let size = part.record.size;
            let value = if let Some(value) = part.record.checksums.get(algorithm) {
                value.clone()
            } else {
                // A part from before checksums were kept; its bytes are read once more.
                let computed = OpenObject::open(&part.path)
                    .and_then(|part| algorithm.of_bytes((&part.file).take(size)))
                    .map_err(StorageError::io(&part.path))?;
                computed.get(algorithm).cloned().unwrap_or_default()
            };
            values.push((value, size));
        }
        let whole = match kind {
            ChecksumType::FullObject => algorithm.whole(&values),
            ChecksumType::Composite => algorithm.composite(&values),
        };
        Ok(whole.map(|value| Checksums::one(algorithm, value)).unwrap_or_default())
    }

    /// Refuses what the caller says of the object and is not so.
    fn check_claims(
        &self,
        input: &CompleteMultipartUploadInput,
        size: u64,
        checksums: &Checksums,
    ) -> S3Result<()> {
        let (algorithm, kind) = self.checksum();
        if input.checksum_type.as_ref().is_some_and(|claimed| *claimed != kind.to_dto()) {
            let kind = kind.to_dto();
            return Err(s3_error!(
                InvalidRequest,
                "The upload was created using the {} checksum mode. The complete request must use the same checksum \
                 mode.",
                kind.as_str()
            ));
        }
        if let Some(claimed) = input.mpu_object_size.filter(|claimed| u64::try_from(*claimed) != Ok(size)) {
            return Err(s3_error!(
                InvalidRequest,
                "The provided 'x-amz-mp-object-size' header value {claimed} does not match what was computed: {size}"
            ));
        }
        let claimed: Checksums = checksums_of!(input);
        for claimed_with in Algorithm::ALL {
            let Some(value) = claimed.get(claimed_with) else { continue };
            if claimed_with != algorithm {
                return Err(s3_error!(
                    InvalidRequest,
                    "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                    algorithm.name().to_ascii_lowercase(),
                    claimed_with.name().to_ascii_lowercase()
                ));
            }
            let computed = checksums.get(algorithm).map(String::as_str).unwrap_or_default();
            // The number of parts may be left out.
            let same = computed == value || computed.rsplit_once('-').is_some_and(|(bare, _)| bare == value);
            if !same {
                let name = algorithm.name();
                return Err(s3_error!(
                    BadDigest,
                    "The {name} you specified did not match the calculated checksum."
                ));
            }
        }
        Ok(())
    }
}

fn no_upload() -> s3s::S3Error {
    s3_error!(NoSuchUpload, "The specified multipart upload does not exist.")
}

/// The checksum that a new upload asks for.
pub(super) fn wanted_checksum(
    input: &CreateMultipartUploadInput,
) -> S3Result<Option<(Algorithm, ChecksumType)>> {
    let algorithm = input.checksum_algorithm.as_ref().map(Algorithm::of).transpose()?;
    let kind = match input.checksum_type.as_ref().map(s3s::dto::ChecksumType::as_str) {
        None => None,
        Some(s3s::dto::ChecksumType::FULL_OBJECT) => Some(ChecksumType::FullObject),
        Some(s3s::dto::ChecksumType::COMPOSITE) => Some(ChecksumType::Composite),
        Some(_) => {
            return Err(s3_error!(InvalidRequest, "Value for x-amz-checksum-type header is invalid."));
        }
    };
    match (algorithm, kind) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(s3_error!(
            InvalidRequest,
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
        )),
        (Some(algorithm), kind) => {
            let kind = kind.unwrap_or_else(|| algorithm.usual_type());
            if algorithm.has(kind) {
                return Ok(Some((algorithm, kind)));
            }
            let (name, kind) = (algorithm.name().to_ascii_lowercase(), kind.to_dto());
            Err(s3_error!(
                InvalidRequest,
                "The {} checksum type cannot be used with the {name} checksum algorithm.",
                kind.as_str()
            ))
        }
    }
}

/// A page of parts after a number, and whether there are more.
pub(super) fn parts_of(upload: &Upload, after: i32, limit: usize) -> Result<(Vec<Part>, bool), StorageError> {
    let mut numbers = upload.part_numbers()?;
    numbers.retain(|number| *number > after);
    let more = numbers.len() > limit;
    let mut parts = Vec::new();
    for number in numbers.into_iter().take(limit) {
        let path = upload.part_path(number);
        let record = OpenObject::open(&path).map_err(StorageError::io(&path))?.record;
        let mut part = Part {
            part_number: Some(number),
            size: Some(record.size as i64),
            e_tag: Some(ETag::Strong(record.e_tag)),
            last_modified: Some(timestamp(record.modified_ms)),
            ..Default::default()
        };
        set_checksums!(part, record.checksums);
        parts.push(part);
    }
    Ok((parts, more))
}

/// What listings and lifecycle rules go by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct UploadSummary {
    pub(super) key: String,
    #[serde(skip)]
    pub(super) id: String,
    pub(super) initiated_ms: i64,
}

/// The summary of an upload in this directory; one that is being removed is none.
pub(super) fn upload_in(directory: &Path) -> Option<UploadSummary> {
    let summary: UploadSummary = read_json(&directory.join("upload.json")).ok()?;
    let id = directory.file_name()?.to_str()?.to_owned();
    Some(UploadSummary { id, ..summary })
}

/// The first `limit` uploads of a bucket that are `wanted`, in the order of keys and ids, and
/// whether there are more.
pub(super) fn uploads_of(
    bucket: &Bucket,
    limit: usize,
    wanted: impl Fn(&UploadSummary) -> bool,
) -> Result<(Vec<UploadSummary>, bool), StorageError> {
    let mut first = BTreeSet::new();
    for directory in entries(&bucket.uploads())? {
        first.extend(upload_in(&directory?).filter(&wanted));
        if first.len() > limit + 1 {
            first.pop_last();
        }
    }
    let more = first.len() > limit;
    Ok((first.into_iter().take(limit).collect(), more))
}

/// Joins parts to an object.
pub(super) fn complete(
    disk: &Disk,
    bucket: &Bucket,
    mut input: CompleteMultipartUploadInput,
) -> S3Result<ObjectRecord> {
    let upload = Upload::open(bucket, &input.upload_id, &input.key)?;
    let wanted = input.multipart_upload.take().and_then(|upload| upload.parts).unwrap_or_default();
    let parts = upload.chosen_parts(&wanted)?;
    let size = parts.iter().map(|part| part.record.size).sum();
    let checksums = upload.checksum_of(&parts)?;
    upload.check_claims(&input, size, &checksums)?;
    let content = (disk.temporary()?, disk.reserve_for_moving(bucket, size)?);
    join(&parts, content.0.path())?;
    let record = ObjectRecord {
        checksums,
        checksum_type: upload.checksum().1,
        attributes: upload.record.attributes,
        tags: upload.record.tags,
        ..ObjectRecord::new(input.key, size, joined_e_tag(&parts))
    };
    let condition = Condition { if_match: input.if_match, if_none_match: input.if_none_match };
    let record = disk.put(bucket, content, record, &condition)?;
    disk.remove_upload(bucket, &upload.directory)?;
    Ok(record)
}

fn join(parts: &[ChosenPart], path: &Path) -> S3Result<()> {
    let mut target = fs::File::options().append(true).open(path).map_err(StorageError::io(path))?;
    for part in parts {
        let mut opened = OpenObject::open(&part.path).map_err(StorageError::io(&part.path))?;
        if opened.record != part.record {
            return Err(s3_error!(InvalidPart, "A part was replaced while the upload was being completed."));
        }
        opened.copy_to(&mut target).map_err(StorageError::io(path))?;
    }
    Ok(())
}

/// MD5 of the parts' MD5s and their number, as S3 has it.
fn joined_e_tag(parts: &[ChosenPart]) -> String {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(&hex::decode(&part.record.e_tag).expect("invariant: a part's ETag is hex"));
    }
    format!("{}-{}", hex::encode(md5.finalize()), parts.len())
}
