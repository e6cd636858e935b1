//! Starting a QEMU process: opening its files, its jail, its limits, the connection to it.

use std::collections::BTreeSet;
use std::env::consts::ARCH;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{WaitId, WaitIdOptions};
use tokio::net::UnixStream;
use tracing::debug;

use super::Accelerator;
use super::command_line::{Descriptors, DriveDescriptors, Host, Start, command_line};
use super::instance::{Instance, SOCKET_FILE};
use super::largest_file::{Written, largest_file};
use super::log::{self, Log};
use super::probe::KVM;
use super::qmp::{Qmp, QmpError};
use crate::error::{Error, Result};
use crate::process::cgroup::{Cgroups, Group, Limits};
use crate::process::jail::JailSpec;
use crate::process::record::{Identity, Record};
use crate::process::{Process, SpawnRequest, group_name, spawn};
use crate::snapshot::{Platform, Verified, file_error};
use crate::spec::{DriveImage, VmSpec};
use crate::vm::ExitReason;

/// Threads that a VMM may have: vCPUs, I/O threads and some more.
pub(super) const THREADS: u32 = 256;

/// What all VMs of this driver have in common.
#[derive(Debug)]
pub(super) struct Launcher {
    pub(super) program: PathBuf,
    pub(super) jail_program: PathBuf,
    pub(super) host: Host,
    /// What snapshots that are taken here fit.
    pub(super) platform: Platform,
    /// CPU features that guests do not get here, by QEMU's names.
    pub(super) lacking: BTreeSet<String>,
    /// Why guests run under this accelerator.
    pub(super) reason: String,
    pub(super) cgroups: Cgroups,
    pub(super) command_timeout: Duration,
    /// Files of bases that were found whole.
    pub(super) verified: Verified,
}

/// How a process is to start; the file is its RAM.
#[derive(Debug)]
pub(super) enum Launch {
    BootAnonymous,
    Boot { memory: File },
    Restore { memory: File, clone: CloneOf },
    RestoreLayers { memory: File, clone: CloneOf },
}

/// The base that a VM is a clone of.
#[derive(Debug)]
pub(super) struct CloneOf {
    pub(super) base_directory: PathBuf,
    pub(super) platform: Platform,
}

/// A process that was just started; nobody watches it yet.
struct Started {
    pid: u32,
    pidfd: OwnedFd,
    group: Group,
    connection: std::os::unix::net::UnixStream,
    log: OwnedFd,
}

/// A process with its QMP connection.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) instance: Arc<Instance>,
    pub(super) qmp: Arc<Qmp>,
}

impl Launcher {
    /// Starts a process and connects to it. Its vCPUs do not run yet. The spec's
    /// descriptors are closed here.
    pub(super) async fn launch(self: &Arc<Self>, spec: VmSpec, launch: Launch) -> Result<Connected> {
        let begin = Instant::now();
        let (name, run_dir) = (spec.name.clone(), spec.run_dir.clone());
        let launcher = Arc::clone(self);
        let started = tokio::task::spawn_blocking(move || launcher.start_process(&spec, &launch)).await;
        let started = started.expect("invariant: starting a process does not panic")?;
        let spawned = begin.elapsed();
        let spawn_error = |source| Error::Spawn { name: name.clone(), source };
        let process = Process::new(started.pid, started.pidfd).map_err(spawn_error)?;
        let log = Log::follow(Some(started.log)).map_err(spawn_error)?;
        let instance = Instance::new(name.clone(), run_dir, process, started.group, log);
        let connected = self.connect(&instance, started.connection).await;
        match connected {
            Ok(qmp) => {
                debug!(vm = name, ?spawned, connected = ?begin.elapsed(), "the VMM has started");
                Ok(Connected { instance, qmp: Arc::new(qmp) })
            }
            Err(error) => {
                // The first error is the one to tell.
                let _ = instance.kill(ExitReason::Stopped).await;
                Err(error)
            }
        }
    }

    /// Moves the process under its limits while QEMU starts; both are done before
    /// any guest code runs.
    pub(super) async fn connect(
        &self,
        instance: &Arc<Instance>,
        connection: std::os::unix::net::UnixStream,
    ) -> Result<Qmp> {
        let spawn_error = |source| Error::Spawn { name: instance.name.clone(), source };
        let limited = {
            let instance = Arc::clone(instance);
            tokio::task::spawn_blocking(move || instance.group.add(instance.process.pid()))
        };
        let qmp = async {
            connection.set_nonblocking(true).map_err(spawn_error)?;
            let stream = UnixStream::from_std(connection).map_err(spawn_error)?;
            let qmp = tokio::select! {
                qmp = Qmp::connect(stream, self.command_timeout) => qmp,
                _ = instance.wait() => Err(QmpError::Closed { reason: "QEMU has ended".into() }),
            };
            match qmp {
                Ok(qmp) => Ok(qmp),
                Err(error) => Err(translate(instance, error).await),
            }
        };
        let qmp = qmp.await;
        let limited = limited.await.expect("invariant: joining a cgroup does not panic");
        qmp.and_then(|qmp| limited.map(|()| qmp).map_err(spawn_error))
    }

