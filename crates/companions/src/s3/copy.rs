//! Copies made here: of objects, and into parts of uploads.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopyPartResult, CopySource, ETag, ETagCondition,
    MetadataDirective, Range, TaggingDirective, UploadPartCopyInput, UploadPartCopyOutput,
};
use s3s::{S3Request, S3Result, s3_error};

use super::access::Asker;
use super::disk::{Disk, ObjectRecord, OpenObject, blocking, commit};
use super::multipart::{Upload, check_part_number};
use super::objects::{Condition, attributes_of, check_key, timestamp};
use super::tagging::tags_of_header;
use super::{ObjectStorage, StorageError};

const BUFFER_BYTES: usize = 256 * 1024;

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    bucket: String,
    key: String,
    version: Option<String>,
}

impl Source {
    fn of(source: &CopySource) -> S3Result<Self> {
        match source {
            CopySource::Bucket { bucket, key, version_id } => Ok(Self {
                bucket: bucket.to_string(),
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
        let asker = Asker::of(&request)?;
        let input = request.input;
        check_key(&input.key)?;
        let source = Source::of(&input.copy_source)?;
        let replaces =
            input.metadata_directive.as_ref().is_some_and(|it| it.as_str() == MetadataDirective::REPLACE);
        let retags =
            input.tagging_directive.as_ref().is_some_and(|it| it.as_str() == TaggingDirective::REPLACE);
        let to_itself = source.bucket == input.bucket && source.key == input.key && source.version.is_none();
        if to_itself && !replaces && !retags {
            return Err(s3_error!(
                InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the \
                 object's metadata, storage class, website redirect location or encryption attributes."
            ));
        }
        let attributes = replaces.then(|| attributes_of!(input));
        let tags = if retags { Some(tags_of_header(input.tagging.as_deref())?) } else { None };
        let disk = self.disk.clone();
        let (record, source_version) = blocking(move || {
            let conditions = (input.copy_source_if_match, input.copy_source_if_none_match);
            let mut object = source.open(&disk, conditions.0, conditions.1)?;
            if tags.is_none() && !object.record.tags.is_empty() {
                // Tags that go along are read here and written there.
                let (action, version) = match &source.version {
                    Some(version) => ("GetObjectVersionTagging", Some(version.as_str())),
                    None => ("GetObjectTagging", None),
                };
                asker.check_object(action, &source.bucket, &source.key, version)?;
                asker.check_object("PutObjectTagging", &input.bucket, &input.key, None)?;
            }
            let mut content = disk.temporary()?;
            object.copy_to(content.as_file_mut()).map_err(StorageError::io(content.path()))?;
            let from = object.record;
            let record = ObjectRecord {
                checksums: from.checksums,
                attributes: attributes.unwrap_or(from.attributes),
                tags: tags.unwrap_or(from.tags),
                ..ObjectRecord::new(input.key, from.size, from.e_tag)
            };
            let always = Condition { if_match: None, if_none_match: None };
            let record = disk.put(&input.bucket, content, record, &always)?;
            Ok::<_, s3s::S3Error>((record, from.version))
        })
        .await?;
        let copy_object_result = CopyObjectResult {
            e_tag: Some(ETag::Strong(record.e_tag)),
            last_modified: Some(timestamp(record.modified_ms)),
            ..Default::default()
        };
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
        let input = request.input;
        check_part_number(input.part_number)?;
        let source = Source::of(&input.copy_source)?;
        let disk = self.disk.clone();
        let (record, source_version) = blocking(move || {
            let upload = Upload::open(&disk, &input.bucket, &input.upload_id, &input.key)?;
            let mut object =
                source.open(&disk, input.copy_source_if_match, input.copy_source_if_none_match)?;
            let range = part_range(input.copy_source_range.as_deref(), object.record.size)?;
            let mut content = disk.temporary()?;
            let e_tag = copy_range(&mut object.file, content.as_file_mut(), range.clone())
                .map_err(StorageError::io(content.path()))?;
            let record = ObjectRecord::new(input.key, range.end - range.start, e_tag);
            commit(content, &record, &upload.part_path(input.part_number))?;
            Ok::<_, s3s::S3Error>((record, object.record.version))
        })
        .await?;
        let copy_part_result = CopyPartResult {
            e_tag: Some(ETag::Strong(record.e_tag)),
            last_modified: Some(timestamp(record.modified_ms)),
            ..Default::default()
        };
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

/// Copies bytes and returns their MD5 in hex.
fn copy_range(from: &mut File, to: &mut File, range: std::ops::Range<u64>) -> io::Result<String> {
    from.seek(SeekFrom::Start(range.start))?;
    let length = range.end - range.start;
    let mut from = from.take(length);
    let (mut md5, mut buffer, mut copied) = (Md5::new(), vec![0; BUFFER_BYTES], 0);
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        md5.update(&buffer[..count]);
        io::Write::write_all(to, &buffer[..count])?;
        copied += count as u64;
    }
    if copied == length { Ok(hex::encode(md5.finalize())) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
