//! A VM under QEMU: starting it from nothing or from a snapshot, and the [`Vm`]
//! trait on top of QMP.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{Mutex, broadcast};
use tracing::{debug, warn};

use super::command_line::{CONSOLE, CONSOLE_BYTES};
use super::commands::{
    AddFd, Command, Cont, Event, MigrateIncoming, MigrateSetCapabilities, MigrationCapability, QueryMigrate,
    RemoveFd, RingbufRead, Stop,
};
use super::instance::{CONSOLE_FILE, Instance};
use super::launch::{CloneOf, Connected, Launch, Launcher, translate};
use super::log::TAIL_BYTES;
use super::qmp::{Qmp, QmpError, clipped};
use super::snapshots;
use super::stopped::{self, Wanted};
use crate::error::{Error, Result};
use crate::snapshot::{LayerStack, MANIFEST_FILE, MEMORY_FILE, Manifest, Restoration, file_error};
use crate::spec::{GuestChannel, GuestStream, VmSpec};
use crate::vm::{ExitReason, SnapshotInfo, SnapshotTarget, Vm};

/// How long a VM that ends is asked for its console; it may hang.
const CONSOLE_TIMEOUT: Duration = Duration::from_millis(500);

/// How the kernel's last words begin when it gives up.
const KERNEL_PANIC: &str = "Kernel panic";

/// How much of the console is quoted in an [`ExitReason`].
const QUOTED_LINES: usize = 10;

/// Where a VM's RAM is, which decides what snapshots can be taken of it.
#[derive(Debug)]
pub(super) enum Ram {
    /// Nowhere: no snapshots.
    Anonymous,
    /// In the file `memory` of a directory that is to hold a base.
    FutureBase {
        /// The directory.
        directory: PathBuf,
    },
    /// A private mapping of a base's memory.
    Clone {
        /// The base.
        base: Box<Manifest>,
        /// Its memory file.
        memory: File,
    },
}

/// The snapshot that a VM is restored from.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) base_directory: PathBuf,
    pub(super) base: Manifest,
    /// The microVM's own layers and their directory.
    pub(super) layers: Option<(PathBuf, Manifest)>,
}

/// A VM.
#[derive(Debug)]
pub(super) struct QemuVm {
    pub(super) instance: Arc<Instance>,
    pub(super) qmp: Arc<Qmp>,
    pub(super) launcher: Arc<Launcher>,
    pub(super) ram: Ram,
    /// Its memory has become a base, which must not change any more.
    pub(super) sealed: AtomicBool,
    wanted: Arc<Mutex<Wanted>>,
    guest_channel: Arc<dyn GuestChannel>,
}

/// Boots a VM.
pub(super) async fn boot(launcher: &Arc<Launcher>, spec: VmSpec, ram: Ram) -> Result<Arc<QemuVm>> {
    let launch = match &ram {
        Ram::FutureBase { directory } => {
            let memory = create_memory(directory, spec.memory_mib, spec.isolation.uid)?;
            Launch::Boot { memory }
        }
        Ram::Anonymous | Ram::Clone { .. } => Launch::BootAnonymous,
    };
    let vm = QemuVm::start(launcher, spec, launch, ram).await?;
    vm.or_kill(vm.resume().await).await?;
    Ok(vm)
}

/// Restores a VM; it is paused.
pub(super) async fn restore(
    launcher: &Arc<Launcher>,
    spec: VmSpec,
    snapshot: Snapshot,
) -> Result<Arc<QemuVm>> {
    let begin = Instant::now();
    let path = snapshot.base_directory.join(MEMORY_FILE);
    let open = || File::open(&path).map_err(|error| file_error("open", &path, error));
    let (memory, platform) = (open()?, snapshot.base.platform.clone());
    let (directory, manifest) = match &snapshot.layers {
        Some((directory, manifest)) => (directory, manifest),
        None => (&snapshot.base_directory, &snapshot.base),
    };
    let device_state = manifest.device_state.open(directory)?;
    let layers = match &snapshot.layers {
        Some((directory, manifest)) => Some(LayerStack::open(directory, manifest)?.into_restoration()),
        None => None,
    };
    let clone = CloneOf { base_directory: snapshot.base_directory, platform };
    let launch = match layers {
        Some(_) => Launch::RestoreLayers { memory, clone },
        None => Launch::Restore { memory, clone },
    };
    let ram = Ram::Clone { base: Box::new(snapshot.base), memory: open()? };
    let name = spec.name.clone();
    let vm = QemuVm::start(launcher, spec, launch, ram).await?;
    let started = begin.elapsed();
    vm.or_kill(vm.load(layers, device_state).await).await?;
    debug!(vm = name, ?started, loaded = ?begin.elapsed(), "the snapshot is loaded");
    Ok(vm)
}

