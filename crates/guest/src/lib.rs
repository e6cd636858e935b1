//! A guest with everything it holds on the host (VM, network, user id), and the artefacts it boots
//! from.
//!
//! Both users of VMs, `lifecycle` and `image-builder`, make their guests here, so that a microVM
//! has exactly the devices that its snapshot was taken with.
//!
//! Invariants: a [`Guest`] owns all of its resources. [`Guest::destroy`] gives all of them back,
//! [`Guest::leave`] leaves all of them to a later server, and dropping it ends it. Nothing goes
//! back before the VMM is gone.
//!
//! Reading order: [`artefacts`], [`network`], `plan`, [`guest`], `holdings`, `record`, `adopt`.

mod adopt;
pub mod artefacts;
mod error;
pub mod guest;
mod holdings;
pub mod network;
mod plan;
mod record;
mod restored;

pub use adopt::AdoptedGuest;
pub use artefacts::Artefacts;
pub use guest::{Error, Guest, GuestFactory};
pub use hearth_confined::uid::{self, Uid, UidPool};
pub use hearth_host_net::{Egress, Held};
pub use holdings::Endings;
pub use network::{GuestNetwork, HostNetworks, Networks};
pub use plan::{GuestPlan, KernelModules, Limits, RootDisk};
