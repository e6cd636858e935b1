//! CloudWatch Logs: JSON 1.1 over the log groups of the store.
//!
//! Groups and streams are those that builds and microVMs make, and those that clients
//! make; all are alike.
//!
//! Reading order: this file, `access` (who may do what), `turns` (whose turn it is to read),
//! `reading`, `filtering`, `writing`, `tags`, `live_tail`.

mod access;
mod constraints;
mod event_stream;
mod filter;
mod filtering;
mod live_tail;
mod model;
mod reading;
mod tags;
mod turns;
mod writing;

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use hearth_api::AccountId;
use hearth_identity::{Caller, Identities};
use hearth_records::MissingLog;

use self::access::GroupArn;
use crate::json::{Refusal, read, to_json};

pub use writing::RETENTIONS;

/// Prefix of `X-Amz-Target`.
pub(crate) const TARGET_PREFIX: &str = "Logs_20140328.";

/// Longest body of a call, in bytes. A batch has 1 MiB with every character escaped, and what
/// surrounds 10,000 events; of other calls 100 names are the most, and their bodies are kept while
/// they wait for their turn.
pub(crate) fn maximum_body_bytes(operation: &str) -> usize {
    if operation == "PutLogEvents" { 8 << 20 } else { 512 << 10 }
}

/// What a call is answered with.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A JSON body.
    Json(Bytes),
    /// Messages of the type `application/vnd.amazon.eventstream`, as they come.
    Events(Body),
}

/// CloudWatch Logs.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    store: Arc<dyn hearth_records::Logs>,
    identities: Arc<Identities>,
    region: String,
    live_tails: Arc<live_tail::Places>,
    turns: Arc<turns::Turns>,
}

impl Logs {
    /// `live_tail_sessions` is how many each account may have at the same time; 0 is no limit.
    pub(crate) fn new(
        store: Arc<dyn hearth_records::Logs>,
        identities: Arc<Identities>,
        region: &str,
        live_tail_sessions: u32,
    ) -> Self {
        let live_tails = live_tail::Places::new(live_tail_sessions);
        Self { store, identities, region: region.to_owned(), live_tails, turns: turns::Turns::new() }
    }

    /// Answers one call; `operation` is `X-Amz-Target` without its prefix.
    pub(crate) async fn call(
        &self,
        operation: &str,
        body: &[u8],
        caller: &Caller,
    ) -> Result<Answer, Refusal> {
        self.authorize(operation, body, caller).await?;
        let account = &caller.account;
        let nothing = |()| Bytes::new();
        let answer = match operation {
            "CreateLogGroup" => self.create_log_group(account, read(body)?).await.map(nothing),
            "CreateLogStream" => self.create_log_stream(account, read(body)?).await.map(nothing),
            "DeleteLogGroup" => self.delete_log_group(account, read(body)?).await.map(nothing),
            "DeleteLogStream" => self.delete_log_stream(account, read(body)?).await.map(nothing),
            "DeleteRetentionPolicy" => self.delete_retention_policy(account, read(body)?).await.map(nothing),
            "DescribeLogGroups" => Ok(to_json(&self.describe_log_groups(account, read(body)?).await?)),
            "DescribeLogStreams" => Ok(to_json(&self.describe_log_streams(account, read(body)?).await?)),
            "FilterLogEvents" => Ok(to_json(&self.filter_log_events(account, read(body)?).await?)),
            "GetLogEvents" => Ok(to_json(&self.get_log_events(account, read(body)?).await?)),
            "ListTagsForResource" => Ok(to_json(&self.list_tags_for_resource(account, read(body)?).await?)),
            "ListTagsLogGroup" => Ok(to_json(&self.list_tags_log_group(account, read(body)?).await?)),
            "PutLogEvents" => Ok(to_json(&self.put_log_events(account, read(body)?).await?)),
            "PutRetentionPolicy" => self.put_retention_policy(account, read(body)?).await.map(nothing),
            "StartLiveTail" => return self.start_live_tail(caller, read(body)?).await.map(Answer::Events),
            "TagLogGroup" => self.tag_log_group(account, read(body)?).await.map(nothing),
            "TagResource" => self.tag_resource(account, read(body)?).await.map(nothing),
            "UntagLogGroup" => self.untag_log_group(account, read(body)?).await.map(nothing),
            "UntagResource" => self.untag_resource(account, read(body)?).await.map(nothing),
            other => Err(Refusal::new("UnknownOperationException", format!("{other} is not served here."))),
        };
        answer.map(Answer::Json)
    }

    /// The name of the caller's group that a request names by name or by ARN.
    fn group_name(&self, account: &AccountId, text: &str) -> Result<String, Refusal> {
        self.name_of(self.group_arn(text, account), account)
    }

    fn name_of(&self, group: GroupArn, account: &AccountId) -> Result<String, Refusal> {
        if group.region == self.region && group.account == *account {
            Ok(group.name)
        } else {
            Err(missing(MissingLog::Group))
        }
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new("InvalidParameterException", message)
}

fn missing(what: MissingLog) -> Refusal {
    let what = match what {
        MissingLog::Group => "group",
        MissingLog::Stream => "stream",
    };
    Refusal::new("ResourceNotFoundException", format!("The specified log {what} does not exist."))
}

fn exists(what: &str) -> Refusal {
    Refusal::new("ResourceAlreadyExistsException", format!("The specified log {what} already exists"))
}