/// Makes the sparse file that becomes a base's memory. Only the VMM's user may open it.
fn create_memory(directory: &Path, memory_mib: u32, uid: u32) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    if Manifest::read(directory)?.is_some() {
        let path = directory.join(MANIFEST_FILE);
        return Err(Error::Damaged { path, detail: "a finished snapshot would be overwritten".to_owned() });
    }
    let path = directory.join(MEMORY_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(file_error("remove", &path, error));
        }
        _ => {}
    }
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
    let prepare = |file: File| {
        file.set_len(u64::from(memory_mib) * 1024 * 1024)?;
        std::os::unix::fs::fchown(&file, Some(uid), Some(uid))?;
        Ok(file)
    };
    file.and_then(prepare).map_err(|error| file_error("create", &path, error))
}

impl QemuVm {
    async fn start(launcher: &Arc<Launcher>, spec: VmSpec, launch: Launch, ram: Ram) -> Result<Arc<Self>> {
        let guest_channel = Arc::clone(&spec.guest_channel);
        let connected = launcher.launch(spec, launch).await?;
        Ok(Self::watched(launcher, connected, ram, Wanted::Paused, guest_channel))
    }

    /// A VM whose process has been connected to.
    pub(super) fn watched(
        launcher: &Arc<Launcher>,
        Connected { instance, qmp }: Connected,
        ram: Ram,
        wanted: Wanted,
        guest_channel: Arc<dyn GuestChannel>,
    ) -> Arc<Self> {
        tokio::spawn(watch_guest(Arc::clone(&instance), Arc::clone(&qmp), qmp.events()));
        let wanted = Arc::new(Mutex::new(wanted));
        tokio::spawn(stopped::watch(
            Arc::clone(&instance),
            Arc::clone(&qmp),
            Arc::clone(&wanted),
            qmp.events(),
        ));
        let launcher = Arc::clone(launcher);
        let sealed = AtomicBool::new(false);
        Arc::new(Self { instance, qmp, launcher, ram, sealed, wanted, guest_channel })
    }

    /// Ends the VM if its start has failed.
    async fn or_kill(&self, result: Result<()>) -> Result<()> {
        if result.is_err()
            && let Err(error) = self.instance.kill(ExitReason::Stopped).await
        {
            warn!(vm = self.instance.name, %error, "a VMM that failed to start stays");
        }
        result
    }

    /// Fills memory and devices. Memory comes first: loading devices reads the virtio rings in it.
    async fn load(&self, layers: Option<Restoration>, device_state: File) -> Result<()> {
        if let Some(layers) = layers {
            self.with_memory(move |memory| layers.write_into(&memory)).await?;
        }
        let mut events = self.qmp.events();
        self.enable_migration().await?;
        self.execute_on_file(&device_state, |path| MigrateIncoming { uri: format!("file:{path}") }).await?;
        self.wait_for_migration(MigrateIncoming::NAME, &mut events).await
    }

    /// RAM is left out of migrations: it is in the memory file.
    pub(super) async fn enable_migration(&self) -> Result<()> {
        let on = |capability| MigrationCapability { capability, state: true };
        self.execute(&MigrateSetCapabilities { capabilities: vec![on("x-ignore-shared"), on("events")] })
            .await
    }

    /// Lets QEMU have an open file while it runs a command, which `command` makes from the
    /// file's path there. QEMU finds a file only if it is open with exactly the access that
    /// the command asks for.
    pub(super) async fn execute_on_file<C: Command>(
        &self,
        file: &File,
        command: impl FnOnce(String) -> C + Send,
    ) -> Result<()> {
        let fdset_id = match self.qmp.execute_with_descriptor(&AddFd {}, Some(file.as_fd())).await {
            Ok(added) => added.fdset_id,
            Err(error) => return Err(translate(&self.instance, error).await),
        };
        let result = self.execute(&command(format!("/dev/fdset/{fdset_id}"))).await;
        // The command has opened what it needs; an error here can only repeat one that it had.
        let _ = self.execute(&RemoveFd { fdset_id }).await;
        result
    }

    /// Waits for the end of a migration in either direction.
    pub(super) async fn wait_for_migration(
        &self,
        command: &'static str,
        events: &mut broadcast::Receiver<Event>,
    ) -> Result<()> {
        let timeout = self.launcher.command_timeout;
        let outcome = async {
            loop {
                match events.recv().await {
                    Ok(Event::Migration { status }) if status == "completed" => return true,
                    Ok(Event::Migration { status }) if status == "failed" => return false,
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return false,
                }
            }
        };
        let completed = tokio::select! {
            completed = tokio::time::timeout(timeout, outcome) => completed,
            _ = self.instance.wait() => return Err(self.instance.exited_error("it gave no reason")),
        };
        match completed {
            Ok(true) => Ok(()),
            Ok(false) => {
                let why = self.execute_reply(&QueryMigrate {}).await?;
                let message = clipped(why.error_desc.or(why.status).unwrap_or_default(), TAIL_BYTES);
                Err(Error::Refused { command: command.to_owned(), message })
            }
            Err(_) => Err(Error::TimedOut { command: command.to_owned(), seconds: timeout.as_secs() }),
        }
    }

