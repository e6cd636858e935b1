//! What is recorded, as plain data: microVMs, images with their versions and builds, network
//! connectors, users and roles, log groups, client tokens; and how much of it an account may have.
//!
//! Invariant: nothing here knows how or where it is kept.
//!
//! Reading order: `microvms`, `images`, then one file per noun.

mod connectors;
mod identities;
mod images;
mod logs;
mod microvms;
mod quotas;
mod tags;
mod tokens;

pub use connectors::*;
pub use identities::*;
pub use images::*;
pub use logs::*;
pub use microvms::*;
pub use quotas::*;
pub use tags::*;
pub use tokens::*;
