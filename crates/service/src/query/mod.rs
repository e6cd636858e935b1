//! `awsQuery`: operations by the parameter `Action`, members in a form, answers in XML.
//!
//! Reading order: this file, [`form`] (what was sent), [`crate::xml`] (what is answered).

pub mod form;

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use hearth_api::ErrorKind;
use http::{Method, StatusCode};

use self::form::Form;
use crate::error::{Code, Error, Exception};
use crate::input::Input;
use crate::operation::{Answer, Api, Operation};
use crate::pipeline::serve;
use crate::validate::Manner;
use crate::wire::{Received, Wire, respond, status};
use crate::xml::Xml;

const XML: &str = "text/xml";
const INVALID_ACTION: Exception = Exception { name: "InvalidAction", status: 400 };
const MISSING_ACTION: Exception = Exception { name: "MissingAction", status: 400 };
const VALIDATION: Exception = Exception { name: "ValidationError", status: 400 };

/// An API that speaks this protocol.
pub trait QueryApi: Api {
    /// The one version that there is of it.
    const VERSION: &'static str;
}

/// A request by the form that it carries.
#[derive(Debug, Default)]
struct Query(Form);

/// Answers a request.
pub async fn answer<A: QueryApi>(api: Arc<A>, request: Request) -> Response {
    serve(api, Query::default(), request).await
}

impl<A: QueryApi> Wire<A> for Query {
    const MANNER: Manner = Manner::Query;

    fn named(&self) -> Result<Option<&'static Operation<A>>, Error> {
        Ok(None)
    }

    fn operation(&mut self, received: &Received) -> Result<&'static Operation<A>, Error> {
        let Received { parts, body } = received;
        let body: &[u8] = if parts.method == Method::POST { body } else { b"" };
        self.0 = Form::read(parts.uri.query().unwrap_or(""), body)?;
        let missing = || Error::new(MISSING_ACTION, "The request must contain the parameter Action.");
        let action = self.0.get("Action").ok_or_else(missing)?;
        let version = self.0.get("Version").unwrap_or("NO_VERSION_SPECIFIED");
        if version != A::VERSION {
            let message = format!("Could not find operation {action} for version {version}");
            return Err(Error::new(INVALID_ACTION, message));
        }
        A::operation(action).ok_or_else(|| {
            let message = format!("The action {action} of {} is not served here.", A::TITLE);
            Error::new(INVALID_ACTION, message)
        })
    }

    fn decode(&self, operation: &'static Operation<A>, _: &Received) -> Result<Input, Error> {
        self.0.decode(operation.members).map(Input)
    }

    /// An operation without a result has no element for it.
    fn answer(&self, operation: &'static Operation<A>, answer: Answer, request_id: &str) -> Response {
        let inner = match answer {
            Answer::Xml(result) => Xml::default().element(&format!("{}Result", operation.name), result),
            _ => Xml::default(),
        };
        let metadata = Xml::default().text("RequestId", request_id);
        let inner = inner.element("ResponseMetadata", metadata);
        respond(StatusCode::OK, XML, document::<A>(&format!("{}Response", operation.name), inner))
    }

    fn refuse(&self, error: &Error, request_id: &str) -> Response {
        let Exception { name, status: code } = exception(error.code);
        let status = status(code);
        let fault = if status.is_server_error() { "Receiver" } else { "Sender" };
        let told = Xml::default().text("Type", fault).text("Code", name).text("Message", &error.message);
        let inner = Xml::default().element("Error", told).text("RequestId", request_id);
        respond(status, XML, document::<A>("ErrorResponse", inner))
    }
}

fn document<A: QueryApi>(root: &str, inner: Xml) -> String {
    let namespace = format!("https://{}.amazonaws.com/doc/{}/", A::SIGNING_NAME, A::VERSION);
    inner.document(root, &namespace)
}

/// Authentication and authorisation speak of exceptions; this protocol has other names for them.
fn exception(code: Code) -> Exception {
    let kind = match code {
        Code::Modelled(exception) => return exception,
        Code::Common(kind) => kind,
    };
    let (name, status) = match kind {
        ErrorKind::UnrecognizedClient => ("InvalidClientTokenId", 403),
        ErrorKind::InvalidSignature => ("SignatureDoesNotMatch", 403),
        ErrorKind::MissingAuthenticationToken => ("MissingAuthenticationToken", 403),
        ErrorKind::IncompleteSignature => ("IncompleteSignature", 403),
        ErrorKind::ExpiredToken => ("ExpiredToken", 403),
        ErrorKind::AccessDenied => ("AccessDenied", 403),
        ErrorKind::Validation => return VALIDATION,
        _ => ("ServiceFailure", 500),
    };
    Exception { name, status }
}
