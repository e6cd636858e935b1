//! Multipart uploads: parts as files beside the bucket's objects until they are joined.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CompletedPart, CreateMultipartUploadInput, CreateMultipartUploadOutput,
    ETag, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput,
    MultipartUpload, Part, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Result, s3_error};
use serde::{Deserialize, Serialize};

use super::checksums::{checksums_of, set_checksums};
use super::disk::{
    Attributes, Disk, ObjectRecord, OpenObject, Tags, blocking, commit, read_json, write_json,
};
use super::objects::{Condition, attributes_of, check_key, timestamp};
use super::receive::{Expected, receive};
use super::tagging::tags_of_header;
use super::{ObjectStorage, StorageError};

/// Smallest part but the last ("Amazon S3 multipart upload limits", S3 user guide).
const MINIMUM_PART_BYTES: u64 = 5 * 1024 * 1024;
const MAXIMUM_PART_NUMBER: i32 = 10_000;

/// What is fixed when an upload begins.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct UploadRecord {
    key: String,
    attributes: Attributes,
    #[serde(default)]
    tags: Tags,
    initiated_ms: i64,
}

/// An upload in progress.
#[derive(Debug)]
pub(super) struct Upload {
    directory: PathBuf,
    record: UploadRecord,
}

impl Upload {
    pub(super) fn open(disk: &Disk, bucket: &str, upload_id: &str, key: &str) -> S3Result<Self> {
        let missing = || s3_error!(NoSuchUpload, "The specified multipart upload does not exist.");
        // A UUID is also what keeps the id from being a path.
        let upload_id = uuid::Uuid::parse_str(upload_id).map_err(|_| missing())?;
        let directory = disk.bucket(bucket)?.join("uploads").join(upload_id.to_string());
        if !directory.join("upload.json").is_file() {
            return Err(missing());
        }
        let record: UploadRecord = read_json(&directory.join("upload.json"))?;
        if record.key == key { Ok(Self { directory, record }) } else { Err(missing()) }
    }

    pub(super) fn part_path(&self, number: i32) -> PathBuf {
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

    /// The parts that the caller names, opened and checked.
    fn chosen_parts(&self, wanted: &[CompletedPart]) -> S3Result<Vec<OpenObject>> {
        if !wanted.is_sorted_by(|a, b| a.part_number < b.part_number) {
            return Err(s3_error!(InvalidPartOrder, "The list of parts was not in ascending order."));
        }
        let mut parts: Vec<OpenObject> = Vec::with_capacity(wanted.len());
        for (index, part) in wanted.iter().enumerate() {
            let invalid = || s3_error!(InvalidPart, "One or more of the specified parts could not be found.");
            let number = part.part_number.ok_or_else(invalid)?;
            let opened = OpenObject::open(&self.part_path(number)).map_err(|_| invalid())?;
            if part.e_tag.as_ref().is_none_or(|e_tag| e_tag.value() != opened.record.e_tag) {
                return Err(invalid());
            }
            if index + 1 < wanted.len() && opened.record.size < MINIMUM_PART_BYTES {
                return Err(s3_error!(EntityTooSmall, "A part other than the last is smaller than 5 MiB"));
            }
            parts.push(opened);
        }
        if parts.is_empty() {
            return Err(s3_error!(MalformedXML, "You must specify at least one part"));
        }
        Ok(parts)
    }
}

impl ObjectStorage {
    pub(super) async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<CreateMultipartUploadOutput> {
        let input = request.input;
        check_key(&input.key)?;
        let upload_id = uuid::Uuid::new_v4().to_string();
        let record = UploadRecord {
            key: input.key.clone(),
            attributes: attributes_of!(input),
            tags: tags_of_header(input.tagging.as_deref())?,
            initiated_ms: jiff::Timestamp::now().as_millisecond(),
        };
        let directory = self.disk.bucket(&input.bucket)?.join("uploads").join(&upload_id);
        blocking(move || {
            fs::create_dir_all(&directory).map_err(StorageError::io(&directory))?;
            write_json(&directory.join("upload.json"), &record)
        })
        .await?;
        Ok(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
            ..Default::default()
        })
    }

