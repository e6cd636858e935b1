//! A guest with everything it holds on the host: VM, network and user id; and the
//! artefacts it boots from.
//!
//! Both users of VMs, `lifecycle` and `image-builder`, come through here, so that a microVM has
//! exactly the devices that its snapshot was taken with. Invariant: whoever holds a [`Guest`]
//! holds all of its resources; [`Guest::destroy`] gives all of them back, [`Guest::leave`]
//! leaves all of them to a later server. Nothing goes back before the VMM is gone, and a guest
//! that is dropped is ended.
//!
//! Reading order: [`artefacts`], [`network`], `plan`, [`guest`], `holdings`, `adopt`.

mod adopt;
pub mod artefacts;
pub mod guest;
mod holdings;
pub mod network;
mod plan;
mod restored;

pub use adopt::AdoptedGuest;
pub use artefacts::Artefacts;
pub use guest::{Error, Guest, GuestFactory};
pub use hearth_confined::uid::{self, Uid, UidPool};
pub use hearth_host_net::Egress;
pub use holdings::Endings;
pub use network::{GuestNetwork, HostNetworks, Networks};
pub use plan::{GuestPlan, KernelModules, Limits, RootDisk};
