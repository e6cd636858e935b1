//! Buckets and their listings.

use std::fs;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    Bucket, BucketLocationConstraint, CommonPrefix, CreateBucketOutput, ETag, EncodingType,
    GetBucketLocationOutput, ListBucketsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, Object, Owner,
};
use s3s::{S3Result, s3_error};

use super::disk::{BucketRecord, ObjectRecord, blocking, read_json, write_json};
use super::listing::{Page, Query, page};
use super::objects::timestamp;
use super::{ObjectStorage, StorageError};

/// Characters that `encoding-type=url` leaves alone.
const KEY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'*');
const MAXIMUM_KEYS: i32 = 1000;

impl ObjectStorage {
    /// Makes a bucket; one that the account has already is fine, as it is in us-east-1.
    pub(super) async fn make_bucket(&self, name: String) -> S3Result<CreateBucketOutput> {
        let disk = self.disk.clone();
        let location = format!("/{name}");
        blocking(move || {
            if disk.bucket(&name).is_ok() {
                return Ok(());
            }
            let path = disk.bucket_path(&name).ok_or_else(|| s3_error!(InvalidBucketName))?;
            fs::create_dir_all(path.join("objects")).map_err(StorageError::io(&path))?;
            let record = BucketRecord { created_ms: jiff::Timestamp::now().as_millisecond() };
            write_json(&path.join("bucket.json"), &record).map_err(s3s::S3Error::from)
        })
        .await?;
        Ok(CreateBucketOutput { location: Some(location) })
    }

    /// Removes a bucket that has no objects; unfinished uploads go with it.
    pub(super) async fn remove_bucket(&self, name: String) -> S3Result<()> {
        let disk = self.disk.clone();
        blocking(move || {
            let path = disk.bucket(&name)?;
            match fs::remove_dir(path.join("objects")) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"))
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(StorageError::io(&path)(error).into())
                }
                _ => fs::remove_dir_all(&path).map_err(|error| StorageError::io(&path)(error).into()),
            }
        })
        .await
    }

    pub(super) async fn buckets(&self) -> S3Result<ListBucketsOutput> {
        let disk = self.disk.clone();
        let buckets = blocking(move || {
            let mut buckets = Vec::new();
            for name in disk.bucket_names()? {
                let record: BucketRecord = read_json(&disk.bucket(&name)?.join("bucket.json"))?;
                let creation_date = Some(timestamp(record.created_ms));
                buckets.push(Bucket { creation_date, name: Some(name), ..Default::default() });
            }
            Ok::<_, StorageError>(buckets)
        })
        .await?;
        let account = self.account.to_string();
        let owner = Owner { display_name: Some(account.clone()), id: Some(account) };
        Ok(ListBucketsOutput { buckets: Some(buckets), owner: Some(owner), ..Default::default() })
    }

    /// `us-east-1` is spelled as nothing.
    pub(super) fn location(&self, bucket: &str) -> S3Result<GetBucketLocationOutput> {
        self.disk.bucket(bucket)?;
        let region = Some(&self.region).filter(|region| *region != "us-east-1");
        let location_constraint = region.cloned().map(BucketLocationConstraint::from);
        Ok(GetBucketLocationOutput { location_constraint })
    }

    pub(super) async fn list_v2(&self, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
        let records = self.records(input.bucket.clone()).await?;
        let after = match (&input.continuation_token, &input.start_after) {
            (Some(token), _) => read_token(token)?,
            (None, start_after) => start_after.clone().unwrap_or_default(),
        };
        let max_keys = max_keys(input.max_keys)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let delimiter = input.delimiter.as_deref();
        let found =
            page(&records, &Query { prefix: &prefix, delimiter, after: &after, limit: max_keys as usize });
        let spelling = Spelling::of(input.encoding_type.as_ref());
        Ok(ListObjectsV2Output {
            contents: Some(spelling.objects(&found)),
            common_prefixes: Some(spelling.common_prefixes(&found)),
            key_count: Some((found.objects.len() + found.common_prefixes.len()) as i32),
            is_truncated: Some(found.next.is_some()),
            next_continuation_token: found.next.map(|next| URL_SAFE_NO_PAD.encode(next)),
            max_keys: Some(max_keys),
            name: Some(input.bucket),
            prefix: Some(spelling.key(&prefix)),
            delimiter: input.delimiter.as_deref().map(|text| spelling.key(text)),
            start_after: input.start_after.as_deref().map(|text| spelling.key(text)),
            continuation_token: input.continuation_token,
            encoding_type: input.encoding_type,
            ..Default::default()
        })
    }

    pub(super) async fn list_v1(&self, input: ListObjectsInput) -> S3Result<ListObjectsOutput> {
        let records = self.records(input.bucket.clone()).await?;
        let after = input.marker.clone().unwrap_or_default();
        let max_keys = max_keys(input.max_keys)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let delimiter = input.delimiter.as_deref();
        let found =
            page(&records, &Query { prefix: &prefix, delimiter, after: &after, limit: max_keys as usize });
        let spelling = Spelling::of(input.encoding_type.as_ref());
        Ok(ListObjectsOutput {
            contents: Some(spelling.objects(&found)),
            common_prefixes: Some(spelling.common_prefixes(&found)),
            is_truncated: Some(found.next.is_some()),
            next_marker: found.next.map(|next| spelling.key(next)),
            max_keys: Some(max_keys),
            name: Some(input.bucket),
            prefix: Some(spelling.key(&prefix)),
            delimiter: input.delimiter.as_deref().map(|text| spelling.key(text)),
            marker: Some(spelling.key(&after)),
            encoding_type: input.encoding_type,
            ..Default::default()
        })
    }

    async fn records(&self, bucket: String) -> S3Result<Vec<ObjectRecord>> {
        let disk = self.disk.clone();
        Ok(blocking(move || disk.records(&bucket)).await?)
    }
}

fn max_keys(wanted: Option<i32>) -> S3Result<i32> {
    match wanted.unwrap_or(MAXIMUM_KEYS) {
        negative if negative < 0 => Err(s3_error!(InvalidArgument, "max-keys must not be negative")),
        wanted => Ok(wanted.min(MAXIMUM_KEYS)),
    }
}

fn read_token(token: &str) -> S3Result<String> {
    URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

/// How keys are written in an answer.
#[derive(Debug, Clone, Copy)]
enum Spelling {
    Plain,
    /// `encoding-type=url`.
    Percent,
}

impl Spelling {
    fn of(encoding: Option<&EncodingType>) -> Self {
        if encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL) {
            Self::Percent
        } else {
            Self::Plain
        }
    }

    fn key(self, key: &str) -> String {
        match self {
            Self::Plain => key.to_owned(),
            Self::Percent => utf8_percent_encode(key, KEY).to_string(),
        }
    }

    fn objects(self, page: &Page<'_>) -> Vec<Object> {
        let object = |record: &&ObjectRecord| Object {
            key: Some(self.key(&record.key)),
            size: Some(record.size as i64),
            e_tag: Some(ETag::Strong(record.e_tag.clone())),
            last_modified: Some(timestamp(record.modified_ms)),
            storage_class: Some("STANDARD".to_owned().into()),
            ..Default::default()
        };
        page.objects.iter().map(object).collect()
    }

    fn common_prefixes(self, page: &Page<'_>) -> Vec<CommonPrefix> {
        page.common_prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(self.key(prefix)) }).collect()
    }
}
