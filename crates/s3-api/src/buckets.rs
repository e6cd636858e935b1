//! Buckets: made, shown, removed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearth_api::AccountId;
use s3s::dto::{
    Bucket, BucketLocationConstraint, CreateBucketConfiguration, CreateBucketInput, CreateBucketOutput,
    DeleteBucketInput, DeleteBucketOutput, GetBucketLocationInput, GetBucketLocationOutput, HeadBucketInput,
    HeadBucketOutput, ListBucketsInput, ListBucketsOutput, Owner,
};
use s3s::{S3Request, S3Result, s3_error};

use super::access::Asker;
use super::body::Document;
use super::disk::Tags;
use super::listings::read_token;
use super::objects::timestamp;
use super::settings::check_ownership;
use super::tagging::{Limit, read_document, read_tags, with_tags};
use super::{ObjectStorage, StorageError};

const US_EAST_1: &str = "us-east-1";
/// First parts of the paths of the control plane, which answers on the same port: objects of
/// buckets of these names could not be reached.
const NAMES_OF_THE_API: [&str; 3] = ["2017-03-31", "2025-09-09", "2026-04-04"];
/// Before the account in the name of the bucket that the command line puts code artifacts into.
const RESERVED_PREFIX: &str = "hearth-artifacts-";
/// Most buckets of one page ("ListBuckets", S3 API reference).
const MAXIMUM_BUCKETS: i32 = 10_000;

impl ObjectStorage {
    /// Makes a bucket. One that the account has already is fine in us-east-1 and
    /// nowhere else, as in S3.
    pub(super) async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<CreateBucketOutput> {
        let asker = Asker::of(&request)?;
        let caller = asker.caller().account.clone();
        let tags = tags_of(&request)?;
        let input = request.input;
        if NAMES_OF_THE_API.contains(&input.bucket.as_str()) {
            return Err(s3_error!(
                InvalidBucketName,
                "Paths that begin with /{}/ belong to another service here: choose another name.",
                input.bucket
            ));
        }
        check_reserved(&input.bucket, &caller)?;
        if !tags.is_empty() {
            // Whose the name is, if it is taken, is told below.
            asker.check_bucket("TagResource", (None, &input.bucket), |request| with_tags(request, &tags))?;
        }
        self.check_location(input.create_bucket_configuration.as_ref())?;
        if let Some(ownership) = &input.object_ownership {
            check_ownership(ownership)?;
        }
        let (disk, name, first_region) = (self.disk.clone(), input.bucket, self.region == US_EAST_1);
        let location = format!("/{name}");
        let account = caller.clone();
        self.work(&account, move || {
            let limit = disk.limits().buckets;
            let _alone = disk.own_name(&name);
            match disk.find(&name) {
                Ok(found) if found.owner == caller && first_region => Ok(()),
                Ok(found) if found.owner == caller => Err(s3_error!(
                    BucketAlreadyOwnedByYou,
                    "Your previous request to create the named bucket succeeded and you already own it."
                )),
                Ok(_) => Err(s3_error!(
                    BucketAlreadyExists,
                    "The requested bucket name is not available. The bucket namespace is shared by all users of the \
                     system. Select a different name and try again."
                )),
                Err(StorageError::NoSuchBucket(_)) if limit > 0 && disk.index.count_of(&caller) >= limit as usize => {
                    Err(s3_error!(TooManyBuckets, "You have attempted to create more buckets than allowed"))
                }
                Err(StorageError::NoSuchBucket(_)) => Ok(disk.make(&name, &caller, tags)?),
                Err(error) => Err(error.into()),
            }
        })
        .await?;
        Ok(CreateBucketOutput { location: Some(location) })
    }

    /// There is one region. That it is not named is let pass everywhere.
    fn check_location(&self, configuration: Option<&CreateBucketConfiguration>) -> S3Result<()> {
        let constraint = configuration.and_then(|configuration| configuration.location_constraint.as_ref());
        match constraint.map(BucketLocationConstraint::as_str).filter(|constraint| !constraint.is_empty()) {
            None => Ok(()),
            Some(US_EAST_1) => {
                Err(s3_error!(InvalidLocationConstraint, "The specified location-constraint is not valid"))
            }
            Some(constraint) if constraint == self.region => Ok(()),
            Some(constraint) => Err(s3_error!(
                IllegalLocationConstraintException,
                "The {constraint} location constraint is incompatible for the region specific endpoint this \
                 request was sent to."
            )),
        }
    }

    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<HeadBucketOutput> {
        Asker::bucket_of(&request)?;
        Ok(HeadBucketOutput { bucket_region: Some(self.region.clone()), ..Default::default() })
    }

