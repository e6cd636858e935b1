//! Where output goes, and on whose behalf.
//!
//! The group that is named after an image is the service's own. Any other group or stream is
//! somebody's choice, so it is written only as long as that somebody may write to it.

use std::collections::BTreeMap;

use hearth_api::{AccountId, CloudWatchLogging, ImageArn, Logging};
use serde::{Deserialize, Serialize};

/// Somebody who asked for something, to be asked about later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// ARN of the root user, user or session.
    pub arn: String,
    /// Unique id of the user, or of the session's role.
    pub id: Option<String>,
}

/// On whose behalf a stream is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WrittenFor {
    /// The service.
    Service,
    /// The role of this ARN, which the service assumes.
    Role(String),
    /// Whoever asked, where no role was named.
    Author(Author),
    /// Nobody known: records of earlier versions do not say who asked.
    Nobody,
}

/// What it takes to write to a stream: `logs:PutLogEvents`, and when they are missing the actions
/// that make group and stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogActions {
    /// The group has to be made.
    pub create_group: bool,
    /// The stream has to be made.
    pub create_stream: bool,
}

/// Who may write to log groups.
pub trait LogRights: std::fmt::Debug + Send + Sync {
    /// Whether `destination`, whose group has these tags, may be written now; a sentence says why
    /// not.
    fn may_write(
        &self,
        destination: &LogDestination,
        actions: LogActions,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), String>;
}

/// A stream that output goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDestination {
    /// Account of the group.
    pub account: AccountId,
    /// Group.
    pub group: String,
    /// Stream.
    pub stream: String,
    /// ARN of the image whose output it is.
    pub image: String,
    /// On whose behalf.
    pub written_for: WrittenFor,
    /// Group and stream of the service for the same output: there it is said when
    /// nothing may be written.
    pub own: (String, String),
}

impl LogDestination {
    /// A stream of the service.
    pub fn own(account: AccountId, group: String, stream: String) -> Self {
        let own = (group.clone(), stream.clone());
        let (image, written_for) = (String::new(), WrittenFor::Service);
        Self { account, group, stream, image, written_for, own }
    }

    /// Where the output of something of this image goes; `None` when logging is disabled. `stream`
    /// is the one that it gets when the request names none, `named` on whose behalf a group or
    /// stream of the request's choice is written.
    pub fn new(
        logging: Option<&Logging>,
        account: AccountId,
        image: &ImageArn,
        stream: String,
        named: impl FnOnce() -> WrittenFor,
    ) -> Option<Self> {
        let wanted = match logging {
            Some(Logging::Disabled {}) => return None,
            Some(Logging::CloudWatch(wanted)) => wanted.clone(),
            None => CloudWatchLogging::default(),
        };
        let mut destination = Self::own(account, format!("/aws/lambda-microvms/{}", image.name), stream);
        destination.image = image.to_string();
        if let Some(group) = wanted.log_group {
            destination.group = group;
        }
        if let Some(stream) = wanted.log_stream {
            destination.stream = stream;
        }
        if (&destination.group, &destination.stream) != (&destination.own.0, &destination.own.1) {
            destination.written_for = named();
        }
        Some(destination)
    }
}
