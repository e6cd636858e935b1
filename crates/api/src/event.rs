//! Events: an extension, which AWS does not have.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Events, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventPage {
    /// Those that the caller may see.
    pub events: Vec<EventItem>,
    /// Where to go on: `after` of the next request. Also events that the caller may not see are
    /// behind it.
    pub next_after: u64,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventItem {
    /// Its place among all events.
    pub sequence: u64,
    /// When.
    pub time: Timestamp,
    /// `microvm`, `microvm-image`, `microvm-image-version`, `microvm-image-build` or
    /// `network-connector`.
    pub resource_type: String,
    /// Id of a microVM; ARN of anything else, that of the image for a version and a build.
    pub resource: String,
    /// ARN of the image of a microVM.
    pub image_arn: Option<String>,
    /// Version of an image.
    pub image_version: Option<String>,
    /// Id of a build.
    pub build_id: Option<String>,
    /// What about it: `STATE`, `STATUS`, `VERSION`, `RULES`, `TAGS`, `OWNER` or `TOKENS`.
    pub what: String,
    /// What it was; null when it is new.
    pub from: Option<String>,
    /// What it is; null when it is gone.
    pub to: Option<String>,
    /// Why it is so, where that needs saying.
    pub reason: Option<String>,
    /// What has set it going, such as `API` or `IDLE`.
    pub cause: String,
    /// ARN of the caller who asked for it.
    pub principal: Option<String>,
    /// Id of the request that asked for it.
    pub request_id: Option<String>,
}
