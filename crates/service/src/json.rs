//! `awsJson1_1`: operations by the header `X-Amz-Target`, members in a JSON body.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use hearth_api::{ErrorKind, json_values};
use http::StatusCode;
use serde_json::Map;

use crate::error::{Code, Error};
use crate::input::Input;
use crate::misread::{SERIALIZATION, misread};
use crate::operation::{Answer, Api, Operation};
use crate::pipeline::serve;
use crate::validate::Manner;
use crate::wire::{Received, Wire, respond, status};

/// Values in a body. Those of 10,000 events, the most that any call may have, are three each.
const MAXIMUM_JSON_VALUES: usize = 50_000;
const JSON: &str = "application/x-amz-json-1.1";

/// A request by the name of its operation.
struct Json<A: Api> {
    name: String,
    operation: Option<&'static Operation<A>>,
}

/// Answers a request for the operation `name`: `X-Amz-Target` without its prefix.
pub async fn answer<A: Api>(api: Arc<A>, name: String, request: Request) -> Response {
    let operation = A::operation(&name);
    serve(api, Json { name, operation }, request).await
}

impl<A: Api> Wire<A> for Json<A> {
    const MANNER: Manner = Manner::Json;
    const AUTHORISES_FIRST: bool = true;

    fn named(&self) -> Result<Option<&'static Operation<A>>, Error> {
        Ok(self.operation)
    }

    fn operation(&mut self, _: &Received) -> Result<&'static Operation<A>, Error> {
        self.operation.ok_or_else(|| {
            let message = format!("The operation {} of {} is not served here.", self.name, A::TITLE);
            Error::new(ErrorKind::UnknownOperation, message)
        })
    }

    fn decode(&self, _: &'static Operation<A>, received: &Received) -> Result<Input, Error> {
        // Clients leave the body out when there are no members.
        let body: &[u8] = if received.body.is_empty() { b"{}" } else { &received.body };
        if json_values(body) > MAXIMUM_JSON_VALUES {
            return Err(Error::new(
                SERIALIZATION,
                format!("The body of the request must not have more than {MAXIMUM_JSON_VALUES} values."),
            ));
        }
        serde_json::from_slice::<Map<_, _>>(body).map(Input).map_err(|error| misread(&error))
    }

    fn answer(&self, _: &'static Operation<A>, answer: Answer, _: &str) -> Response {
        match answer {
            Answer::Stream(content_type, body) => respond(StatusCode::OK, content_type, body),
            other => respond(StatusCode::OK, JSON, other.into_text().unwrap_or_default()),
        }
    }

    /// Statuses are 400 but for failures of ours.
    fn refuse(&self, error: &Error, _: &str) -> Response {
        let (name, code) = match error.code {
            Code::Common(ErrorKind::InternalServer) => ("ServiceUnavailableException", 503),
            Code::Common(kind) => (kind.name(), 400),
            Code::Modelled(exception) => (exception.name, exception.status),
        };
        let message =
            if error.cause().is_some() { "The service cannot complete the request." } else { &error.message };
        let body = serde_json::json!({ "__type": name, "message": message });
        respond(status(code), JSON, body.to_string())
    }
}
