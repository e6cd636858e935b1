//! What a request may ask for that would silently not happen: it is refused instead.

use http::HeaderMap;
use s3s::{S3Result, s3_error};

use super::access::Query;
use super::actions::Operation;

/// Operations that are what is left when no parameter says otherwise, with the parameters that they have. An unknown one
/// means an operation that is not known here, such as `?renameObject`; it must not end as one of these.
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
