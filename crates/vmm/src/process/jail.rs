//! The jail: what a VMM process does to itself before it becomes QEMU.
//!
//! The server starts itself again as `vmm-jail`; that process gives up everything the VMM does
//! not need and then executes it: own mount namespace that shows `/usr` read-only and a few
//! device nodes, own network, IPC and UTS namespace (the PID namespace is made by whoever started
//! it), a user of its own, no capabilities, no way to gain any. Whatever the VMM works on it gets
//! as open descriptors.
//!
//! It waits for one byte on its standard input first: the server sends it when the process has been
//! recorded. A server that is killed in between leaves no VMM that nobody knows of.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hearth_confined::{drop_privileges, limit, step};
use nix::libc;
use nix::sched::CloneFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::Resource;
use serde::{Deserialize, Serialize};

/// First argument of the program when it is to be a jail.
pub const SUBCOMMAND: &str = "vmm-jail";

/// Files that a VMM may have open: its disks, its sockets, a few for each of its threads.
const OPEN_FILES: u64 = 1024;

/// Makes the kernel end a VMM rather than the server when memory runs out; see
/// `proc_pid_oom_score_adj(5)`.
const OOM_SCORE_ADJUSTMENT: &str = "500";

/// What the jail is told, as JSON in its second argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailSpec {
    /// User and group id of the VMM.
    pub uid: u32,
    /// Descriptor of the network namespace to enter; a new, empty one without.
    pub network_namespace: Option<RawFd>,
    /// Any existing directory, on which the new root is put together; nobody else sees that.
    pub scratch_dir: PathBuf,
    /// Device nodes that the VMM sees beside `/dev/null`.
    pub devices: Vec<PathBuf>,
    /// Program to execute.
    pub program: PathBuf,
    /// Length of the longest file that it may write, in bytes.
    pub largest_file: u64,
}

impl JailSpec {
    /// The jail's whole command line.
    pub fn arguments(&self, program_arguments: &[OsString]) -> io::Result<Vec<CString>> {
        let spec = serde_json::to_string(self)?;
        ["hearth", SUBCOMMAND, &spec]
            .iter()
            .map(|argument| argument.as_bytes())
            .chain(program_arguments.iter().map(|argument| argument.as_bytes()))
            .map(|argument| CString::new(argument).map_err(io::Error::from))
            .collect()
    }
}

/// Becomes the jail if the command line says so, and does not return then. To be called first in
/// `main`, before there is a second thread.
pub fn run_if_requested() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(SUBCOMMAND)) {
        return;
    }
    let error = match run(arguments) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    eprintln!("vmm-jail: {error}");
    std::process::exit(125);
}

/// Builds the jail and executes the VMM in it.
fn run(mut arguments: impl Iterator<Item = OsString>) -> io::Result<std::convert::Infallible> {
    let spec = arguments.next().ok_or_else(|| io::Error::other("the specification is missing"))?;
    let spec: JailSpec = serde_json::from_slice(spec.as_bytes())?;
    step("detach", detach(spec.largest_file))?;
    step("hear from the server", io::stdin().read_exact(&mut [0]))?;
    step("enter the namespaces", enter_namespaces(spec.network_namespace))?;
    step("set the root directory up", change_root(&spec))?;
    let null = fs::File::open("/dev/null")?;
    step("close its input", rustix::stdio::dup2_stdin(&null).map_err(Into::into))?;
    step("give up privileges", drop_privileges(spec.uid))?;
    let error = Command::new(&spec.program).args(arguments).exec();
    Err(io::Error::new(error.kind(), format!("cannot execute {}: {error}", spec.program.display())))
}

/// Leaves the server's session, and what else is inherited that a VMM must not have.
fn detach(largest_file: u64) -> io::Result<()> {
    rustix::process::setsid()?;
    fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJUSTMENT)?;
    // The server's own limit of files is for the connections of its clients.
    limit([(Resource::Core, 0), (Resource::Nofile, OPEN_FILES), (Resource::Fsize, largest_file)])?;
    // What would be too long fails, and does not end the VMM; execve(2) keeps what is ignored.
    // SAFETY: no handler is installed.
    if unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    Ok(())
}