    /// Opens the files, makes the cgroup and the socket, and starts the jail.
    fn start_process(&self, spec: &VmSpec, launch: &Launch) -> Result<Started> {
        let files = Files::open(spec, launch)?;
        let (listener, connection) = listen(&spec.run_dir)
            .map_err(|error| file_error("listen on", &spec.run_dir.join(SOCKET_FILE), error))?;
        let spawn_error = |source| Error::Spawn { name: spec.name.clone(), source };
        let (log_rx, log_tx) = log::pipe().map_err(spawn_error)?;
        let (go_rx, go_tx) = io::pipe().map_err(spawn_error)?;

        let mut inherit = files.descriptors();
        inherit.push(listener.as_raw_fd());
        inherit.extend(spec.network_interfaces.iter().map(|interface| interface.tap.as_raw_fd()));
        let network_namespace = spec.isolation.network_namespace.as_ref().map(AsRawFd::as_raw_fd);
        inherit.extend(network_namespace);

        let (start, host) = (files.start(launch), self.host_for(launch));
        let arguments = command_line(&host, spec, start, &files.named(listener.as_raw_fd()));
        let jail = JailSpec {
            uid: spec.isolation.uid,
            network_namespace,
            scratch_dir: spec.run_dir.clone(),
            devices: devices(host.accelerator, Path::new(KVM))?,
            program: self.program.clone(),
            largest_file: largest_file(launch, spec.memory_mib, files.written(spec)).map_err(spawn_error)?,
        };
        let arguments = jail.arguments(&arguments).map_err(spawn_error)?;
        let program = CString::new(self.jail_program.as_os_str().as_bytes())
            .map_err(|error| spawn_error(error.into()))?;

        let limits = Limits {
            memory_mib: spec.isolation.memory_limit_mib,
            cpu_percent: spec.isolation.cpu_limit_percent,
            threads: THREADS,
        };
        let group =
            self.cgroups.create(&group_name(&spec.name, &spec.run_dir), limits).map_err(spawn_error)?;
        let request = SpawnRequest {
            program: &program,
            arguments: &arguments,
            inherit: &inherit,
            stdin: go_rx.as_fd(),
            stdout: log_tx.as_fd(),
            stderr: log_tx.as_fd(),
        };
        let record = |pid| Record {
            base_directory: launch.clone_of().map(|clone| clone.base_directory.clone()),
            memory_limit_mib: limits.memory_mib,
            cpu_limit_percent: limits.cpu_percent,
            ..Record::new(pid)
        };
        let spawned = spawn(&request).and_then(|(pid, pidfd)| {
            // For a later server process that takes this VM over; without it, the jail ends.
            let recorded = Identity::of(pid, &spec.run_dir).and_then(|pid| record(pid).write(&spec.run_dir));
            match recorded.and_then(|()| (&go_tx).write_all(b"\n")) {
                Ok(()) => Ok((pid, pidfd)),
                Err(error) => {
                    drop(go_tx);
                    // It ends by itself; what counts is why.
                    let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
                    Err(error)
                }
            }
        });
        match spawned {
            Ok((pid, pidfd)) => Ok(Started { pid, pidfd, group, connection, log: log_rx }),
            Err(error) => {
                group.remove();
                Err(spawn_error(error))
            }
        }
    }

    /// Refuses a snapshot that cannot run here. One that was taken under TCG can, whatever the
    /// server's own accelerator is.
    pub(super) fn check_fits(&self, taken: &Platform) -> Result<()> {
        let host = &self.platform;
        taken.check_kind(super::NAME, ARCH)?;
        match Accelerator::named(&taken.accelerator) {
            Some(accelerator) if accelerator == self.host.accelerator => {
                taken.check_fits(&host.cpu, &self.lacking)
            }
            Some(Accelerator::Tcg) => taken.check_fits(Accelerator::Tcg.cpu(), &BTreeSet::new()),
            _ => Err(Error::OtherAccelerator {
                taken: taken.accelerator.clone(),
                host: host.accelerator.clone(),
                reason: self.reason.clone(),
            }),
        }
    }

    /// A clone gets the machine, the accelerator and the CPU that its snapshot was taken of.
    fn host_for(&self, launch: &Launch) -> Host {
        let Some(CloneOf { platform, .. }) = launch.clone_of() else { return self.host.clone() };
        Host {
            machine_type: platform.machine_type.clone(),
            accelerator: Accelerator::named(&platform.accelerator).unwrap_or(self.host.accelerator),
            hides_virtualization: platform.hides_virtualization,
            ..self.host.clone()
        }
    }
}

/// Devices that QEMU opens by itself, if they are there.
fn devices(accelerator: Accelerator, kvm: &Path) -> Result<Vec<PathBuf>> {
    match accelerator {
        Accelerator::Kvm => {
            let opened = OpenOptions::new().read(true).write(true).open(kvm);
            opened.map_err(Error::NoKvm)?;
            Ok(vec![kvm.to_owned()])
        }
        Accelerator::Tcg => Ok(Vec::new()),
    }
}

