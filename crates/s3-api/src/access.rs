//! Who may do what: the one gate that every request passes before its operation is called.

use std::sync::Arc;

use hearth_auth::sigv4::check_token;
use hearth_iam::Request;
use hearth_identity::{Caller, Identities, SourceAddress};
use http::{HeaderMap, Uri};
use s3s::access::{S3Access, S3AccessContext};
use s3s::dto::{CopyObjectInput, CopySource, UploadPartCopyInput};
use s3s::path::S3Path;
use s3s::{S3Error, S3Request, S3Result, s3_error};

use super::StorageError;
use super::actions::{Operation, Subject, operation};
use super::bucket::Bucket;
use super::{ObjectStorage, bucket_policy, control, coverage, refusals, version_2};

/// Header and, in lower case, query parameter that carries the token of temporary credentials.
pub(super) const TOKEN: &str = "x-amz-security-token";
const EXPECTED_OWNER: &str = "x-amz-expected-bucket-owner";
const EXPECTED_SOURCE_OWNER: &str = "x-amz-source-expected-bucket-owner";

/// The gate.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    pub(super) identities: Arc<Identities>,
    pub(super) storage: ObjectStorage,
}

/// Who asks and which bucket was found, for operations and for checks that only they
/// can make because the body names the resource. In the extensions of every request
/// that the gate let through.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    caller: Arc<Caller>,
    identities: Arc<Identities>,
    storage: ObjectStorage,
    /// The bucket of the path; everything that follows is done to this one.
    bucket: Option<Arc<Bucket>>,
}

/// The bucket that is copied from, in the extensions of a copy.
#[derive(Debug, Clone)]
struct CopiedFrom(Arc<Bucket>);

impl Asker {
    /// Of a request that came through the gate; there is no other way to an operation.
    pub(super) fn of<T>(request: &S3Request<T>) -> S3Result<Self> {
        request.extensions.get::<Self>().cloned().ok_or_else(|| s3_error!(AccessDenied))
    }

    /// The bucket that a request is about.
    pub(super) fn bucket_of<T>(request: &S3Request<T>) -> S3Result<Arc<Bucket>> {
        Self::of(request)?.bucket()
    }

    /// The bucket that a copy is made from.
    pub(super) fn source_of<T>(request: &S3Request<T>) -> S3Result<Arc<Bucket>> {
        let found = request.extensions.get::<CopiedFrom>();
        found.map(|found| found.0.clone()).ok_or_else(|| s3_error!(AccessDenied))
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(super) fn bucket(&self) -> S3Result<Arc<Bucket>> {
        self.bucket.clone().ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))
    }

    /// Refuses when the caller may not do `action` (without `s3:`) to an object in this version.
    pub(super) fn check_object(
        &self,
        action: &str,
        bucket: &Bucket,
        key: &str,
        version: Option<&str>,
    ) -> S3Result<()> {
        let of_version = |request: Request| request.with("s3:VersionId", version);
        self.check(action, Some(bucket), &format!("arn:aws:s3:::{}/{key}", bucket.name), of_version)
    }

    /// Looks for the bucket that the request is about.
    pub(super) async fn find(&mut self, bucket: &str) -> S3Result<()> {
        self.bucket = self.storage.bucket(&self.caller.account, bucket).await?;
        Ok(())
    }

    /// Refuses when the caller may not do `action` (without `s3:`) to a bucket, found or not, with
    /// the condition keys that `with` adds.
    pub(super) fn check_bucket(
        &self,
        action: &str,
        (bucket, name): (Option<&Bucket>, &str),
        with: impl FnOnce(Request) -> Request,
    ) -> S3Result<()> {
        self.check(action, bucket, &format!("arn:aws:s3:::{name}"), with)
    }

    /// Whether the caller may see which objects there are; others are not told that one is missing.
    pub(super) fn may_list(&self) -> bool {
        let Some(bucket) = &self.bucket else { return false };
        self.check("ListBucket", Some(bucket), &format!("arn:aws:s3:::{}", bucket.name), |it| it).is_ok()
    }

    fn check(
        &self,
        action: &str,
        bucket: Option<&Bucket>,
        resource: &str,
        with: impl FnOnce(Request) -> Request,
    ) -> S3Result<()> {
        let mut request = with(self.caller.request(format!("s3:{action}"), resource));
        // What does not leave the machine is read by nobody on its way. So the usual policy that
        // wants TLS does not lock its author out of a server that listens on this machine only.
        if self.caller.source_ip.is_some_and(|address| address.to_canonical().is_loopback()) {
            request = request.with("aws:SecureTransport", ["true"]);
        }
        let Some(bucket) = bucket else {
            let decision = self.identities.decide(&self.caller, &request, None);
            return refuse(decision.denial(&request));
        };
        request = request.with("aws:ResourceAccount", [bucket.owner.to_string()]);
        let own = bucket.owner == self.caller.account;
        if own && self.caller.is_root() && OF_THE_OWNER.contains(&action) {
            // The policy itself cannot take this from the root user ("Bucket
            // policies for Amazon S3").
            return Ok(());
        }
        refuse(bucket_policy::decide(&self.identities, &self.caller, &request, bucket, own))
    }
}

