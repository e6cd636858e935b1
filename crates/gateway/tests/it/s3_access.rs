//! Who may do what in S3.

use hearth_api::{AccountId, Timestamp};
use hearth_iam::DocumentKind;
use hearth_identity::entities::{Attachments, Tags};
use hearth_identity::{AccessKey, Policy, Session, SessionOf, User};
use hearth_s3_api::SERVED;
use http::StatusCode;

use crate::support::{ACCOUNT, Keys, Neighbours, OTHER_ACCOUNT, Reply};

const ANN: (&str, &str) = ("AKIAANN", "ann");
const ROOT: (&str, &str) = ("AKID", "secret");
const OTHER: (&str, &str) = ("AKIDOTHER", "other");

/// A bucket `demo` of the first account with the object `a/key`.
async fn with_object() -> Neighbours {
    let neighbours = Neighbours::start().await;
    for (target, body) in [("/demo", b"".as_slice()), ("/demo/a/key", b"x")] {
        assert_eq!(send(&neighbours, ROOT, "PUT", target, &[], body).await.status, StatusCode::OK);
    }
    neighbours
}

async fn send(
    neighbours: &Neighbours,
    key: (&str, &str),
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let keys = Keys { id: key.0.to_owned(), secret: key.1.to_owned(), token: None };
    neighbours.send(keys.sign("s3", method, target, headers, body)).await
}

/// Makes the user Ann with these statements as her policy.
async fn ann(neighbours: &Neighbours, statements: &str) {
    let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
    let policies = if statements.is_empty() {
        Attachments::default()
    } else {
        let policy = Policy::parse(&text, DocumentKind::Identity, 6144).unwrap();
        Attachments { inline: [("p".to_owned(), policy)].into(), ..Attachments::default() }
    };
    let account = AccountId::from_stored(ACCOUNT);
    let user = User {
        account: account.clone(),
        path: "/".into(),
        name: "Ann".into(),
        id: "AIDA1".into(),
        created_at: Timestamp::now(),
        policies,
        access_keys: vec![AccessKey {
            id: ANN.0.into(),
            secret: ANN.1.into(),
            active: true,
            created_at: Timestamp::now(),
        }],
        tags: Tags::new(),
    };
    let change = |account: &mut hearth_identity::Account| {
        account.put_user(user);
        Ok::<(), ()>(())
    };
    neighbours.identities.change(&account, change).await.unwrap().unwrap().unwrap();
}

