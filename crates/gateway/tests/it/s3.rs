//! Buckets and objects.

use hearth_api::AccountId;
use hearth_s3_api::StorageError;
use http::StatusCode;

use crate::support::{ACCOUNT, Neighbours, Reply, signed};

async fn s3(neighbours: &Neighbours, method: &str, target: &str, body: &[u8]) -> Reply {
    neighbours.call("s3", method, target, &[], body).await
}

async fn with_bucket() -> Neighbours {
    let neighbours = Neighbours::start().await;
    assert_eq!(s3(&neighbours, "PUT", "/demo", b"").await.status, StatusCode::OK);
    neighbours
}

#[tokio::test]
async fn an_object_comes_back_as_it_was_put() {
    let neighbours = with_bucket().await;
    let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let headers = [("content-type", "application/zip"), ("x-amz-meta-a", "b")];
    let put = neighbours.call("s3", "PUT", "/demo/dir/a%20%C3%A9.zip", &headers, &body).await;
    assert_eq!(put.status, StatusCode::OK);

    let get = s3(&neighbours, "GET", "/demo/dir/a%20%C3%A9.zip", b"").await;
    assert_eq!((get.status, get.body.len()), (StatusCode::OK, body.len()));
    assert!(get.body == body);
    assert_eq!(get.headers["content-type"], "application/zip");
    assert_eq!(get.headers["x-amz-meta-a"], "b");
    assert_eq!(get.headers["etag"], put.headers["etag"]);

    let range = [("range", "bytes=251-253")];
    let part = neighbours.call("s3", "GET", "/demo/dir/a%20%C3%A9.zip", &range, b"").await;
    assert_eq!((part.status, part.body), (StatusCode::PARTIAL_CONTENT, vec![0, 1, 2]));
}

#[tokio::test]
async fn encoding_and_expiry_come_back() {
    let neighbours = with_bucket().await;
    let expires = ("expires", "Thu, 01 Dec 2033 16:00:00 GMT");
    neighbours.call("s3", "PUT", "/demo/key", &[("content-encoding", "br"), expires], b"plain").await;
    let head = s3(&neighbours, "HEAD", "/demo/key", b"").await;
    assert_eq!(
        (&head.headers["content-encoding"], &head.headers["expires"]),
        (&"br".parse().unwrap(), &expires.1.parse().unwrap())
    );
    let target = "/demo/key?response-expires=Fri%2C%2002%20Dec%202033%2016%3A00%3A00%20GMT";
    assert_eq!(s3(&neighbours, "GET", target, b"").await.headers["expires"], "Fri, 02 Dec 2033 16:00:00 GMT");
}

