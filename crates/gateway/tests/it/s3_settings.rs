//! Settings and tags of buckets and objects.

use http::StatusCode;

use crate::support::{Keys, Neighbours, Reply};

async fn s3(neighbours: &Neighbours, method: &str, target: &str, body: &str) -> Reply {
    neighbours.call("s3", method, target, &[], body.as_bytes()).await
}

async fn with_bucket() -> Neighbours {
    let neighbours = Neighbours::start().await;
    assert_eq!(s3(&neighbours, "PUT", "/demo", "").await.status, StatusCode::OK);
    neighbours
}

fn tagging(pairs: &[(&str, &str)]) -> String {
    let tags = pairs.iter().map(|(key, value)| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>"));
    format!("<Tagging><TagSet>{}</TagSet></Tagging>", tags.collect::<String>())
}

#[tokio::test]
async fn settings_are_stored_shown_and_removed() {
    let neighbours = with_bucket().await;
    let block = "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls>\
                 </PublicAccessBlockConfiguration>";
    let encryption = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
                      <SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault>\
                      <BucketKeyEnabled>true</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>";
    let ownership = "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>\
                     </OwnershipControls>";
    // Parameter, what a fresh bucket shows, what is put, what is shown then, and what
    // after it was deleted.
    for (name, fresh, put, shown, deleted) in [
        (
            "publicAccessBlock",
            "<RestrictPublicBuckets>true<",
            block.to_owned(),
            "<RestrictPublicBuckets>false<",
            "<Code>NoSuchPublicAccessBlockConfiguration<",
        ),
        (
            "encryption",
            "<SSEAlgorithm>AES256<",
            encryption.to_owned(),
            "<BucketKeyEnabled>true<",
            "<BucketKeyEnabled>false<",
        ),
        (
            "ownershipControls",
            "BucketOwnerEnforced",
            ownership.to_owned(),
            "BucketOwnerEnforced",
            "<Code>OwnershipControlsNotFoundError<",
        ),
        ("tagging", "<Code>NoSuchTagSet<", tagging(&[("a", "b")]), "<Value>b<", "<Code>NoSuchTagSet<"),
    ] {
        let target = format!("/demo?{name}=");
        let text = s3(&neighbours, "GET", &target, "").await.text();
        assert!(text.contains(fresh), "{text}");
        let reply = s3(&neighbours, "PUT", &target, &put).await;
        assert!(reply.status.is_success(), "{name}: {}", reply.text());
        let text = s3(&neighbours, "GET", &target, "").await.text();
        assert!(text.contains(shown), "{text}");
        assert_eq!(s3(&neighbours, "DELETE", &target, "").await.status, StatusCode::NO_CONTENT, "{name}");
        let text = s3(&neighbours, "GET", &target, "").await.text();
        assert!(text.contains(deleted), "{text}");
    }
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_with_a_sentence() {
    let neighbours = with_bucket().await;
    let kms = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
               <SSEAlgorithm>aws:kms</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>\
               </ServerSideEncryptionConfiguration>";
    let writer =
        "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>";
    let mfa = "<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete></VersioningConfiguration>";
    let nothing = "<VersioningConfiguration></VersioningConfiguration>";
    let far = "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
    let long = "k".repeat(129);
    for (target, body, code) in [
        ("/demo?encryption=", kms.to_owned(), "NotImplemented"),
        ("/demo?ownershipControls=", writer.to_owned(), "NotImplemented"),
        ("/demo?versioning=", mfa.to_owned(), "NotImplemented"),
        ("/demo?versioning=", nothing.to_owned(), "IllegalVersioningConfigurationException"),
        ("/far", far.to_owned(), "IllegalLocationConstraintException"),
        ("/far", far.replace("eu-west-1", "us-east-1"), "InvalidLocationConstraint"),
        ("/demo?tagging=", tagging(&[("aws:x", "")]), "InvalidTag"),
        ("/demo?tagging=", tagging(&[(&long, "")]), "InvalidTag"),
        ("/demo?tagging=", tagging(&[("a", "1"), ("a", "2")]), "InvalidTag"),
        ("/none?tagging=", tagging(&[]), "NoSuchBucket"),
    ] {
        let text = s3(&neighbours, "PUT", target, &body).await.text();
        assert!(text.contains(&format!("<Code>{code}</Code>")), "{target} {body}: {text}");
    }
    for (header, value, code) in [
        ("x-amz-server-side-encryption", "aws:kms", "NotImplemented"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256", "NotImplemented"),
        ("x-amz-object-lock-mode", "GOVERNANCE", "NotImplemented"),
        ("x-amz-acl", "public-read", "AccessControlListNotSupported"),
        ("x-amz-grant-read", "id=1", "AccessControlListNotSupported"),
    ] {
        let reply = neighbours.call("s3", "PUT", "/demo/key", &[(header, value)], b"x").await;
        assert!(reply.text().contains(&format!("<Code>{code}</Code>")), "{header}: {}", reply.text());
    }
    assert_eq!(s3(&neighbours, "GET", "/demo/key", "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn objects_have_tags() {
    let neighbours = with_bucket().await;
    let tags = async |target: &str| s3(&neighbours, "GET", &format!("{target}?tagging="), "").await.text();
    neighbours.call("s3", "PUT", "/demo/key", &[("x-amz-tagging", "a=1&b=%C3%A9+x")], b"content").await;
    assert!(tags("/demo/key").await.contains("<Value>é x</Value>"));
    assert_eq!(s3(&neighbours, "GET", "/demo/key", "").await.headers["x-amz-tagging-count"], "2");
    neighbours.call("s3", "PUT", "/demo/copy", &[("x-amz-copy-source", "demo/key")], b"").await;
    assert!(tags("/demo/copy").await.contains("<Key>b</Key>"));
    assert_eq!(
        s3(&neighbours, "PUT", "/demo/key?tagging=", &tagging(&[("c", "2")])).await.status,
        StatusCode::OK
    );
    assert!(
        tags("/demo/key").await.contains("<Key>c</Key>") && !tags("/demo/key").await.contains("<Key>a</Key>")
    );
    assert_eq!(s3(&neighbours, "GET", "/demo/key", "").await.body, b"content");
    assert_eq!(s3(&neighbours, "DELETE", "/demo/key?tagging=", "").await.status, StatusCode::NO_CONTENT);
    assert!(!tags("/demo/key").await.contains("<Tag>"));
    let many: Vec<(String, String)> = (0..11).map(|n| (format!("k{n}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let reply = s3(&neighbours, "PUT", "/demo/key?tagging=", &tagging(&many)).await;
    assert!(
        reply.status == StatusCode::BAD_REQUEST && reply.text().contains("greater than 10"),
        "{}",
        reply.text()
    );
}

#[tokio::test]
async fn metadata_and_headers_of_objects_have_the_limits_of_s3() {
    let neighbours = with_bucket().await;
    s3(&neighbours, "PUT", "/demo/source", "x").await.ok();
    let (fits, long, header) = ("v".repeat(2 * 1024 - 1), "v".repeat(2 * 1024), "h".repeat(9 * 1024));
    let copy = [("x-amz-copy-source", "demo/source"), ("x-amz-metadata-directive", "REPLACE")];
    for (method, target, more) in
        [("PUT", "/demo/key", &[][..]), ("POST", "/demo/key?uploads=", &[]), ("PUT", "/demo/copy", &copy)]
    {
        for (added, code) in [
            (("x-amz-meta-a", &fits), ""),
            (("x-amz-meta-a", &long), "MetadataTooLarge"),
            (("cache-control", &header), "RequestHeaderSectionTooLarge"),
        ] {
            let headers: Vec<(&str, &str)> =
                more.iter().copied().chain([(added.0, added.1.as_str())]).collect();
            let reply = neighbours.call("s3", method, target, &headers, b"").await;
            assert_eq!(reply.field("Code"), code, "{method} {target} {}: {}", added.0, reply.text());
        }
    }
}

#[tokio::test]
async fn documents_are_bounded_before_they_are_parsed() {
    let neighbours = with_bucket().await;
    let spaces = " ".repeat(3 << 20);
    for target in
        ["/demo?policy=", "/demo?cors=", "/demo?lifecycle=", "/demo?notification=", "/demo?tagging="]
    {
        let code = s3(&neighbours, "PUT", target, &spaces).await.field("Code");
        assert_eq!(code, "MaxMessageLengthExceeded", "{target}");
    }
    let code = s3(&neighbours, "POST", "/demo?delete=", &spaces).await.field("Code");
    assert_eq!(code, "MaxMessageLengthExceeded");
    let topic = "t".repeat(70_000);
    let notification = format!(
        "<NotificationConfiguration><TopicConfiguration><Topic>{topic}</Topic><Event>s3:*</Event>\
         </TopicConfiguration></NotificationConfiguration>"
    );
    let reply = s3(&neighbours, "PUT", "/demo?notification=", &notification).await;
    assert!(reply.text().contains("longer than 65536 bytes"), "{}", reply.text());
}

#[tokio::test]
async fn settings_of_one_account_are_nothing_to_another() {
    let neighbours = with_bucket().await;
    let theirs = Keys::other_root().sign("s3", "PUT", "/theirs", &[], b"");
    neighbours.send(theirs).await.ok();
    let record = neighbours.directory.path().join("theirs/bucket.json");
    // No JSON: reading it would be an error.
    std::fs::write(&record, "x".repeat(1 << 20)).unwrap();
    assert_eq!(s3(&neighbours, "GET", "/", "").await.ok().fields("Name"), ["demo"]);
    s3(&neighbours, "PUT", "/another", "").await.ok();
    neighbours.storage.expire(jiff::Timestamp::now()).await.unwrap();
}

#[tokio::test]
async fn a_preflight_compares_no_more_than_browsers_ask() {
    let neighbours = with_bucket().await;
    let headers: Vec<String> = (0..1000).map(|n| format!("<AllowedHeader>x-{n}</AllowedHeader>")).collect();
    let headers = headers.concat();
    let cors = format!(
        "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin>{headers}\
         </CORSRule></CORSConfiguration>"
    );
    assert_eq!(s3(&neighbours, "PUT", "/demo?cors=", &cors).await.status, StatusCode::OK);
    let preflight = async |count: usize| {
        let request = http::Request::builder().method("OPTIONS").uri("/demo/key").header("host", "127.0.0.1");
        let request = request.header("origin", "https://a").header("access-control-request-method", "GET");
        let request = request.header("access-control-request-headers", vec!["x-999"; count].join(","));
        neighbours.send(request.body(axum::body::Body::empty()).unwrap()).await.status
    };
    assert_eq!(preflight(100).await, StatusCode::OK);
    assert_eq!(preflight(101).await, StatusCode::FORBIDDEN);
}
