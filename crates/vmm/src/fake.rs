//! A driver without processes, for tests of state machines: same traits, real snapshot
//! files, scripted failures.
//!
//! A [`FakeVmm`] does what it is told at once unless a test has asked for a failure
//! ([`FakeVmm::fail_next`]) or a delay ([`FakeVmm::delay`], in tokio's time), or decides about
//! every call itself ([`FakeVmm::obey`]). Its VMs can be made to end ([`FakeVm::exit`]). There is
//! no guest: [`Vm::connect_guest`] uses the spec's channel, which the test provides.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::snapshot::{
    DeviceState, DiskState, LayerSnapshot, MEMORY_FILE, Manifest, Platform, SnapshotDisk, file_error,
    finish_base,
};
use crate::spec::{GuestChannel, GuestStream, VmSpec};
use crate::vm::{Adopted, Adoption, Capabilities, ExitReason, SnapshotInfo, SnapshotTarget, Vm, Vmm};

/// What a test can make fail or slow, and finds in the list of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FakeOperation {
    /// [`Vmm::boot`].
    Boot,
    /// [`Vmm::restore`].
    Restore,
    /// [`Vm::pause`].
    Pause,
    /// [`Vm::resume`].
    Resume,
    /// [`Vm::create_snapshot`].
    CreateSnapshot,
    /// The end of [`Vm::create_snapshot`] of layers, with the snapshot on disk already.
    SnapshotWritten,
    /// [`Vm::kill`].
    Kill,
    /// [`Vmm::adopt`].
    Adopt,
}

/// Decides what befalls each call of a driver and its VMs: it may wait, fail, never return, or
/// make a VM exit first.
#[async_trait]
pub trait Schedule: Send + Sync + std::fmt::Debug {
    /// Called before an operation on the VM with this name; an error is the operation's.
    async fn before(&self, name: &str, operation: FakeOperation) -> Result<()>;
}

/// The driver.
#[derive(Debug)]
pub struct FakeVmm {
    capabilities: Capabilities,
    shared: Arc<Mutex<Shared>>,
}

/// What a driver and its VMs share.
#[derive(Debug, Default)]
struct Shared {
    failures: HashMap<FakeOperation, VecDeque<Error>>,
    delays: HashMap<FakeOperation, Duration>,
    schedule: Option<Arc<dyn Schedule>>,
    /// What guests run under instead of that of [`Platform::for_tests`].
    accelerator: Option<String>,
    calls: Vec<(String, FakeOperation)>,
    vms: HashMap<String, Arc<FakeVm>>,
}

/// A VM that is only a state.
#[derive(Debug)]
pub struct FakeVm {
    name: String,
    memory_bytes: u64,
    origin: Origin,
    guest_channel: Mutex<Arc<dyn GuestChannel>>,
    running: watch::Sender<bool>,
    exit: watch::Sender<Option<ExitReason>>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
enum Origin {
    Booted,
    Restored(Box<Manifest>),
}

impl Default for FakeVmm {
    fn default() -> Self {
        let capabilities = Capabilities {
            description: "fake".to_owned(),
            snapshots: true,
            adoption: true,
            memory_limit: Err("there is no process to limit".to_owned()),
            cpu_limit: Err("there is no process to limit".to_owned()),
        };
        Self { capabilities, shared: Arc::default() }
    }
}

impl FakeVmm {
    /// A driver with which everything succeeds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next call of this operation, on whatever VM, fail. Calls add up.
    pub fn fail_next(&self, operation: FakeOperation, error: Error) {
        lock(&self.shared).failures.entry(operation).or_default().push_back(error);
    }

    /// From now on runs guests under this accelerator, as a server does that was started again on a
    /// host that has changed.
    pub fn use_accelerator(&self, name: &str) {
        lock(&self.shared).accelerator = Some(name.to_owned());
    }

    /// Makes each call of this operation take `delay`.
    pub fn delay(&self, operation: FakeOperation, delay: Duration) {
        lock(&self.shared).delays.insert(operation, delay);
    }