/// Actions that the root user of a bucket's account always has, so that no policy
/// locks everybody out.
const OF_THE_OWNER: [&str; 3] = ["GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"];

fn refuse(denial: Option<String>) -> S3Result<()> {
    denial.map_or(Ok(()), |sentence| Err(s3_error!(AccessDenied, "{sentence}")))
}

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let source = context.extensions_mut().get().cloned();
        let key = context.credentials().map(|credentials| credentials.access_key.as_str());
        let (mut asker, query) = self.admit(key, context.headers(), context.uri(), source.as_ref())?;
        let name = context.s3_op().name();
        let operation = operation(name).ok_or_else(|| {
            s3_error!(NotImplemented, "The operation {name} of Amazon S3 is not served here.")
        })?;
        refusals::check_query(operation, &query)?;
        refusals::check_headers(context.headers())?;
        refusals::check_length(operation, context.headers())?;
        if let S3Path::Bucket { bucket } | S3Path::Object { bucket, .. } = context.s3_path() {
            asker.find(bucket).await?;
        }
        asker.check_operation(operation, context.s3_path(), context.headers(), &query)?;
        context.extensions_mut().insert(asker);
        Ok(())
    }

    async fn copy_object(&self, request: &mut S3Request<CopyObjectInput>) -> S3Result<()> {
        let found = check_source(&Asker::of(request)?, &request.input.copy_source, &request.headers).await?;
        request.extensions.insert(found);
        Ok(())
    }

    async fn upload_part_copy(&self, request: &mut S3Request<UploadPartCopyInput>) -> S3Result<()> {
        let found = check_source(&Asker::of(request)?, &request.input.copy_source, &request.headers).await?;
        request.extensions.insert(found);
        Ok(())
    }
}

impl Gate {
    /// Who asks with this access key, which is that of the signature, and the parameters of the
    /// request. What is signed is looked at here, what may be done is not.
    pub(super) fn admit(
        &self,
        access_key: Option<&str>,
        headers: &HeaderMap,
        uri: &Uri,
        source: Option<&SourceAddress>,
    ) -> S3Result<(Asker, Query)> {
        let Some(access_key) = access_key else {
            return Err(s3_error!(AccessDenied, "Access Denied: anonymous requests are not served here."));
        };
        version_2::check_header(headers)?;
        let query = Query::read(uri.query().unwrap_or_default())?;
        coverage::check(headers, &query)?;
        self.check_token(access_key, headers, &query)?;
        let caller = self.identities.caller_with(access_key, headers, source, jiff::Timestamp::now());
        let caller = caller.ok_or_else(unknown_key)?;
        if let Some(source) = source {
            source.user.set(&caller.account);
        }
        let asker = Asker {
            caller: Arc::new(caller),
            identities: self.identities.clone(),
            storage: self.storage.clone(),
            bucket: None,
        };
        Ok((asker, query))
    }

    fn check_token(&self, access_key: &str, headers: &HeaderMap, query: &Query) -> S3Result<()> {
        let expected = self.identities.credential(access_key).map_err(|_| unknown_key())?.session_token;
        let sent = match headers.get(TOKEN) {
            Some(header) => Some(header.to_str().unwrap_or("unreadable").to_owned()),
            None => query.token().map(str::to_owned),
        };
        check_token(sent.as_deref(), expected.as_deref())
            .map_err(|_| s3_error!(InvalidToken, "The provided token is malformed or otherwise invalid."))
    }
}

