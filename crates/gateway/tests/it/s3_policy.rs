//! Bucket policies, and the other settings that are kept.

use http::StatusCode;

use crate::support::{Keys, Neighbours, OTHER_ACCOUNT, Reply};

async fn with_bucket() -> Neighbours {
    let neighbours = Neighbours::start().await;
    for (target, body) in [("/demo", b"".as_slice()), ("/demo/key", b"x")] {
        neighbours.call("s3", "PUT", target, &[], body).await.ok();
    }
    neighbours
}

async fn put_policy(neighbours: &Neighbours, statement: &str) -> Reply {
    let policy = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
    neighbours.call("s3", "PUT", "/demo?policy=", &[], policy.as_bytes()).await
}

async fn other(neighbours: &Neighbours, method: &str, target: &str, body: &[u8]) -> StatusCode {
    neighbours.send(Keys::other_root().sign("s3", method, target, &[], body)).await.status
}

fn statement(effect: &str, principal: &str, action: &str, resource: &str) -> String {
    format!(
        r#"{{"Effect":"{effect}","Principal":{principal},"Action":"{action}","Resource":"arn:aws:s3:::{resource}"}}"#
    )
}

#[tokio::test]
async fn another_account_does_what_the_policy_and_its_own_allow() {
    let neighbours = with_bucket().await;
    let account = format!(r#"{{"AWS":"arn:aws:iam::{OTHER_ACCOUNT}:root"}}"#);
    assert_eq!(other(&neighbours, "GET", "/demo/key", b"").await, StatusCode::FORBIDDEN);
    let reply = put_policy(&neighbours, &statement("Allow", &account, "s3:GetObject", "demo/*")).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
    assert_eq!(other(&neighbours, "GET", "/demo/key", b"").await, StatusCode::OK);
    assert_eq!(other(&neighbours, "PUT", "/demo/key", b"y").await, StatusCode::FORBIDDEN);
    assert_eq!(other(&neighbours, "DELETE", "/demo", b"").await, StatusCode::FORBIDDEN);
    let read = neighbours.call("s3", "GET", "/demo?policy=", &[], b"").await;
    assert!(read.text().contains("s3:GetObject"), "{}", read.text());
    let gone = neighbours.call("s3", "DELETE", "/demo?policy=", &[], b"").await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(other(&neighbours, "GET", "/demo/key", b"").await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_deny_holds_for_the_owner_too_but_for_the_policy_itself() {
    let neighbours = with_bucket().await;
    let all = statement("Deny", r#""*""#, "s3:*", "demo*");
    assert_eq!(put_policy(&neighbours, &all).await.status, StatusCode::NO_CONTENT);
    let denied = neighbours.call("s3", "GET", "/demo/key", &[], b"").await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    assert!(denied.text().contains("explicit deny in a resource-based policy"), "{}", denied.text());
    let gone = neighbours.call("s3", "DELETE", "/demo?policy=", &[], b"").await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(neighbours.call("s3", "GET", "/demo/key", &[], b"").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_policy_that_is_public_or_wrong_is_not_taken() {
    let neighbours = with_bucket().await;
    for (statement, code) in [
        (statement("Allow", r#""*""#, "s3:GetObject", "demo/*"), "AccessDenied"),
        (statement("Deny", r#""*""#, "s3:GetObject", "other/*"), "MalformedPolicy"),
        (r#"{"Effect":"Allow"}"#.to_owned(), "MalformedPolicy"),
    ] {
        assert_eq!(put_policy(&neighbours, &statement).await.field("Code"), code, "{statement}");
    }
    assert_eq!(
        neighbours.call("s3", "GET", "/demo?policy=", &[], b"").await.field("Code"),
        "NoSuchBucketPolicy"
    );
}

#[tokio::test]
async fn settings_are_given_back_as_they_were_put() {
    let neighbours = with_bucket().await;
    let lifecycle = "<LifecycleConfiguration><Rule><ID>old</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>\
        <NoncurrentVersionExpiration><NoncurrentDays>30</NoncurrentDays></NoncurrentVersionExpiration>\
        <AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>\
        </Rule></LifecycleConfiguration>";
    let cors = "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>https://*.example.com\
        </AllowedOrigin><AllowedHeader>x-amz-*</AllowedHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule>\
        </CORSConfiguration>";
    let notification = "<NotificationConfiguration><EventBridgeConfiguration></EventBridgeConfiguration>\
        </NotificationConfiguration>";
    for (setting, xml, shown) in [
        ("lifecycle", lifecycle, "<NoncurrentDays>30</NoncurrentDays>"),
        ("cors", cors, "<AllowedOrigin>https://*.example.com</AllowedOrigin>"),
        ("notification", notification, "EventBridgeConfiguration"),
    ] {
        let target = format!("/demo?{setting}=");
        let put = neighbours.call("s3", "PUT", &target, &[], xml.as_bytes()).await;
        assert_eq!(put.status, StatusCode::OK, "{setting}: {}", put.text());
        let read = neighbours.call("s3", "GET", &target, &[], b"").await;
        assert!(read.text().contains(shown), "{setting}: {}", read.text());
    }
    let bad = lifecycle.replace(">7<", ">0<");
    let refused = neighbours.call("s3", "PUT", "/demo?lifecycle=", &[], bad.as_bytes()).await;
    assert_eq!(refused.field("Code"), "InvalidArgument");

    let preflight = async |origin: &str, method: &str| {
        let request = http::Request::builder().method("OPTIONS").uri("/demo/key").header("host", "127.0.0.1");
        let request = request.header("origin", origin).header("access-control-request-method", method);
        let request = request.header("access-control-request-headers", "x-amz-date");
        neighbours.send(request.body(axum::body::Body::empty()).unwrap()).await
    };
    let allowed = preflight("https://app.example.com", "GET").await;
    assert_eq!(allowed.status, StatusCode::OK);
    assert_eq!(allowed.headers["access-control-allow-origin"], "https://app.example.com");
    assert_eq!(preflight("https://app.example.org", "GET").await.status, StatusCode::FORBIDDEN);
    assert_eq!(preflight("https://app.example.com", "PUT").await.status, StatusCode::FORBIDDEN);
    let origin = [("origin", "https://app.example.com")];
    let answer = neighbours.call("s3", "GET", "/demo/key", &origin, b"").await;
    assert_eq!(answer.headers["access-control-allow-origin"], "https://app.example.com");
}

#[tokio::test]
async fn what_is_over_by_a_lifecycle_rule_goes() {
    let neighbours = with_bucket().await;
    let enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    neighbours.call("s3", "PUT", "/demo?versioning=", &[], enabled).await.ok();
    neighbours.call("s3", "PUT", "/demo/key", &[], b"newer").await.ok();
    neighbours.call("s3", "PUT", "/demo/logs/a", &[], b"log").await.ok();
    neighbours.call("s3", "POST", "/demo/up?uploads=", &[], b"").await.ok();
    let lifecycle = "<LifecycleConfiguration>\
        <Rule><Filter><Prefix>logs/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>\
        <Rule><Filter></Filter><Status>Enabled</Status>\
        <NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays></NoncurrentVersionExpiration>\
        <AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>\
        </Rule></LifecycleConfiguration>";
    neighbours.call("s3", "PUT", "/demo?lifecycle=", &[], lifecycle.as_bytes()).await.ok();
    let there = async || {
        let versions = neighbours.call("s3", "GET", "/demo?versions=", &[], b"").await.fields("Key");
        let uploads = neighbours.call("s3", "GET", "/demo?uploads=", &[], b"").await.fields("Key");
        let current = neighbours.call("s3", "GET", "/demo?list-type=2", &[], b"").await.fields("Key");
        (versions.len(), uploads.len(), current.len())
    };
    let in_hours = |hours: i64| jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
    for (hours, expected) in [(0, (3, 1, 2)), (48, (3, 0, 2)), (72, (2, 0, 2)), (96, (2, 0, 1))] {
        neighbours.storage.expire(in_hours(hours)).await.unwrap();
        assert_eq!(there().await, expected, "after {hours} hours");
    }
}

#[tokio::test]
async fn white_space_in_a_policy_is_counted() {
    let neighbours = with_bucket().await;
    let spaces = " ".repeat(20 * 1024);
    for statement in [
        statement("Deny", r#""*""#, "s3:GetObject", &format!("demo/{spaces}")),
        format!("{}{spaces}", statement("Deny", r#""*""#, "s3:GetObject", "demo/*")),
    ] {
        let reply = put_policy(&neighbours, &statement).await;
        assert_eq!(reply.field("Code"), "MalformedPolicy");
        assert!(reply.field("Message").contains("A bucket policy may have 20480"), "{}", reply.text());
    }
}

#[tokio::test]
async fn settings_from_before_they_had_files_are_still_there() {
    let mut neighbours = with_bucket().await;
    neighbours.call("s3", "PUT", "/closed", &[], b"").await.ok();
    let rule = "<Rule><Filter><Prefix>a</Prefix></Filter><Status>Enabled</Status><Expiration><Days>1</Days>\
        </Expiration></Rule>";
    let cors =
        "<CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>https://old</AllowedOrigin></CORSRule>";
    let policy = |resource: &str| {
        let statement = statement("Deny", r#""*""#, "s3:GetObject", resource);
        format!("{{\"Version\":\"2012-10-17\",{}\"Statement\":[{statement}]}}", " ".repeat(200_000))
    };
    let setting = |xml: &str| format!("<Setting>{xml}</Setting>");
    for (bucket, resource) in
        [("demo", "demo/*".to_owned()), ("closed", format!("closed/{}", " ".repeat(200_000)))]
    {
        let path = neighbours.directory.path().join(bucket).join("bucket.json");
        let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        record["lifecycle"] = setting(rule).into();
        record["cors"] = setting(cors).into();
        record["notification"] = setting("<EventBridgeConfiguration></EventBridgeConfiguration>").into();
        record["policy"] = policy(&resource).into();
        std::fs::write(&path, record.to_string()).unwrap();
    }
    for _ in 0..2 {
        neighbours = neighbours.restart().await;
        for (name, shown) in
            [("lifecycle", "<Days>1</Days>"), ("cors", "https://old"), ("notification", "EventBridge")]
        {
            let read = neighbours.call("s3", "GET", &format!("/demo?{name}="), &[], b"").await;
            assert!(read.text().contains(shown), "{name}: {}", read.text());
        }
        let denied = neighbours.call("s3", "GET", "/demo/key", &[], b"").await;
        assert!(denied.text().contains("explicit deny in a resource-based policy"), "{}", denied.text());
        // What is too long to be followed even so closes the bucket, but not to another policy.
        let closed = neighbours.call("s3", "GET", "/closed/key", &[], b"").await;
        assert!(closed.text().contains("put it again or delete it"), "{}", closed.text());
        let length = std::fs::metadata(neighbours.directory.path().join("demo/bucket.json")).unwrap().len();
        assert!(length < 2000, "{length}");
    }
    let gone = neighbours.call("s3", "DELETE", "/closed?policy=", &[], b"").await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{}", gone.text());
    let found = neighbours.call("s3", "GET", "/closed/key", &[], b"").await;
    assert_eq!(found.field("Code"), "NoSuchKey");
}