    /// From now on every call is decided by this schedule, and no longer kept in
    /// [`FakeVmm::calls`].
    pub fn obey(&self, schedule: Arc<dyn Schedule>) {
        lock(&self.shared).schedule = Some(schedule);
    }

    /// The VM with this name, if it has not ended.
    pub fn vm(&self, name: &str) -> Option<Arc<FakeVm>> {
        lock(&self.shared).vms.get(name).cloned()
    }

    /// Names of the VMs that have not ended, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = lock(&self.shared).vms.keys().cloned().collect();
        names.sort();
        names
    }

    /// All calls so far, with the name of their VM.
    pub fn calls(&self) -> Vec<(String, FakeOperation)> {
        lock(&self.shared).calls.clone()
    }

    fn add(&self, spec: VmSpec, origin: Origin, running: bool) -> Arc<FakeVm> {
        let vm = Arc::new(FakeVm {
            memory_bytes: u64::from(spec.memory_mib) * 1024 * 1024,
            name: spec.name.clone(),
            origin,
            guest_channel: Mutex::new(spec.guest_channel),
            running: watch::Sender::new(running),
            exit: watch::Sender::new(None),
            shared: Arc::clone(&self.shared),
        });
        lock(&self.shared).vms.insert(spec.name, Arc::clone(&vm));
        vm
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses what was taken under another accelerator, as the real driver does.
fn check_fits(shared: &Mutex<Shared>, taken: &Platform) -> Result<()> {
    match lock(shared).accelerator.clone() {
        Some(host) if host != taken.accelerator => Err(Error::OtherAccelerator {
            taken: taken.accelerator.clone(),
            host,
            reason: "it was told to".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Notes the call, takes its time, and fails if it is to.
async fn perform(shared: &Mutex<Shared>, name: &str, operation: FakeOperation) -> Result<()> {
    let schedule = lock(shared).schedule.clone();
    if let Some(schedule) = schedule {
        return schedule.before(name, operation).await;
    }
    let delay = {
        let mut shared = lock(shared);
        shared.calls.push((name.to_owned(), operation));
        shared.delays.get(&operation).copied()
    };
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
    let failure = lock(shared).failures.get_mut(&operation).and_then(VecDeque::pop_front);
    failure.map_or(Ok(()), Err)
}

#[async_trait]
impl Vmm for FakeVmm {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn boot(&self, spec: VmSpec, snapshot_directory: Option<&Path>) -> Result<Arc<dyn Vm>> {
        perform(&self.shared, &spec.name, FakeOperation::Boot).await?;
        if let Some(directory) = snapshot_directory {
            let path = directory.join(MEMORY_FILE);
            let size = u64::from(spec.memory_mib) * 1024 * 1024;
            let made = File::create(&path).and_then(|file| file.set_len(size));
            made.map_err(|error| file_error("create", &path, error))?;
        }
        Ok(self.add(spec, Origin::Booted, true))
    }

    async fn restore(
        &self,
        spec: VmSpec,
        base_directory: &Path,
        layers_directory: Option<&Path>,
    ) -> Result<Arc<dyn Vm>> {
        perform(&self.shared, &spec.name, FakeOperation::Restore).await?;
        let base = Manifest::read_existing(base_directory)?;
        check_fits(&self.shared, &base.platform)?;
        if let Some(directory) = layers_directory {
            Manifest::read_existing(directory)?.device_state.open(directory)?;
        }
        Ok(self.add(spec, Origin::Restored(Box::new(base)), false))
    }

    async fn adopt(&self, adoption: Adoption) -> Result<Option<Adopted>> {
        perform(&self.shared, &adoption.name, FakeOperation::Adopt).await?;
        let Some(vm) = self.vm(&adoption.name) else { return Ok(None) };
        *vm.guest_channel.lock().unwrap_or_else(PoisonError::into_inner) = adoption.guest_channel;
        let running = vm.is_running();
        Ok(Some(Adopted { vm, running }))
    }
}

impl FakeVm {
    /// Whether its vCPUs run.
    pub fn is_running(&self) -> bool {
        *self.running.borrow()
    }

    /// The way to the guest; a paused one does not answer.
    fn channel(&self) -> io::Result<Arc<dyn GuestChannel>> {
        let channel = self.guest_channel.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.is_running() { Ok(channel) } else { Err(io::ErrorKind::TimedOut.into()) }
    }

    /// Ends the VM, as a crash or a guest that powers itself off would. Only the
    /// first reason counts.
    pub fn exit(&self, reason: ExitReason) {
        lock(&self.shared).vms.remove(&self.name);
        self.running.send_replace(false);
        self.exit.send_if_modified(|exit| {
            let first = exit.is_none();
            exit.get_or_insert(reason);
            first
        });
    }

    async fn step(&self, operation: FakeOperation) -> Result<()> {
        perform(&self.shared, &self.name, operation).await?;
        if self.exit.borrow().is_some() && operation != FakeOperation::Kill {
            return Err(Error::Exited {
                name: self.name.clone(),
                log_tail: "it was made to exit".to_owned(),
            });
        }
        Ok(())
    }

    fn snapshot_layer(
        &self,
        base: &Manifest,
        directory: &Path,
        previous: Option<&Path>,
        disks: &[SnapshotDisk],
    ) -> Result<SnapshotInfo> {
        let snapshot = LayerSnapshot::begin(directory, previous)?;
        let layer = snapshot.open_layers()?.write_layer(directory, &snapshot.layer_name(), &[], &NoPages)?;
        let device_state = DeviceState::write(directory, &snapshot.device_state_name(), b"fake")?;
        debug_assert_eq!(self.memory_bytes, base.memory_bytes);
        let disks = disks.iter().map(DiskState::of).collect::<Result<_>>()?;
        snapshot.commit(base, layer, device_state, disks)
    }
}

/// Memory that nobody wrote to.
#[derive(Debug)]
struct NoPages;

impl crate::snapshot::PageSource for NoPages {
    fn read_pages(&self, _pages: &[u64], _buffer: &mut [u8]) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Vm for FakeVm {
    async fn pause(&self) -> Result<()> {
        self.step(FakeOperation::Pause).await?;
        self.running.send_replace(false);
        Ok(())
    }

    async fn resume(&self) -> Result<()> {
        self.step(FakeOperation::Resume).await?;
        self.running.send_replace(true);
        Ok(())
    }

    async fn create_snapshot(&self, target: &SnapshotTarget) -> Result<SnapshotInfo> {
        self.step(FakeOperation::CreateSnapshot).await?;
        if self.is_running() {
            let message = "the VM is not paused".to_owned();
            return Err(Error::Refused { command: "create_snapshot".to_owned(), message });
        }
        match (&self.origin, target) {
            (Origin::Booted, SnapshotTarget::Base { directory, .. }) => {
                finish_base(directory, Platform::for_tests(), b"fake", &[])
            }
            (Origin::Restored(base), SnapshotTarget::Layer { directory, previous, disks }) => {
                let info = self.snapshot_layer(base, directory, previous.as_deref(), disks)?;
                self.step(FakeOperation::SnapshotWritten).await.map(|()| info)
            }
            (Origin::Booted, SnapshotTarget::Layer { .. }) => {
                Err(Error::Unsupported { operation: "a layer snapshot of a VM that was not restored" })
            }
            (Origin::Restored(_), SnapshotTarget::Base { .. }) => {
                Err(Error::Unsupported { operation: "a base snapshot of a VM that was restored" })
            }
        }
    }

    async fn kill(&self) -> Result<()> {
        self.step(FakeOperation::Kill).await?;
        self.exit(ExitReason::Stopped);
        Ok(())
    }

    async fn wait(&self) -> ExitReason {
        let mut exit = self.exit.subscribe();
        let reason = exit.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| reason.clone()).expect("invariant: the sender lives as long as this")
    }

    async fn connect_guest(&self) -> io::Result<Box<dyn GuestStream>> {
        self.channel()?.connect().await
    }

    async fn connect_app(&self, port: u16, limit: Duration) -> io::Result<Box<dyn GuestStream>> {
        self.channel()?.connect_app(port, limit).await
    }

    fn pid(&self) -> Option<u32> {
        None
    }
}
