//! Answers of Hearth's own operations on endpoints, which AWS does not have.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{MicrovmId, Timestamp};

/// What has gone through the endpoint of a microVM. Only requests whose token was good are counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointCounters {
    /// Since when: the first request, or the server's start if there was none.
    pub since: Timestamp,
    /// Requests, upgrades included.
    pub requests: u64,
    /// Requests that the endpoint itself answered with an error.
    pub errors: u64,
    /// Requests that had to wait until the microVM was running.
    pub resume_waits: u64,
    /// How long all of these waited together.
    pub resume_wait_milliseconds: u64,
    /// Bytes of request bodies, and of what clients sent after an upgrade.
    pub bytes_in: u64,
    /// Bytes of response bodies, and of what apps sent after an upgrade.
    pub bytes_out: u64,
}

/// The keys of endpoint tokens after a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointTokenKeys {
    /// Id of the key that makes tokens, as in their headers.
    pub key_id: Uuid,
    /// How many keys read tokens, this one included.
    pub live_keys: usize,
}

/// Tokens that were made before this answer do not open the microVM any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokedAuthTokens {
    /// Whose they were.
    pub microvm_id: MicrovmId,
    /// How many times this has been done to this microVM.
    pub revocations: u64,
}
