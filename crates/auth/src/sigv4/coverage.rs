//! Which headers a signature must cover.
//!
//! A header `x-amz-*` changes what a request does: `x-amz-copy-source` turns an upload into a copy,
//! `x-amz-meta-*` and `x-amz-tagging` describe the object, `x-amz-target` names the operation. So a
//! client that holds a presigned URL, or sees a signed request, must not be able to add one. The
//! rule has no exceptions: botocore, the AWS CLI and the SDKs for Go, Java, JavaScript and Rust
//! sign every such header, or move it into the query string of a presigned URL, which is signed as
//! a whole. What they leave unsigned (`user-agent`, `x-amzn-trace-id`, `expect`, `amz-sdk-*` of
//! some) does not begin with `x-amz-`.

use percent_encoding::percent_decode_str;

const PREFIX: &[u8] = b"x-amz-";
/// Most headers that a signature may name. A request cannot have more: it is the
/// HTTP library's limit.
const MAXIMUM_NAMES: usize = 100;

/// The first of `names` that begins with `x-amz-` and is not one of `signed`, which
/// are in lower case.
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

/// Why a list such as `host;x-amz-date` is not accepted, as a sentence; `None` when it is.
///
/// This is checked before anything is built from the list. Each name stands for the whole value of
/// its header, so a request of 64 KiB that named one long header thousands of times would grow to
/// hundreds of megabytes.
pub(super) fn refuse_names(list: &str) -> Option<String> {
    let names: Vec<&str> = list.split(';').take(MAXIMUM_NAMES + 1).collect();
    if names.len() > MAXIMUM_NAMES {
        return Some(format!("SignedHeaders must not name more than {MAXIMUM_NAMES} headers."));
    }
    let earlier = |index: usize, name: &str| names[..index].iter().any(|one| one.eq_ignore_ascii_case(name));
    names
        .iter()
        .enumerate()
        .any(|(index, name)| earlier(index, name))
        .then(|| "SignedHeaders must name each header once.".to_owned())
}

/// Why a request is not to be shown to a verifier that is not ours, as `refuse_names` says it. All
/// lists that a parser could find are looked at, since the one that it takes is not known here.
pub fn refuse_signed_headers(authorization: &str, query: &str) -> Option<String> {
    let lists = authorization.split("SignedHeaders=").skip(1);
    let of_header = lists.filter_map(|rest| rest.split(',').next()).find_map(refuse_names);
    of_header.or_else(|| {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(name, value)| {
            (decode(name) == "X-Amz-SignedHeaders").then(|| refuse_names(&decode(value))).flatten()
        })
    })
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

    /// The kind: a short list that stands for a long text.
    #[test]
    fn a_list_names_each_header_once_and_few_of_them() {
        let names = |count: usize| (0..count).map(|n| format!("a{n}")).collect::<Vec<_>>().join(";");
        assert_eq!(refuse_names("host;x-amz-date"), None);
        assert_eq!(refuse_names(&names(100)), None);
        for (list, says) in [
            ("host;a;a", "each header once"),
            ("host;a;A", "each header once"),
            (&names(101), "more than 100 headers"),
            (&"a;".repeat(15_000), "more than 100 headers"),
        ] {
            assert!(refuse_names(list).is_some_and(|sentence| sentence.contains(says)), "{says}");
            let header = format!(
                "AWS4-HMAC-SHA256 Credential=a/b/c/s3/aws4_request,\tSignedHeaders={list}, Signature=0"
            );
            let hidden = header.replace("a/b/c", "a/b/c, SignedHeaders=host, ");
            let query = format!("X-Amz-Date=1&X-Amz-SignedHeaders={}", list.replace(';', "%3B"));
            for (header, query) in [(header.as_str(), ""), (&hidden, ""), ("", &query)] {
                assert!(refuse_signed_headers(header, query).is_some(), "{header} {query}");
            }
            assert!(refuse_signed_headers("", &query.replace("X-Amz-S", "X%2DAmz-S")).is_some());
        }
        assert_eq!(
            refuse_signed_headers("SignedHeaders=host;a, Signature=0", "X-Amz-SignedHeaders=host"),
            None
        );
    }
}
