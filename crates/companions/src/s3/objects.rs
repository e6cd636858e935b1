//! Single objects: put, get, head, copy, delete.

use std::fs;
use std::io;
use std::io::{Seek as _, SeekFrom};
use std::time::{Duration, SystemTime};

use s3s::dto::{
    CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, ETag, ETagCondition, GetObjectInput,
    GetObjectOutput, HeadObjectInput, HeadObjectOutput, MetadataDirective, PutObjectInput, PutObjectOutput,
    StreamingBlob, Timestamp,
};
use s3s::{S3Request, S3Result, s3_error};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::checksums::{checksums_of, set_checksums};
use super::disk::{Attributes, Disk, Existing, ObjectRecord, OpenObject, blocking, commit};
use super::receive::{Expected, receive};
use super::{ObjectStorage, StorageError};

const READ_BYTES: usize = 64 * 1024;
/// Longest key in bytes ("Naming Amazon S3 objects", S3 user guide).
const MAXIMUM_KEY_BYTES: usize = 1024;

/// Reads the attributes that the requests which make objects have in common.
macro_rules! attributes_of {
    ($input:expr) => {
        $crate::s3::disk::Attributes {
            cache_control: $input.cache_control.clone(),
            content_disposition: $input.content_disposition.clone(),
            content_encoding: $input.content_encoding.clone(),
            content_language: $input.content_language.clone(),
            content_type: $input.content_type.clone(),
            metadata: $input.metadata.clone().unwrap_or_default().into_iter().collect(),
        }
    };
}

/// Sets the members that GetObject and HeadObject have in common.
macro_rules! describe {
    ($output:expr, $record:expr) => {
        let attributes: Attributes = $record.attributes;
        $output.accept_ranges = Some("bytes".to_owned());
        $output.cache_control = attributes.cache_control;
        $output.content_disposition = attributes.content_disposition;
        $output.content_encoding = attributes.content_encoding;
        $output.content_language = attributes.content_language;
        $output.content_type = attributes.content_type.or_else(|| Some("binary/octet-stream".to_owned()));
        $output.e_tag = Some(ETag::Strong($record.e_tag));
        $output.last_modified = Some(timestamp($record.modified_ms));
        $output.metadata = Some(attributes.metadata.into_iter().collect());
    };
}

pub(super) use attributes_of;

impl ObjectStorage {
    pub(super) async fn put(&self, request: S3Request<PutObjectInput>) -> S3Result<PutObjectOutput> {
        let S3Request { input, headers, trailing_headers: trailers, .. } = request;
        check_key(&input.key)?;
        self.disk.bucket(&input.bucket)?;
        let attributes = attributes_of!(input);
        let expected = Expected {
            checksums: checksums_of!(input),
            algorithm: input.checksum_algorithm,
            content_md5: input.content_md5,
            headers: &headers,
            trailers,
        };
        let received = receive(&self.disk, input.body, expected).await?;
        let record = ObjectRecord {
            key: input.key,
            size: received.size,
            e_tag: received.e_tag,
            modified_ms: jiff::Timestamp::now().as_millisecond(),
            checksums: received.checksums,
            attributes,
        };
        let mut output =
            PutObjectOutput { e_tag: Some(ETag::Strong(record.e_tag.clone())), ..Default::default() };
        set_checksums!(output, record.checksums.clone());
        let (disk, bucket) = (self.disk.clone(), input.bucket);
        let condition = Condition { if_match: input.if_match, if_none_match: input.if_none_match };
        blocking(move || condition.commit(&disk, &bucket, received.content, &record)).await?;
        Ok(output)
    }

    pub(super) async fn get(&self, input: GetObjectInput) -> S3Result<GetObjectOutput> {
        let condition = Condition { if_match: input.if_match, if_none_match: input.if_none_match };
        let object = self.open_object(input.bucket, input.key).await?;
        condition.check_read(&object.record)?;
        let (record, mut file) = (object.record, object.file);
        let range = input.range.map(|range| range.check(record.size)).transpose()?;
        let (start, end) = range.as_ref().map_or((0, record.size), |range| (range.start, range.end));
        file.seek(SeekFrom::Start(start)).map_err(s3s::S3Error::internal_error)?;
        let bytes = tokio::fs::File::from_std(file).take(end - start);
        let mut output = GetObjectOutput {
            body: Some(StreamingBlob::wrap(ReaderStream::with_capacity(bytes, READ_BYTES))),
            content_length: Some((end - start) as i64),
            ..Default::default()
        };
        if range.is_some() {
            output.content_range = Some(format!("bytes {start}-{}/{}", end - 1, record.size));
        } else {
            set_checksums!(output, record.checksums);
        }
        describe!(output, record);
        Ok(output)
    }

