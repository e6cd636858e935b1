//! Bodies that end early.

use axum::body::Body;
use http::StatusCode;

use crate::support::{Keys, Neighbours, signed};

#[tokio::test]
async fn a_body_that_breaks_off_is_the_callers_fault() {
    let neighbours = Neighbours::start().await;
    for target in ["/demo", "/demo/key", "/demo?delete"] {
        for method in ["PUT", "POST"] {
            let broken =
                futures::stream::iter([Ok("abc"), Err(std::io::Error::other("the connection is gone"))]);
            let request =
                signed("secret", "s3", method, target, &[], b"abcdef").map(|_| Body::from_stream(broken));
            let reply = neighbours.send(request).await;
            assert_ne!(reply.status, StatusCode::INTERNAL_SERVER_ERROR, "{method} {target}: {reply:?}");
        }
    }
    let broken = futures::stream::iter([Err::<&str, _>(std::io::Error::other("the connection is gone"))]);
    let request = signed("secret", "s3", "PUT", "/demo", &[], b"abcdef").map(|_| Body::from_stream(broken));
    let reply = neighbours.send(request).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert!(reply.text().contains("<Code>IncompleteBody</Code>"), "{}", reply.text());
}

#[tokio::test]
async fn a_body_that_was_not_signed_is_the_callers_fault() {
    let neighbours = Neighbours::start().await;
    neighbours.call("s3", "PUT", "/demo", &[], b"").await.ok();
    for target in ["/new", "/demo/key", "/demo?tagging", "/demo?delete"] {
        for sent in ["abcde", "abcdeg", ""] {
            let length = sent.len().to_string();
            let headers = [("content-length", length.as_str())];
            let method = if target.ends_with("delete") { "POST" } else { "PUT" };
            let request =
                signed("secret", "s3", method, target, &headers, b"abcdef").map(|_| Body::from(sent));
            let reply = neighbours.send(request).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{target}: {}", reply.text());
            assert_eq!(reply.field("Code"), "XAmzContentSHA256Mismatch", "{target}");
        }
    }
    assert_eq!(neighbours.call("s3", "GET", "/demo/key", &[], b"").await.status, StatusCode::NOT_FOUND);
    assert_eq!(neighbours.temporary_files(), 0);
}

/// The kind: an upload that holds its connection for ever. The client is told what S3 tells it, and
/// nothing is kept.
#[tokio::test]
async fn an_upload_that_stands_still_is_cut() {
    let neighbours = Neighbours::start().await;
    neighbours.call("s3", "PUT", "/demo", &[], b"").await.ok();
    tokio::time::pause();
    let begun = futures::stream::iter([Ok::<_, std::io::Error>("abc")]);
    let standing = futures::StreamExt::chain(begun, futures::stream::pending());
    let mut request = signed("secret", "s3", "PUT", "/demo/key", &[], b"abcdef");
    request.headers_mut().insert("content-length", "8388608".parse().unwrap());
    let answer = neighbours.send(request.map(|_| Body::from_stream(standing)));
    let reply = tokio::time::timeout(std::time::Duration::from_mins(5), answer).await.unwrap();
    assert_eq!((reply.status, reply.field("Code").as_str()), (StatusCode::BAD_REQUEST, "RequestTimeout"));
    assert!(reply.text().contains("Idle connections will be closed."), "{}", reply.text());
    assert_eq!(neighbours.temporary_files(), 0);
}

/// The kind: a body that is read for a signature which cannot be good. The refusal is that of the
/// headers.
#[tokio::test]
async fn headers_are_judged_before_the_body_is_read() {
    let neighbours = Neighbours::start().await;
    neighbours.call("s3", "PUT", "/demo", &[], b"").await.ok();
    let now = jiff::Timestamp::now();
    let hour = jiff::SignedDuration::from_hours(1);
    let signed = |at| Keys::root().sign_at(("127.0.0.1:9400", at), "s3", "PUT", "/demo/key", &[], b"abcdef");
    let plain = |query: String| {
        let request = http::Request::builder().method("PUT").uri(format!("/demo/key?{query}"));
        request.header("host", "127.0.0.1:9400").body(Body::empty()).unwrap()
    };
    let date = (now - hour).strftime("%Y%m%dT%H%M%SZ").to_string();
    let presigned = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID%2F{}%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date={date}\
         &X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature={}",
        &date[..8],
        "a".repeat(64)
    );
    for (request, code) in [
        (signed(now - hour), "RequestTimeTooSkewed"),
        (signed(now + hour), "RequestTimeTooSkewed"),
        (plain(presigned), "AccessDenied"),
        (plain("AWSAccessKeyId=AKID&Expires=1700000000&Signature=abc%3D".to_owned()), "AccessDenied"),
    ] {
        // Read first, it would be an IncompleteBody.
        let broken = futures::stream::iter([Ok("abc"), Err(std::io::Error::other("the connection is gone"))]);
        let mut request = request.map(|_| Body::from_stream(broken));
        request.headers_mut().insert("content-length", "6".parse().unwrap());
        let reply = neighbours.send(request).await;
        assert_eq!(
            (reply.status, reply.field("Code").as_str()),
            (StatusCode::FORBIDDEN, code),
            "{}",
            reply.text()
        );
    }
    let reply = neighbours.send(signed(now)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
}
