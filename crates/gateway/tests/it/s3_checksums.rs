//! Checksums of objects that come in parts.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;

use crate::support::{Neighbours, Reply};

const PART: usize = 5 << 20;

fn crc32(bytes: &[u8]) -> String {
    STANDARD.encode(crc32fast::hash(bytes).to_be_bytes())
}

struct Upload<'a> {
    neighbours: &'a Neighbours,
    key: &'a str,
    id: String,
    parts: String,
}

impl<'a> Upload<'a> {
    async fn of(
        neighbours: &'a Neighbours,
        key: &'a str,
        headers: &[(&str, &str)],
        parts: &[Vec<u8>],
    ) -> Self {
        let target = format!("/demo/{key}?uploads=");
        let id = neighbours.call("s3", "POST", &target, headers, b"").await.ok().field("UploadId");
        let mut upload = Self { neighbours, key, id, parts: String::new() };
        for (index, part) in parts.iter().enumerate() {
            let number = index + 1;
            let target = format!("/demo/{key}?partNumber={number}&uploadId={}", upload.id);
            let reply = neighbours.call("s3", "PUT", &target, &[], part).await;
            let e_tag = reply.headers["etag"].to_str().unwrap();
            write!(upload.parts, "<Part><PartNumber>{number}</PartNumber><ETag>{e_tag}</ETag></Part>")
                .unwrap();
        }
        upload
    }

    async fn complete(&self, headers: &[(&str, &str)]) -> Reply {
        let body = format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", self.parts);
        let target = format!("/demo/{}?uploadId={}", self.key, self.id);
        self.neighbours.call("s3", "POST", &target, headers, body.as_bytes()).await
    }
}

#[tokio::test]
async fn a_whole_objects_checksum_is_kept_and_a_wrong_one_refused() {
    let neighbours = Neighbours::start().await;
    neighbours.call("s3", "PUT", "/demo", &[], b"").await.ok();
    let parts = vec![vec![b'a'; PART], vec![b'b'; PART], b"tail".to_vec()];
    let whole = parts.concat();
    let (right, size) = (crc32(&whole), whole.len().to_string());
    let full = [("x-amz-checksum-algorithm", "CRC32"), ("x-amz-checksum-type", "FULL_OBJECT")];
    let upload = Upload::of(&neighbours, "key", &full, &parts).await;
    for (header, value, code) in [
        ("x-amz-checksum-crc32", "AAAAAQ==", "BadDigest"),
        ("x-amz-checksum-crc32c", right.as_str(), "InvalidRequest"),
        ("x-amz-checksum-type", "COMPOSITE", "InvalidRequest"),
        ("x-amz-mp-object-size", "7", "InvalidRequest"),
    ] {
        let reply = upload.complete(&[(header, value)]).await;
        assert_eq!((reply.status, reply.field("Code").as_str()), (StatusCode::BAD_REQUEST, code), "{header}");
        assert_eq!(neighbours.call("s3", "GET", "/demo/key", &[], b"").await.status, StatusCode::NOT_FOUND);
    }
    let claims = [
        ("x-amz-checksum-crc32", right.as_str()),
        ("x-amz-checksum-type", "FULL_OBJECT"),
        ("x-amz-mp-object-size", size.as_str()),
    ];
    assert_eq!(upload.complete(&claims).await.ok().field("ChecksumCRC32"), right);
    let head = neighbours.call("s3", "HEAD", "/demo/key", &[("x-amz-checksum-mode", "ENABLED")], b"").await;
    assert_eq!(head.headers["x-amz-checksum-crc32"], right.as_str());
    assert_eq!(head.headers["x-amz-checksum-type"], "FULL_OBJECT");
    assert!(neighbours.call("s3", "GET", "/demo/key", &[], b"").await.body == whole);
    // A copy keeps it.
    let copied = neighbours.call("s3", "PUT", "/demo/copy", &[("x-amz-copy-source", "/demo/key")], b"").await;
    assert_eq!(copied.ok().field("ChecksumCRC32"), right);
}

#[tokio::test]
async fn checksums_of_parts_make_a_composite_one_unless_they_can_be_combined() {
    let neighbours = Neighbours::start().await;
    neighbours.call("s3", "PUT", "/demo", &[], b"").await.ok();
    let parts = vec![vec![b'a'; PART], b"tail".to_vec()];
    for (algorithm, kind, number) in
        [(Some("CRC32"), "COMPOSITE", "-2"), (Some("SHA256"), "COMPOSITE", "-2"), (None, "FULL_OBJECT", "")]
    {
        let header = algorithm.map(|algorithm| ("x-amz-checksum-algorithm", algorithm));
        let upload = Upload::of(&neighbours, "key", header.as_slice(), &parts).await;
        upload.complete(&[]).await.ok();
        let head =
            neighbours.call("s3", "HEAD", "/demo/key", &[("x-amz-checksum-mode", "ENABLED")], b"").await;
        let name = format!("x-amz-checksum-{}", algorithm.unwrap_or("CRC64NVME").to_ascii_lowercase());
        let value = head.headers[name.as_str()].to_str().unwrap();
        assert_eq!(value.ends_with("-2"), !number.is_empty(), "{value}");
        assert_eq!(head.headers["x-amz-checksum-type"], kind, "{algorithm:?}");
    }
    for (algorithm, kind) in [("SHA256", "FULL_OBJECT"), ("SHA1", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE")]
    {
        let headers = [("x-amz-checksum-algorithm", algorithm), ("x-amz-checksum-type", kind)];
        let reply = neighbours.call("s3", "POST", "/demo/key?uploads=", &headers, b"").await;
        assert_eq!(reply.field("Code"), "InvalidRequest", "{algorithm} {kind}");
    }
    let plain = neighbours.call("s3", "PUT", "/demo/plain", &[], b"123456789").await;
    assert_eq!(plain.headers["x-amz-checksum-crc64nvme"], "rosUhgp5mIg=");
}
