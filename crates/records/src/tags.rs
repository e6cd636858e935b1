//! Tags of images and network connectors.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use hearth_api::{AccountId, ImageArn, NetworkConnectorArn, Timestamp};

use crate::error::Result;
use crate::events::{Actor, NewEvent, Origin, Resource, What};

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

    /// The event of its having `after` tags instead of `before`.
    pub fn tagged(&self, (before, after): (usize, usize), actor: Option<&Actor>, at: Timestamp) -> NewEvent {
        let (account, resource): (&AccountId, Resource) = match self {
            Self::Image(arn) => (&arn.account, Resource::Image(arn.clone())),
            Self::NetworkConnector(arn) => (&arn.account, Resource::NetworkConnector(arn.clone())),
        };
        NewEvent {
            at,
            account: account.clone(),
            resource,
            what: What::Tags,
            from: Some(before.to_string().into()),
            to: Some(after.to_string().into()),
            reason: None,
            origin: Origin::api(actor.cloned()),
        }
    }
}

/// Tags, as they are kept.
#[async_trait]
pub trait Tags: Send + Sync + fmt::Debug {
    /// Tags of a resource; `None` when there is no such resource.
    async fn tags(&self, resource: &Taggable) -> Result<Option<BTreeMap<String, String>>>;

    /// Replaces a resource's tags, together with the event, if they are still as they were
    /// `before`; false when they are not, or when there is no such resource.
    async fn replace_tags(
        &self,
        resource: &Taggable,
        before: &BTreeMap<String, String>,
        after: &BTreeMap<String, String>,
        actor: Option<&Actor>,
    ) -> Result<bool>;
}
