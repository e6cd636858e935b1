//! Errors of `lambda-core` on their way out.

use axum::response::{IntoResponse, Response};
use hearth_api::{Error, ErrorKind};
use serde_json::json;

use crate::answer::{Answer, error_response};

/// An error on its way out.
#[derive(Debug)]
pub(super) struct Refused(Error);

/// What a handler returns.
pub(super) type Outcome = Result<Answer, Refused>;

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refused {
    /// The text is in `Message` or `message`, as the model has it for each exception; other members
    /// are left out (recorded exchanges).
    fn into_response(self) -> Response {
        let Error { kind, message } = self.0;
        match kind {
            ErrorKind::ResourceNotFound => error_response(kind, &json!({ "Message": message })),
            ErrorKind::InternalServer | ErrorKind::InsufficientCapacity => {
                error_response(ErrorKind::Service, &json!({ "Message": message }))
            }
            other => error_response(other, &json!({ "message": message })),
        }
    }
}
