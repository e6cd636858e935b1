//! The file systems of a container: its root disk, and what Docker mounts on top of it.
//!
//! Everything is mounted `nodev`, and the device files that a container may have are bind mounts of
//! the guest's own: a device file that the app makes with mknod, which Docker's default
//! capabilities allow, opens nothing.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use hearth_guest_protocol::Capabilities;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use crate::error::Error;

/// Device files of a container (the OCI runtime specification's default devices).
const DEVICES: [&CStr; 6] =
    [c"/dev/null", c"/dev/zero", c"/dev/full", c"/dev/random", c"/dev/urandom", c"/dev/tty"];
/// Besides, with all capabilities, where the guest's kernel has them.
const ALL_DEVICES: [&CStr; 12] = [
    c"/dev/fuse",
    c"/dev/kmsg",
    c"/dev/net/tun",
    c"/dev/loop-control",
    c"/dev/loop0",
    c"/dev/loop1",
    c"/dev/loop2",
    c"/dev/loop3",
    c"/dev/loop4",
    c"/dev/loop5",
    c"/dev/loop6",
    c"/dev/loop7",
];
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
];
/// Docker's default masked paths.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// Docker's default read-only paths.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const NO_DEVICES: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
const NOTHING: MsFlags = NO_DEVICES.union(MsFlags::MS_NOEXEC);

/// Mounts a file system that needs no device.
pub(crate) fn mount_on(
    kind: &'static str,
    target: &str,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<(), Error> {
    mount(Some(kind), target, Some(kind), flags, options).map_err(|errno| Error::Mount {
        kind,
        target: target.into(),
        source: errno.into(),
    })
}

/// Mounts the ext4 file system of a block device.
pub(crate) fn mount_disk(device: &str, target: &str, flags: MsFlags) -> Result<(), Error> {
    mount(Some(device), target, Some("ext4"), flags, None::<&str>).map_err(|errno| Error::Mount {
        kind: "ext4",
        target: target.into(),
        source: errno.into(),
    })
}

/// Keeps the mounts of this process to itself.
pub(crate) fn isolate() -> Result<(), Error> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|errno| Error::ChangeRoot(errno.into()))
}

/// Makes the file system mounted at `root` the root of this process and builds a container's
/// `/proc`, `/sys` and `/dev` on it. With all capabilities nothing is read-only or hidden, and
/// there are cgroups and more devices, as Docker's `--privileged` has it. Every target is looked up
/// after the change of root, so that no link in an image leads out of it.
pub(crate) fn enter_container(root: &str, capabilities: Capabilities) -> Result<(), Error> {
    let all = capabilities == Capabilities::All;
    let there = |path: &&CStr| all && Path::new(path.to_string_lossy().as_ref()).exists();
    let more = ALL_DEVICES.into_iter().filter(there);
    let devices = DEVICES.into_iter().chain(more).map(Device::take).collect::<Result<Vec<_>, _>>()?;
    enter_root(root)?;
    create_dir("/proc")?;
    mount_on("proc", "/proc", NOTHING, None)?;
    create_dir("/sys")?;
    let access = if all { MsFlags::empty() } else { MsFlags::MS_RDONLY };
    mount_on("sysfs", "/sys", NOTHING | access, None)?;
    make_dev(&devices)?;
    if all { mount_on("cgroup2", "/sys/fs/cgroup", NOTHING, None) } else { protect() }
}

/// What root without all capabilities may not write or see.
fn protect() -> Result<(), Error> {
    for path in READ_ONLY.into_iter().filter(|path| Path::new(path).exists()) {
        make_read_only(path)?;
    }
    for path in MASKED.into_iter().filter(|path| Path::new(path).exists()) {
        mask(path)?;
    }
    Ok(())
}

fn enter_root(root: &str) -> Result<(), Error> {
    let enter = || -> nix::Result<()> {
        chdir(root)?;
        // Both on the same directory: the old root then lies on top of the new one and is detached
        // from there, as pivot_root(2) describes it.
        pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        chdir("/")
    };
    enter().map_err(|errno| Error::ChangeRoot(errno.into()))
}

fn make_dev(devices: &[Device]) -> Result<(), Error> {
    create_dir("/dev")?;
    mount_on("tmpfs", "/dev", NO_DEVICES, Some("mode=755,size=64m"))?;
    for device in devices {
        device.attach()?;
    }
    for (target, link) in LINKS {
        symlink(target, link).map_err(|source| Error::Write { path: link.into(), source })?;
    }
    create_dir("/dev/pts")?;
    // A terminal is a device, so this one cannot be nodev; nothing can be made in it
    // by mknod either.
    let pts = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount_on("devpts", "/dev/pts", pts, Some("newinstance,ptmxmode=0666,mode=0620,gid=5"))?;
    create_dir("/dev/shm")?;
    mount_on("tmpfs", "/dev/shm", NOTHING, Some("mode=1777,size=64m"))?;
    create_dir("/dev/mqueue")?;
    mount_on("mqueue", "/dev/mqueue", NOTHING, None)
}

fn make_read_only(path: &str) -> Result<(), Error> {
    let remount = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | NOTHING;
    mount(Some(path), path, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .and_then(|()| mount(None::<&str>, path, None::<&str>, remount, None::<&str>))
        .map_err(|errno| Error::Mount { kind: "read-only bind", target: path.into(), source: errno.into() })
}

/// Hides a directory under an empty one, and a file under /dev/null.
fn mask(path: &str) -> Result<(), Error> {
    if Path::new(path).is_dir() {
        return mount_on("tmpfs", path, NOTHING | MsFlags::MS_RDONLY, Some("size=0"));
    }
    mount(Some("/dev/null"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|errno| Error::Mount { kind: "bind", target: path.into(), source: errno.into() })
}

fn create_dir(path: &str) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::Write { path: path.into(), source })
}

/// A bind mount of one of the guest's device files that is not attached anywhere yet
/// (`open_tree(2)`).
struct Device {
    path: &'static CStr,
    tree: OwnedFd,
}

impl Device {
    fn take(path: &'static CStr) -> Result<Self, Error> {
        let flags = libc::OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
        // SAFETY: the path is a C string; a descriptor that is returned is new and
        // belongs to nobody else.
        let tree = unsafe {
            match libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(OwnedFd::from_raw_fd(fd as i32)),
            }
        };
        let tree = tree.map_err(|source| Error::Mount {
            kind: "bind",
            target: path.to_string_lossy().into(),
            source,
        })?;
        Ok(Self { path, tree })
    }

    fn attach(&self) -> Result<(), Error> {
        let path = self.path.to_string_lossy().into_owned();
        if let Some(directory) = Path::new(&path).parent() {
            create_dir(&directory.to_string_lossy())?;
        }
        fs::write(&path, "").map_err(|source| Error::Write { path: path.clone(), source })?;
        // SAFETY: both paths are C strings and the descriptor is open.
        let result = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.tree.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_FDCWD,
                self.path.as_ptr(),
                libc::MOVE_MOUNT_F_EMPTY_PATH,
            )
        };
        if result == -1 {
            return Err(Error::Mount { kind: "bind", target: path, source: io::Error::last_os_error() });
        }
        Ok(())
    }
}
