//! The one task that drives a microVM: it takes an event, asks the machine, writes the row, publishes, and performs
//! the step. It is the only writer of its row.

use std::sync::Arc;
use std::time::Duration;

use hearth_api::{CloudWatchLogging, Logging, MicrovmState, Timestamp};
use hearth_guest::Guest;
use hearth_guest::guest::{ask, describe_exit};
use hearth_guest_protocol::{Reply, Request};
use hearth_store::{ImageVersionRecord, MicrovmRecord};
use hearth_vmm::{GuestStream, Vm};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::machine::{Decision, DenyReason, Event, Failure, Machine, Phase, Step};
use crate::output::{Destination, OutputLog};
use crate::published::{Published, RunningMicrovm};
use crate::steps::{Host, SharedHost, Started};
use crate::timers;

/// `stateReason` of a microVM that could not be suspended when the service was stopped.
const REASON_NOT_SUSPENDED: &str = "The service was stopped and the MicroVM could not be suspended.";

/// A message to a supervisor: an event, and where the verdict goes.
pub(crate) type Message = (Event, Option<oneshot::Sender<Result<(), DenyReason>>>);

/// Drives one microVM until it is terminated or the service stops.
#[derive(Debug)]
pub(crate) struct Supervisor {
    front: Front,
    body: Body,
}

/// The half that answers: it never waits for a VM.
#[derive(Debug)]
struct Front {
    host: SharedHost,
    machine: Machine,
    record: MicrovmRecord,
    messages: mpsc::Receiver<Message>,
    publish: watch::Sender<Published>,
    /// What has been said about the end of the service.
    stopping: Option<Stop>,
}

/// What becomes of a running microVM when the service stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Suspend,
    Leave,
}

/// The half that acts: it holds what the microVM holds.
#[derive(Debug)]
struct Body {
    host: SharedHost,
    version: ImageVersionRecord,
    output: Arc<OutputLog>,
    guest: Option<Guest>,
    running: Option<RunningMicrovm>,
    watchers: Vec<AbortHandle>,
    compaction: Option<JoinHandle<()>>,
    lives: u64,
    exits_tx: mpsc::Sender<Event>,
    exits_rx: mpsc::Receiver<Event>,
}

impl Supervisor {
    pub(crate) fn new(
        host: SharedHost,
        machine: Machine,
        (record, guest): (MicrovmRecord, Option<Guest>),
        version: ImageVersionRecord,
        output_position: Option<u64>,
        messages: mpsc::Receiver<Message>,
        publish: watch::Sender<Published>,
    ) -> Self {
        let first = version.app.as_ref().map_or(0, |app| app.output_position);
        let destination = log_destination(&record);
        let position = output_position.unwrap_or(first);
        let output = OutputLog::new(host.store.clone(), record.id.clone(), destination, position);
        let (exits_tx, exits_rx) = mpsc::channel(4);
        Self {
            body: Body {
                host: host.clone(),
                version,
                output: Arc::new(output),
                guest,
                running: None,
                watchers: Vec::new(),
                compaction: None,
                lives: 0,
                exits_tx,
                exits_rx,
            },
            front: Front { host, machine, record, messages, publish, stopping: None },
        }
    }

    /// Runs until the end; `first` is the step to begin with.
    pub(crate) async fn run(mut self, first: Option<Step>) -> MicrovmRecord {
        let mut step = first;
        if self.front.machine.phase() == Phase::Running
            && let Some(guest) = self.body.guest.take()
        {
            self.body.begin_life(&self.front.record, guest, None);
            self.front.publish(self.body.running.clone());
        }
        loop {
            let event = match step.take() {
                Some(step) => self.perform(step).await,
                None => match self.wait().await {
                    Some(event) => event,
                    None => break,
                },
            };
            step = self.front.take(event, &self.body).await;
            let phase = self.front.machine.phase();
            if self.front.stopping == Some(Stop::Suspend) && step.is_none() && phase == Phase::Running {
                // The suspend failed, and nobody will be there to try again.
                let lost = Event::VmmExited(REASON_NOT_SUSPENDED.to_owned());
                step = self.front.take(lost, &self.body).await;
            }
            let over = match self.front.machine.phase() {
                Phase::Terminated => true,
                Phase::Suspended => self.front.stopping.is_some() && step.is_none(),
                Phase::Running => self.front.stopping == Some(Stop::Leave) && step.is_none(),
                _ => false,
            };
            if over {
                break;
            }
        }
        if let Some(compaction) = self.body.compaction.take() {
            // The files must be at rest before the caller goes on; a panic in there was logged by the runtime.
            let _ = compaction.await;
        }
        self.body.leave().await;
        self.front.record
    }

