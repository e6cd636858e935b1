//! What a signature must cover, and what a right to copy does not include.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use bytes::Bytes;
use hearth_identity::SourceAddress;
use http::{Request, StatusCode};

use crate::support::{ACCOUNT, Keys, Neighbours, OTHER_ACCOUNT, Reply};

async fn with_secret() -> Neighbours {
    let neighbours = Neighbours::start().await;
    for (target, body) in [("/incoming", b"".as_slice()), ("/private", b""), ("/private/secret", b"canary")] {
        assert_eq!(neighbours.call("s3", "PUT", target, &[], body).await.status, StatusCode::OK);
    }
    neighbours
}

fn with_header(mut request: Request<Body>, name: &'static str, value: &'static str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

fn put(target: &str) -> Request<Body> {
    Keys::root().sign("s3", "PUT", target, &[], b"")
}

#[tokio::test]
async fn an_upload_is_no_copy_and_has_no_metadata_unless_that_was_signed() {
    let neighbours = with_secret().await;
    for (name, value) in [
        ("x-amz-copy-source", "/private/secret"),
        ("x-amz-meta-owner", "boss"),
        ("x-amz-tagging", "class=public"),
        ("x-amz-acl", "private"),
    ] {
        for target in
            ["/incoming/x", "/incoming/x?partNumber=1&uploadId=11111111-1111-1111-1111-111111111111"]
        {
            let reply = neighbours.send(with_header(put(target), name, value)).await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{name} {target}");
            assert!(reply.text().contains("not signed: x-amz-"), "{}", reply.text());
        }
    }
    assert_eq!(neighbours.call("s3", "GET", "/incoming/x", &[], b"").await.status, StatusCode::NOT_FOUND);
    let harmless = with_header(put("/incoming/x"), "x-amzn-trace-id", "Root=1");
    assert_eq!(neighbours.send(with_header(harmless, "user-agent", "x")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_body_of_an_unknown_caller_is_not_read() {
    let neighbours = with_secret().await;
    let nobody = Keys { id: "AKNOBODY".to_owned(), secret: "secret".to_owned(), token: None };
    let anonymous = Request::builder().method("PUT").uri("/incoming/x").header("host", "127.0.0.1:9400");
    let anonymous = anonymous.header("content-length", "3").body(Body::empty()).unwrap();
    for request in [nobody.sign("s3", "PUT", "/incoming/x", &[], b"abc"), anonymous] {
        let read = |()| -> Option<(Result<Bytes, std::convert::Infallible>, ())> { panic!("it was read") };
        let unread = Body::from_stream(futures::stream::unfold((), move |state| async move { read(state) }));
        let request = Request::from_parts(request.into_parts().0, unread);
        assert_eq!(neighbours.send(request).await.status, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn unsigned_targets_choose_no_operation_of_the_other_services() {
    let neighbours = Neighbours::start().await;
    let body = b"{}";
    let request = Keys::root().sign("logs", "POST", "/", &[], body);
    let reply =
        neighbours.send(with_header(request, "x-amz-target", "Logs_20140328.DescribeLogGroups")).await;
    assert_ne!(reply.status, StatusCode::OK);
    assert!(reply.text().contains("'x-amz-target' must be a 'SignedHeader'"), "{}", reply.text());
}

#[tokio::test]
async fn the_buckets_of_the_command_line_are_made_by_their_account_only() {
    let neighbours = Neighbours::start().await;
    let make = async |keys: &Keys, account: &str| -> Reply {
        let target = format!("/hearth-artifacts-{account}");
        neighbours.send(keys.sign("s3", "PUT", &target, &[], b"")).await
    };
    let squatted = make(&Keys::other_root(), ACCOUNT).await;
    assert_eq!(squatted.status, StatusCode::FORBIDDEN);
    assert!(squatted.text().contains("reserved for that account"), "{}", squatted.text());
    assert_eq!(make(&Keys::other_root(), OTHER_ACCOUNT).await.status, StatusCode::OK);
    assert_eq!(make(&Keys::root(), ACCOUNT).await.status, StatusCode::OK);
    // Not the name of anybody's bucket.
    assert_eq!(make(&Keys::root(), "team").await.status, StatusCode::OK);
}

/// The kind: a short request that a verifier makes a long one of.
#[tokio::test]
async fn a_header_cannot_be_named_again_and_again() {
    let neighbours = Neighbours::start().await;
    for (list, says) in [
        (format!("host{}", ";a".repeat(15_000)), "more than 100 headers"),
        ("host;x-amz-date;host".to_owned(), "each header once"),
    ] {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKID/20260102/us-east-1/s3/aws4_request, SignedHeaders={list}, Signature=0"
        );
        let query = format!("/b?X-Amz-Signature=0&X-Amz-SignedHeaders={list}");
        for (code, target, authorization) in [
            ("AuthorizationHeaderMalformed", "/b", Some(authorization)),
            ("AuthorizationQueryParametersError", &query, None),
        ] {
            let mut request = Request::builder().uri(target).header("host", "127.0.0.1:9400");
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let (status, found, message) =
                neighbours.send(request.body(Body::empty()).unwrap()).await.refusal();
            assert_eq!((status, found.as_str()), (400, code));
            assert!(message.contains(says), "{message}");
        }
    }
}

/// The kind: one account that uses everything from many addresses. Whose a connection is is known
/// while its body comes, and not before the signature was verified.
#[tokio::test]
async fn an_upload_is_of_the_account_that_signed_it() {
    let neighbours = with_secret().await;
    let mut users = Vec::new();
    let wrong = Keys { secret: "wrong".to_owned(), ..Keys::root() };
    for keys in [Keys::root(), Keys::other_root(), wrong] {
        let source = SourceAddress::plain(([192, 0, 2, 1], 1).into());
        let (user, seen) = (source.user.clone(), Arc::new(Mutex::new(None)));
        let noting = seen.clone();
        let pieces = futures::stream::once(async move {
            *noting.lock().unwrap() = user.get();
            Err::<Bytes, _>(std::io::Error::other("that is enough"))
        });
        let mut request = keys.sign("s3", "PUT", "/incoming/x", &[], b"abc");
        request.headers_mut().insert("content-length", "8388608".parse().unwrap());
        request.extensions_mut().insert(source);
        neighbours.send(request.map(|_: Vec<u8>| Body::from_stream(pieces))).await;
        users.push(*seen.lock().unwrap());
    }
    assert_eq!(users[0].map(std::num::NonZeroU64::get), Some(1), "the first account is 000000000000");
    assert_eq!(users[2], None);
}
