//! The life of a microVM: the state machine and the one task that drives it.
//!
//! Invariants: only the supervisor of a microVM writes its row; every change is persisted, then
//! published, then acted upon; a step that has begun ends before the next begins; whatever a
//! microVM holds is released before its row says TERMINATED.
//!
//! Reading order: [`machine`] (pure), [`supervisor`] (the task), `front` (what it answers and
//! writes), `body` (what it holds), `steps` (what a step does), `at_rest` (its files), `spending`,
//! `hooks`, [`registry`] (the way in), `node` (as the planes see it), `lost` (ends without a
//! supervisor).

mod at_rest;
mod body;
pub mod clock;
mod front;
mod hooks;
mod lost;
pub mod machine;
mod node;
mod output;
mod payload;
pub mod published;
pub mod records;
pub mod recover;
pub mod registry;
mod spending;
mod steps;
pub mod supervisor;
mod timers;

pub use hearth_guest::guest::AppStream;
pub use hooks::HooksPort;
pub use payload::SealingKey;
pub use published::RunningMicrovm;
pub use registry::{Registry, RegistryConfig};
