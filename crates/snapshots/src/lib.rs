//! The bytes of images and microVMs: snapshots, each named by what it holds, and who holds them.
//!
//! A snapshot is a directory with the driver's files and a disk. Its id is the BLAKE3 of its
//! manifest, which the driver writes and which gives the digest of every part: base or layers of
//! the memory, device state, disk.
//!
//! ```text
//! snapshots/<id>/                    manifest.json, parts; the layers of the one before are links
//! images/<account>/<name>/<version>/ snapshot.json, report.json
//! microvms/<id>/                     snapshot.json, image.json, disk.qcow2
//! ```
//!
//! A reference (`snapshot.json`, `image.json`) is a link of the manifest: its content tells the id,
//! and the manifest's link count is the reference count, which a crash cannot put wrong.
//!
//! Invariants: a snapshot comes into being by one rename, whole and on the disk, and nothing in it
//! changes but for the disk of [`MicrovmFiles`]; one that is referenced or leased is not removed;
//! one that is neither goes with the last of them or, after a crash, with the next start. Nothing
//! above names a file: others get leases, drafts and handles.
//!
//! Reading order: `id`, `store`, `draft`, `microvm`, `image`, `open`, `earlier`, `removal`.

mod build;
mod draft;
mod earlier;
mod id;
mod image;
mod microvm;
mod open;
mod removal;
mod store;

pub use build::BuildFiles;
pub use draft::Draft;
pub use id::SnapshotId;
pub use image::{ImageDraft, allocated_bytes};
pub use microvm::MicrovmFiles;
pub use store::{Lease, Snapshots};
