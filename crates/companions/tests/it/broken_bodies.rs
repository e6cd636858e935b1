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