    /// Removes a bucket that has no objects and no versions; unfinished uploads go with it.
    pub(super) async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<DeleteBucketOutput> {
        let asker = Asker::of(&request)?;
        let (disk, bucket) = (self.disk.clone(), asker.bucket()?);
        self.work(&asker.caller().account, move || disk.unmake(&bucket)).await?;
        Ok(DeleteBucketOutput {})
    }

    /// The buckets of the caller's account.
    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<ListBucketsOutput> {
        let account = Asker::of(&request)?.caller().account.clone();
        let input = request.input;
        let limit = match input.max_buckets.unwrap_or(MAXIMUM_BUCKETS) {
            limit @ 1..=MAXIMUM_BUCKETS => limit as usize,
            _ => return Err(s3_error!(InvalidArgument, "max-buckets must be between 1 and 10000")),
        };
        let after = input.continuation_token.as_deref().map(read_token).transpose()?.unwrap_or_default();
        let prefix = input.prefix.clone().unwrap_or_default();
        let elsewhere = input.bucket_region.is_some_and(|region| region != self.region);
        let mut buckets = self.disk.index.of(&account);
        buckets.retain(|name, _| !elsewhere && name.starts_with(&prefix) && *name > after);
        let mut buckets: Vec<Bucket> = buckets.into_iter().map(show).collect();
        let more = buckets.len() > limit;
        buckets.truncate(limit);
        let last = buckets.last().and_then(|bucket| bucket.name.as_deref()).filter(|_| more);
        let continuation_token = last.map(|name| URL_SAFE_NO_PAD.encode(name));
        for bucket in &mut buckets {
            bucket.bucket_region = Some(self.region.clone());
        }
        let account = account.to_string();
        let owner = Some(Owner { display_name: Some(account.clone()), id: Some(account) });
        Ok(ListBucketsOutput { buckets: Some(buckets), owner, continuation_token, prefix: input.prefix })
    }

    /// `us-east-1` is spelled as nothing.
    #[expect(clippy::unused_async, reason = "awaited as all operations are")]
    pub(super) async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<GetBucketLocationOutput> {
        Asker::bucket_of(&request)?;
        let region = Some(&self.region).filter(|region| *region != US_EAST_1);
        let location_constraint = region.cloned().map(BucketLocationConstraint::from);
        Ok(GetBucketLocationOutput { location_constraint })
    }
}

/// `s3s` does not know that a new bucket can have tags, so its document is read once more for them.
fn tags_of(request: &S3Request<CreateBucketInput>) -> S3Result<Tags> {
    match request.extensions.get::<Document>() {
        Some(Document(xml)) if !xml.is_empty() => {
            read_tags(read_document(xml, "CreateBucketConfiguration")?, Limit::Bucket)
        }
        _ => Ok(Tags::new()),
    }
}

/// The bucket that `hearth image build` uses by itself has the account in its name: a user who
/// could make another account's would get to see its code, and give it code to build.
fn check_reserved(name: &str, caller: &AccountId) -> S3Result<()> {
    let account = name.strip_prefix(RESERVED_PREFIX).filter(|account| is_account(account));
    match account {
        Some(account) if account != caller.as_str() => Err(s3_error!(
            AccessDenied,
            "Bucket names of the form {RESERVED_PREFIX}<account> are reserved for that account, here {account}: choose \
             another name."
        )),
        _ => Ok(()),
    }
}

fn is_account(text: &str) -> bool {
    const DIGITS: usize = 12;
    text.len() == DIGITS && text.bytes().all(|digit| digit.is_ascii_digit())
}

fn show((name, created_ms): (String, i64)) -> Bucket {
    Bucket { creation_date: Some(timestamp(created_ms)), name: Some(name), ..Default::default() }
}
