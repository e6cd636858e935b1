//! What several processes on the same records keep in memory, and how each notices that another
//! one has changed it.
//!
//! Whatever is kept in memory has a version in the records, which goes up in the very transaction
//! that changes it. Who keeps it compares versions now and then, and reads it again when they
//! differ. A change names the version that it was made of: one that another process has made
//! outdated is not written.

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;

/// How many times each of them has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Versions {
    /// What [`crate::Identities`] has.
    pub identities: u64,
    /// [`crate::Microvms::token_revocations`].
    pub revocations: u64,
    /// [`Setting::TokenKeys`].
    pub token_keys: u64,
    /// [`Setting::Limits`].
    pub limits: u64,
}

/// A value as it was at a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Versioned<T> {
    /// How many times it had changed.
    pub version: u64,
    /// The value.
    pub value: T,
}

/// A value that all processes on the same records go by. What is in it is its reader's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// The keys of endpoint tokens.
    TokenKeys,
    /// How much an account may have.
    Limits,
}

/// What processes on the same records share, as it is kept.
#[async_trait]
pub trait Shared: Send + Sync + fmt::Debug {
    /// All versions; cheap enough for several times a second.
    async fn versions(&self) -> Result<Versions>;

    /// A setting; without a value before it is first written.
    async fn setting(&self, setting: Setting) -> Result<Versioned<Option<String>>>;

    /// Changes a setting that still is of the version `was`: the new version, or `None` when it is
    /// not, and nothing is written. It is on the disk when this returns.
    async fn write_setting(&self, setting: Setting, was: u64, value: &str) -> Result<Option<u64>>;
}
