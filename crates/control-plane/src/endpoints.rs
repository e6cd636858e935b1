//! What the operations need of the endpoints, which this crate does not know.

use std::fmt;

use async_trait::async_trait;
use hearth_api::{EndpointCounters, EndpointTokenKeys, MicrovmId};

/// The side of the endpoints that operators see.
#[async_trait]
pub trait Endpoints: fmt::Debug + Send + Sync {
    /// What has gone through the endpoint of a microVM since the server started.
    fn counters(&self, microvm: &MicrovmId) -> EndpointCounters;

    /// Makes a new key for endpoint tokens; the former ones read theirs for as long as those can be
    /// valid.
    async fn rotate_token_keys(&self) -> Result<EndpointTokenKeys, RotationError>;
}

/// Why the keys of endpoint tokens stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// So many rotations within the life of a token that too many keys would be needed.
    #[error("the keys were rotated {rotations} times within the longest life of a token")]
    TooOften {
        /// Rotations.
        rotations: usize,
    },
    /// The keys could not be written.
    #[error("the keys could not be written")]
    Io(#[source] std::io::Error),
}
