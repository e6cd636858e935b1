//! STS.

use http::StatusCode;

use crate::support::{ACCOUNT, Neighbours, signed};

const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
const BODY: &[u8] = b"Action=GetCallerIdentity&Version=2011-06-15";

#[tokio::test]
async fn the_caller_learns_the_account_and_a_stranger_does_not() {
    let neighbours = Neighbours::start().await;
    let reply = neighbours.call("sts", "POST", "/", &FORM, BODY).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(reply.text().contains(&format!("<Account>{ACCOUNT}</Account>")));
    assert!(reply.headers.contains_key("x-amzn-requestid"));
    let wrong = neighbours.send(signed("other", "sts", "POST", "/", &FORM, BODY)).await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    assert!(wrong.text().contains("<Code>SignatureDoesNotMatch</Code>"));
}

#[tokio::test]
async fn a_service_that_is_not_here_is_named() {
    let neighbours = Neighbours::start().await;
    for (service, target) in [("lambda", "/2026-10-01/runtimes"), ("dynamodb", "/")] {
        let reply = neighbours.call(service, "GET", target, &[], b"").await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        assert_eq!(reply.headers["x-amzn-errortype"], "UnknownOperationException");
        assert!(reply.text().contains(&format!("{target} of the service '{service}'")), "{}", reply.text());
    }
}
