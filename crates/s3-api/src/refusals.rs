//! What a request may ask for that would silently not happen: it is refused instead.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use s3s::{S3Result, s3_error};

use super::access::Query;
use super::actions::Operation;
use super::body::DOCUMENT_BYTES;

/// Operations that are what is left when no parameter says otherwise, with the parameters that they
/// have. An unknown one means an operation that is not known here, such as `?renameObject`; it must
/// not end as one of these.
const PLAIN: [(&str, &[&str]); 7] = [
    ("CreateBucket", &[]),
    ("DeleteBucket", &[]),
    ("ListObjects", &["delimiter", "encoding-type", "marker", "max-keys", "prefix"]),
    ("PutObject", &[]),
    ("GetObject", READING),
    ("HeadObject", READING),
    ("DeleteObject", &["versionId"]),
];
const READING: &[&str] = &[
    "versionId",
    "partNumber",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
];
/// Of signatures, and of SDKs that name the operation in the URL. In lower case.
const ANYWHERE: [&str; 4] = ["x-id", "awsaccesskeyid", "signature", "expires"];

pub(super) fn check_query(operation: &Operation, query: &Query) -> S3Result<()> {
    let Some((_, own)) = PLAIN.iter().find(|(name, _)| *name == operation.name) else { return Ok(()) };
    let known = |name: &str| {
        let lower = name.to_ascii_lowercase();
        own.contains(&name) || lower.starts_with("x-amz-") || ANYWHERE.contains(&lower.as_str())
    };
    match query.names().find(|name| !known(name)) {
        None => Ok(()),
        Some(name) => {
            Err(s3_error!(NotImplemented, "The operation with the parameter {name} is not served here."))
        }
    }
}

/// Longest document of any operation; a CompleteMultipartUpload of 10,000 parts with
/// checksums has some 3 MB.
pub(super) const MAXIMUM_DOCUMENT_BYTES: usize = 4 << 20;

/// Refuses a document that is longer than one of the operation can be, before it is read into
/// memory in pieces. What comes without a length is not read at all by `s3s`.
pub(super) fn check_length(operation: &Operation, headers: &HeaderMap) -> S3Result<()> {
    let maximum: u64 = match operation.name {
        "PutObject" | "UploadPart" => return Ok(()),
        "CompleteMultipartUpload" => MAXIMUM_DOCUMENT_BYTES as u64,
        // 1,000 keys of 1,024 bytes, with their versions.
        "DeleteObjects" => 2 << 20,
        "PutBucketLifecycleConfiguration" => 512 << 10,
        _ => DOCUMENT_BYTES as u64,
    };
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length.filter(|length| *length > maximum) {
        None => Ok(()),
        Some(length) => Err(s3_error!(
            MaxMessageLengthExceeded,
            "Your request was too big: its body has {length} bytes, and one of {} may have {maximum}.",
            operation.name
        )),
    }
}

/// Headers that ask for what is not there, the values that ask for nothing, and what is missing.
const HEADERS: [(&str, &[&str], &str); 10] = [
    ("x-amz-server-side-encryption", &["AES256"], "a key management service"),
    ("x-amz-server-side-encryption-aws-kms-key-id", &[], "a key management service"),
    ("x-amz-server-side-encryption-customer-algorithm", &[], "encryption with keys of the caller"),
    ("x-amz-server-side-encryption-customer-key", &[], "encryption with keys of the caller"),
    ("x-amz-copy-source-server-side-encryption-customer-key", &[], "encryption with keys of the caller"),
    ("x-amz-object-lock-mode", &[], "object lock"),
    ("x-amz-object-lock-legal-hold", &["OFF"], "object lock"),
    ("x-amz-bucket-object-lock-enabled", &["false"], "object lock"),
    ("x-amz-website-redirect-location", &[], "website hosting"),
    ("x-amz-write-offset-bytes", &[], "appending to objects"),
];
const ACL: &str = "x-amz-acl";
/// ACLs that say what is the case without one.
const HARMLESS_ACLS: [&[u8]; 2] = [b"private", b"bucket-owner-full-control"];

pub(super) fn check_headers(headers: &HeaderMap) -> S3Result<()> {
    for (name, harmless, missing) in HEADERS {
        let asks =
            |value: &http::HeaderValue| !harmless.iter().any(|text| value.as_bytes() == text.as_bytes());
        if headers.get_all(name).iter().any(asks) {
            return Err(s3_error!(
                NotImplemented,
                "The header {name} asks for {missing}, which is not here."
            ));
        }
    }
    let acl = headers.get_all(ACL).iter().any(|acl| !HARMLESS_ACLS.contains(&acl.as_bytes()));
    if acl || headers.keys().any(|name| name.as_str().starts_with("x-amz-grant-")) {
        return Err(s3_error!(AccessControlListNotSupported, "The bucket does not allow ACLs"));
    }
    Ok(())
}
