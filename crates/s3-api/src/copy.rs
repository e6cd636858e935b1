//! Copies made here: of objects, and into parts of uploads.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopyPartResult, CopySource, ETag, ETagCondition,
    MetadataDirective, Range, TaggingDirective, UploadPartCopyInput, UploadPartCopyOutput,
};
use s3s::{S3Request, S3Result, s3_error};

use super::access::Asker;
use super::bucket::Bucket;
use super::checksums::{Algorithm, ChecksumType, Checksums, set_checksums};
use super::conditions::Condition;
use super::disk::{Disk, ObjectRecord, OpenObject};
use super::multipart::check_part_number;
use super::objects::{attributes_of, check_key, timestamp};
use super::tagging::tags_of_header;
use super::upload::Upload;
use super::{ObjectStorage, StorageError};

const BUFFER_BYTES: usize = 256 * 1024;

/// What is copied.
#[derive(Debug)]
struct Source {
    bucket: Arc<Bucket>,
    key: String,
    version: Option<String>,
}

impl Source {
    /// Of the bucket that was found when reading from it was authorised.
    fn of(source: &CopySource, bucket: Arc<Bucket>) -> S3Result<Self> {
        match source {
            CopySource::Bucket { key, version_id, .. } => Ok(Self {
                bucket,
                key: key.to_string(),
                version: version_id.as_ref().map(ToString::to_string),
            }),
            _ => Err(s3_error!(NotImplemented, "Only objects of buckets can be copied.")),
        }
    }

    /// The object, if the conditions on it hold.
    fn open(
        &self,
        disk: &Disk,
        if_match: Option<ETagCondition>,
        if_none_match: Option<ETagCondition>,
    ) -> S3Result<OpenObject> {
        let object = disk.version(&self.bucket, &self.key, self.version.as_deref())?;
        let condition = Condition { if_match, if_none_match };
        if condition.check_read(&object.record).is_err() {
            let message = "At least one of the pre-conditions you specified did not hold";
            return Err(s3_error!(PreconditionFailed, "{message}"));
        }
        Ok(object)
    }
}

impl ObjectStorage {
    pub(super) async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<CopyObjectOutput> {
        let (asker, from) = (Asker::of(&request)?, Asker::source_of(&request)?);
        let bucket = asker.bucket()?;
        let input = request.input;
        check_key(&input.key)?;
        let source = Source::of(&input.copy_source, from)?;
        let replaces =
            input.metadata_directive.as_ref().is_some_and(|it| it.as_str() == MetadataDirective::REPLACE);
        let retags =
            input.tagging_directive.as_ref().is_some_and(|it| it.as_str() == TaggingDirective::REPLACE);
        let to_itself = source.bucket.is(&bucket) && source.key == input.key && source.version.is_none();
        if to_itself && !replaces && !retags {
            return Err(s3_error!(
                InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the \
                 object's metadata, storage class, website redirect location or encryption attributes."
            ));
        }
        let attributes = if replaces { Some(attributes_of!(input)?) } else { None };
        let tags = if retags { Some(tags_of_header(input.tagging.as_deref())?) } else { None };
        let algorithm = input.checksum_algorithm.as_ref().map(Algorithm::of).transpose()?;
        let (disk, account) = (self.disk.clone(), asker.caller().account.clone());
        let copy = move || {
            let conditions = (input.copy_source_if_match, input.copy_source_if_none_match);
            let mut object = source.open(&disk, conditions.0, conditions.1)?;
            if tags.is_none() && !object.record.tags.is_empty() {
                // Tags that go along are read here and written there.
                let (action, version) = match &source.version {
                    Some(version) => ("GetObjectVersionTagging", Some(version.as_str())),
                    None => ("GetObjectTagging", None),
                };
                asker.check_object(action, &source.bucket, &source.key, version)?;
                asker.check_object("PutObjectTagging", &bucket, &input.key, None)?;
            }
            let mut content = (disk.temporary()?, disk.reserve(&bucket, object.record.size)?);
            object.copy_to(content.0.as_file_mut()).map_err(StorageError::io(content.0.path()))?;
            let checksums =
                checksums_of_copy(&mut object, algorithm).map_err(StorageError::io(content.0.path()))?;
            let from = object.record;
            let record = ObjectRecord {
                checksums,
                attributes: attributes.unwrap_or(from.attributes),
                tags: tags.unwrap_or(from.tags),
                ..ObjectRecord::new(input.key, from.size, from.e_tag)
            };
            let always = Condition { if_match: None, if_none_match: None };
            let record = disk.put(&bucket, content, record, &always)?;
            Ok::<_, s3s::S3Error>((record, from.version))
        };
        let (record, source_version) = self.work(&account, copy).await?;
        let mut copy_object_result = CopyObjectResult {
            checksum_type: record.shown_checksum_type(),
            e_tag: Some(ETag::Strong(record.e_tag)),
            last_modified: Some(timestamp(record.modified_ms)),
            ..Default::default()
        };
        set_checksums!(copy_object_result, record.checksums);
        Ok(CopyObjectOutput {
            copy_object_result: Some(copy_object_result),
            copy_source_version_id: source_version,
            version_id: record.version,
            ..Default::default()
        })
    }

