//! Tags of images and network connectors.

use hearth_api::{ImageArn, NetworkConnectorArn};

/// What can have tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taggable {
    /// An image.
    Image(ImageArn),
    /// A network connector.
    NetworkConnector(NetworkConnectorArn),
}

impl Taggable {
    /// Its ARN.
    pub fn arn(&self) -> String {
        match self {
            Self::Image(arn) => arn.to_string(),
            Self::NetworkConnector(arn) => arn.to_string(),
        }
    }
}
