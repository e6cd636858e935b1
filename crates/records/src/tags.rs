//! Tags of images and network connectors.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use hearth_api::{ImageArn, NetworkConnectorArn};

use crate::error::Result;

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

/// Tags, as they are kept.
#[async_trait]
pub trait Tags: Send + Sync + fmt::Debug {
    /// Tags of a resource; `None` when there is no such resource.
    async fn tags(&self, resource: &Taggable) -> Result<Option<BTreeMap<String, String>>>;

    /// Replaces a resource's tags if they are still as they were `before`; false when they are not,
    /// or when there is no such resource.
    async fn replace_tags(
        &self,
        resource: &Taggable,
        before: &BTreeMap<String, String>,
        after: &BTreeMap<String, String>,
    ) -> Result<bool>;
}