    /// Performs a step while requests go on being answered.
    async fn perform(&mut self, step: Step) -> Event {
        let Self { front, body } = self;
        let record = front.record.clone();
        let work = body.perform(&record, step);
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                result = &mut work => {
                    return match result {
                        Ok(()) => Event::StepDone,
                        Err(failure) => Event::StepFailed(failure),
                    };
                }
                Some(message) = front.messages.recv() => front.answer_during_step(message).await,
            }
        }
    }

    /// Waits for the next event: exits before timers before requests.
    async fn wait(&mut self) -> Option<Event> {
        loop {
            let due = timers::next(&self.front.record, self.body.running.as_ref(), now());
            let timer = async {
                match &due {
                    Some(due) => tokio::time::sleep_until(due.at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(exit) = self.body.exits_rx.recv() => return Some(exit),
                () = timer => {
                    let event = due.map(|due| due.event)?;
                    if !self.idle_was_interrupted(&event) {
                        return Some(event);
                    }
                }
                message = self.front.messages.recv() => {
                    let (event, verdict_tx) = message?;
                    self.front.note_stop(&event);
                    let (verdict, acts) = self.front.preview(&event);
                    if let Some(verdict_tx) = verdict_tx {
                        // The asker may have gone away; the event counts all the same.
                        let _ = verdict_tx.send(verdict);
                    }
                    if acts || self.front.stopping.is_some() {
                        return Some(event);
                    }
                }
            }
        }
    }

    /// Traffic that came after the timer was armed starts the idle time anew.
    fn idle_was_interrupted(&self, event: &Event) -> bool {
        matches!(event, Event::Idle(_))
            && timers::next(&self.front.record, self.body.running.as_ref(), now())
                .is_none_or(|due| due.event != *event || due.at > tokio::time::Instant::now())
    }
}

impl Front {
    /// What the machine would say to a request, without moving it.
    fn preview(&self, event: &Event) -> (Result<(), DenyReason>, bool) {
        match self.machine.clone().on(event.clone()) {
            Decision::Deny(reason) => (Err(reason), false),
            Decision::Ignore => (Ok(()), false),
            Decision::Begin(_) | Decision::Changed => (Ok(()), true),
        }
    }

    fn note_stop(&mut self, event: &Event) {
        match event {
            Event::Shutdown => self.stopping = Some(Stop::Suspend),
            Event::Leave => self.stopping = Some(Stop::Leave),
            _ => {}
        }
    }

    async fn answer_during_step(&mut self, (event, verdict_tx): Message) {
        self.note_stop(&event);
        let decision = self.machine.on(event);
        if decision == Decision::Changed {
            self.persist().await;
            self.publish(None);
        }
        if let Some(verdict_tx) = verdict_tx {
            let verdict = match decision {
                Decision::Deny(reason) => Err(reason),
                Decision::Begin(_) | Decision::Changed | Decision::Ignore => Ok(()),
            };
            // The asker may have gone away; the event counts all the same.
            let _ = verdict_tx.send(verdict);
        }
    }

    /// Moves the machine, writes the row, publishes; returns the step to perform.
    async fn take(&mut self, event: Event, body: &Body) -> Option<Step> {
        let note = match &event {
            Event::StepFailed(Failure::Undone(reason)) => Some(reason.clone()),
            _ => None,
        };
        let step = match self.machine.on(event) {
            Decision::Begin(step) => Some(step),
            Decision::Changed => None,
            Decision::Ignore | Decision::Deny(_) => return None,
        };
        self.record.state_reason = match &step {
            Some(Step::Terminate(reason)) => Some(reason.clone()),
            _ if self.machine.phase() == Phase::Terminated => self.record.state_reason.take(),
            _ => note,
        };
        self.persist().await;
        self.publish(body.running.clone());
        step
    }

    async fn persist(&mut self) {
        let record = &mut self.record;
        record.generation += 1;
        record.state = self.machine.public_state();
        record.suspended_at = match record.state {
            MicrovmState::Suspended => Some(record.suspended_at.unwrap_or_else(now)),
            _ => None,
        };
        if record.state == MicrovmState::Terminated {
            record.terminated_at = Some(now());
        }
        if let Err(error) = self.host.store.update_microvm(record).await {
            tracing::error!(microvm = %record.id, %error, "the record could not be written");
        }
    }

    fn publish(&self, running: Option<RunningMicrovm>) {
        let state = self.record.state;
        let running = if state == MicrovmState::Running { running } else { None };
        self.publish.send_replace(Published { state, running });
    }
}

impl Body {
    async fn perform(&mut self, record: &MicrovmRecord, step: Step) -> Result<(), Failure> {
        let host = self.host.clone();
        match step {
            Step::Launch => {
                let Started { guest, stream } = host.launch(record, &self.version).await?;
                self.begin_life(record, guest, Some(stream));
            }
            Step::Resume => {
                if let Some(compaction) = self.compaction.take() {
                    // A failed merge was logged and leaves the layers as they were.
                    let _ = compaction.await;
                }
                let Started { guest, stream } = match self.guest.take() {
                    // An earlier server had begun with it.
                    Some(guest) => host.finish_start(record, guest).await?,
                    None => host.resume(record, &self.version).await?,
                };
                self.begin_life(record, guest, Some(stream));
            }
            Step::Suspend => self.suspend(&host, record).await?,
            Step::Terminate(_) => {
                self.end_life();
                host.release(record, self.guest.take()).await;
            }
        }
        Ok(())
    }

    async fn suspend(&mut self, host: &Host, record: &MicrovmRecord) -> Result<(), Failure> {
        self.end_life();
        let Some(guest) = self.guest.take() else {
            return Err(Failure::Fatal("The MicroVM had no guest to suspend.".into()));
        };
        self.output.flush().await;
        match host.suspend(record, guest).await {
            Ok(()) => {
                self.compaction = Some(host.compact(record));
                Ok(())
            }
            Err((guest, failure)) => {
                self.begin_life(record, guest, None);
                Err(failure)
            }
        }
    }

    fn begin_life(&mut self, record: &MicrovmRecord, guest: Guest, warm: Option<Box<dyn GuestStream>>) {
        self.lives += 1;
        // An exit of a former life, reported late, must not end this one.
        (self.exits_tx, self.exits_rx) = mpsc::channel(4);
        let vm = guest.vm().clone();
        let watchers = [
            tokio::spawn(watch_vmm(vm.clone(), self.exits_tx.clone())),
            tokio::spawn(settled(watch_container(vm.clone(), self.output.clone(), self.exits_tx.clone()))),
            tokio::spawn(settled(self.output.clone().follow(vm.clone()))),
        ];
        self.watchers = watchers.iter().map(JoinHandle::abort_handle).collect();
        self.running = Some(RunningMicrovm::new(record.id.clone(), self.lives, vm, warm));
        self.guest = Some(guest);
    }

    /// Leaves a guest that still runs to a later server.
    async fn leave(&mut self) {
        self.end_life();
        let Some(guest) = self.guest.take() else { return };
        self.output.flush().await;
        guest.leave();
    }

    fn end_life(&mut self) {
        if let Some(running) = self.running.take() {
            running.end();
        }
        for watcher in self.watchers.drain(..) {
            watcher.abort();
        }
    }
}

/// Begins once the guest has had time for its first request: after a restore its CPUs are cold, and what else it is
/// asked then is paid by whoever waits for that request.
async fn settled(watch: impl Future<Output = ()>) {
    tokio::time::sleep(Duration::from_millis(700)).await;
    watch.await;
}

async fn watch_vmm(vm: Arc<dyn Vm>, exits_tx: mpsc::Sender<Event>) {
    let reason = format!("The {}.", describe_exit(&vm.wait().await));
    // Nobody listens any more when this life has ended already.
    let _ = exits_tx.send(Event::VmmExited(reason)).await;
}

async fn watch_container(vm: Arc<dyn Vm>, output: Arc<OutputLog>, exits_tx: mpsc::Sender<Event>) {
    const DAY: Duration = Duration::from_hours(24);
    /// How long the guest of an app that has ended is kept for the app's last words.
    const LAST_WORDS: Duration = Duration::from_secs(2);
    loop {
        match ask(&vm, &Request::WaitExit, DAY).await {
            Ok(Reply::Exited { code }) => {
                output.ended(LAST_WORDS).await;
                // Nobody listens any more when this life has ended already.
                let _ = exits_tx.send(Event::ContainerExited(code)).await;
                return;
            }
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Where the app's output goes (behaviour.md section 7), or nothing when logging is disabled.
fn log_destination(record: &MicrovmRecord) -> Option<Destination> {
    let CloudWatchLogging { log_group, log_stream } = match &record.settings.logging {
        Some(Logging::Disabled {}) => return None,
        Some(Logging::CloudWatch(wanted)) => wanted.clone(),
        None => CloudWatchLogging::default(),
    };
    let group = log_group.unwrap_or_else(|| format!("/aws/lambda-microvms/{}", record.image_arn.name));
    let day = record.started_at.0.strftime("%Y/%m/%d");
    let stream = log_stream.unwrap_or_else(|| format!("{day}[{}]{}", record.image_version, record.id));
    Some(Destination { account: record.account.clone(), group, stream })
}

fn now() -> Timestamp {
    Timestamp::now()
}
