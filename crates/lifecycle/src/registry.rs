//! The way in: finds the supervisor of a microVM and passes requests on.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hearth_api::{MicrovmId, MicrovmState};
use hearth_egress::Egresses;
use hearth_guest::{Guest, GuestFactory};
use hearth_node::{Ingress, Refusal, Unreachable};
use hearth_records::{Actor, Cause, MicrovmRecord, NodeId, Origin};
use hearth_snapshots::Snapshots;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, HostClock};
use crate::front::Message;
use crate::hooks::{Hooks, HooksPort};
use crate::machine::{DenyReason, Event, Machine, Phase, Step};
use crate::payload::SealingKey;
use crate::published::{Published, RunningMicrovm};
use crate::records::Records;
use crate::steps::{Host, SharedHost};
use crate::supervisor::Supervisor;

/// Longest wait of a request for a microVM that is being launched or resumed.
const WAKE_TIMEOUT: Duration = Duration::from_mins(1);

/// Between two attempts to read or write a record that a microVM cannot go on without.
pub(crate) const READ_PAUSE: Duration = Duration::from_secs(1);

/// Microvms that nobody drives are taken charge of side by side, unless they have the same of
/// these.
const TURNS: usize = 64;

/// What a registry needs.
#[derive(Debug)]
pub struct RegistryConfig {
    /// The node of which this is the registry.
    pub node: NodeId,
    /// Where the records are.
    pub records: Records,
    /// Starts guests.
    pub guests: GuestFactory,
    /// What they may reach.
    pub egresses: Arc<Egresses>,
    /// Where microVMs have their files.
    pub snapshots: Snapshots,
    /// Host memory that a VMM process may use beyond its guest's RAM, in MiB.
    pub vmm_overhead_mib: u32,
    /// Whether endpoints lead to the hooks.
    pub hooks_port: HooksPort,
    /// Seals the payloads of run hooks.
    pub sealing: SealingKey,
}

/// All microVMs that have not ended.
#[derive(Debug)]
pub struct Registry {
    host: SharedHost,
    pub(crate) entries: RwLock<HashMap<MicrovmId, Entry>>,
    turns: [tokio::sync::Mutex<()>; TURNS],
    pub(crate) tasks: TaskTracker,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) messages_tx: mpsc::Sender<Message>,
    pub(crate) published_rx: watch::Receiver<Published>,
    auto_resume: bool,
    pub(crate) label: Arc<str>,
    pub(crate) account: Arc<str>,
    pub(crate) ingress: Ingress,
}

impl Registry {
    /// An empty registry.
    pub fn new(config: RegistryConfig) -> Arc<Self> {
        Self::with_clock(config, Arc::new(HostClock))
    }

    /// The same with a clock of one's own.
    pub fn with_clock(config: RegistryConfig, clock: Arc<dyn Clock>) -> Arc<Self> {
        let RegistryConfig {
            node,
            records,
            guests,
            egresses,
            snapshots,
            vmm_overhead_mib,
            hooks_port,
            sealing,
        } = config;
        Arc::new(Self {
            host: Arc::new(Host {
                node,
                records,
                clock,
                guests,
                egresses,
                snapshots,
                vmm_overhead_mib,
                hooks_port,
                sealing,
            }),
            entries: RwLock::default(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            tasks: TaskTracker::new(),
        })
    }

    /// Takes charge of a microVM that was found in this phase, with its guest if it has one, and
    /// begins with this step.
    pub(crate) fn take(
        self: &Arc<Self>,
        record: MicrovmRecord,
        guest: Option<Guest>,
        phase: Phase,
        first: Option<Step>,
    ) {
        let origin = Origin::of(Cause::Host);
        self.supervise(record, guest, Machine::found(phase), first, origin);
    }

    /// Held while a microVM that nobody drives is taken charge of, from the look at its record
    /// until it has a supervisor. Of two that did this at a time, one would change the record and
    /// the other drive it.
    pub(crate) async fn turn(&self, id: &MicrovmId) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        self.turns[hasher.finish() as usize % TURNS].lock().await
    }

