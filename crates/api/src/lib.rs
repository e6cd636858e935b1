//! Wire types of the AWS API: operations, states, exceptions, ARNs. No I/O.
//!
//! Names and spellings are those of the service models `lambda-microvms` 2025-09-09 and, in
//! [`network_connector`], `lambda-core` 2026-04-30 (botocore). A member that the service sends as
//! explicit `null` is an `Option` that serialises to `null`; `lambda-core` leaves such members out.

pub mod arn;
pub mod egress;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod id;
pub mod image;
pub mod json;
pub mod microvm;
pub mod network_connector;
pub mod operation;
pub mod visible;

pub use arn::{ImageArn, Region, managed_base_image_arn, managed_connector_arn};
pub use egress::{EgressDecision, EgressDecisions, EgressPolicy};
pub use endpoint::*;
pub use error::{Error, ErrorKind, MAXIMUM_SHOWN, MAXIMUM_VIOLATIONS};
pub use event::{EventItem, EventPage};
pub use id::{AccountId, BuildId, EndpointLabel, ImageName, ImageVersion, MicrovmId};
pub use image::*;
pub use json::json_values;
pub use microvm::*;
pub use network_connector::*;
pub use operation::*;
pub use visible::visible;

/// A moment on the wire: RFC 3339 text in JSON bodies is *not* what rest-json uses; timestamps are
/// epoch seconds with fractions (Smithy `epoch-seconds`, the default of rest-json bodies).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub jiff::Timestamp);

impl Timestamp {
    /// This moment.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// The moment `milliseconds` after 1970-01-01T00:00:00Z; the epoch itself when
    /// that is out of range.
    pub fn from_millis(milliseconds: i64) -> Self {
        Self(jiff::Timestamp::from_millisecond(milliseconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn as_millis(self) -> i64 {
        self.0.as_millisecond()
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_millisecond() as f64 / 1000.0)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Ok(Self::from_millis((seconds * 1000.0).round() as i64))
    }
}
