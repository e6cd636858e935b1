//! What is recorded, as plain data: microVMs, images with their versions and builds, network
//! connectors, users and roles, log groups, client tokens; and how much of it an account may have.
//!
//! Each noun has a trait that says how it is read and changed; [`Records`] is all of them.
//!
//! Invariant: nothing here knows how or where it is kept.
//!
//! Reading order: `microvms`, `images`, then one file per noun.

mod connectors;
mod error;
mod events;
mod identities;
mod images;
mod logs;
mod microvms;
mod owner;
mod phase;
mod quotas;
mod reason;
mod shared;
mod size;
mod tags;
#[cfg(feature = "testing")]
pub mod testing;
mod tokens;
mod told;

pub use connectors::*;
pub use error::{Error, Result};
pub use events::*;
pub use identities::*;
pub use images::*;
pub use logs::*;
pub use microvms::*;
pub use owner::*;
pub use phase::*;
pub use quotas::*;
pub use reason::*;
pub use shared::*;
pub use size::Size;
pub use tags::*;
pub use tokens::*;
pub use told::*;

/// Everything that is recorded.
pub trait Records:
    Microvms + Images + Connectors + Identities + Tags + Tokens + Logs + Events + Shared
{
}

impl<T: Microvms + Images + Connectors + Identities + Tags + Tokens + Logs + Events + Shared> Records for T {}
