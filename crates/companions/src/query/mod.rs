//! The query protocol of IAM and STS: forms in, XML out (botocore's protocol `query`).
//!
//! Reading order: [`form`] (what was sent), [`shape`] and [`texts`] (what it must look like),
//! [`xml`] and [`page`] (what is answered).

pub(crate) mod form;
pub(crate) mod page;
pub(crate) mod shape;
pub(crate) mod texts;
pub(crate) mod xml;

use hearth_api::{Error, ErrorKind};
use hearth_identity::{Caller, Identities};
use http::request::Parts;
use http::{Method, StatusCode};

use crate::{iam, sts};
use form::Form;
use xml::Xml;

/// A service that speaks the query protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    Iam,
    Sts,
}

impl Api {
    /// As requests are signed for it.
    pub(crate) fn service(self) -> &'static str {
        match self {
            Self::Iam => "iam",
            Self::Sts => "sts",
        }
    }

    /// The one version that there is of it.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Iam => "2010-05-08",
            Self::Sts => "2011-06-15",
        }
    }

    /// The answer to `action`: 200. `result` is `None` for an action whose answer has no result.
    pub(crate) fn answer(self, action: &str, result: Option<Xml>, request_id: &str) -> String {
        let mut inner = Xml::default();
        if let Some(result) = result {
            inner = inner.element(&format!("{action}Result"), result);
        }
        let metadata = Xml::default().text("RequestId", request_id);
        self.document(&format!("{action}Response"), inner.element("ResponseMetadata", metadata))
    }

    /// The document that goes with a refusal's status.
    pub(crate) fn error(self, refusal: &Refusal, request_id: &str) -> String {
        let fault = if refusal.status().is_server_error() { "Receiver" } else { "Sender" };
        let error = Xml::default()
            .text("Type", fault)
            .text("Code", refusal.code.name())
            .text("Message", &refusal.message);
        self.document("ErrorResponse", Xml::default().element("Error", error).text("RequestId", request_id))
    }

    fn document(self, root: &str, inner: Xml) -> String {
        let namespace = format!("https://{}.amazonaws.com/doc/{}/", self.service(), self.version());
        inner.document(root, &namespace)
    }
}

/// Runs the action that a request names, whose signature was verified; returns its name and result.
pub(crate) async fn call(
    api: Api,
    identities: &Identities,
    parts: &Parts,
    body: &[u8],
    caller: &Caller,
) -> Result<(String, Option<Xml>), Refusal> {
    let body = if parts.method == Method::POST { body } else { b"" };
    let form = Form::read(parts.uri.query().unwrap_or(""), body)?;
    let missing = || Refusal::new(Code::MissingAction, "The request must contain the parameter Action.");
    let action = form.get("Action").ok_or_else(missing)?.to_owned();
    let version = form.get("Version").unwrap_or("NO_VERSION_SPECIFIED");
    if version != api.version() {
        let message = format!("Could not find operation {action} for version {version}");
        return Err(Refusal::new(Code::InvalidAction, message));
    }
    let result = match api {
        Api::Iam => iam::call(identities, &action, form, caller).await?,
        Api::Sts => sts::call(identities, &action, form, caller).await?,
    };
    Ok((action, result))
}

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    AccessDenied,
    DeleteConflict,
    EntityAlreadyExists,
    ExpiredToken,
    IncompleteSignature,
    InvalidAction,
    InvalidClientTokenId,
    InvalidInput,
    LimitExceeded,
    MalformedInput,
    MalformedPolicyDocument,
    MalformedQueryString,
    MissingAction,
    MissingAuthenticationToken,
    NoSuchEntity,
    PackedPolicyTooLarge,
    ServiceFailure,
    SignatureDoesNotMatch,
    ValidationError,
}

impl Code {
    /// As it stands in the error document (botocore models `iam` and `sts`, trait `error`).
    fn name(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDenied",
            Self::DeleteConflict => "DeleteConflict",
            Self::EntityAlreadyExists => "EntityAlreadyExists",
            Self::ExpiredToken => "ExpiredToken",
            Self::IncompleteSignature => "IncompleteSignature",
            Self::InvalidAction => "InvalidAction",
            Self::InvalidClientTokenId => "InvalidClientTokenId",
            Self::InvalidInput => "InvalidInput",
            Self::LimitExceeded => "LimitExceeded",
            Self::MalformedInput => "MalformedInput",
            Self::MalformedPolicyDocument => "MalformedPolicyDocument",
            Self::MalformedQueryString => "MalformedQueryString",
            Self::MissingAction => "MissingAction",
            Self::MissingAuthenticationToken => "MissingAuthenticationToken",
            Self::NoSuchEntity => "NoSuchEntity",
            Self::PackedPolicyTooLarge => "PackedPolicyTooLarge",
            Self::ServiceFailure => "ServiceFailure",
            Self::SignatureDoesNotMatch => "SignatureDoesNotMatch",
            Self::ValidationError => "ValidationError",
        }
    }
}

/// A refusal: what the caller sees.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub(crate) struct Refusal {
    code: Code,
    message: String,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// 500; what failed goes to the log.
    pub(crate) fn failure(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = cause, "cannot read or write identities");
        Self::new(
            Code::ServiceFailure,
            "The service failed to process the request; the server's log says why.",
        )
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self.code {
            Code::NoSuchEntity | Code::MalformedQueryString => StatusCode::NOT_FOUND,
            Code::DeleteConflict | Code::EntityAlreadyExists | Code::LimitExceeded => StatusCode::CONFLICT,
            Code::AccessDenied
            | Code::ExpiredToken
            | Code::IncompleteSignature
            | Code::InvalidClientTokenId
            | Code::MissingAuthenticationToken
            | Code::SignatureDoesNotMatch => StatusCode::FORBIDDEN,
            Code::ServiceFailure => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Authentication and authorisation speak of exceptions; the query protocol has
/// other names for them.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let code = match error.kind {
            ErrorKind::UnrecognizedClient => Code::InvalidClientTokenId,
            ErrorKind::InvalidSignature => Code::SignatureDoesNotMatch,
            ErrorKind::MissingAuthenticationToken => Code::MissingAuthenticationToken,
            ErrorKind::IncompleteSignature => Code::IncompleteSignature,
            ErrorKind::ExpiredToken => Code::ExpiredToken,
            ErrorKind::AccessDenied => Code::AccessDenied,
            ErrorKind::Validation => Code::ValidationError,
            _ => Code::ServiceFailure,
        };
        Self::new(code, error.message)
    }
}
