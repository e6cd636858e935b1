//! Single objects: put, get, head, delete, attributes.

use std::io::{Seek as _, SeekFrom};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::dto::{
    Checksum, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject,
    ETag, ETagCondition, Error, GetObjectAttributesInput, GetObjectAttributesOutput,
    GetObjectAttributesParts, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput,
    ObjectAttributes, ObjectIdentifier, PutObjectInput, PutObjectOutput, StorageClass, StreamingBlob,
    Timestamp,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::access::Asker;
use super::bucket::Bucket;
use super::checksums::{checksums_of, set_checksums};
use super::conditions::{Condition, DeleteCondition};
use super::disk::{Attributes, Disk, ObjectRecord, OpenObject};
use super::receive::{Expected, Own, receive};
use super::tagging::tags_of_header;
use super::versions::{Deletion, NULL};
use super::{ObjectStorage, custom_error};

/// Most keys of one DeleteObjects ("DeleteObjects", S3 API reference).
const MAXIMUM_DELETED_KEYS: usize = 1000;
const READ_BYTES: usize = 64 * 1024;
/// Longest key in bytes ("Naming Amazon S3 objects", S3 user guide).
const MAXIMUM_KEY_BYTES: usize = 1024;

/// Reads the attributes that the requests which make objects have in common; an error
/// when they are too long.
macro_rules! attributes_of {
    ($input:expr) => {
        $crate::disk::Attributes {
            cache_control: $input.cache_control.clone(),
            content_disposition: $input.content_disposition.clone(),
            content_encoding: $input.content_encoding.clone(),
            content_language: $input.content_language.clone(),
            content_type: $input.content_type.clone(),
            expires: $input.expires.clone(),
            metadata: $input.metadata.clone().unwrap_or_default().into_iter().collect(),
        }
        .checked()
    };
}

/// Sets the members that GetObject and HeadObject have in common; the caller may ask
/// for other headers.
macro_rules! describe {
    ($output:expr, $record:expr, $input:expr) => {
        let attributes: Attributes = $record.attributes;
        let content_type = attributes.content_type.or_else(|| Some("binary/octet-stream".to_owned()));
        $output.accept_ranges = Some("bytes".to_owned());
        $output.cache_control = $input.response_cache_control.or(attributes.cache_control);
        $output.content_disposition = $input.response_content_disposition.or(attributes.content_disposition);
        $output.content_encoding = $input.response_content_encoding.or(attributes.content_encoding);
        $output.content_language = $input.response_content_language.or(attributes.content_language);
        $output.content_type = $input.response_content_type.or(content_type);
        $output.expires = $input.response_expires.or(attributes.expires);
        $output.version_id = $record.version;
        $output.e_tag = Some(ETag::Strong($record.e_tag));
        $output.last_modified = Some(timestamp($record.modified_ms));
        $output.metadata = Some(attributes.metadata.into_iter().collect());
    };
}

pub(super) use attributes_of;

impl ObjectStorage {
    pub(super) async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<PutObjectOutput> {
        let asker = Asker::of(&request)?;
        let bucket = asker.bucket()?;
        let S3Request { input, headers, trailing_headers: trailers, .. } = request;
        check_key(&input.key)?;
        let mut attributes = attributes_of!(input)?;
        if is_streamed(&headers) {
            attributes.content_encoding = attributes.content_encoding.as_deref().and_then(of_the_content);
        }
        let tags = tags_of_header(input.tagging.as_deref())?;
        let expected = Expected {
            checksums: checksums_of!(input),
            algorithm: input.checksum_algorithm,
            own: Own::Object,
            content_md5: input.content_md5,
            headers: &headers,
            trailers,
        };
        let received = receive(&self.disk, &bucket, input.body, expected).await?;
        let record = ObjectRecord {
            checksums: received.checksums,
            attributes,
            tags,
            ..ObjectRecord::new(input.key, received.size, received.e_tag)
        };
        let disk = self.disk.clone();
        let condition = Condition { if_match: input.if_match, if_none_match: input.if_none_match };
        let put = move || disk.put(&bucket, received.content, record, &condition);
        let record = self.work(&asker.caller().account, put).await?;
        let mut output = PutObjectOutput {
            e_tag: Some(ETag::Strong(record.e_tag)),
            version_id: record.version,
            ..Default::default()
        };
        output.checksum_type = Some(record.checksum_type.to_dto());
        set_checksums!(output, record.checksums);
        Ok(output)
    }

    pub(super) async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<GetObjectOutput> {
        let asker = Asker::of(&request)?;
        let may_list = asker.may_list();
        let input = request.input;
        let condition = Condition { if_match: input.if_match, if_none_match: input.if_none_match };
        let object = self.open_object(&asker, input.key, input.version_id).await;
        let object = object.map_err(|error| hide_missing(error, may_list))?;
        condition.check_read(&object.record)?;
        check_part(input.part_number, &object.record)?;
        let (record, mut file) = (object.record, object.file);
        let range = input.range.map(|range| range.check(record.size)).transpose()?;
        let (start, end) = range.as_ref().map_or((0, record.size), |range| (range.start, range.end));
        file.seek(SeekFrom::Start(start)).map_err(S3Error::internal_error)?;
        let bytes = tokio::fs::File::from_std(file).take(end - start);
        let mut output = GetObjectOutput {
            body: Some(StreamingBlob::wrap(ReaderStream::with_capacity(bytes, READ_BYTES))),
            content_length: Some((end - start) as i64),
            tag_count: Some(record.tags.len() as i32).filter(|count| *count > 0),
            ..Default::default()
        };
        if range.is_some() {
            output.content_range = Some(format!("bytes {start}-{}/{}", end - 1, record.size));
        } else {
            output.checksum_type = record.shown_checksum_type();
            set_checksums!(output, record.checksums);
        }
        describe!(output, record, input);
        Ok(output)
    }

    pub(super) async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<HeadObjectOutput> {
        let asker = Asker::of(&request)?;
        let may_list = asker.may_list();
        let input = request.input;
        let condition = Condition { if_match: input.if_match, if_none_match: input.if_none_match };
        let object = self.open_object(&asker, input.key, input.version_id).await;
        let record = object.map_err(|error| hide_missing(error, may_list))?.record;
        condition.check_read(&record)?;
        check_part(input.part_number, &record)?;
        let mut output = HeadObjectOutput { content_length: Some(record.size as i64), ..Default::default() };
        output.checksum_type = record.shown_checksum_type();
        set_checksums!(output, record.checksums);
        describe!(output, record, input);
        Ok(output)
    }

    /// Deletes an object; one that is not there counts as deleted.
    pub(super) async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<DeleteObjectOutput> {
        let asker = Asker::of(&request)?;
        let input = request.input;
        let condition = DeleteCondition {
            e_tag: input.if_match,
            size: input.if_match_size,
            modified: input.if_match_last_modified_time,
        };
        let (key, version_id) = (input.key, input.version_id);
        let (disk, bucket) = (self.disk.clone(), asker.bucket()?);
        let named = version_id.clone();
        let delete = move || condition.delete(&disk, &bucket, &key, named.as_deref());
        let deletion = self.work(&asker.caller().account, delete).await?;
        Ok(match deletion {
            Deletion::Gone => DeleteObjectOutput::default(),
            Deletion::Marked(version) => DeleteObjectOutput {
                delete_marker: Some(true),
                version_id: Some(version.unwrap_or_else(|| NULL.to_owned())),
                ..Default::default()
            },
            Deletion::Erased { marker } => {
                DeleteObjectOutput { delete_marker: marker.then_some(true), version_id, ..Default::default() }
            }
        })
    }

    /// Deletes objects, each on its own: what may not be deleted is named with its error.
    pub(super) async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<DeleteObjectsOutput> {
        let asker = Asker::of(&request)?;
        let input = request.input;
        if input.delete.objects.len() > MAXIMUM_DELETED_KEYS {
            return Err(s3_error!(MalformedXML, "More than 1000 keys cannot be deleted at once."));
        }
        let (disk, bucket) = (self.disk.clone(), asker.bucket()?);
        let quiet = input.delete.quiet == Some(true);
        let account = asker.caller().account.clone();
        let delete = move || {
            let (mut deleted, mut errors) = (Vec::new(), Vec::new());
            for object in input.delete.objects {
                match delete_one(&disk, &asker, &bucket, &object) {
                    Ok(entry) => deleted.push(entry),
                    Err(error) => errors.push(Error {
                        code: Some(error.code().as_str().to_owned()),
                        message: error.message().map(str::to_owned),
                        key: Some(object.key),
                        version_id: object.version_id,
                    }),
                }
            }
            Ok::<_, S3Error>((deleted, errors))
        };
        let (deleted, errors) = self.work(&account, delete).await?;
        let deleted = (!quiet).then_some(deleted);
        Ok(DeleteObjectsOutput { deleted, errors: Some(errors), ..Default::default() })
    }

    pub(super) async fn get_object_attributes(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> S3Result<GetObjectAttributesOutput> {
        let asker = Asker::of(&request)?;
        let may_list = asker.may_list();
        let input = request.input;
        let object = self.open_object(&asker, input.key, input.version_id).await;
        let record = object.map_err(|error| hide_missing(error, may_list))?.record;
        // SDKs send one header with commas, which `s3s` takes for one attribute.
        let wanted = input.object_attributes.iter().flat_map(|attribute| attribute.as_str().split(','));
        let wanted: Vec<&str> = wanted.map(str::trim).collect();
        let wanted = |name: &str| wanted.contains(&name);
        let mut checksum = Checksum::default();
        let has_checksum = !record.checksums.is_empty();
        checksum.checksum_type = record.shown_checksum_type();
        set_checksums!(checksum, record.checksums);
        // The parts of an object are not remembered, only their number is.
        let parts = record.e_tag.split_once('-').and_then(|(_, number)| number.parse().ok());
        let parts = GetObjectAttributesParts { total_parts_count: parts, ..Default::default() };
        Ok(GetObjectAttributesOutput {
            e_tag: wanted(ObjectAttributes::ETAG).then(|| ETag::Strong(record.e_tag.clone())),
            object_size: wanted(ObjectAttributes::OBJECT_SIZE).then_some(record.size as i64),
            storage_class: wanted(ObjectAttributes::STORAGE_CLASS)
                .then(|| StorageClass::from_static(StorageClass::STANDARD)),
            checksum: (has_checksum && wanted(ObjectAttributes::CHECKSUM)).then_some(checksum),
            object_parts: (parts.total_parts_count.is_some() && wanted(ObjectAttributes::OBJECT_PARTS))
                .then_some(parts),
            last_modified: Some(timestamp(record.modified_ms)),
            version_id: record.version,
            ..Default::default()
        })
    }

    pub(super) async fn open_object(
        &self,
        asker: &Asker,
        key: String,
        version: Option<String>,
    ) -> S3Result<OpenObject> {
        let (disk, bucket) = (self.disk.clone(), asker.bucket()?);
        self.work(&asker.caller().account, move || disk.version(&bucket, &key, version.as_deref())).await
    }
}

fn delete_one(
    disk: &Disk,
    asker: &Asker,
    bucket: &Bucket,
    object: &ObjectIdentifier,
) -> S3Result<DeletedObject> {
    let (key, version) = (&object.key, object.version_id.as_deref());
    let action = if version.is_some() { "DeleteObjectVersion" } else { "DeleteObject" };
    asker.check_object(action, bucket, key, version)?;
    let mut entry = DeletedObject { key: Some(key.clone()), ..Default::default() };
    let condition = DeleteCondition {
        e_tag: object.e_tag.clone().map(ETagCondition::ETag),
        size: object.size,
        modified: object.last_modified_time.clone(),
    };
    match condition.delete(disk, bucket, key, version)? {
        Deletion::Gone => {}
        Deletion::Marked(marker) => {
            entry.delete_marker = Some(true);
            entry.delete_marker_version_id = Some(marker.unwrap_or_else(|| NULL.to_owned()));
        }
        Deletion::Erased { marker } => {
            entry.version_id.clone_from(&object.version_id);
            if marker {
                entry.delete_marker = Some(true);
                entry.delete_marker_version_id.clone_from(&object.version_id);
            }
        }
    }
    Ok(entry)
}

/// Who may not list a bucket is not told that an object is missing ("GetObject", S3 API reference).
fn hide_missing(error: S3Error, may_list: bool) -> S3Error {
    if !may_list && *error.code() == S3ErrorCode::NoSuchKey {
        s3_error!(AccessDenied, "Access Denied")
    } else {
        error
    }
}

/// Whether the body comes in chunks of its own, which is no property of the object ("Signature
/// calculations: transferring payload in multiple chunks", S3 API reference).
fn is_streamed(headers: &HeaderMap) -> bool {
    let payload = headers.get("x-amz-content-sha256").map(HeaderValue::as_bytes);
    payload.is_some_and(|payload| payload.starts_with(b"STREAMING-"))
}

/// The encodings without that of the way.
fn of_the_content(encodings: &str) -> Option<String> {
    let own = |encoding: &&str| !encoding.is_empty() && !encoding.eq_ignore_ascii_case("aws-chunked");
    let own: Vec<&str> = encodings.split(',').map(str::trim).filter(own).collect();
    (!own.is_empty()).then(|| own.join(","))
}

/// The first part is the whole object: where the parts of an upload began is not remembered, and a
/// client that asks for the first one and is told of no others has got everything.
fn check_part(number: Option<i32>, record: &ObjectRecord) -> S3Result<()> {
    match number {
        None | Some(1) => Ok(()),
        Some(_) if record.e_tag.contains('-') => Err(s3_error!(
            NotImplemented,
            "Parts cannot be read by their number here; ask for a range of bytes."
        )),
        Some(_) => Err(custom_error(
            "InvalidPartNumber",
            StatusCode::RANGE_NOT_SATISFIABLE,
            "The requested partnumber is not satisfiable",
        )),
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

#[cfg(test)]
mod tests {
    use super::of_the_content;

    #[test]
    fn what_was_said_of_the_way_is_not_kept() {
        for (said, kept) in [
            ("aws-chunked", None),
            ("gzip,aws-chunked", Some("gzip")),
            ("AWS-chunked, br", Some("br")),
            ("br, gzip", Some("br,gzip")),
        ] {
            assert_eq!(of_the_content(said).as_deref(), kept, "{said}");
        }
    }
}
