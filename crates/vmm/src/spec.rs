//! What a virtual machine is made of, in Firecracker's words.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// Everything that a driver needs to start a VM.
#[derive(Debug)]
pub struct VmSpec {
    /// Name of the VM: used for the process's log files, its cgroup and its API socket.
    /// `[a-z0-9-]`, at most 64 bytes.
    pub name: String,
    /// Directory for run-time files (API socket, pid file, console and VMM logs); made by the
    /// caller, private to this VM.
    pub run_dir: PathBuf,
    /// Number of virtual CPUs.
    pub vcpu_count: u8,
    /// Guest RAM in MiB; allocated on the host only as the guest touches it.
    pub memory_mib: u32,
    /// Kernel, initrd and command line.
    pub boot_source: BootSource,
    /// Block devices in order.
    pub drives: Vec<Drive>,
    /// Network devices in order.
    pub network_interfaces: Vec<NetworkInterface>,
    /// How the VMM process is confined.
    pub isolation: Isolation,
    /// How to reach the agent in the guest.
    pub guest_channel: Arc<dyn GuestChannel>,
}

/// What the VM boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootSource {
    /// Kernel image (bzImage).
    pub kernel_image_path: PathBuf,
    /// Initial RAM file system.
    pub initrd_path: PathBuf,
    /// Kernel command line.
    pub boot_args: String,
}

/// A block device.
#[derive(Debug)]
pub struct Drive {
    /// `virtio-blk` serial number, at most 20 bytes; how the guest tells drives apart.
    pub drive_id: String,
    /// Where the blocks come from.
    pub image: DriveImage,
}

/// Where the blocks of a drive are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriveImage {
    /// A raw file, read-only.
    RawReadOnly(PathBuf),
    /// A raw file, written in place.
    Raw(PathBuf),
    /// A qcow2 overlay on a raw read-only base. The overlay file must exist (see
    /// [`crate::snapshot::create_overlay`]).
    Overlay {
        /// The raw base, never written.
        base: PathBuf,
        /// The qcow2 file that takes the writes.
        overlay: PathBuf,
    },
}

impl DriveImage {
    /// The part that is never written.
    pub(crate) fn base(&self) -> Option<&Path> {
        match self {
            Self::RawReadOnly(base) | Self::Overlay { base, .. } => Some(base),
            Self::Raw(_) => None,
        }
    }
}

/// A network device on a TAP.
#[derive(Debug)]
pub struct NetworkInterface {
    /// Descriptor of the TAP device (opened in its network namespace, `IFF_TAP |
    /// IFF_NO_PI | IFF_VNET_HDR`).
    pub tap: OwnedFd,
    /// MAC address of the guest's side.
    pub guest_mac: [u8; 6],
}

/// How a VMM process is confined.
#[derive(Debug)]
pub struct Isolation {
    /// User and group id of the process; no other VM and no person uses it at the same time.
    pub uid: u32,
    /// Network namespace that the process is put into (it reaches the network only
    /// through its TAPs).
    pub network_namespace: Option<Arc<OwnedFd>>,
    /// Host memory limit in MiB, where cgroups allow.
    pub memory_limit_mib: Option<u32>,
    /// CPU limit in hundredths of a CPU, where cgroups allow.
    pub cpu_limit_percent: Option<u32>,
}

/// How the host reaches the agent in the guest: known to whoever made the network, used by
/// [`crate::Vm::connect_guest`].
#[async_trait]
pub trait GuestChannel: Send + Sync + fmt::Debug {
    /// Opens a new connection to the agent; fails at once when nothing listens, and never waits
    /// longer than a few seconds.
    async fn connect(&self) -> std::io::Result<Box<dyn GuestStream>>;

    /// Opens a connection to a TCP port of the app past the agent, within `limit`.
    /// Connection refused means that the guest's kernel says so; any other error, that
    /// there may be no such way.
    async fn connect_app(&self, port: u16, limit: Duration) -> std::io::Result<Box<dyn GuestStream>> {
        let _ = (port, limit);
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// A byte stream to the guest.
pub trait GuestStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> GuestStream for T {}