#[tokio::test]
async fn a_deletion_heeds_its_conditions() {
    let neighbours = with_bucket().await;
    let old = s3(&neighbours, "PUT", "/demo/key", b"old").await.headers["etag"].to_str().unwrap().to_owned();
    let new =
        s3(&neighbours, "PUT", "/demo/key", b"newer").await.headers["etag"].to_str().unwrap().to_owned();
    let delete = async |headers: &[(&str, &str)]| {
        neighbours.call("s3", "DELETE", "/demo/key", headers, b"").await.status
    };
    for header in [("if-match", &*old), ("x-amz-if-match-size", "3")] {
        assert_eq!(delete(&[header]).await, StatusCode::PRECONDITION_FAILED, "{header:?}");
    }
    let bulk = format!("<Delete><Object><Key>key</Key><ETag>{old}</ETag></Object></Delete>");
    let answer = s3(&neighbours, "POST", "/demo?delete", bulk.as_bytes()).await;
    assert!(answer.text().contains("<Code>PreconditionFailed</Code>"), "{}", answer.text());
    assert_eq!(s3(&neighbours, "GET", "/demo/key", b"").await.body, b"newer");
    let both = [("if-match", &*new), ("x-amz-if-match-size", "5")];
    assert_eq!(delete(&both).await, StatusCode::NO_CONTENT);
    assert_eq!(delete(&both).await, StatusCode::NO_CONTENT, "what is not there counts as deleted");
    assert_eq!(s3(&neighbours, "GET", "/demo/key", b"").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn parts_by_number_are_the_whole_or_refused() {
    let neighbours = with_bucket().await;
    s3(&neighbours, "PUT", "/demo/key", b"whole").await;
    assert_eq!(s3(&neighbours, "GET", "/demo/key?partNumber=1", b"").await.body, b"whole");
    for method in ["GET", "HEAD"] {
        let reply = s3(&neighbours, method, "/demo/key?partNumber=2", b"").await;
        assert_eq!(reply.status, StatusCode::RANGE_NOT_SATISFIABLE, "{method}");
    }
}

#[tokio::test]
async fn a_wrong_digest_leaves_the_former_object_and_no_file() {
    let neighbours = with_bucket().await;
    s3(&neighbours, "PUT", "/demo/key", b"first").await;
    for (header, value) in [("x-amz-checksum-crc32", "AAAAAA=="), ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")]
    {
        let reply = neighbours.call("s3", "PUT", "/demo/key", &[(header, value)], b"second").await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{header}");
        assert!(reply.text().contains("<Code>BadDigest</Code>"), "{}", reply.text());
    }
    assert_eq!(s3(&neighbours, "GET", "/demo/key", b"").await.body, b"first");
    assert_eq!(neighbours.temporary_files(), 0);
}

#[tokio::test]
async fn missing_things_are_named() {
    let neighbours = with_bucket().await;
    for (method, target, code) in [
        ("GET", "/demo/none", "NoSuchKey"),
        ("GET", "/nobucket/key", "NoSuchBucket"),
        ("PUT", "/nobucket/key", "NoSuchBucket"),
        ("DELETE", "/nobucket", "NoSuchBucket"),
        ("GET", "/nobucket?list-type=2", "NoSuchBucket"),
    ] {
        let reply = s3(&neighbours, method, target, b"").await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{method} {target}");
        assert!(reply.text().contains(&format!("<Code>{code}</Code>")), "{}", reply.text());
    }
    assert!(!neighbours.directory.path().join("nobucket").exists());
}

#[tokio::test]
async fn only_an_empty_bucket_can_be_deleted() {
    let neighbours = with_bucket().await;
    s3(&neighbours, "PUT", "/demo/key", b"x").await;
    let refused = s3(&neighbours, "DELETE", "/demo", b"").await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(s3(&neighbours, "GET", "/demo/key", b"").await.body, b"x");
    assert_eq!(s3(&neighbours, "DELETE", "/demo/key", b"").await.status, StatusCode::NO_CONTENT);
    assert_eq!(s3(&neighbours, "DELETE", "/demo", b"").await.status, StatusCode::NO_CONTENT);
    assert_eq!(s3(&neighbours, "HEAD", "/demo", b"").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn keys_are_not_paths() {
    let neighbours = with_bucket().await;
    let long = format!("/demo/{}", "k".repeat(1000));
    for target in ["/demo/a", "/demo/a/b", "/demo/..%2F..%2Fescape", "/demo/bucket.json", &long] {
        assert_eq!(
            s3(&neighbours, "PUT", target, target.as_bytes()).await.status,
            StatusCode::OK,
            "{target}"
        );
    }
    for target in ["/demo/a", "/demo/a/b", "/demo/..%2F..%2Fescape", "/demo/bucket.json", &long] {
        assert_eq!(s3(&neighbours, "GET", target, b"").await.body, target.as_bytes(), "{target}");
    }
    let outside = neighbours.directory.path().parent().unwrap().join("escape");
    assert!(!outside.exists());
    let too_long = format!("/demo/{}", "k".repeat(1025));
    assert_eq!(s3(&neighbours, "PUT", &too_long, b"").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn parts_are_joined_in_order_or_not_at_all() {
    let neighbours = with_bucket().await;
    let begun = s3(&neighbours, "POST", "/demo/big?uploads=", b"").await.text();
    let id = begun.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0.to_owned();
    let first = vec![b'a'; 5 << 20];
    let mut tags = Vec::new();
    for (number, part) in [(1, first.as_slice()), (2, b"end")] {
        let target = format!("/demo/big?partNumber={number}&uploadId={id}");
        let reply = s3(&neighbours, "PUT", &target, part).await;
        tags.push(reply.headers["etag"].to_str().unwrap().to_owned());
    }
    let complete = |parts: &[(u32, &str)]| {
        let parts: Vec<String> = parts
            .iter()
            .map(|(number, tag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"))
            .collect();
        let parts = parts.concat();
        format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>").into_bytes()
    };
    let target = format!("/demo/big?uploadId={id}");
    for (parts, code) in [
        (vec![(2, tags[1].as_str()), (1, &tags[0])], "InvalidPartOrder"),
        (vec![(1, tags[1].as_str())], "InvalidPart"),
        (vec![(3, tags[0].as_str())], "InvalidPart"),
    ] {
        let reply = s3(&neighbours, "POST", &target, &complete(&parts)).await;
        assert!(reply.text().contains(&format!("<Code>{code}</Code>")), "{}", reply.text());
    }
    let reply = s3(&neighbours, "POST", &target, &complete(&[(1, &tags[0]), (2, &tags[1])])).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let whole = s3(&neighbours, "GET", "/demo/big", b"").await.body;
    assert_eq!((whole.len(), &whole[whole.len() - 4..]), (first.len() + 3, b"aend".as_slice()));
    assert_eq!(
        s3(&neighbours, "POST", &target, &complete(&[(1, &tags[0])])).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn unsigned_and_wrongly_signed_requests_are_refused() {
    let neighbours = with_bucket().await;
    let unsigned = http::Request::builder().uri("/demo").body(axum::body::Body::empty()).unwrap();
    assert_eq!(neighbours.send(unsigned).await.status, StatusCode::FORBIDDEN);
    let wrong = neighbours.send(signed("other", "s3", "GET", "/demo", &[], b"")).await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    assert!(wrong.text().contains("<Code>SignatureDoesNotMatch</Code><Message>The signature is not"));
    let badly_named = neighbours.call("s3", "PUT", "/Bad_Name", &[], b"").await;
    assert!(badly_named.text().contains("<Message>The bucket's name is not valid"), "{}", badly_named.text());
    let stranger = [("x-amz-expected-bucket-owner", "111111111111")];
    let reply = neighbours.call("s3", "GET", "/demo?list-type=2", &stranger, b"").await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_image_builder_fetches_within_its_limit() {
    let neighbours = with_bucket().await;
    s3(&neighbours, "PUT", "/demo/code.zip", b"0123456789").await;
    let to = neighbours.directory.path().join("fetched");
    let (storage, account) = (&neighbours.storage, AccountId::from_stored(ACCOUNT));
    let fetch = async |bucket: &str, key: &str, may: bool, most| {
        storage.fetch((bucket, key), &account, move |_| may, &to, most).await
    };
    assert_eq!(fetch("demo", "code.zip", true, 10).await.unwrap(), 10);
    assert_eq!(std::fs::read(&to).unwrap(), b"0123456789");
    std::fs::remove_file(&to).unwrap();
    let too_large = fetch("demo", "code.zip", true, 9).await;
    assert!(matches!(too_large, Err(StorageError::TooLarge { size_bytes: 10, max_bytes: 9, .. })));
    for bucket in ["demo", "none"] {
        let refused = fetch(bucket, "code.zip", false, 10).await;
        assert!(matches!(refused, Err(StorageError::AccessDenied(_))), "{bucket}");
    }
    assert!(!to.exists());
    let missing = fetch("demo", "no.zip", true, 9).await;
    assert!(matches!(missing, Err(StorageError::NoSuchKey(_))));
    for bucket in ["none", "..", "", ".temporary"] {
        let outcome = fetch(bucket, "k", true, 9).await;
        assert!(matches!(outcome, Err(StorageError::NoSuchBucket(_))), "{bucket}");
    }
}

#[tokio::test]
async fn a_bucket_cannot_have_the_name_of_a_path_of_the_api() {
    let neighbours = Neighbours::start().await;
    for name in ["2017-03-31", "2025-09-09", "2026-04-04"] {
        let reply = neighbours.call("s3", "PUT", &format!("/{name}"), &[], b"").await;
        assert_eq!(reply.field("Code"), "InvalidBucketName", "{}", reply.text());
        assert!(reply.field("Message").contains("choose another name"), "{}", reply.text());
    }
    neighbours.call("s3", "PUT", "/2025-09-08", &[], b"").await.ok();
}
