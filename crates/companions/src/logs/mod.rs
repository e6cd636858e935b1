//! CloudWatch Logs, the reading side: JSON 1.1 over the log streams of the store.
//!
//! `aws logs tail`, `get-log-events`, `filter-log-events`, `describe-log-groups` and `describe-log-streams` work
//! with it. Nothing can be written: lines come from builds and microVMs only.

mod filter;
mod model;
mod operations;

use bytes::Bytes;
use hearth_api::AccountId;
use hearth_store::Store;
use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Prefix of `X-Amz-Target`.
pub(crate) const TARGET_PREFIX: &str = "Logs_20140328.";

/// A refusal as the JSON 1.1 protocol shows it (`__type` and `message`); always status 400 but for our own faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogsError {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl LogsError {
    fn invalid(message: impl Into<String>) -> Self {
        Self { code: "InvalidParameterException", message: message.into() }
    }

    fn missing(what: &str) -> Self {
        Self { code: "ResourceNotFoundException", message: format!("The specified {what} does not exist.") }
    }

    pub(crate) fn status(&self) -> StatusCode {
        if self.code == "ServiceUnavailableException" {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::BAD_REQUEST
        }
    }
}

impl From<hearth_store::Error> for LogsError {
    fn from(error: hearth_store::Error) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "cannot read the log store");
        Self {
            code: "ServiceUnavailableException",
            message: "The service cannot complete the request.".to_owned(),
        }
    }
}

/// The reading side of CloudWatch Logs.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    store: Store,
    region: String,
    account: AccountId,
}

impl Logs {
    pub(crate) fn new(store: Store, region: &str, account: &AccountId) -> Self {
        Self { store, region: region.to_owned(), account: account.clone() }
    }

    /// Answers one call; `operation` is `X-Amz-Target` without its prefix.
    pub(crate) async fn call(&self, operation: &str, body: &[u8]) -> Result<Bytes, LogsError> {
        match operation {
            "DescribeLogGroups" => Ok(to_json(&self.describe_log_groups(read(body)?).await?)),
            "DescribeLogStreams" => Ok(to_json(&self.describe_log_streams(read(body)?).await?)),
            "GetLogEvents" => Ok(to_json(&self.get_log_events(read(body)?).await?)),
            "FilterLogEvents" => Ok(to_json(&self.filter_log_events(read(body)?).await?)),
            other => Err(LogsError {
                code: "UnknownOperationException",
                message: format!("The operation {other} of CloudWatch Logs is not served here."),
            }),
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, LogsError> {
    serde_json::from_slice(body)
        .map_err(|error| LogsError { code: "SerializationException", message: error.to_string() })
}

fn to_json(output: &impl Serialize) -> Bytes {
    serde_json::to_vec(output).expect("invariant: answers have string keys only").into()
}