    /// Ends a supervisor whose microVM has another owner; true if there was none, or it has ended.
    pub(crate) async fn disown(&self, record: &MicrovmRecord) -> bool {
        let Some(entry) = self.entry(&record.id) else { return true };
        if record.owner.node == self.host.node {
            return false;
        }
        // A closed channel means that it has ended already.
        let _ = entry.messages_tx.send(Event::Disowned.into()).await;
        entry.messages_tx.closed().await;
        true
    }

    /// Reserves what a VMM holds that an earlier server left and that could not be ended.
    pub fn quarantine(&self, name: &str) {
        self.host.guests.quarantine(name);
    }

    pub(crate) fn host(&self) -> &SharedHost {
        &self.host
    }

    pub(crate) fn supervise(
        self: &Arc<Self>,
        record: MicrovmRecord,
        guest: Option<Guest>,
        machine: Machine,
        first: Option<Step>,
        origin: Origin,
    ) {
        let (messages_tx, messages_rx) = mpsc::channel(64);
        let (publish, published_rx) =
            watch::channel(Published { state: machine.public_state(), running: None, failed_resumes: 0 });
        let (id, label) = (record.id.clone(), record.endpoint_label.as_str().into());
        let auto_resume = record.settings.idle_policy.is_some_and(|policy| policy.auto_resume_enabled);
        {
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            let ingress = Ingress::of(&record.settings.ingress_network_connectors);
            let account = record.account.as_str().into();
            let entry = Entry { messages_tx, published_rx, auto_resume, label, account, ingress };
            if entries.get(&id).is_some_and(|entry| !entry.messages_tx.is_closed()) {
                tracing::error!(microvm = %id, "a microVM has a supervisor already");
                return;
            }
            entries.insert(id.clone(), entry);
        }
        let registry = self.clone();
        self.tasks.spawn(async move {
            let run = registry.clone().drive((record, guest), machine, first, messages_rx, publish, origin);
            if let Err(error) = tokio::spawn(run).await {
                tracing::error!(microvm = %id, %error, "the supervisor failed; its microVM is ended");
                registry.clone().end_lost(&id).await;
            }
            registry.forget(&id);
        });
    }