impl Launch {
    fn clone_of(&self) -> Option<&CloneOf> {
        match self {
            Self::BootAnonymous | Self::Boot { .. } => None,
            Self::Restore { clone, .. } | Self::RestoreLayers { clone, .. } => Some(clone),
        }
    }
}

/// Translates an error of the connection; its end mostly means that the process has
/// ended and left a message.
pub(super) async fn translate(instance: &Instance, error: QmpError) -> Error {
    match error {
        QmpError::Refused { command, message } => Error::Refused { command: command.to_owned(), message },
        QmpError::TimedOut { command, seconds } => Error::TimedOut { command: command.to_owned(), seconds },
        QmpError::Closed { reason } => {
            // If it still lives, the reason is all there is to tell.
            let _ = tokio::time::timeout(Duration::from_secs(1), instance.wait()).await;
            instance.exited_error(&reason)
        }
    }
}

/// The files of a VM, opened with no more than the access it needs.
struct Files {
    memory: Option<RawFd>,
    boot: Option<(File, File)>,
    drives: Vec<(File, Option<File>)>,
}

impl Files {
    fn open(spec: &VmSpec, launch: &Launch) -> Result<Self> {
        let (memory, boots) = match launch {
            Launch::BootAnonymous => (None, true),
            Launch::Boot { memory } => (Some(memory.as_raw_fd()), true),
            Launch::Restore { memory, .. } | Launch::RestoreLayers { memory, .. } => {
                (Some(memory.as_raw_fd()), false)
            }
        };
        let source = &spec.boot_source;
        let boot = if boots {
            Some((open_read(&source.kernel_image_path)?, open_read(&source.initrd_path)?))
        } else {
            None
        };
        let open_drive = |image: &DriveImage| match image {
            DriveImage::RawReadOnly(path) => Ok((open_read(path)?, None)),
            DriveImage::Raw(path) => Ok((open_write(path)?, None)),
            DriveImage::Overlay { base, overlay } => Ok((open_read(base)?, Some(open_write(overlay)?))),
        };
        let drives = spec.drives.iter().map(|drive| open_drive(&drive.image)).collect::<Result<_>>()?;
        Ok(Self { memory, boot, drives })
    }

    fn descriptors(&self) -> Vec<RawFd> {
        let boot = self.boot.iter().flat_map(|(kernel, initrd)| [kernel.as_raw_fd(), initrd.as_raw_fd()]);
        let drives = self.drives.iter().flat_map(|(raw, overlay)| {
            [Some(raw.as_raw_fd()), overlay.as_ref().map(AsRawFd::as_raw_fd)].into_iter().flatten()
        });
        self.memory.into_iter().chain(boot).chain(drives).collect()
    }

    /// The disks that are written to.
    fn written<'a>(&'a self, spec: &'a VmSpec) -> impl Iterator<Item = Written<'a>> {
        spec.drives.iter().zip(&self.drives).filter_map(|(drive, (raw, _))| match drive.image {
            DriveImage::RawReadOnly(_) => None,
            DriveImage::Raw(_) => Some(Written::Raw(raw)),
            DriveImage::Overlay { .. } => Some(Written::OverlayOn(raw)),
        })
    }

    fn named(&self, qmp: RawFd) -> Descriptors {
        let boot = self.boot.as_ref().map(|(kernel, initrd)| (kernel.as_raw_fd(), initrd.as_raw_fd()));
        let drives = self.drives.iter().map(|(raw, overlay)| DriveDescriptors {
            raw: raw.as_raw_fd(),
            overlay: overlay.as_ref().map(AsRawFd::as_raw_fd),
        });
        Descriptors { qmp, boot, drives: drives.collect() }
    }

    fn start(&self, launch: &Launch) -> Start {
        let memory = self.memory.unwrap_or(-1);
        match launch {
            Launch::BootAnonymous => Start::BootAnonymous,
            Launch::Boot { .. } => Start::Boot { memory },
            Launch::Restore { .. } => Start::Restore { memory },
            Launch::RestoreLayers { .. } => Start::RestoreLayers { memory },
        }
    }
}

/// Makes the QMP socket and connects to it: QEMU finds the connection waiting when
/// it is ready for it.
fn listen(run_dir: &Path) -> io::Result<(UnixListener, std::os::unix::net::UnixStream)> {
    let (_directory, path) = socket_path(run_dir)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    let connection = std::os::unix::net::UnixStream::connect(&path)?;
    Ok((listener, connection))
}

/// Connects to a socket that an earlier server process has made with [`listen`].
pub(super) fn connect_again(run_dir: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    let (_directory, path) = socket_path(run_dir)?;
    std::os::unix::net::UnixStream::connect(path)
}

/// The path of a Unix socket has at most 107 bytes; by way of a descriptor, any directory will do.
fn socket_path(run_dir: &Path) -> io::Result<(File, PathBuf)> {
    let directory = OpenOptions::new().read(true).custom_flags(nix::libc::O_DIRECTORY).open(run_dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET_FILE}", directory.as_raw_fd()));
    Ok((directory, path))
}

fn open_read(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| file_error("open", path, error))
}

fn open_write(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).open(path).map_err(|error| file_error("open", path, error))
}

#[cfg(test)]
mod tests;
