//! Who gets in, and the form of errors.

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::support::{Api, image_arn, signed};

#[tokio::test]
async fn only_requests_signed_with_a_known_key_for_lambda_get_in() {
    let api = Api::start().await;
    let target = "/2025-09-09/microvms";
    let unsigned = Request::builder().uri(target).body(Body::empty()).unwrap();
    let mut unknown = signed("secret", "lambda", "GET", target, b"");
    let authorization = unknown.headers()["authorization"].to_str().unwrap().replace("AKID", "OTHER");
    unknown.headers_mut().insert("authorization", authorization.parse().unwrap());
    let mut garbled = signed("secret", "lambda", "GET", target, b"");
    garbled.headers_mut().insert("authorization", "AWS4-HMAC-SHA256 x".parse().unwrap());
    let mut stale = signed("secret", "lambda", "GET", target, b"");
    let authorization = stale.headers()["authorization"].to_str().unwrap().to_owned();
    let today = authorization.split('/').nth(1).unwrap().to_owned();
    stale.headers_mut().insert("x-amz-date", "20200101T000000Z".parse().unwrap());
    stale.headers_mut().insert("authorization", authorization.replace(&today, "20200101").parse().unwrap());
    for (request, expected) in [
        (unsigned, "MissingAuthenticationTokenException"),
        (unknown, "UnrecognizedClientException"),
        (garbled, "IncompleteSignatureException"),
        (stale, "InvalidSignatureException"),
        (signed("wrong", "lambda", "GET", target, b""), "InvalidSignatureException"),
        (signed("secret", "s3", "GET", target, b""), "InvalidSignatureException"),
    ] {
        let reply = api.send(request).await;
        assert_eq!((reply.status, reply.error_type()), (StatusCode::FORBIDDEN, expected));
        assert!(!reply.message().is_empty());
    }
    assert_eq!(api.send(signed("secret", "lambda", "GET", target, b"")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_unknown_operations() {
    let api = Api::start().await;
    for (method, target) in [("GET", "nothing"), ("PUT", "microvms"), ("POST", "microvms/x/nothing")] {
        let reply = api.call(method, target, Value::Null).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{method} {target}");
        assert_eq!(reply.error_type(), "UnknownOperationException");
    }
}

#[tokio::test]
async fn unreadable_bodies_are_refused_with_the_place() {
    let api = Api::start().await;
    let target = "/2025-09-09/microvms";
    let reply = api.send(signed("secret", "lambda", "POST", target, b"{\"imageIdentifier\": ")).await;
    assert_eq!((reply.status, reply.error_type()), (StatusCode::BAD_REQUEST, "ValidationException"));
    assert!(reply.message().contains("not valid JSON: EOF while parsing a value at line 1"));
    assert_eq!(reply.body, json!({ "message": reply.message() }));

    let reply = api.call("POST", "microvms", json!({ "imageIdentifier": 5 })).await;
    assert!(
        reply.message().contains("'imageIdentifier' failed to satisfy constraint: Member must be a string")
    );

    let long = vec![b' '; 6 * 1024 * 1024 + 1];
    let reply = api.send(signed("secret", "lambda", "POST", target, &long)).await;
    assert!(reply.message().contains("must not be longer"), "{}", reply.message());
}

#[tokio::test]
async fn identifiers_are_arns_of_the_own_account() {
    let api = Api::start().await;
    api.built_image("app", |_| ()).await;
    let arn = image_arn("app");
    for target in [arn.clone(), arn.replace(':', "%3A")] {
        assert_eq!(api.get(&format!("microvm-images/{target}")).await.body["name"], "app", "{target}");
    }
    for (identifier, status, message) in [
        ("app", StatusCode::BAD_REQUEST, "Malformed ARN - doesn't start with 'arn:'".to_owned()),
        ("arn:x", StatusCode::BAD_REQUEST, "Invalid ARN format: arn:x".to_owned()),
        (
            &image_arn("none"),
            StatusCode::NOT_FOUND,
            format!("MicroVMImage not found for MicroVMImageID: {}", image_arn("none")),
        ),
    ] {
        let reply = api.get(&format!("microvm-images/{identifier}")).await;
        assert_eq!((reply.status, reply.message()), (status, message.as_str()));
    }
    let foreign = arn.replace("000000000000", "111111111111");
    let reply = api.get(&format!("microvm-images/{foreign}")).await;
    assert_eq!(reply.error_type(), "AccessDeniedException");

    let lenient = Api::start_with(|config| config.lenient_image_names = true).await;
    lenient.built_image("app", |_| ()).await;
    assert_eq!(lenient.get("microvm-images/app").await.body["name"], "app");
}