fn unknown_key() -> S3Error {
    s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records.")
}

impl Asker {
    fn check_operation(
        &self,
        operation: &Operation,
        path: &S3Path,
        headers: &HeaderMap,
        query: &Query,
    ) -> S3Result<()> {
        let (bucket, key) = match path {
            S3Path::Root => ("", None),
            S3Path::Bucket { bucket } => (&**bucket, None),
            S3Path::Object { bucket, key } => (&**bucket, Some(&**key)),
        };
        let resource = match (operation.subject, key) {
            (Subject::Account, None) => "*".to_owned(),
            (Subject::NewBucket | Subject::Bucket | Subject::Keys, None) => format!("arn:aws:s3:::{bucket}"),
            (Subject::Object, Some(key)) => format!("arn:aws:s3:::{bucket}/{key}"),
            _ => return Err(s3_error!(MethodNotAllowed)),
        };
        let version = query.get("versionId").filter(|_| !operation.version_actions.is_empty());
        let actions = if version.is_some() { operation.version_actions } else { operation.actions };
        // A bucket that another account has is told apart by CreateBucket itself.
        let owned = self.bucket.as_deref().filter(|_| operation.subject != Subject::NewBucket);
        for action in actions {
            self.check(action, owned, &resource, |request| query.add_to(request))?;
        }
        if actions.contains(&"PutObject") && headers.contains_key("x-amz-tagging") {
            self.check("PutObjectTagging", owned, &resource, |request| query.add_to(request))?;
        }
        check_expected_owner(owned, headers, EXPECTED_OWNER)
    }
}

/// Reading what is copied.
async fn check_source(asker: &Asker, source: &CopySource, headers: &HeaderMap) -> S3Result<CopiedFrom> {
    let CopySource::Bucket { bucket, key, version_id } = source else {
        return Err(s3_error!(NotImplemented, "Only objects of buckets can be copied."));
    };
    let action = if version_id.is_some() { "GetObjectVersion" } else { "GetObject" };
    let Some(found) = asker.storage.bucket(&asker.caller.account, bucket).await? else {
        asker.check(action, None, &format!("arn:aws:s3:::{bucket}/{key}"), |request| request)?;
        return Err(StorageError::NoSuchBucket(bucket.to_string()).into());
    };
    asker.check_object(action, &found, key, version_id.as_deref())?;
    check_expected_owner(Some(&found), headers, EXPECTED_SOURCE_OWNER)?;
    Ok(CopiedFrom(found))
}

/// Refuses when the caller thinks that someone else owns the bucket. That it is missing the
/// operation says itself.
fn check_expected_owner(bucket: Option<&Bucket>, headers: &HeaderMap, header: &str) -> S3Result<()> {
    let (Some(expected), Some(bucket)) = (headers.get(header), bucket) else { return Ok(()) };
    if expected.as_bytes() == bucket.owner.as_str().as_bytes() {
        Ok(())
    } else {
        Err(s3_error!(AccessDenied, "The bucket belongs to another account than the one expected."))
    }
}

/// Query parameters, decoded.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Parameters that come twice are refused, so that nothing is checked that is not what is done;
    /// but for the one that is a list.
    pub(super) fn read(text: &str) -> S3Result<Self> {
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        let mut names: Vec<&str> =
            pairs.iter().map(|(name, _)| name.as_str()).filter(|name| *name != control::TAG_KEYS).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => Err(s3_error!(InvalidArgument, "The query parameter {} comes twice.", twice[0])),
            None => Ok(Self(pairs)),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Signature version 2 writes it in lower case.
    fn token(&self) -> Option<&str> {
        let token = self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(TOKEN));
        token.map(|(_, value)| value.as_str())
    }

    /// Adds the condition keys that the parameters give ("Condition keys for Amazon S3").
    fn add_to(&self, request: Request) -> Request {
        let keys = [
            ("s3:prefix", "prefix"),
            ("s3:delimiter", "delimiter"),
            ("s3:max-keys", "max-keys"),
            ("s3:VersionId", "versionId"),
        ];
        keys.into_iter().fold(request, |request, (key, name)| match self.get(name) {
            Some(value) => request.with(key, [value]),
            None => request,
        })
    }
}
