//! What a snapshot holds that all of its clones will share: sizes, processes, connections, secrets.
//!
//! The guest's agent says where everything is ([`hearth_guest_protocol::Inspection`]); the bytes
//! are read here, from the image's files, at the host's speed.
//!
//! Invariants: the text of a secret leaves no function of this crate, only its kind and its place.
//! No allocation is as large as the guest's disk claims something to be: `geometry` checks the
//! superblock, `disk` bounds files, lists and directories.
//!
//! Reading order: [`report`] (what comes out), `secrets` (what is looked for), `disk` and `memory`
//! (where), [`inspect()`] (all of it).

mod disk;
mod findings;
mod geometry;
mod inspect;
mod limit;
mod memory;
pub mod report;
mod secrets;

pub use inspect::{Sources, inspect};
pub use report::{Finding, Place, Report, SecretKind};
