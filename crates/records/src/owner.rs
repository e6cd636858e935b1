//! Who drives a microVM or a build: one node at a time.

use std::fmt;
use std::sync::Arc;

/// A node: a server process with its data directory, over all its starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// What a record names that nobody has claimed yet.
    pub fn nobody() -> Self {
        Self::from_stored("")
    }

    /// Takes text that is known to be a node's, such as a stored value.
    pub fn from_stored(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Who may change a record. Whoever takes it over raises the epoch, which shuts the former owner
/// out, also if that is an earlier process of the same node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The node.
    pub node: NodeId,
    /// Goes up with every take-over.
    pub epoch: u64,
}

impl Owner {
    /// The first owner.
    pub fn first(node: NodeId) -> Self {
        Self { node, epoch: 1 }
    }

    /// Nobody yet.
    pub fn nobody() -> Self {
        Self { node: NodeId::nobody(), epoch: 0 }
    }

    /// Whether this node may claim what is owned so when it starts: its own, of an earlier process,
    /// and what nobody has claimed since an older version.
    pub fn is_left_to(&self, node: &NodeId) -> bool {
        self.node == *node || self.node == NodeId::nobody()
    }

    /// The owner after this one.
    #[must_use]
    pub fn succeeded_by(&self, node: NodeId) -> Self {
        Self { node, epoch: self.epoch + 1 }
    }
}

/// What became of a change that named the record which it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Written<R> {
    /// It is written, and so is its event.
    Yes,
    /// The record has changed since then, or has another owner: nothing is written. Whoever drove
    /// it is its owner no more and stops what it runs. There may be no record any more.
    Stale(Option<Box<R>>),
}
