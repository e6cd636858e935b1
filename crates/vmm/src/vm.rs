//! The two traits, and the plain data that crosses them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;
use crate::snapshot::SnapshotDisk;
use crate::spec::{GuestChannel, GuestStream, VmSpec};

/// What a driver can do on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Driver and version, for people: `QEMU 10.0.2 (tcg)`.
    pub description: String,
    /// Snapshots can be taken and restored.
    pub snapshots: bool,
    /// [`Vmm::adopt`] finds the VMs of an earlier process.
    pub adoption: bool,
    /// Memory limits of [`crate::Isolation`] are enforced; otherwise the reason, as a sentence.
    pub memory_limit: std::result::Result<(), String>,
    /// CPU limits of [`crate::Isolation`] are enforced; otherwise the reason.
    pub cpu_limit: std::result::Result<(), String>,
}

/// Why a VMM process is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// The guest powered itself off, or [`Vm::kill`] was called.
    Stopped,
    /// The process ended by itself with this exit status; the last lines it wrote to stderr follow.
    Failed {
        /// Exit code, or 128 + signal; -1 when nobody knows, because an earlier server had
        /// started the process.
        status: i32,
        /// The tail of its log.
        log_tail: String,
    },
}

/// What kind of snapshot to take and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotTarget {
    /// Of a VM that was *booted*: its memory file becomes the base that clones map copy-on-write.
    Base {
        /// Directory of the snapshot; `memory`, `device-state` and `manifest.json` are made in it.
        directory: PathBuf,
        /// The disks that the guest can write to.
        disks: Vec<SnapshotDisk>,
    },
    /// Of a VM that was *restored*: only pages changed since its last snapshot are
    /// written, as a new layer.
    Layer {
        /// Directory of the snapshot, where there is none yet; layers, `device-state` and
        /// `manifest.json` are made in it.
        directory: PathBuf,
        /// Directory of the snapshot that the VM has gone on from, if that is not the base: its
        /// layers become links in the new one. On the same file system.
        previous: Option<PathBuf>,
        /// The disks that the guest can write to.
        disks: Vec<SnapshotDisk>,
    },
}

impl SnapshotTarget {
    /// The directory of either kind.
    pub fn directory(&self) -> &Path {
        match self {
            Self::Base { directory, .. } | Self::Layer { directory, .. } => directory,
        }
    }
}

/// Sizes of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SnapshotInfo {
    /// Bytes of guest memory written by this snapshot (allocated bytes of the memory
    /// file for a base).
    pub memory_bytes: u64,
    /// Bytes of device state.
    pub device_state_bytes: u64,
}

/// Which VM is to be taken over.
#[derive(Debug)]
pub struct Adoption {
    /// [`VmSpec::name`] that it was started with.
    pub name: String,
    /// [`VmSpec::run_dir`] that it was started with.
    pub run_dir: PathBuf,
    /// How to reach its agent from now on.
    pub guest_channel: Arc<dyn GuestChannel>,
}

/// A VM that was taken over.
#[derive(Debug)]
pub struct Adopted {
    /// The VM.
    pub vm: Arc<dyn Vm>,
    /// Whether its vCPUs run, or stopped by themselves; otherwise it is paused.
    pub running: bool,
}

/// A driver.
#[async_trait]
pub trait Vmm: Send + Sync + fmt::Debug {
    /// What this driver can do on this host.
    fn capabilities(&self) -> &Capabilities;

    /// Starts a VM from its boot source; its vCPUs run. Its RAM is a file `memory` inside
    /// `snapshot_directory` if one is given (so that a [`SnapshotTarget::Base`] costs no copy),
    /// otherwise anonymous.
    async fn boot(&self, spec: VmSpec, snapshot_directory: Option<&Path>) -> Result<Arc<dyn Vm>>;

    /// Starts a paused VM from a snapshot: the base, and on top of it the microVM's own layers, if
    /// it has been suspended before. [`Vm::resume`] lets it run.
    async fn restore(
        &self,
        spec: VmSpec,
        base_directory: &Path,
        layers_directory: Option<&Path>,
    ) -> Result<Arc<dyn Vm>>;

    /// Takes over a VM that was restored by a process that is gone; `None` when it has ended. The
    /// VM notices nothing. It can do everything that it could before, but the exit status of its
    /// process is not known to a stranger.
    ///
    /// # Errors
    /// [`crate::Error::OtherFormat`] for a VM that another version of this program has started and
    /// recorded differently; [`crate::Error::Refused`] for one that was not restored to its end;
    /// whatever else keeps it from being reached. The process stays in all of these cases:
    /// [`crate::leftovers`] ends it.
    async fn adopt(&self, adoption: Adoption) -> Result<Option<Adopted>>;
}

/// One virtual machine.
#[async_trait]
pub trait Vm: Send + Sync + fmt::Debug {
    /// Stops the vCPUs.
    async fn pause(&self) -> Result<()>;

    /// Lets the vCPUs run.
    async fn resume(&self) -> Result<()>;

    /// Writes a snapshot of the paused VM. Older ones stay as they are; on failure the VM can be
    /// resumed, and what is in the new directory is of no use.
    async fn create_snapshot(&self, target: &SnapshotTarget) -> Result<SnapshotInfo>;

    /// Ends the process at once and waits until it is gone and its run-time files are removed.
    async fn kill(&self) -> Result<()>;

    /// Waits until the process is gone, whatever the reason. Can be called any number of times.
    async fn wait(&self) -> ExitReason;

    /// Opens a new connection to the agent in the guest.
    async fn connect_guest(&self) -> std::io::Result<Box<dyn GuestStream>>;

    /// Opens a connection to a port of the app, see [`crate::GuestChannel::connect_app`].
    async fn connect_app(&self, port: u16, limit: Duration) -> std::io::Result<Box<dyn GuestStream>>;

    /// Process id of the VMM, if it is a process.
    fn pid(&self) -> Option<u32>;
}
