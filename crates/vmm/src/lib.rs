//! A small trait for virtual machine monitors, and its drivers: QEMU and a fake.
//!
//! A [`Vmm`] starts virtual machines, from nothing ([`Vmm::boot`]) or from a snapshot
//! ([`Vmm::restore`]); a [`Vm`] is one of them. This crate knows processes, memory, disks and
//! snapshots, and nothing of images, accounts, hooks or the guest's software.
//!
//! Invariants: a snapshot on disk is never half-written (its manifest is renamed into place last);
//! no path copies the whole RAM; a VMM process can outlive the server process that started it.
//!
//! Reading order: [`spec`], [`vm`], [`snapshot`], `process`, [`qemu`], [`leftovers`], [`fake`].

pub mod error;
pub mod fake;
pub mod leftovers;
mod process;
pub mod qemu;
pub mod snapshot;
pub mod spec;
pub mod vm;

pub use error::{Error, Result};
pub use process::jail;
pub use qemu::{Accelerator, CONSOLE_FILE, Qemu, QemuConfig};
pub use spec::{
    BootSource, Drive, DriveImage, GuestChannel, GuestStream, Isolation, NetworkInterface, VmSpec,
};
pub use vm::{Adopted, Adoption, Capabilities, ExitReason, SnapshotInfo, SnapshotTarget, Vm, Vmm};
