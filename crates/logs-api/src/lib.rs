//! CloudWatch Logs: JSON 1.1 over the log groups of the store.
//!
//! Groups and streams are those that builds and microVMs make, and those that clients make; all are
//! alike.
//!
//! Invariants: no operation runs before its action is authorised; no account can use all
//! connections or threads that read logs.
//!
//! Reading order: `operations` (the table), `access` (who may do what), `turns` (whose turn it is
//! to read), `reading`, `filtering`, `writing`, `tags`, `live_tail`.

mod access;
mod event_stream;
mod filter;
mod filtering;
mod live_tail;
mod model;
mod operations;
mod reading;
mod shapes;
mod tags;
mod turns;
mod writing;

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use hearth_api::AccountId;
use hearth_identity::Identities;
use hearth_records::{self as records, MissingLog};
use hearth_service::pages::PageKey;
use hearth_service::places::Places;
use hearth_service::{Error, Exception};

use self::access::GroupArn;

pub use access::Access;
pub use writing::RETENTIONS;

/// Prefix of `X-Amz-Target`.
pub const TARGET_PREFIX: &str = "Logs_20140328.";

/// CloudWatch Logs.
#[derive(Debug, Clone)]
pub struct Logs {
    store: Arc<dyn records::Logs>,
    identities: Arc<Identities>,
    region: String,
    page_key: PageKey,
    live_tails: Arc<Places>,
    turns: Arc<turns::Turns>,
}

impl Logs {
    /// `live_tail_sessions` is how many each account may have at the same time; 0 is no limit.
    pub fn new(
        store: Arc<dyn records::Logs>,
        identities: Arc<Identities>,
        region: &str,
        page_key: PageKey,
        live_tail_sessions: u32,
    ) -> Arc<Self> {
        let live_tails = Places::new(live_tail_sessions);
        let turns = turns::Turns::new();
        Arc::new(Self { store, identities, region: region.to_owned(), page_key, live_tails, turns })
    }

    /// Answers a request for the operation `name`: `X-Amz-Target` without its prefix.
    pub async fn answer(self: Arc<Self>, name: String, request: Request) -> Response {
        hearth_service::json::answer(self, name, request).await
    }

    /// The name of the caller's group that a request names by name or by ARN.
    fn group_name(&self, account: &AccountId, text: &str) -> Result<String, Error> {
        self.name_of(self.group_arn(text, account), account)
    }

    fn name_of(&self, group: GroupArn, account: &AccountId) -> Result<String, Error> {
        if group.region == self.region && group.account == *account {
            Ok(group.name)
        } else {
            Err(missing(MissingLog::Group))
        }
    }
}

const INVALID_PARAMETER: Exception = exception("InvalidParameterException");

/// An error of the model; all have the same status.
const fn exception(name: &'static str) -> Exception {
    Exception { name, status: 400 }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(INVALID_PARAMETER, message)
}

fn missing(what: MissingLog) -> Error {
    let what = match what {
        MissingLog::Group => "group",
        MissingLog::Stream => "stream",
    };
    Error::not_found(format!("The specified log {what} does not exist."))
}

fn exists(what: &str) -> Error {
    let code = exception("ResourceAlreadyExistsException");
    Error::new(code, format!("The specified log {what} already exists"))
}
