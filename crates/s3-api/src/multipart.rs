//! Multipart uploads: parts as files beside the bucket's objects until they are joined.

use std::fs;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumAlgorithm, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload,
    UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Result, s3_error};

use super::access::Asker;
use super::checksums::{checksums_of, set_checksums};
use super::disk::{ObjectRecord, write_json};
use super::objects::{attributes_of, check_key, timestamp};
use super::receive::{Expected, Own, receive};
use super::tagging::tags_of_header;
use super::upload::{Upload, UploadRecord, UploadSummary, complete, parts_of, uploads_of, wanted_checksum};
use super::{ObjectStorage, StorageError};

const MAXIMUM_PART_NUMBER: i32 = 10_000;
/// Longest page of parts and of uploads.
const MAXIMUM_LISTED: i32 = 1000;

impl ObjectStorage {
    pub(super) async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<CreateMultipartUploadOutput> {
        let asker = Asker::of(&request)?;
        let bucket = asker.bucket()?;
        let input = request.input;
        check_key(&input.key)?;
        let checksum = wanted_checksum(&input)?;
        let upload_id = uuid::Uuid::new_v4().to_string();
        let record = UploadRecord {
            key: input.key.clone(),
            attributes: attributes_of!(input)?,
            tags: tags_of_header(input.tagging.as_deref())?,
            initiated_ms: jiff::Timestamp::now().as_millisecond(),
            checksum,
        };
        let (disk, directory) = (self.disk.clone(), bucket.uploads().join(&upload_id));
        self.work(&asker.caller().account, move || {
            let reservation = disk.reserve(&bucket, 1)?;
            let _held = disk.hold(&bucket)?;
            fs::create_dir_all(&directory).map_err(StorageError::io(&directory))?;
            let path = directory.join("upload.json");
            write_json(&path, &record)?;
            let length = fs::metadata(&path).map_err(StorageError::io(&path))?.len();
            reservation.keep(length);
            Ok::<_, StorageError>(())
        })
        .await?;
        Ok(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: checksum.map(|(_, kind)| kind.to_dto()),
            ..Default::default()
        })
    }

    pub(super) async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<UploadPartOutput> {
        let asker = Asker::of(&request)?;
        let bucket = asker.bucket()?;
        let S3Request { input, headers, trailing_headers: trailers, .. } = request;
        check_part_number(input.part_number)?;
        let upload = Upload::open(&bucket, &input.upload_id, &input.key)?;
        let expected = Expected {
            checksums: checksums_of!(input),
            algorithm: input.checksum_algorithm,
            own: Own::Part(upload.checksum().0, upload.record.checksum.is_some()),
            content_md5: input.content_md5,
            headers: &headers,
            trailers,
        };
        let received = receive(&self.disk, &bucket, input.body, expected).await?;
        let record = ObjectRecord {
            checksums: received.checksums,
            ..ObjectRecord::new(input.key, received.size, received.e_tag)
        };
        let mut output =
            UploadPartOutput { e_tag: Some(ETag::Strong(record.e_tag.clone())), ..Default::default() };
        set_checksums!(output, record.checksums.clone());
        let (disk, number) = (self.disk.clone(), input.part_number);
        let put = move || upload.put_part(&disk, &bucket, number, received.content, &record);
        self.work(&asker.caller().account, put).await?;
        Ok(output)
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let asker = Asker::of(&request)?;
        let input = request.input;
        let (name, key) = (input.bucket.clone(), input.key.clone());
        let (disk, bucket) = (self.disk.clone(), asker.bucket()?);
        let complete = move || complete(&disk, &bucket, input);
        let record = self.work(&asker.caller().account, complete).await?;
        let mut output = CompleteMultipartUploadOutput {
            location: Some(format!("/{name}/{key}")),
            bucket: Some(name),
            key: Some(key),
            checksum_type: record.shown_checksum_type(),
            e_tag: Some(ETag::Strong(record.e_tag)),
            version_id: record.version,
            ..Default::default()
        };
        set_checksums!(output, record.checksums);
        Ok(output)
    }

    pub(super) async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<AbortMultipartUploadOutput> {
        let asker = Asker::of(&request)?;
        let AbortMultipartUploadInput { key, upload_id, .. } = request.input;
        let (disk, bucket) = (self.disk.clone(), asker.bucket()?);
        self.work(&asker.caller().account, move || {
            let upload = Upload::open(&bucket, &upload_id, &key)?;
            Ok::<_, s3s::S3Error>(disk.remove_upload(&bucket, &upload.directory)?)
        })
        .await?;
        Ok(AbortMultipartUploadOutput::default())
    }

    pub(super) async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<ListPartsOutput> {
        let asker = Asker::of(&request)?;
        let bucket = asker.bucket()?;
        let input = request.input;
        let upload = Upload::open(&bucket, &input.upload_id, &input.key)?;
        let named = upload.record.checksum;
        let limit = page_length(input.max_parts)?;
        let after = input.part_number_marker.unwrap_or(0);
        let (parts, more) =
            self.list(&asker.caller().account, move || parts_of(&upload, after, limit)).await?;
        let last = parts.last().and_then(|part| part.part_number);
        Ok(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            checksum_algorithm: named.map(|(algorithm, _)| ChecksumAlgorithm::from_static(algorithm.name())),
            checksum_type: named.map(|(_, kind)| kind.to_dto()),
            parts: Some(parts),
            max_parts: Some(limit as i32),
            part_number_marker: Some(after),
            next_part_number_marker: last,
            is_truncated: Some(more),
            ..Default::default()
        })
    }

    pub(super) async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<ListMultipartUploadsOutput> {
        let asker = Asker::of(&request)?;
        let bucket = asker.bucket()?;
        let input = request.input;
        let limit = page_length(input.max_uploads)?;
        let after = (input.key_marker.clone().unwrap_or_default(), input.upload_id_marker.clone());
        let prefix = input.prefix.clone().unwrap_or_default();
        let wanted = move |upload: &UploadSummary| {
            let later = match &after.1 {
                Some(marker) => (&upload.key, &upload.id) > (&after.0, marker),
                None => upload.key > after.0,
            };
            later && upload.key.starts_with(&prefix)
        };
        let list = move || uploads_of(&bucket, limit, wanted);
        let (uploads, more) = self.list(&asker.caller().account, list).await?;
        let marker = uploads.last().cloned().filter(|_| more);
        let show = |upload: UploadSummary| MultipartUpload {
            key: Some(upload.key),
            upload_id: Some(upload.id),
            initiated: Some(timestamp(upload.initiated_ms)),
            ..Default::default()
        };
        Ok(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            uploads: Some(uploads.into_iter().map(show).collect()),
            prefix: input.prefix,
            key_marker: input.key_marker,
            upload_id_marker: input.upload_id_marker,
            next_key_marker: marker.as_ref().map(|last| last.key.clone()),
            next_upload_id_marker: marker.map(|last| last.id),
            max_uploads: Some(limit as i32),
            is_truncated: Some(more),
            ..Default::default()
        })
    }
}

fn page_length(wanted: Option<i32>) -> S3Result<usize> {
    match wanted.unwrap_or(MAXIMUM_LISTED) {
        negative if negative < 0 => {
            Err(s3_error!(InvalidArgument, "The length of a page must not be negative"))
        }
        wanted => Ok(wanted.min(MAXIMUM_LISTED) as usize),
    }
}

pub(super) fn check_part_number(number: i32) -> S3Result<()> {
    if (1..=MAXIMUM_PART_NUMBER).contains(&number) {
        Ok(())
    } else {
        Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000"))
    }
}