    pub(super) async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<UploadPartOutput> {
        let S3Request { input, headers, trailing_headers: trailers, .. } = request;
        check_part_number(input.part_number)?;
        let upload = Upload::open(&self.disk, &input.bucket, &input.upload_id, &input.key)?;
        let expected = Expected {
            checksums: checksums_of!(input),
            algorithm: input.checksum_algorithm,
            content_md5: input.content_md5,
            headers: &headers,
            trailers,
        };
        let received = receive(&self.disk, input.body, expected).await?;
        let record = ObjectRecord {
            checksums: received.checksums,
            ..ObjectRecord::new(input.key, received.size, received.e_tag)
        };
        let mut output =
            UploadPartOutput { e_tag: Some(ETag::Strong(record.e_tag.clone())), ..Default::default() };
        set_checksums!(output, record.checksums.clone());
        let path = upload.part_path(input.part_number);
        blocking(move || commit(received.content, &record, &path)).await?;
        Ok(output)
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let input = request.input;
        let disk = self.disk.clone();
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        let record = blocking(move || {
            let upload = Upload::open(&disk, &input.bucket, &input.upload_id, &input.key)?;
            let wanted = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
            let mut parts = upload.chosen_parts(&wanted)?;
            let content = disk.temporary()?;
            join(&mut parts, content.path())?;
            let size = parts.iter().map(|part| part.record.size).sum();
            let record = ObjectRecord {
                attributes: upload.record.attributes,
                tags: upload.record.tags,
                ..ObjectRecord::new(input.key, size, joined_e_tag(&parts))
            };
            let condition = Condition { if_match: input.if_match, if_none_match: input.if_none_match };
            let record = disk.put(&input.bucket, content, record, &condition)?;
            fs::remove_dir_all(&upload.directory).map_err(StorageError::io(&upload.directory))?;
            Ok::<_, s3s::S3Error>(record)
        })
        .await?;
        Ok(CompleteMultipartUploadOutput {
            location: Some(format!("/{bucket}/{key}")),
            bucket: Some(bucket),
            key: Some(key),
            e_tag: Some(ETag::Strong(record.e_tag)),
            version_id: record.version,
            ..Default::default()
        })
    }

    pub(super) async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<AbortMultipartUploadOutput> {
        let AbortMultipartUploadInput { bucket, key, upload_id, .. } = request.input;
        let disk = self.disk.clone();
        blocking(move || {
            let upload = Upload::open(&disk, &bucket, &upload_id, &key)?;
            fs::remove_dir_all(&upload.directory).map_err(StorageError::io(&upload.directory))?;
            Ok::<_, s3s::S3Error>(())
        })
        .await?;
        Ok(AbortMultipartUploadOutput::default())
    }

    pub(super) async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<ListPartsOutput> {
        let input = request.input;
        let upload = Upload::open(&self.disk, &input.bucket, &input.upload_id, &input.key)?;
        let parts = blocking(move || {
            let mut parts = Vec::new();
            for number in upload.part_numbers()? {
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
            Ok::<_, StorageError>(parts)
        })
        .await?;
        Ok(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            parts: Some(parts),
            is_truncated: Some(false),
            ..Default::default()
        })
    }

    pub(super) async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<ListMultipartUploadsOutput> {
        let bucket = request.input.bucket;
        let directory = self.disk.bucket(&bucket)?.join("uploads");
        let uploads = blocking(move || {
            let entries = match fs::read_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                other => other.map_err(StorageError::io(&directory))?,
            };
            let describe = |path: &Path| {
                let record: UploadRecord = read_json(&path.join("upload.json")).ok()?;
                Some(MultipartUpload {
                    key: Some(record.key),
                    upload_id: Some(path.file_name()?.to_str()?.to_owned()),
                    initiated: Some(timestamp(record.initiated_ms)),
                    ..Default::default()
                })
            };
            Ok::<_, StorageError>(entries.filter_map(|entry| describe(&entry.ok()?.path())).collect())
        })
        .await?;
        Ok(ListMultipartUploadsOutput {
            bucket: Some(bucket),
            uploads: Some(uploads),
            is_truncated: Some(false),
            ..Default::default()
        })
    }
}

pub(super) fn check_part_number(number: i32) -> S3Result<()> {
    if (1..=MAXIMUM_PART_NUMBER).contains(&number) {
        Ok(())
    } else {
        Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000"))
    }
}

fn join(parts: &mut [OpenObject], path: &Path) -> Result<(), StorageError> {
    let mut target = fs::File::options().append(true).open(path).map_err(StorageError::io(path))?;
    for part in parts {
        part.copy_to(&mut target).map_err(StorageError::io(path))?;
    }
    Ok(())
}

/// MD5 of the parts' MD5s and their number, as S3 has it.
fn joined_e_tag(parts: &[OpenObject]) -> String {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(&hex::decode(&part.record.e_tag).expect("invariant: a part's ETag is hex"));
    }
    format!("{}-{}", hex::encode(md5.finalize()), parts.len())
}
