//! What a signature must cover: `s3s` verifies that it fits what it names, not that
//! it names enough.

use hearth_auth::sigv4::{header_names, signed_headers, unsigned_header};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use s3s::{S3Result, s3_error};

use super::access::Query;

/// Parameters that version 2 signs: sub-resources and overrides of answers ("Signing and
/// authenticating REST requests", S3 user guide), as `s3s` does.
const SIGNED_BY_VERSION_2: [&str; 33] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "select-type",
    "storageClass",
    "tagging",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];
/// Parameters that version 2 does not sign and that choose only which part of a list is shown, name
/// the operation that it is anyway, or are the signature itself.
const HARMLESS_UNSIGNED: [&str; 18] = [
    "AWSAccessKeyId",
    "Expires",
    "Signature",
    "content-md5",
    "content-type",
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "key-marker",
    "list-type",
    "marker",
    "max-keys",
    "max-parts",
    "max-uploads",
    "prefix",
    "start-after",
    "x-id",
];

/// Refuses a request that says more than its signature covers.
pub(super) fn check(headers: &HeaderMap, query: &Query) -> S3Result<()> {
    let (version_2, presigned) = (query.get("Signature"), query.get("X-Amz-Signature"));
    let authorization = headers.get(AUTHORIZATION);
    let claims = usize::from(version_2.is_some())
        + usize::from(presigned.is_some())
        + headers.get_all(AUTHORIZATION).iter().count();
    if claims > 1 {
        // Otherwise the list of one could vouch for the signature of another.
        return Err(s3_error!(
            InvalidArgument,
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string \
             parameter or the Authorization header should be specified"
        ));
    }
    if version_2.is_some() {
        return check_version_2(query);
    }
    let signed = match authorization {
        Some(authorization) => signed_headers(authorization.to_str().unwrap_or_default()),
        None => header_names(query.get("X-Amz-SignedHeaders").unwrap_or_default()),
    };
    if !signed.iter().any(|name| name == "host") {
        return Err(s3_error!(AccessDenied, "The header host must be signed."));
    }
    match unsigned_header(headers.keys().map(http::HeaderName::as_str), &signed) {
        None => Ok(()),
        Some(name) => Err(s3_error!(
            AccessDenied,
            "There were headers present in the request which were not signed: {name}"
        )),
    }
}

/// Version 2 covers all headers `x-amz-*`, but only some parameters: another sub-resource would be
/// another operation. botocore repeats headers that it signed as parameters, which nobody reads.
fn check_version_2(query: &Query) -> S3Result<()> {
    let covered = |name: &&str| {
        SIGNED_BY_VERSION_2.contains(name) || HARMLESS_UNSIGNED.contains(name) || name.starts_with("x-amz-")
    };
    match query.names().find(|name| !covered(name)) {
        None => Ok(()),
        Some(name) => Err(s3_error!(
            AccessDenied,
            "Signature version 2 does not cover the parameter {name}; sign the request with version 4."
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(headers: &[(&'static str, &'static str)], query: &str) -> S3Result<()> {
        let pairs = headers.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        check(&map, &Query::read(query).unwrap())
    }

    #[test]
    fn two_signatures_cannot_vouch_for_each_other() {
        let presigned = "X-Amz-Signature=1&X-Amz-SignedHeaders=host";
        let header = ("authorization", "AWS4-HMAC-SHA256 SignedHeaders=host;x-amz-acl, Signature=1");
        assert!(checked(&[header], "").is_ok());
        assert!(checked(&[], presigned).is_ok());
        assert!(checked(&[header, ("x-amz-acl", "private")], "").is_ok());
        assert!(checked(&[("x-amz-acl", "private")], presigned).is_err());
        assert!(checked(&[header], presigned).is_err());
        assert!(checked(&[header], "Signature=1").is_err());
        assert!(checked(&[header, header], "").is_err());
        assert!(checked(&[], "Signature=1&X-Amz-Signature=1&X-Amz-SignedHeaders=host").is_err());
    }

    #[test]
    fn version_2_makes_no_other_operation_of_a_url() {
        for harmless in ["", "&prefix=a&max-keys=1", "&uploadId=u&partNumber=1", "&x-amz-meta-a=b"] {
            assert!(checked(&[], &format!("AWSAccessKeyId=A&Expires=1&Signature=s{harmless}")).is_ok());
        }
        for other in ["attributes", "encryption", "publicAccessBlock", "ownershipControls", "policyStatus"] {
            assert!(checked(&[], &format!("AWSAccessKeyId=A&Expires=1&Signature=s&{other}=")).is_err());
        }
    }
}
