//! What is logged of a call: one line, when it has been answered.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use hearth_identity::Caller;
use http::StatusCode;

/// What is known of a call so far.
#[derive(Debug)]
pub(crate) struct Record {
    /// The request's id.
    pub(crate) id: String,
    service: &'static str,
    began: Instant,
    operation: OnceLock<&'static str>,
    caller: OnceLock<Arc<Caller>>,
    /// The resource of the operation, or of the first question that was denied.
    decision: Mutex<Option<(String, bool)>>,
}

impl Record {
    pub(crate) fn new(id: String, service: &'static str) -> Arc<Self> {
        Arc::new(Self {
            id,
            service,
            began: Instant::now(),
            operation: OnceLock::new(),
            caller: OnceLock::new(),
            decision: Mutex::default(),
        })
    }

    pub(crate) fn called(&self, caller: Arc<Caller>) {
        let _ = self.caller.set(caller);
    }

    pub(crate) fn named(&self, operation: Option<&'static str>) {
        if let Some(operation) = operation {
            let _ = self.operation.set(operation);
        }
    }

    /// Notes a decision of the policies.
    pub(crate) fn decided(&self, resource: impl FnOnce() -> String, allowed: bool) {
        let mut decision = self.decision.lock().unwrap_or_else(PoisonError::into_inner);
        if decision.is_none() || !allowed {
            *decision = Some((resource(), allowed));
        }
    }

    /// Logs the call: a failure of ours as an error with its cause, all else for those who want to
    /// see every call.
    pub(crate) fn log(&self, status: StatusCode, cause: Option<&str>) {
        if cause.is_none() && !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let (service, operation) = (self.service, self.operation.get().copied().unwrap_or("unknown"));
        let principal = self.caller.get().map(|caller| caller.principal.arn()).unwrap_or_default();
        let decision = self.decision.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (resource, allowed) = decision.unwrap_or_default();
        let decision = match (allowed, resource.is_empty()) {
            (true, _) => "allowed",
            (false, true) => "not asked",
            (false, false) => "denied",
        };
        let status = status.as_u16();
        let microseconds = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        match cause {
            None => tracing::debug!(
                service,
                operation,
                principal,
                resource,
                decision,
                status,
                microseconds,
                "answered"
            ),
            Some(cause) => tracing::error!(
                service,
                operation,
                principal,
                resource,
                decision,
                status,
                microseconds,
                cause,
                "failed"
            ),
        }
    }
}
