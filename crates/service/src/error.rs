//! The one error of all APIs: a code and a text for the caller, and a cause for the log.

use hearth_api::ErrorKind;

/// An error of one service's model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// Name on the wire.
    pub name: &'static str,
    /// HTTP status.
    pub status: u16,
}

/// Which error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// One that every service has; each protocol has its own name for it.
    Common(ErrorKind),
    /// One of the service's own.
    Modelled(Exception),
}

impl From<ErrorKind> for Code {
    fn from(kind: ErrorKind) -> Self {
        Self::Common(kind)
    }
}

impl From<Exception> for Code {
    fn from(exception: Exception) -> Self {
        Self::Modelled(exception)
    }
}

impl Code {
    /// Name in logs and tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Common(kind) => kind.name(),
            Self::Modelled(exception) => exception.name,
        }
    }
}

/// Why a call was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct Error {
    /// Which error.
    pub code: Code,
    /// Text for the caller.
    pub message: String,
    /// What failed, for the log alone: causes, outermost first.
    cause: Option<String>,
}

impl Error {
    /// A refusal.
    pub fn new(code: impl Into<Code>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), cause: None }
    }

    /// A failure of ours. The caller learns only that; the log has `what` and the causes of
    /// `error`.
    pub fn failed(what: &str, error: &dyn std::error::Error) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let cause = causes.fold(what.to_owned(), |text, cause| format!("{text}: {cause}"));
        let public = hearth_api::Error::internal();
        Self { code: public.kind.into(), message: public.message, cause: Some(cause) }
    }

    /// 400 ValidationException.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Validation, message)
    }

    /// 404 ResourceNotFoundException.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::ResourceNotFound, message)
    }

    /// 409 ConflictException.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// A call that ended in the midst of its function.
    pub(crate) fn broke_off(why: &str) -> Self {
        let public = hearth_api::Error::internal();
        let cause = Some(format!("the request broke off: {why}"));
        Self { code: public.kind.into(), message: public.message, cause }
    }

    /// What failed, if it is a failure of ours that nobody has logged yet.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    pub(crate) fn into_cause(self) -> Option<String> {
        self.cause
    }
}

impl From<hearth_api::Error> for Error {
    fn from(error: hearth_api::Error) -> Self {
        Self::new(error.kind, error.message)
    }
}

impl From<hearth_records::Error> for Error {
    fn from(error: hearth_records::Error) -> Self {
        match error {
            // Every operation may answer with this, unlike with InsufficientCapacityException.
            hearth_records::Error::NoRoom { .. } => {
                Self::new(ErrorKind::InternalServer, format!("The host has no room: {error}."))
            }
            hearth_records::Error::LogQuota(quota) => {
                let sentence = quota.to_string();
                let (first, rest) = sentence.split_at(1);
                let code = Exception { name: "LimitExceededException", status: 400 };
                Self::new(code, format!("{}{rest}.", first.to_uppercase()))
            }
            failed @ hearth_records::Error::Failed(_) => Self::failed("the store failed", &failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_for_the_log_alone() {
        let error = Error::from(hearth_records::Error::Failed("the disk is gone".into()));
        assert!(!error.to_string().contains("disk"), "{error}");
        let cause = error.into_cause().unwrap();
        assert_eq!(cause, "the store failed: the records cannot be read or written: the disk is gone");
    }
}
