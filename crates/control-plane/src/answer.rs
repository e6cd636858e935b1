//! Answers on their way out.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hearth_api::{Error, ErrorKind};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::json;

/// A JSON answer; the body is text so that one that was kept can be given again as it was.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Answer {
    /// 200 with this body.
    pub(crate) fn ok(output: &impl Serialize) -> Self {
        Self::text(StatusCode::OK, to_json(output))
    }

    /// 200 with `{}`.
    pub(crate) fn empty() -> Self {
        Self::text(StatusCode::OK, "{}".to_owned())
    }

    /// 204 without a body.
    pub(crate) fn no_content() -> Self {
        Self::text(StatusCode::NO_CONTENT, String::new())
    }

    /// A body that is JSON already.
    pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, body: body.into() }
    }
}

/// JSON text of an answer.
pub(crate) fn to_json(output: &impl Serialize) -> String {
    serde_json::to_string(output).expect("invariant: answers have string keys only")
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// An error on its way out.
#[derive(Debug)]
pub(crate) struct Refused(Error);

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refused {
    /// The members that an exception has besides `message` are null (recorded exchanges).
    fn into_response(self) -> Response {
        let Error { kind, message } = self.0;
        let body = match kind {
            ErrorKind::ResourceNotFound | ErrorKind::Conflict => {
                json!({ "message": message, "resourceId": null, "resourceType": null })
            }
            ErrorKind::ServiceQuotaExceeded => json!({
                "message": message,
                "resourceId": null,
                "resourceType": null,
                "serviceCode": null,
                "quotaCode": null,
            }),
            ErrorKind::Throttling => json!({ "message": message, "serviceCode": null, "quotaCode": null }),
            ErrorKind::Validation
            | ErrorKind::InvalidParameterValue
            | ErrorKind::NetworkConnectorLimitExceeded
            | ErrorKind::ResourceConflict
            | ErrorKind::Service
            | ErrorKind::AccessDenied
            | ErrorKind::InvalidSignature
            | ErrorKind::MissingAuthenticationToken
            | ErrorKind::IncompleteSignature
            | ErrorKind::UnrecognizedClient
            | ErrorKind::ExpiredToken
            | ErrorKind::UnknownOperation
            | ErrorKind::InternalServer
            | ErrorKind::InsufficientCapacity => json!({ "message": message }),
        };
        error_response(kind, &body)
    }
}

/// An error with its status and class.
pub(crate) fn error_response(kind: ErrorKind, body: &serde_json::Value) -> Response {
    let status = StatusCode::from_u16(kind.status()).expect("invariant: kinds have valid statuses");
    let mut response = Answer::text(status, body.to_string()).into_response();
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(kind.name()));
    if kind == ErrorKind::Throttling {
        // A second later a token is there at any rate.
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// What a handler returns.
pub(crate) type Outcome = Result<Answer, Refused>;
