//! Tags of buckets and objects ("Categorizing your storage using tags", S3 user guide).

use hearth_iam::Request;
use http::StatusCode;
use s3s::dto::{
    DeleteObjectTaggingInput, DeleteObjectTaggingOutput, GetObjectTaggingInput, GetObjectTaggingOutput,
    PutObjectTaggingInput, PutObjectTaggingOutput, Tag,
};
use s3s::xml::{DeResult, Deserializer};
use s3s::{S3Request, S3Result, s3_error};

use super::access::Asker;
use super::disk::{ObjectRecord, Tags};
use super::{ObjectStorage, custom_error};

const MAXIMUM_KEY_CHARACTERS: usize = 128;
const MAXIMUM_VALUE_CHARACTERS: usize = 256;

/// What may have how many tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Bucket,
    Object,
}

impl ObjectStorage {
    pub(super) async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<GetObjectTaggingOutput> {
        let asker = Asker::of(&request)?;
        let input = request.input;
        let record = self.open_object(&asker, input.key, input.version_id).await?.record;
        Ok(GetObjectTaggingOutput { tag_set: tag_set(record.tags), version_id: record.version })
    }

    pub(super) async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<PutObjectTaggingOutput> {
        let asker = Asker::of(&request)?;
        let input = request.input;
        let tags = read_tags(input.tagging.tag_set, Limit::Object)?;
        let record = self.set_tags(&asker, input.key, input.version_id, tags).await?;
        Ok(PutObjectTaggingOutput { version_id: record.version })
    }

    pub(super) async fn delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<DeleteObjectTaggingOutput> {
        let asker = Asker::of(&request)?;
        let input = request.input;
        let record = self.set_tags(&asker, input.key, input.version_id, Tags::new()).await?;
        Ok(DeleteObjectTaggingOutput { version_id: record.version })
    }

    async fn set_tags(
        &self,
        asker: &Asker,
        key: String,
        version: Option<String>,
        tags: Tags,
    ) -> S3Result<ObjectRecord> {
        let (disk, bucket) = (self.disk.clone(), asker.bucket()?);
        let set = move || {
            disk.redescribe(&bucket, &key, version.as_deref(), |record| record.tags.clone_from(&tags))
        };
        self.work(&asker.caller().account, set).await
    }
}

/// `x-amz-tagging`: tags in the form of a query string.
pub(super) fn tags_of_header(header: Option<&str>) -> S3Result<Tags> {
    let pairs = url::form_urlencoded::parse(header.unwrap_or_default().as_bytes());
    let tags = pairs.map(|(key, value)| Tag { key: Some(key.into()), value: Some(value.into()) });
    read_tags(tags.collect(), Limit::Object)
}

/// The `Tags` of a document whose root is `name`, for which `s3s` has none.
pub(super) fn read_document(xml: &[u8], name: &str) -> S3Result<Vec<Tag>> {
    let read = || -> DeResult<Vec<Tag>> {
        let mut reader = Deserializer::new(xml);
        let mut tags = Vec::new();
        reader.named_element(name, |reader| {
            reader.for_each_element(|reader, member| {
                if member == b"Tags" {
                    tags = reader.list_content("Tag")?;
                    return Ok(());
                }
                // Two levels are enough for what stands beside tags, and no document makes this go
                // deeper.
                reader.for_each_element(|reader, _| reader.text(|_| Ok(())))
            })
        })?;
        Ok(tags)
    };
    read().map_err(|error| s3_error!(MalformedXML, "The document {name} is not well-formed: {error}"))
}

pub(super) fn check_count(tags: usize, limit: Limit) -> S3Result<()> {
    let (maximum, what) = match limit {
        Limit::Bucket => (50, "Bucket tag count cannot be greater than 50"),
        Limit::Object => (10, "Object tags cannot be greater than 10"),
    };
    if tags > maximum {
        return Err(custom_error("BadRequest", StatusCode::BAD_REQUEST, what));
    }
    Ok(())
}

pub(super) fn read_tags(tag_set: Vec<Tag>, limit: Limit) -> S3Result<Tags> {
    check_count(tag_set.len(), limit)?;
    let mut tags = Tags::new();
    for Tag { key, value } in tag_set {
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        if key.is_empty() || key.chars().count() > MAXIMUM_KEY_CHARACTERS {
            return Err(s3_error!(InvalidTag, "The TagKey you have provided is invalid"));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(s3_error!(InvalidTag, "System tags cannot be added/updated by requester"));
        }
        if value.chars().count() > MAXIMUM_VALUE_CHARACTERS {
            return Err(s3_error!(InvalidTag, "The TagValue you have provided is invalid"));
        }
        if tags.insert(key, value).is_some() {
            return Err(s3_error!(InvalidTag, "Cannot provide multiple Tags with the same key"));
        }
    }
    Ok(tags)
}

/// Adds the condition keys of a request that sets tags.
pub(super) fn with_tags(request: Request, tags: &Tags) -> Request {
    request.with_request_tags(tags.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

pub(super) fn tag_set(tags: Tags) -> Vec<Tag> {
    tags.into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect()
}