    pub(super) async fn head(&self, input: HeadObjectInput) -> S3Result<HeadObjectOutput> {
        let condition = Condition { if_match: input.if_match, if_none_match: input.if_none_match };
        let record = self.open_object(input.bucket, input.key).await?.record;
        condition.check_read(&record)?;
        let mut output = HeadObjectOutput { content_length: Some(record.size as i64), ..Default::default() };
        set_checksums!(output, record.checksums);
        describe!(output, record);
        Ok(output)
    }

    pub(super) async fn copy(&self, input: CopyObjectInput) -> S3Result<CopyObjectOutput> {
        check_key(&input.key)?;
        let CopySource::Bucket { bucket, key, .. } = &input.copy_source else {
            return Err(s3_error!(NotImplemented, "Only objects of buckets can be copied"));
        };
        let (bucket, key, disk) = (bucket.to_string(), key.to_string(), self.disk.clone());
        let replace = input
            .metadata_directive
            .as_ref()
            .is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
        let attributes = replace.then(|| attributes_of!(input));
        let record = blocking(move || {
            let mut source = disk.object(&bucket, &key)?;
            let target = disk.object_path(&input.bucket, &input.key)?;
            let mut content = disk.temporary()?;
            source.copy_to(content.as_file_mut()).map_err(StorageError::io(&target))?;
            let mut record = ObjectRecord { key: input.key, ..source.record };
            record.modified_ms = jiff::Timestamp::now().as_millisecond();
            record.attributes = attributes.unwrap_or(record.attributes);
            commit(content, &record, &target, Existing::Replace)?;
            Ok::<_, StorageError>(record)
        })
        .await?;
        let copy_object_result = CopyObjectResult {
            e_tag: Some(ETag::Strong(record.e_tag)),
            last_modified: Some(timestamp(record.modified_ms)),
            ..Default::default()
        };
        Ok(CopyObjectOutput { copy_object_result: Some(copy_object_result), ..Default::default() })
    }

    /// Deletes objects; those that are not there count as deleted.
    pub(super) async fn delete(&self, bucket: String, keys: Vec<String>) -> S3Result<()> {
        let disk = self.disk.clone();
        blocking(move || {
            for key in keys {
                let path = disk.object_path(&bucket, &key)?;
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(StorageError::io(&path)(error));
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .await?;
        Ok(())
    }

    async fn open_object(&self, bucket: String, key: String) -> S3Result<OpenObject> {
        let disk = self.disk.clone();
        Ok(blocking(move || disk.object(&bucket, &key)).await?)
    }
}

/// `If-Match` and `If-None-Match`.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
}

impl Condition {
    /// Puts `content` in place if the conditions hold.
    pub(super) fn commit(
        &self,
        disk: &Disk,
        bucket: &str,
        content: tempfile::NamedTempFile,
        record: &ObjectRecord,
    ) -> S3Result<()> {
        let failed =
            || s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold");
        if self.if_match.is_some() {
            let current = disk.object(bucket, &record.key)?.record;
            if !self.matches(&current) {
                return Err(failed());
            }
        }
        let existing = if self.if_none_match.is_some() { Existing::Keep } else { Existing::Replace };
        let path = disk.object_path(bucket, &record.key)?;
        if commit(content, record, &path, existing)? { Ok(()) } else { Err(failed()) }
    }

    fn check_read(&self, record: &ObjectRecord) -> S3Result<()> {
        if !self.matches(record) {
            return Err(s3_error!(PreconditionFailed));
        }
        match &self.if_none_match {
            Some(condition) if covers(condition, record) => Err(s3_error!(NotModified)),
            _ => Ok(()),
        }
    }

    fn matches(&self, record: &ObjectRecord) -> bool {
        self.if_match.as_ref().is_none_or(|condition| covers(condition, record))
    }
}

fn covers(condition: &ETagCondition, record: &ObjectRecord) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(e_tag) => e_tag.value() == record.e_tag,
    }
}

pub(super) fn check_key(key: &str) -> S3Result<()> {
    if key.len() > MAXIMUM_KEY_BYTES {
        Err(s3_error!(KeyTooLongError, "Your key is too long"))
    } else {
        Ok(())
    }
}

/// `milliseconds` after 1970 as S3 shows it.
pub(super) fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds.max(0) as u64))
}
