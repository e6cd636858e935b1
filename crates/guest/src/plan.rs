//! [`GuestPlan`]: what a guest is to be.

use std::path::PathBuf;

use hearth_host_net::Egress;
use hearth_vmm::Drive;

/// What distinguishes one guest from another.
#[derive(Debug)]
pub struct GuestPlan {
    /// Name: a microVM's or build's id; also of its run directory.
    pub name: String,
    /// vCPUs.
    pub vcpu_count: u8,
    /// RAM in MiB.
    pub memory_mib: u32,
    /// Root disk; `None` in a build microVM.
    pub root: Option<RootDisk>,
    /// Further disks.
    pub drives: Vec<Drive>,
    /// What it may reach.
    pub egress: Egress,
    /// Limits on the host.
    pub limits: Limits,
}

/// The root disk of a guest.
#[derive(Debug, Clone)]
pub enum RootDisk {
    /// Written in place: while the image's snapshot is being made.
    Base {
        /// The disk.
        path: PathBuf,
        /// What the guest's kernel is given.
        modules: KernelModules,
    },
    /// Copy-on-write on the image's disk.
    Clone {
        /// The image's disk.
        base: PathBuf,
        /// The microVM's own qcow2 file.
        overlay: PathBuf,
    },
}

/// Kernel modules of a guest that boots; a clone has those of its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelModules {
    /// What the guest itself needs.
    Needed,
    /// Also what an app with all capabilities may want, 14 MB of them.
    All,
}

/// Limits of the VMM process where the host's cgroups allow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Host memory in MiB.
    pub memory_mib: Option<u32>,
    /// Hundredths of a CPU.
    pub cpu_percent: Option<u32>,
}