fn enter_namespaces(network_namespace: Option<RawFd>) -> io::Result<()> {
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    match network_namespace {
        Some(descriptor) => {
            // SAFETY: the server has handed this descriptor over, and it is not closed before exec.
            let namespace = unsafe { BorrowedFd::borrow_raw(descriptor) };
            nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET)?;
            rustix::io::fcntl_setfd(namespace, rustix::io::FdFlags::CLOEXEC)?;
        }
        None => flags |= CloneFlags::CLONE_NEWNET,
    }
    nix::sched::unshare(flags)?;
    Ok(())
}

/// Replaces the root directory by a read-only one that holds little more than
/// programs and libraries.
fn change_root(spec: &JailSpec) -> io::Result<()> {
    let root = spec.scratch_dir.as_path();
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let no_programs = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", root, "tmpfs", no_programs, Some(c"size=64k,mode=755"))?;
    for directory in program_directories(&spec.program) {
        show_directory(root, &directory)?;
    }
    let linker_cache = Path::new("/etc/ld.so.cache");
    if linker_cache.exists() {
        show_file(root, linker_cache)?;
    }
    fs::create_dir(root.join("dev"))?;
    let (dev, no_programs_but_devices) = (root.join("dev"), MountFlags::NOSUID | MountFlags::NOEXEC);
    rustix::mount::mount("tmpfs", &dev, "tmpfs", no_programs_but_devices, Some(c"size=64k,mode=755"))?;
    for device in std::iter::once(Path::new("/dev/null")).chain(spec.devices.iter().map(PathBuf::as_path)) {
        make_device(root, device, spec.uid)?;
    }
    rustix::mount::mount_remount(&dev, MountFlags::BIND | MountFlags::RDONLY | no_programs_but_devices, "")?;
    // A fresh procfs shows this PID namespace only. QEMU needs it to open what it
    // got as descriptors.
    fs::create_dir(root.join("proc"))?;
    rustix::mount::mount("proc", root.join("proc"), "proc", no_programs, None)?;

    rustix::mount::mount_remount(root, MountFlags::BIND | MountFlags::RDONLY | no_programs, "")?;
    rustix::process::chdir(root)?;
    // The new root on top of the old one, which is then taken away from under it;
    // see pivot_root(2).
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// Directories that the program needs: the system's, and its own prefix if it is
/// installed elsewhere.
fn program_directories(program: &Path) -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = ["/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin"]
        .iter()
        .map(PathBuf::from)
        .filter(|path| path.symlink_metadata().is_ok())
        .collect();
    if !program.starts_with("/usr")
        && let Some(prefix) =
            program.parent().and_then(Path::parent).filter(|prefix| *prefix != Path::new("/"))
    {
        directories.push(prefix.to_path_buf());
    }
    directories
}

/// Makes a directory of the host visible, read-only; a symbolic link (`/lib` →
/// `usr/lib`) stays one.
fn show_directory(root: &Path, directory: &Path) -> io::Result<()> {
    let target = below(root, directory);
    if let Ok(link) = fs::read_link(directory) {
        return symlink(link, target);
    }
    create_dir_all(&target)?;
    rustix::mount::mount_bind(directory, &target)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(rustix::mount::mount_remount(&target, flags, "")?)
}

/// Makes a device node like one of the host's that the VMM's user may open.
fn make_device(root: &Path, device: &Path, uid: u32) -> io::Result<()> {
    let number = fs::metadata(device)?.rdev();
    let (kind, mode) = (nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::from_bits_truncate(0o600));
    let target = below(root, device);
    nix::sys::stat::mknod(&target, kind, mode, number)?;
    std::os::unix::fs::chown(&target, Some(uid), Some(uid))
}

/// Makes a file of the host visible.
fn show_file(root: &Path, file: &Path) -> io::Result<()> {
    let target = below(root, file);
    create_dir_all(target.parent().unwrap_or(root))?;
    fs::File::create(&target)?;
    Ok(rustix::mount::mount_bind(file, &target)?)
}

/// Like `fs::create_dir_all`, but whatever the umask, others may look inside.
fn create_dir_all(directory: &Path) -> io::Result<()> {
    if directory.exists() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        create_dir_all(parent)?;
    }
    fs::create_dir(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}