fn allow(action: &str, resource: &str) -> String {
    format!(r#"{{"Effect":"Allow","Action":{action},"Resource":"{resource}"}}"#)
}

fn denied(reply: &Reply) -> bool {
    reply.status == StatusCode::FORBIDDEN && reply.text().contains("<Code>AccessDenied</Code>")
}

type Headers = &'static [(&'static str, &'static str)];
/// Operation, method, target and headers of a request for each operation that is served. Bodies do
/// not matter: access is decided before they are read, except for those of DeleteObjects.
const REQUESTS: &[(&str, &str, &str, Headers)] = &[
    ("ListBuckets", "GET", "/", &[]),
    ("CreateBucket", "PUT", "/fresh", &[]),
    ("HeadBucket", "HEAD", "/demo", &[]),
    ("DeleteBucket", "DELETE", "/demo", &[]),
    ("GetBucketLocation", "GET", "/demo?location=", &[]),
    ("ListObjects", "GET", "/demo", &[]),
    ("ListObjectsV2", "GET", "/demo?list-type=2", &[]),
    ("ListObjectVersions", "GET", "/demo?versions=", &[]),
    ("ListMultipartUploads", "GET", "/demo?uploads=", &[]),
    ("GetBucketVersioning", "GET", "/demo?versioning=", &[]),
    ("PutBucketVersioning", "PUT", "/demo?versioning=", &[]),
    ("GetPublicAccessBlock", "GET", "/demo?publicAccessBlock=", &[]),
    ("PutPublicAccessBlock", "PUT", "/demo?publicAccessBlock=", &[]),
    ("DeletePublicAccessBlock", "DELETE", "/demo?publicAccessBlock=", &[]),
    ("GetBucketEncryption", "GET", "/demo?encryption=", &[]),
    ("PutBucketEncryption", "PUT", "/demo?encryption=", &[]),
    ("DeleteBucketEncryption", "DELETE", "/demo?encryption=", &[]),
    ("GetBucketTagging", "GET", "/demo?tagging=", &[]),
    ("PutBucketTagging", "PUT", "/demo?tagging=", &[]),
    ("DeleteBucketTagging", "DELETE", "/demo?tagging=", &[]),
    ("GetBucketOwnershipControls", "GET", "/demo?ownershipControls=", &[]),
    ("PutBucketOwnershipControls", "PUT", "/demo?ownershipControls=", &[]),
    ("DeleteBucketOwnershipControls", "DELETE", "/demo?ownershipControls=", &[]),
    ("GetBucketAcl", "GET", "/demo?acl=", &[]),
    ("GetBucketPolicy", "GET", "/demo?policy=", &[]),
    ("GetBucketPolicyStatus", "GET", "/demo?policyStatus=", &[]),
    ("PutBucketPolicy", "PUT", "/demo?policy=", &[]),
    ("DeleteBucketPolicy", "DELETE", "/demo?policy=", &[]),
    ("PutBucketCors", "PUT", "/demo?cors=", &[]),
    ("DeleteBucketCors", "DELETE", "/demo?cors=", &[]),
    ("PutBucketLifecycleConfiguration", "PUT", "/demo?lifecycle=", &[]),
    ("DeleteBucketLifecycle", "DELETE", "/demo?lifecycle=", &[]),
    ("PutBucketNotificationConfiguration", "PUT", "/demo?notification=", &[]),
    ("GetBucketCors", "GET", "/demo?cors=", &[]),
    ("GetBucketWebsite", "GET", "/demo?website=", &[]),
    ("GetBucketLifecycleConfiguration", "GET", "/demo?lifecycle=", &[]),
    ("GetBucketReplication", "GET", "/demo?replication=", &[]),
    ("GetObjectLockConfiguration", "GET", "/demo?object-lock=", &[]),
    ("GetBucketAccelerateConfiguration", "GET", "/demo?accelerate=", &[]),
    ("GetBucketLogging", "GET", "/demo?logging=", &[]),
    ("GetBucketNotificationConfiguration", "GET", "/demo?notification=", &[]),
    ("GetBucketRequestPayment", "GET", "/demo?requestPayment=", &[]),
    ("DeleteObjects", "POST", "/demo?delete=", &[]),
    ("PutObject", "PUT", "/demo/new", &[]),
    ("CopyObject", "PUT", "/demo/copy", &[("x-amz-copy-source", "demo/a/key")]),
    ("CreateMultipartUpload", "POST", "/demo/new?uploads=", &[]),
    ("UploadPart", "PUT", "/demo/new?partNumber=1&uploadId=u", &[]),
    ("UploadPartCopy", "PUT", "/demo/new?partNumber=1&uploadId=u", &[("x-amz-copy-source", "demo/a/key")]),
    ("CompleteMultipartUpload", "POST", "/demo/new?uploadId=u", &[]),
    ("AbortMultipartUpload", "DELETE", "/demo/new?uploadId=u", &[]),
    ("ListParts", "GET", "/demo/new?uploadId=u", &[]),
    ("GetObject", "GET", "/demo/a/key", &[]),
    ("HeadObject", "HEAD", "/demo/a/key", &[]),
    ("GetObjectAttributes", "GET", "/demo/a/key?attributes=", &[("x-amz-object-attributes", "ETag")]),
    ("DeleteObject", "DELETE", "/demo/a/key", &[]),
    ("GetObjectAcl", "GET", "/demo/a/key?acl=", &[]),
    ("GetObjectTagging", "GET", "/demo/a/key?tagging=", &[]),
    ("PutObjectTagging", "PUT", "/demo/a/key?tagging=", &[]),
    ("DeleteObjectTagging", "DELETE", "/demo/a/key?tagging=", &[]),
];
const DELETION: &[u8] = b"<Delete><Object><Key>a/key</Key></Object></Delete>";

#[test]
fn the_requests_are_those_of_every_operation() {
    let mut requested: Vec<&str> = REQUESTS.iter().map(|(name, ..)| *name).collect();
    let mut served = SERVED.to_vec();
    requested.sort_unstable();
    served.sort_unstable();
    assert_eq!(requested, served);
}

#[tokio::test]
async fn who_has_no_policy_and_who_is_of_another_account_can_do_nothing() {
    let neighbours = with_object().await;
    ann(&neighbours, "").await;
    for (name, method, target, headers) in REQUESTS {
        let body = if *name == "DeleteObjects" { DELETION } else { b"" };
        for key in [ANN, OTHER] {
            if key == OTHER && ["ListBuckets", "CreateBucket"].contains(name) {
                continue;
            }
            let reply = send(&neighbours, key, method, target, headers, body).await;
            let refused = match *name {
                "DeleteObjects" => reply.text().contains("<Code>AccessDenied</Code>"),
                _ if *method == "HEAD" => reply.status == StatusCode::FORBIDDEN,
                _ => denied(&reply),
            };
            assert!(refused, "{name} by {}: {} {}", key.0, reply.status, reply.text());
        }
        // The signature is checked before, the operation afterwards: none is open to
        // those who do not sign.
        let anonymous = http::Request::builder().method(*method).uri(*target);
        let anonymous = anonymous.header("host", "localhost").body(axum::body::Body::empty()).unwrap();
        assert_eq!(neighbours.send(anonymous).await.status, StatusCode::FORBIDDEN, "{name}");
    }
    let kept = send(&neighbours, ROOT, "GET", "/demo/a/key", &[], b"").await;
    assert_eq!(kept.body, b"x");
}

#[tokio::test]
async fn a_user_with_all_rights_reaches_every_operation() {
    for (name, method, target, headers) in REQUESTS {
        let neighbours = with_object().await;
        ann(&neighbours, &allow(r#""s3:*""#, "*")).await;
        let reply = send(&neighbours, ANN, method, target, headers, b"").await;
        assert!(
            ![403, 500, 501].contains(&reply.status.as_u16()),
            "{name}: {} {}",
            reply.status,
            reply.text()
        );
    }
}

#[tokio::test]
async fn what_is_not_served_says_so() {
    let neighbours = with_object().await;
    for (method, target, names) in [
        ("PUT", "/demo?website=", "PutBucketWebsite"),
        ("PUT", "/demo?replication=", "PutBucketReplication"),
        ("PUT", "/demo/a/key?acl=", "PutObjectAcl"),
        ("GET", "/demo/a/key?torrent=", "GetObjectTorrent"),
        ("DELETE", "/demo?metadataConfiguration=", "metadataConfiguration"),
        ("PUT", "/demo/a/key?renameObject=", "renameObject"),
        ("PUT", "/demo?abac=", "abac"),
        ("GET", "/demo?abac=", "abac"),
        ("GET", "/demo/a/key?annotation=", "annotation"),
    ] {
        let reply = send(&neighbours, ROOT, method, target, &[], b"").await;
        assert_eq!(reply.status, StatusCode::NOT_IMPLEMENTED, "{method} {target}");
        let text = reply.text();
        assert!(text.contains("<Code>NotImplemented</Code>") && text.contains(names), "{text}");
    }
    let form = [("content-type", "multipart/form-data; boundary=b")];
    let body = b"--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--b\r\n\
                 Content-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nx\r\n--b--\r\n";
    let reply = send(&neighbours, ROOT, "POST", "/demo", &form, body).await;
    assert!(reply.text().contains("PostObject"), "{}", reply.text());
    assert_eq!(send(&neighbours, ROOT, "GET", "/demo/a/key", &[], b"").await.body, b"x");
}

#[tokio::test]
async fn the_sentence_names_user_action_and_resource() {
    let neighbours = with_object().await;
    ann(&neighbours, "").await;
    let reply = send(&neighbours, ANN, "GET", "/demo/a/key", &[], b"").await;
    let sentence = format!(
        "User: arn:aws:iam::{ACCOUNT}:user/Ann is not authorized to perform: s3:GetObject on resource: \
         arn:aws:s3:::demo/a/key because no identity-based policy allows the s3:GetObject action"
    );
    assert!(reply.text().contains(&sentence), "{}", reply.text());
    ann(&neighbours, &allow(r#""*""#, "*")).await;
    send(&neighbours, OTHER, "PUT", "/theirs", &[], b"").await;
    let reply = send(&neighbours, ANN, "GET", "/theirs/key", &[], b"").await;
    assert!(denied(&reply) && reply.text().contains("no resource-based policy allows"), "{}", reply.text());
}

#[tokio::test]
async fn rights_are_on_keys_prefixes_and_versions() {
    let neighbours = with_object().await;
    let list = r#"{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::demo",
                   "Condition":{"StringLike":{"s3:prefix":"a/*"},"NumericLessThanEquals":{"s3:max-keys":"10"}}}"#;
    let statements = [
        list.to_owned(),
        allow(r#"["s3:GetObject","s3:PutObject","s3:DeleteObject"]"#, "arn:aws:s3:::demo/a/*"),
    ];
    ann(&neighbours, &statements.join(",")).await;
    for (method, target, headers, allowed) in [
        ("GET", "/demo/a/key", vec![], true),
        ("GET", "/demo/b/key", vec![], false),
        ("GET", "/demo/a/key?versionId=null", vec![], false),
        ("GET", "/demo?list-type=2&prefix=a%2F&max-keys=10", vec![], true),
        ("GET", "/demo?list-type=2&prefix=a%2F&max-keys=11", vec![], false),
        ("GET", "/demo?list-type=2&max-keys=10", vec![], false),
        ("GET", "/demo?list-type=2&max-keys=10&prefix=a%2F&prefix=b", vec![], false),
        ("PUT", "/demo/a/new", vec![], true),
        ("PUT", "/demo/a/new", vec![("x-amz-tagging", "a=b")], false),
        ("PUT", "/demo/a/copy", vec![("x-amz-copy-source", "/demo/a/key")], true),
        ("PUT", "/demo/a/copy", vec![("x-amz-copy-source", "/demo/b/key")], false),
        ("PUT", "/demo/a/copy", vec![("x-amz-copy-source", "/demo/a/key?versionId=null")], false),
        ("PUT", "/demo/b/copy", vec![("x-amz-copy-source", "/demo/a/key")], false),
    ] {
        let reply = send(&neighbours, ANN, method, target, &headers, b"").await;
        assert_eq!(reply.status.is_success(), allowed, "{method} {target} {headers:?}: {}", reply.text());
    }
    let both = b"<Delete><Object><Key>a/key</Key></Object><Object><Key>b/key</Key></Object>\
                 <Object><Key>a/new</Key><VersionId>null</VersionId></Object></Delete>";
    let text = send(&neighbours, ANN, "POST", "/demo?delete=", &[], both).await.text();
    assert!(text.contains("<Deleted><Key>a/key</Key></Deleted>"), "{text}");
    assert_eq!(text.matches("<Code>AccessDenied</Code>").count(), 2, "{text}");
    assert!(text.contains("s3:DeleteObjectVersion"), "{text}");
}

#[tokio::test]
async fn tags_are_copied_for_those_who_may_read_and_write_tags() {
    let neighbours = with_object().await;
    let tags = b"<Tagging><TagSet><Tag><Key>class</Key><Value>secret</Value></Tag></TagSet></Tagging>";
    assert!(send(&neighbours, ROOT, "PUT", "/demo/a/key?tagging=", &[], tags).await.status.is_success());
    let source = ("x-amz-copy-source", "/demo/a/key");
    let replaced = [source, ("x-amz-tagging-directive", "REPLACE")];
    for (more, kept, fresh) in [
        ("", false, true),
        (r#","s3:GetObjectTagging""#, false, true),
        (r#","s3:PutObjectTagging""#, false, true),
        (r#","s3:GetObjectTagging","s3:PutObjectTagging""#, true, true),
    ] {
        let actions = format!(r#"["s3:GetObject","s3:PutObject"{more}]"#);
        ann(&neighbours, &allow(&actions, "arn:aws:s3:::demo/*")).await;
        let reply = send(&neighbours, ANN, "PUT", "/demo/b", &[source], b"").await;
        assert_eq!(reply.status.is_success(), kept, "{more}: {}", reply.text());
        let reply = send(&neighbours, ANN, "PUT", "/demo/c", &replaced, b"").await;
        assert_eq!(reply.status.is_success(), fresh, "{more}: {}", reply.text());
    }
    let copied = send(&neighbours, ROOT, "GET", "/demo/b?tagging=", &[], b"").await.text();
    assert!(copied.contains("<Value>secret</Value>"), "{copied}");
    let fresh = send(&neighbours, ROOT, "GET", "/demo/c?tagging=", &[], b"").await.text();
    assert!(!fresh.contains("secret"), "{fresh}");
}

#[tokio::test]
async fn who_may_not_list_is_not_told_what_is_missing() {
    let neighbours = with_object().await;
    let get = allow(r#""s3:GetObject""#, "arn:aws:s3:::demo/*");
    ann(&neighbours, &get).await;
    assert!(denied(&send(&neighbours, ANN, "GET", "/demo/none", &[], b"").await));
    ann(&neighbours, &format!("{get},{}", allow(r#""s3:ListBucket""#, "arn:aws:s3:::demo"))).await;
    let reply = send(&neighbours, ANN, "GET", "/demo/none", &[], b"").await;
    assert!(reply.text().contains("<Code>NoSuchKey</Code>"), "{}", reply.text());
}

#[tokio::test]
async fn buckets_belong_to_the_account_that_made_them() {
    let neighbours = with_object().await;
    let taken = send(&neighbours, OTHER, "PUT", "/demo", &[], b"").await;
    assert_eq!(taken.status, StatusCode::CONFLICT);
    assert!(taken.text().contains("<Code>BucketAlreadyExists</Code>"), "{}", taken.text());
    assert_eq!(send(&neighbours, OTHER, "PUT", "/theirs", &[], b"").await.status, StatusCode::OK);
    for (key, sees, not) in [(ROOT, "demo", "theirs"), (OTHER, "theirs", "demo")] {
        let list = send(&neighbours, key, "GET", "/", &[], b"").await.text();
        assert!(list.contains(&format!("<Name>{sees}</Name>")) && !list.contains(not), "{list}");
    }
    for (owner, status) in [(OTHER_ACCOUNT, StatusCode::OK), (ACCOUNT, StatusCode::FORBIDDEN)] {
        let expected = [("x-amz-expected-bucket-owner", owner)];
        let reply = send(&neighbours, OTHER, "GET", "/theirs?list-type=2", &expected, b"").await;
        assert_eq!(reply.status, status, "{owner}");
    }
    let source =
        [("x-amz-copy-source", "/demo/a/key"), ("x-amz-source-expected-bucket-owner", OTHER_ACCOUNT)];
    assert!(denied(&send(&neighbours, ROOT, "PUT", "/demo/copy", &source, b"").await));
    assert!(denied(&send(&neighbours, OTHER, "PUT", "/theirs/copy", &source[..1], b"").await));
}

#[tokio::test]
async fn temporary_credentials_need_their_token() {
    let neighbours = with_object().await;
    ann(&neighbours, &allow(r#""s3:GetObject""#, "*")).await;
    let of = SessionOf::User { name: "Ann".into(), id: "AIDA1".into() };
    let session = Session::new(AccountId::from_stored(ACCOUNT), of.clone(), None, 900);
    let (access_key, secret, token) =
        (session.access_key.clone(), session.secret.clone(), session.token.clone());
    neighbours.identities.add_session(session).await.unwrap();
    let key = (access_key.as_str(), secret.as_str());
    let get = async |key, headers: &[(&str, &str)]| {
        let reply = send(&neighbours, key, "GET", "/demo/a/key", headers, b"").await;
        (reply.status.as_u16(), reply.text())
    };
    let (header, wrong) = ("x-amz-security-token", token.replace(&token[..1], "!"));
    assert_eq!(get(key, &[(header, &token)]).await, (200, "x".to_owned()));
    for (key, headers) in
        [(key, vec![]), (key, vec![(header, wrong.as_str())]), (ROOT, vec![(header, &token)])]
    {
        let (status, text) = get(key, &headers).await;
        assert!(status == 400 && text.contains("<Code>InvalidToken</Code>"), "{headers:?}: {status} {text}");
    }
    assert!(denied(&send(&neighbours, key, "PUT", "/demo/a/key", &[(header, &token)], b"").await));
    let mut over = Session::new(AccountId::from_stored(ACCOUNT), of, None, 900);
    over.expires_at = Timestamp::from_millis(0);
    let (access_key, secret, token) = (over.access_key.clone(), over.secret.clone(), over.token.clone());
    neighbours.identities.add_session(over).await.unwrap();
    let (status, text) = get((&access_key, &secret), &[(header, &token)]).await;
    assert!(status == 400 && text.contains("<Code>ExpiredToken</Code>"), "{text}");
}