    /// Runs a command of which only the success matters.
    pub(super) async fn execute<C: Command>(&self, command: &C) -> Result<()> {
        self.execute_reply(command).await.map(drop)
    }

    /// Runs a command.
    pub(super) async fn execute_reply<C: Command>(&self, command: &C) -> Result<C::Reply> {
        let result = tokio::select! {
            result = self.qmp.execute(command) => result,
            _ = self.instance.wait() => Err(QmpError::Closed { reason: "QEMU has ended".to_owned() }),
        };
        match result {
            Ok(reply) => Ok(reply),
            Err(error) => Err(translate(&self.instance, error).await),
        }
    }
}

/// Ends the process when its guest has ended, and keeps what the guest said last.
async fn watch_guest(instance: Arc<Instance>, qmp: Arc<Qmp>, mut events: broadcast::Receiver<Event>) {
    let reason = loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = instance.wait() => return,
        };
        match event {
            Ok(Event::Shutdown { reason }) => break reason,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    };
    let console = save_console(&instance, &qmp).await;
    let reason = match reason.as_str() {
        "guest-shutdown" => ExitReason::Stopped,
        // QEMU itself is well: the kernel has panicked or rebooted, which it is not supposed to.
        other => ExitReason::Failed { status: 0, log_tail: format!("{other}\n{}", last_lines(&console)) },
    };
    end(&instance, reason).await;
}

/// Ends the VMM of a guest that ended while no server was there to hear why; only
/// the console can tell.
pub(super) async fn end_unwatched(instance: &Instance, qmp: &Qmp, status: &str) {
    let console = save_console(instance, qmp).await;
    let reason = if let Some(reason) = stopped::hopeless(status) {
        reason
    } else if console.contains(KERNEL_PANIC) {
        ExitReason::Failed { status: 0, log_tail: last_lines(&console) }
    } else {
        ExitReason::Stopped
    };
    end(instance, reason).await;
}

async fn end(instance: &Instance, reason: ExitReason) {
    if let Err(error) = instance.kill(reason).await {
        warn!(vm = instance.name, %error, "cannot end the VMM of a guest that has ended");
    }
}

/// Writes the last console output to the run directory.
async fn save_console(instance: &Instance, qmp: &Qmp) -> String {
    let command = RingbufRead { device: CONSOLE.to_owned(), size: CONSOLE_BYTES, format: "utf8" };
    let Ok(Ok(console)) = tokio::time::timeout(CONSOLE_TIMEOUT, qmp.execute(&command)).await else {
        return String::new();
    };
    let path = instance.run_dir.join(CONSOLE_FILE);
    if let Err(error) = fs::write(&path, &console) {
        warn!(path = %path.display(), %error, "cannot save the console");
    }
    console
}

/// The kernel's last words: from its panic on if it had one.
fn last_lines(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    let panic = lines.iter().rposition(|line| line.contains(KERNEL_PANIC));
    let start = panic.unwrap_or(lines.len().saturating_sub(QUOTED_LINES));
    clipped(lines[start..].iter().take(QUOTED_LINES).copied().collect::<Vec<_>>().join("\n"), TAIL_BYTES)
}

#[async_trait]
impl Vm for QemuVm {
    async fn pause(&self) -> Result<()> {
        let mut wanted = self.wanted.lock().await;
        self.execute(&Stop {}).await?;
        *wanted = Wanted::Paused;
        Ok(())
    }

    async fn resume(&self) -> Result<()> {
        if self.sealed.load(Ordering::Acquire) {
            let message = "its memory has become a base snapshot".to_owned();
            return Err(Error::Refused { command: Cont::NAME.to_owned(), message });
        }
        let mut wanted = self.wanted.lock().await;
        self.execute(&Cont {}).await?;
        *wanted = Wanted::Running;
        Ok(())
    }

    async fn create_snapshot(&self, target: &SnapshotTarget) -> Result<SnapshotInfo> {
        snapshots::create(self, target).await
    }

    async fn kill(&self) -> Result<()> {
        // Callers that boot a VM want its console; a clone's is silent.
        if !matches!(self.ram, Ram::Clone { .. }) {
            save_console(&self.instance, &self.qmp).await;
        }
        self.instance.kill(ExitReason::Stopped).await
    }

    async fn wait(&self) -> ExitReason {
        self.instance.wait().await
    }

    async fn connect_guest(&self) -> std::io::Result<Box<dyn GuestStream>> {
        self.guest_channel.connect().await
    }

    async fn connect_app(&self, port: u16, limit: Duration) -> std::io::Result<Box<dyn GuestStream>> {
        self.guest_channel.connect_app(port, limit).await
    }

    fn pid(&self) -> Option<u32> {
        Some(self.instance.process.pid())
    }
}
