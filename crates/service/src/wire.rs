//! Protocols: how requests name their operation and carry its members, and how answers and errors
//! are spelled. One more, such as `rpc-v2-cbor`, is one more implementation of [`Wire`].

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, StatusCode};

use crate::error::Error;
use crate::input::Input;
use crate::operation::{Answer, Api, Operation};
use crate::validate::Manner;

/// A request whose body was read and whose signature was verified.
#[derive(Debug)]
pub struct Received {
    /// Method, URI and headers.
    pub parts: Parts,
    /// The whole body.
    pub body: Bytes,
}

/// One request in a protocol.
pub trait Wire<A: Api>: Send + Sync + 'static {
    /// How violations are told.
    const MANNER: Manner;
    /// Whether the input is checked after the authorisation instead of before.
    const AUTHORISES_FIRST: bool = false;

    /// The operation, as far as the head of the request names it.
    ///
    /// # Errors
    /// When nobody's signature could lead to an operation.
    fn named(&self) -> Result<Option<&'static Operation<A>>, Error>;

    /// The operation and the members of a request that is authentic.
    ///
    /// # Errors
    /// When there is no such operation, or the members cannot be read.
    fn operation(&mut self, received: &Received) -> Result<&'static Operation<A>, Error>;

    /// The members of the request.
    ///
    /// # Errors
    /// When they cannot be read.
    fn decode(&self, operation: &'static Operation<A>, received: &Received) -> Result<Input, Error>;

    /// The answer to a call of `operation`.
    fn answer(&self, operation: &'static Operation<A>, answer: Answer, request_id: &str) -> Response;

    /// The answer to a call that was refused or failed.
    fn refuse(&self, error: &Error, request_id: &str) -> Response;
}

/// An answer with this content type.
pub fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The status of an error; codes are constants with statuses that exist.
pub(crate) fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("invariant: errors have valid statuses")
}