    /// Removes the entry of a supervisor that has finished.
    fn forget(&self, id: &MicrovmId) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.get(id).is_some_and(|entry| entry.messages_tx.is_closed()) {
            entries.remove(id);
        }
    }

    pub(crate) async fn drive(
        self: Arc<Self>,
        (record, guest): (MicrovmRecord, Option<Guest>),
        machine: Machine,
        first: Option<Step>,
        messages_rx: mpsc::Receiver<Message>,
        publish: watch::Sender<Published>,
        origin: Origin,
    ) {
        let host = &self.host;
        let version = loop {
            match host.records.images.image_version(&record.image_arn, record.image_version).await {
                Ok(version) => break version,
                // That it cannot be read does not mean that it is gone.
                Err(error) => tracing::error!(microvm = %record.id, %error, "its image cannot be read"),
            }
            if self.tasks.is_closed() {
                return;
            }
            tokio::time::sleep(READ_PAUSE).await;
        };
        let Some(version) = version else {
            return self.end_without_version(record, guest).await;
        };
        let machine = machine.with_hooks(Hooks::of(&version.configuration).enabled());
        // Without the position, the ring in the guest is read from its beginning: lines twice are
        // better than none.
        let position = host.records.microvms.output_position(&record.id).await.unwrap_or_else(|error| {
            tracing::error!(microvm = %record.id, %error, "the output position could not be read");
            None
        });
        let supervisor = Supervisor::new(
            host.clone(),
            (machine, origin),
            (record, guest),
            version,
            position,
            messages_rx,
            publish,
        );
        supervisor.run(first).await;
    }

    /// Suspends a microVM; done when the request is accepted, or when it is suspended already.
    pub async fn suspend(&self, id: &MicrovmId, actor: Option<Actor>) -> Result<(), Refusal> {
        self.request(id, Event::Suspend, actor).await
    }

    /// Resumes a microVM; done when the request is accepted, or when it is running already.
    pub async fn resume(&self, id: &MicrovmId, actor: Option<Actor>) -> Result<(), Refusal> {
        self.request(id, Event::Resume, actor).await
    }

    pub(crate) async fn recorded(&self, id: &MicrovmId) -> Result<Option<MicrovmRecord>, Refusal> {
        self.host.records.microvms.microvm(id).await.map_err(|error| {
            tracing::error!(microvm = %id, %error, "the record could not be read");
            Refusal::Internal
        })
    }

    pub(crate) async fn request(
        &self,
        id: &MicrovmId,
        event: Event,
        actor: Option<Actor>,
    ) -> Result<(), Refusal> {
        let event_needs_supervisor = event != Event::Terminate;
        if let Some(entry) = self.entry(id) {
            let (verdict_tx, verdict_rx) = oneshot::channel();
            let message = Message { event, actor, verdict_tx: Some(verdict_tx) };
            if entry.messages_tx.send(message).await.is_ok()
                && let Ok(verdict) = verdict_rx.await
            {
                return verdict.map_err(|reason| match reason {
                    DenyReason::Terminated => Refusal::Terminated,
                    DenyReason::Busy(state) => Refusal::Busy(state),
                    DenyReason::NotRecorded => Refusal::Internal,
                });
            }
        }
        match self.recorded(id).await? {
            Some(record) if event_needs_supervisor && is_alive(record.state) => {
                tracing::error!(microvm = %id, state = ?record.state, "nobody drives a microVM; it can be terminated");
                Err(Refusal::Internal)
            }
            Some(_) => Err(Refusal::Terminated),
            None => Err(Refusal::NotFound),
        }
    }

    /// Whether a supervisor drives this microVM.
    pub fn knows(&self, id: &MicrovmId) -> bool {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    /// Holds a request until the microVM is RUNNING, waking it if its idle policy says so.
    pub async fn ensure_running(&self, id: &MicrovmId) -> Result<RunningMicrovm, Unreachable> {
        let entry = self.entry(id).ok_or(Unreachable::NotFound)?;
        tokio::time::timeout(WAKE_TIMEOUT, wake(entry)).await.unwrap_or(Err(Unreachable::Failed))
    }

    /// Suspends what runs, ends what is being launched, and waits until every
    /// supervisor has finished.
    pub async fn shutdown(&self) {
        self.stop(&Event::Shutdown).await;
    }

    /// Leaves what runs to a later server process, which takes it over ([`crate::recover`]), and
    /// waits until every supervisor has finished. Steps that have begun are finished first.
    pub async fn leave(&self) {
        self.stop(&Event::Leave).await;
    }

    async fn stop(&self, event: &Event) {
        let entries: Vec<Entry> = {
            let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
            entries.values().cloned().collect()
        };
        for entry in entries {
            // A closed channel means that the supervisor has finished already.
            let _ = entry.messages_tx.send(event.clone().into()).await;
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn entry(&self, id: &MicrovmId) -> Option<Entry> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

pub(crate) fn is_alive(state: MicrovmState) -> bool {
    !matches!(state, MicrovmState::Terminating | MicrovmState::Terminated)
}

async fn wake(entry: Entry) -> Result<RunningMicrovm, Unreachable> {
    let Entry { messages_tx, mut published_rx, auto_resume, .. } = entry;
    // Those that failed before it was asked to be woken.
    let mut failed_before = None;
    loop {
        let published = published_rx.borrow_and_update().clone();
        match published.state {
            MicrovmState::Running => {
                if let Some(running) = published.running {
                    return Ok(running);
                }
            }
            MicrovmState::Pending => {}
            MicrovmState::Suspended | MicrovmState::Suspending if !auto_resume => {
                return Err(Unreachable::Suspended);
            }
            // One that was resumed and is suspended again meanwhile is woken again.
            MicrovmState::Suspended
                if failed_before.is_some_and(|before| published.failed_resumes > before) =>
            {
                return Err(Unreachable::Failed);
            }
            MicrovmState::Suspended | MicrovmState::Suspending => {
                failed_before.get_or_insert(published.failed_resumes);
                if messages_tx.send(Event::Traffic.into()).await.is_err() {
                    return Err(Unreachable::Terminated);
                }
            }
            MicrovmState::Terminating | MicrovmState::Terminated => return Err(Unreachable::Terminated),
        }
        if published_rx.changed().await.is_err() {
            return Err(Unreachable::Terminated);
        }
    }
}
