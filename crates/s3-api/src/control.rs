//! Tags of buckets by S3 Control ("ListTagsForResource", "TagResource", "UntagResource", S3 API
//! reference): Terraform's provider from version 6.23 on asks for tags in this way alone, and takes
//! an error for the end of its work.
//!
//! SDKs put the account before the host, `123456789012.localhost:9400`, which is no bucket.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use hearth_iam::Request;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use quick_xml::escape::escape;
use s3s::{Body, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::ObjectStorage;
use super::access::{Asker, Gate};
use super::body::DOCUMENT_BYTES;
use super::bucket::Bucket;
use super::disk::Tags;
use super::tagging::{Limit, check_count, read_document, read_tags, with_tags};

/// Header that every request to S3 Control has, and none to S3.
const ACCOUNT: &str = "x-amz-account-id";
const PREFIX: &str = "/v20180820/";
const TAGS: &str = "/v20180820/tags/";
pub(super) const NAMESPACE: &str = "http://awss3control.amazonaws.com/doc/2018-08-20/";
/// Query parameter of UntagResource, once for each key.
pub(super) const TAG_KEYS: &str = "tagKeys";

pub(crate) fn is_control(uri: &Uri, headers: &HeaderMap) -> bool {
    headers.contains_key(ACCOUNT) && uri.path().starts_with(PREFIX)
}

/// Puts the parameters of a request in the order in which they were signed: `s3s` sorts them by
/// name alone, and UntagResource has one of a name for each key.
pub(crate) fn sort_query(parts: &mut Parts) {
    if !is_control(&parts.uri, &parts.headers) {
        return;
    }
    let Some(query) = parts.uri.query().filter(|query| query.contains('&')) else { return };
    let mut pairs: Vec<&str> = query.split('&').collect();
    pairs.sort_unstable();
    if let Ok(sorted) = format!("{}?{}", parts.uri.path(), pairs.join("&")).parse() {
        parts.uri = sorted;
    }
}

/// Answers as S3 Control does, also when it refuses: its errors have an element around them that
/// those of S3 do not have.
pub(super) async fn call(gate: &Gate, request: S3Request<Body>) -> S3Response<Body> {
    let answered = answer(gate, request).await;
    let (status, text) = answered.unwrap_or_else(|error| refusal(&error));
    let mut response = S3Response::with_status(Body::from(text), status);
    response.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

async fn answer(gate: &Gate, mut request: S3Request<Body>) -> S3Result<(StatusCode, String)> {
    let not_served = || s3_error!(NotImplemented, "This operation of S3 Control is not served here.");
    let resource = request.uri.path().strip_prefix(TAGS).ok_or_else(not_served)?;
    let name = bucket_name(resource)?;
    let key = request.credentials.as_ref().map(|credentials| credentials.access_key.as_str());
    let (mut asker, query) = gate.admit(key, &request.headers, &request.uri, request.extensions.get())?;
    asker.find(&name).await?;
    match request.method {
        Method::GET => {
            let bucket = permitted(&asker, "ListTagsForResource", &name, &request.headers, |it| it)?;
            Ok((StatusCode::OK, list(&bucket)))
        }
        Method::POST => {
            let document = request.input.store_all_limited(DOCUMENT_BYTES).await;
            let document = document.map_err(|_| too_long())?;
            let tags = read_tags(read_document(&document, "TagResourceRequest")?, Limit::Bucket)?;
            let with = |request| with_tags(request, &tags);
            let bucket = permitted(&asker, "TagResource", &name, &request.headers, with)?;
            gate.storage.change_tags(bucket, move |own| own.extend(tags)).await?;
            Ok((StatusCode::NO_CONTENT, String::new()))
        }
        Method::DELETE => {
            let keys: BTreeSet<String> = query.all(TAG_KEYS).map(str::to_owned).collect();
            let with = |request: Request| request.with("aws:TagKeys", keys.iter().cloned());
            let bucket = permitted(&asker, "UntagResource", &name, &request.headers, with)?;
            let remove = move |own: &mut Tags| own.retain(|key, _| !keys.contains(key));
            gate.storage.change_tags(bucket, remove).await?;
            Ok((StatusCode::NO_CONTENT, String::new()))
        }
        _ => Err(not_served()),
    }
}

/// The bucket, if it is there and the caller may do this to it.
fn permitted(
    asker: &Asker,
    action: &str,
    name: &str,
    headers: &HeaderMap,
    with: impl FnOnce(Request) -> Request,
) -> S3Result<Arc<Bucket>> {
    let found = asker.bucket();
    asker.check_bucket(action, (found.as_deref().ok(), name), with)?;
    let bucket = found?;
    let named = headers.get(ACCOUNT).map(HeaderValue::as_bytes);
    // TagResource may name the account that asks, too.
    let fits = named == Some(bucket.owner.as_str().as_bytes())
        || action == "TagResource" && named == Some(asker.caller().account.as_str().as_bytes());
    if fits {
        Ok(bucket)
    } else {
        Err(s3_error!(AccessDenied, "The bucket belongs to another account than the one named."))
    }
}

/// The name in the ARN of a bucket, which is percent-encoded in the path.
fn bucket_name(resource: &str) -> S3Result<String> {
    let arn = percent_decode_str(resource).decode_utf8_lossy();
    let name = arn.strip_prefix("arn:aws:s3:::").filter(|name| s3s::path::check_bucket_name(name));
    name.map(str::to_owned).ok_or_else(|| {
        s3_error!(InvalidRequest, "Only buckets have tags here: give an ARN of the form arn:aws:s3:::bucket.")
    })
}

fn too_long() -> S3Error {
    s3_error!(MaxMessageLengthExceeded, "Your request was too big: its body may have {DOCUMENT_BYTES} bytes.")
}

fn list(bucket: &Bucket) -> String {
    let mut tags = String::new();
    for (key, value) in &bucket.record.tags {
        let (key, value) = (escape(key), escape(value));
        write!(tags, "<Tag><Key>{key}</Key><Value>{value}</Value></Tag>")
            .expect("invariant: a String takes all text");
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListTagsForResourceResult xmlns=\"{NAMESPACE}\"><Tags>{tags}</Tags>\
         </ListTagsForResourceResult>"
    )
}

fn refusal(error: &S3Error) -> (StatusCode, String) {
    let status = error.status_code().or_else(|| error.code().status_code());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (code, message) = (escape(error.code().as_str()), escape(error.message().unwrap_or_default()));
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Code>{code}</Code>\
         <Message>{message}</Message></Error></ErrorResponse>"
    );
    (status, text)
}

impl ObjectStorage {
    /// Changes what the tags are then, not what they were when the request came in.
    async fn change_tags(
        &self,
        bucket: Arc<Bucket>,
        change: impl FnOnce(&mut Tags) + Send + 'static,
    ) -> S3Result<()> {
        let (disk, owner) = (self.disk.clone(), bucket.owner.clone());
        self.work(&owner, move || {
            let mut outcome = Ok(());
            disk.change_bucket(&bucket, |record| {
                let mut tags = record.tags.clone();
                change(&mut tags);
                outcome = check_count(tags.len(), Limit::Bucket);
                if outcome.is_ok() {
                    record.tags = tags;
                }
            })?;
            outcome
        })
        .await
    }
}
