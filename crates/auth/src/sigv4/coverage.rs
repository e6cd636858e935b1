//! Which headers a signature must cover.
//!
//! A header `x-amz-*` changes what a request does: `x-amz-copy-source` turns an upload into a copy, `x-amz-meta-*` and
//! `x-amz-tagging` describe the object, `x-amz-target` names the operation. So a client that holds a presigned URL, or sees a
//! signed request, must not be able to add one. The rule has no exceptions: botocore, the AWS CLI and the SDKs for Go,
//! Java, JavaScript and Rust sign every such header, or move it into the query string of a presigned URL, which is
//! signed as a whole. What they leave unsigned (`user-agent`, `x-amzn-trace-id`, `expect`, `amz-sdk-*` of some) does
//! not begin with `x-amz-`.

const PREFIX: &[u8] = b"x-amz-";

/// The first of `names` that begins with `x-amz-` and is not one of `signed`, which are in lower case.
pub fn unsigned_header<'a>(names: impl IntoIterator<Item = &'a str>, signed: &[String]) -> Option<&'a str> {
    let governed = |name: &&str| {
        name.as_bytes().get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
    };
    let covered = |name: &str| signed.iter().any(|signed| signed.eq_ignore_ascii_case(name));
    names.into_iter().filter(governed).find(|name| !covered(name))
}

/// The names of a list such as `host;x-amz-date`, in lower case.
pub fn header_names(list: &str) -> Vec<String> {
    list.split(';').map(str::to_ascii_lowercase).collect()
}

/// `SignedHeaders` of an `Authorization` header of version 4.
pub fn signed_headers(authorization: &str) -> Vec<String> {
    let list = authorization.split([',', ' ']).find_map(|part| part.trim().strip_prefix("SignedHeaders="));
    list.map(header_names).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_a_request_must_be_signed() {
        let signed = header_names("Host;x-amz-date");
        let first = |names: &[&'static str]| unsigned_header(names.iter().copied(), &signed);
        assert_eq!(first(&["host", "X-Amz-Date", "User-Agent", "X-Amzn-Trace-Id", "amz-sdk-request"]), None);
        assert_eq!(first(&["x-amz-date", "X-AMZ-Meta-Owner"]), Some("X-AMZ-Meta-Owner"));
        assert_eq!(first(&["x-amz-"]), Some("x-amz-"));
    }

    #[test]
    fn the_list_is_read_however_the_header_is_spaced() {
        for text in [
            "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host;x-amz-date, Signature=1",
            "AWS4-HMAC-SHA256 Credential=a/b,SignedHeaders=Host;X-Amz-Date,Signature=1",
        ] {
            assert_eq!(signed_headers(text), ["host", "x-amz-date"]);
        }
        assert!(signed_headers("AWS4-HMAC-SHA256 Credential=a/b").is_empty());
    }
}