    pub(super) async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<UploadPartCopyOutput> {
        let (asker, from) = (Asker::of(&request)?, Asker::source_of(&request)?);
        let bucket = asker.bucket()?;
        let input = request.input;
        check_part_number(input.part_number)?;
        let source = Source::of(&input.copy_source, from)?;
        let (disk, account) = (self.disk.clone(), asker.caller().account.clone());
        let copy = move || {
            let upload = Upload::open(&bucket, &input.upload_id, &input.key)?;
            let mut object =
                source.open(&disk, input.copy_source_if_match, input.copy_source_if_none_match)?;
            let range = part_range(input.copy_source_range.as_deref(), object.record.size)?;
            let mut content = (disk.temporary()?, disk.reserve(&bucket, range.end - range.start)?);
            let (e_tag, checksums) =
                copy_range(&mut object.file, content.0.as_file_mut(), range.clone(), upload.checksum().0)
                    .map_err(StorageError::io(content.0.path()))?;
            let record =
                ObjectRecord { checksums, ..ObjectRecord::new(input.key, range.end - range.start, e_tag) };
            upload.put_part(&disk, &bucket, input.part_number, content, &record)?;
            Ok::<_, s3s::S3Error>((record, object.record.version))
        };
        let (record, source_version) = self.work(&account, copy).await?;
        let mut copy_part_result = CopyPartResult {
            e_tag: Some(ETag::Strong(record.e_tag)),
            last_modified: Some(timestamp(record.modified_ms)),
            ..Default::default()
        };
        set_checksums!(copy_part_result, record.checksums);
        Ok(UploadPartCopyOutput {
            copy_part_result: Some(copy_part_result),
            copy_source_version_id: source_version,
            ..Default::default()
        })
    }
}

/// `bytes=first-last`, both within the object: here a range is not cut to the object's size.
fn part_range(text: Option<&str>, size: u64) -> S3Result<std::ops::Range<u64>> {
    let Some(text) = text else { return Ok(0..size) };
    match Range::parse(text) {
        Ok(Range::Int { first, last: Some(last) }) if first <= last && last < size => Ok(first..last + 1),
        _ => Err(s3_error!(
            InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy"
        )),
    }
}

/// Checksums of a copy: those of the original, unless they are of its parts, which a copy does not
/// have, or others are asked for.
fn checksums_of_copy(object: &mut OpenObject, asked: Option<Algorithm>) -> io::Result<Checksums> {
    let record = &object.record;
    let kept = record.checksum_type == ChecksumType::FullObject && !record.checksums.is_empty();
    match asked {
        None if kept => Ok(record.checksums.clone()),
        Some(algorithm) if kept && record.checksums.get(algorithm).is_some() => Ok(record.checksums.clone()),
        _ => {
            let size = record.size;
            object.file.rewind()?;
            asked.unwrap_or(Algorithm::Crc64nvme).of_bytes((&object.file).take(size))
        }
    }
}

/// Copies bytes and returns their MD5 in hex and their checksum.
fn copy_range(
    from: &mut File,
    to: &mut File,
    range: std::ops::Range<u64>,
    algorithm: Algorithm,
) -> io::Result<(String, Checksums)> {
    from.seek(SeekFrom::Start(range.start))?;
    let length = range.end - range.start;
    let mut from = from.take(length);
    let (mut md5, mut buffer, mut copied) = (Md5::new(), vec![0; BUFFER_BYTES], 0);
    let mut hasher = ChecksumHasher::default();
    algorithm.add_to(&mut hasher);
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        md5.update(&buffer[..count]);
        hasher.update(&buffer[..count]);
        io::Write::write_all(to, &buffer[..count])?;
        copied += count as u64;
    }
    if copied == length {
        Ok((hex::encode(md5.finalize()), hasher.finalize().into()))
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
