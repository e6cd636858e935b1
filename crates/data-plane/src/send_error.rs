//! What a connection to an app says when it fails.

use std::error::Error as _;

use http::Request;

use crate::request_body::AppBody;

/// Why there is no answer, with the request if nothing of it was sent.
#[derive(Debug)]
pub(crate) struct SendError {
    pub(crate) request: Option<Request<AppBody>>,
    pub(crate) error: hyper::Error,
}

/// What went wrong below HTTP, if something did.
pub(crate) fn io_cause(error: &hyper::Error) -> Option<std::io::ErrorKind> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}
