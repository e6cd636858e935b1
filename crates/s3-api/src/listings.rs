//! Listings of a bucket: objects in the old and the new form, and versions.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    CommonPrefix, DeleteMarkerEntry, ETag, EncodingType, ListObjectVersionsInput, ListObjectVersionsOutput,
    ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, Object, ObjectStorageClass,
    ObjectVersion, ObjectVersionStorageClass, Owner,
};
use s3s::{S3Request, S3Result, s3_error};

use super::access::Asker;
use super::disk::Summary;
use super::listing::{Gathering, Listed, Page, Query, Rank};
use super::objects::timestamp;
use super::settings::owner_of;
use super::versions::file_name;
use super::walk::ListedVersion;
use super::{ObjectStorage, StorageError};

/// Characters that `encoding-type=url` leaves alone.
const KEY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'*');
const MAXIMUM_KEYS: i32 = 1000;

impl ObjectStorage {
    pub(super) async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<ListObjectsV2Output> {
        let asker = Asker::of(&request)?;
        let input = request.input;
        let owner = owner_of(&*asker.bucket()?);
        let after = match (&input.continuation_token, &input.start_after) {
            (Some(token), _) => read_token(token)?,
            (None, start_after) => start_after.clone().unwrap_or_default(),
        };
        let max_keys = max_keys(input.max_keys)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let wanted = (prefix.clone(), input.delimiter.clone(), after.clone(), max_keys as usize);
        let found = self.page_of_objects(&asker, wanted).await?;
        let spelling = Spelling::of(input.encoding_type.as_ref());
        Ok(ListObjectsV2Output {
            contents: Some(spelling.objects(&found, (input.fetch_owner == Some(true)).then_some(&owner))),
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

    pub(super) async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<ListObjectsOutput> {
        let asker = Asker::of(&request)?;
        let input = request.input;
        let owner = owner_of(&*asker.bucket()?);
        let after = input.marker.clone().unwrap_or_default();
        let max_keys = max_keys(input.max_keys)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let wanted = (prefix.clone(), input.delimiter.clone(), after.clone(), max_keys as usize);
        let found = self.page_of_objects(&asker, wanted).await?;
        let spelling = Spelling::of(input.encoding_type.as_ref());
        Ok(ListObjectsOutput {
            contents: Some(spelling.objects(&found, Some(&owner))),
            common_prefixes: Some(spelling.common_prefixes(&found)),
            is_truncated: Some(found.next.is_some()),
            next_marker: found.next.map(|next| spelling.key(&next)),
            max_keys: Some(max_keys),
            name: Some(input.bucket),
            prefix: Some(spelling.key(&prefix)),
            delimiter: input.delimiter.as_deref().map(|text| spelling.key(text)),
            marker: Some(spelling.key(&after)),
            encoding_type: input.encoding_type,
            ..Default::default()
        })
    }

    pub(super) async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<ListObjectVersionsOutput> {
        let asker = Asker::of(&request)?;
        let input = request.input;
        let (disk, bucket) = (self.disk.clone(), asker.bucket()?);
        let owner = owner_of(&bucket);
        let key_marker = input.key_marker.clone().unwrap_or_default();
        let version_marker = input.version_id_marker.clone().filter(|marker| !marker.is_empty());
        if version_marker.is_some() && key_marker.is_empty() {
            let message = "A version-id marker cannot be specified without a key marker.";
            return Err(s3_error!(InvalidArgument, "{message}"));
        }
        let version_marker = version_marker.as_deref().map(file_name).transpose()?.map(str::to_owned);
        let max_keys = max_keys(input.max_keys)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let (wanted, delimiter, after) = (prefix.clone(), input.delimiter.clone(), key_marker.clone());
        let list = move || {
            // A version to go on after lies between versions of its key, which a key alone cannot
            // say. When it is gone by now, what comes after its key is next.
            let rank =
                version_marker.map(|version| disk.rank(&bucket, &after, &version)).transpose()?.flatten();
            let mut gathering = Gathering::new(Query {
                prefix: &wanted,
                delimiter: delimiter.as_deref(),
                after: &after,
                after_version: rank.as_ref(),
                limit: max_keys as usize,
            });
            disk.each_version(&bucket, |version| gathering.add(version))?;
            Ok::<_, StorageError>(gathering.page())
        };
        let found = self.list(&asker.caller().account, list).await?;
        let spelling = Spelling::of(input.encoding_type.as_ref());
        let next_version = found.objects.last().filter(|last| found.next.as_deref() == Some(last.key()));
        let next_version = next_version.map(|version| version.summary.shown().to_owned());
        let (markers, objects): (Vec<_>, Vec<_>) =
            found.objects.iter().partition(|version| version.summary.delete_marker);
        Ok(ListObjectVersionsOutput {
            versions: Some(objects.into_iter().map(|version| spelling.version(version, &owner)).collect()),
            delete_markers: Some(markers.into_iter().map(|marker| spelling.marker(marker, &owner)).collect()),
            common_prefixes: Some(spelling.common_prefixes(&found)),
            is_truncated: Some(found.next.is_some()),
            next_key_marker: found.next.map(|next| spelling.key(&next)),
            next_version_id_marker: next_version,
            max_keys: Some(max_keys),
            name: Some(input.bucket),
            prefix: Some(spelling.key(&prefix)),
            delimiter: input.delimiter.as_deref().map(|text| spelling.key(text)),
            key_marker: Some(spelling.key(&key_marker)),
            version_id_marker: input.version_id_marker,
            encoding_type: input.encoding_type,
            ..Default::default()
        })
    }

    /// The page of objects with this prefix and delimiter, after this key, of this length.
    async fn page_of_objects(
        &self,
        asker: &Asker,
        (prefix, delimiter, after, limit): (String, Option<String>, String, usize),
    ) -> S3Result<Page<Summary>> {
        let (disk, bucket) = (self.disk.clone(), asker.bucket()?);
        let list = move || {
            let delimiter = delimiter.as_deref();
            let query = Query { prefix: &prefix, delimiter, after: &after, after_version: None, limit };
            let mut gathering = Gathering::new(query);
            disk.each_object(&bucket, |summary| gathering.add(summary))?;
            Ok::<_, StorageError>(gathering.page())
        };
        Ok(self.list(&asker.caller().account, list).await?)
    }
}

impl Listed for Summary {
    fn key(&self) -> &str {
        &self.key
    }

    fn rank(&self) -> Rank {
        Rank::only()
    }
}

impl Listed for ListedVersion {
    fn key(&self) -> &str {
        &self.summary.key
    }

    fn rank(&self) -> Rank {
        Self::rank_of(&self.summary, self.latest)
    }
}

fn max_keys(wanted: Option<i32>) -> S3Result<i32> {
    match wanted.unwrap_or(MAXIMUM_KEYS) {
        negative if negative < 0 => Err(s3_error!(InvalidArgument, "max-keys must not be negative")),
        wanted => Ok(wanted.min(MAXIMUM_KEYS)),
    }
}

pub(super) fn read_token(token: &str) -> S3Result<String> {
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

    fn objects(self, page: &Page<Summary>, owner: Option<&Owner>) -> Vec<Object> {
        let object = |record: &Summary| Object {
            key: Some(self.key(&record.key)),
            size: Some(record.size as i64),
            e_tag: Some(ETag::Strong(record.e_tag.clone())),
            last_modified: Some(timestamp(record.modified_ms)),
            owner: owner.cloned(),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
            ..Default::default()
        };
        page.objects.iter().map(object).collect()
    }

    fn version(self, version: &ListedVersion, owner: &Owner) -> ObjectVersion {
        let record = &version.summary;
        ObjectVersion {
            key: Some(self.key(&record.key)),
            version_id: Some(record.shown().to_owned()),
            is_latest: Some(version.latest),
            size: Some(record.size as i64),
            e_tag: Some(ETag::Strong(record.e_tag.clone())),
            last_modified: Some(timestamp(record.modified_ms)),
            owner: Some(owner.clone()),
            storage_class: Some(ObjectVersionStorageClass::from_static(ObjectVersionStorageClass::STANDARD)),
            ..Default::default()
        }
    }

    fn marker(self, version: &ListedVersion, owner: &Owner) -> DeleteMarkerEntry {
        DeleteMarkerEntry {
            key: Some(self.key(&version.summary.key)),
            version_id: Some(version.summary.shown().to_owned()),
            is_latest: Some(version.latest),
            last_modified: Some(timestamp(version.summary.modified_ms)),
            owner: Some(owner.clone()),
        }
    }

    fn common_prefixes<T>(self, page: &Page<T>) -> Vec<CommonPrefix> {
        page.common_prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(self.key(prefix)) }).collect()
    }
}
