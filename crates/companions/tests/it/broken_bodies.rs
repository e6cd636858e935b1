//! Bodies that end early.

use axum::body::Body;
use http::StatusCode;

use crate::support::{Neighbours, signed};

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
