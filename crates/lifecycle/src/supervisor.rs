//! The one task that drives a microVM: it takes an event, asks the machine, writes the row,
//! publishes, and performs the step. It is the only writer of its row.

use std::sync::Arc;
use std::time::Duration;

use hearth_api::MicrovmState;
use hearth_guest::Guest;
use hearth_records::{ImageVersionRecord, MicrovmRecord};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::machine::{Decision, DenyReason, Event, Failure, Machine, Phase, Step};
use crate::output::OutputLog;
use crate::published::{Published, RunningMicrovm};
use crate::steps::SharedHost;
use crate::timers::{Due, Timers};

/// `stateReason` of a microVM that could not be suspended when the service was stopped.
const REASON_NOT_SUSPENDED: &str = "The service was stopped and the MicroVM could not be suspended.";

/// Between two attempts to record the end of a microVM.
const PERSIST_PAUSE: Duration = Duration::from_secs(1);

/// A message to a supervisor: an event, and where the verdict goes.
pub(crate) type Message = (Event, Option<oneshot::Sender<Result<(), DenyReason>>>);

/// Drives one microVM until it is terminated or the service stops.
#[derive(Debug)]
pub(crate) struct Supervisor {
    front: Front,
    body: Body,
    timers: Timers,
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
    failed_resumes: u64,
    /// Cuts the step under way short.
    cut: CancellationToken,
}

/// What becomes of a running microVM when the service stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Suspend,
    Leave,
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
        let destination = record.log_destination();
        let position = output_position.unwrap_or(first);
        let output = OutputLog::new(host.records.logs.clone(), record.id.clone(), destination, position);
        let timers = Timers::new(host.clock.clone(), &record);
        let body = Body::new(host.clone(), version, Arc::new(output), guest);
        let cut = CancellationToken::new();
        let front =
            Front { host, machine, record, messages, publish, stopping: None, failed_resumes: 0, cut };
        Self { front, body, timers }
    }

    /// Runs until the end; `first` is the step to begin with.
    pub(crate) async fn run(mut self, first: Option<Step>) -> MicrovmRecord {
        let mut step = first;
        if self.front.machine.phase() == Phase::Running {
            self.body.take_over(&self.front.record);
            self.body.runs(&self.front.record);
            self.front.publish(self.body.running.clone());
        }
        loop {
            let (event, verdict_tx) = match step.take() {
                Some(step) => (self.perform(step).await, None),
                None => match self.wait().await {
                    Some(message) => message,
                    None => break,
                },
            };
            let taken = self.front.take(event, &self.body).await;
            if let Some(verdict_tx) = verdict_tx {
                // What is acknowledged is written and published. The asker may have gone away.
                let _ = verdict_tx.send(taken.as_ref().map(|_| ()).map_err(|_| DenyReason::NotRecorded));
            }
            step = taken.unwrap_or_default();
            let phase = self.front.machine.phase();
            if phase == Phase::Running {
                self.body.runs(&self.front.record);
            }
            if self.front.stopping == Some(Stop::Suspend) && step.is_none() && phase == Phase::Running {
                // The suspend failed, and nobody will be there to try again.
                let lost = Event::VmmExited(REASON_NOT_SUSPENDED.to_owned());
                step = self.front.take(lost, &self.body).await.unwrap_or_default();
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
        // The files must be at rest before the caller goes on.
        self.body.rest().await;
        self.body.leave().await;
        self.front.record
    }

    /// Performs a step while requests go on being answered.
    async fn perform(&mut self, step: Step) -> Event {
        let Self { front, body, timers } = self;
        let record = front.record.clone();
        front.cut = CancellationToken::new();
        let cut = front.cut.clone();
        let work = body.perform(&record, step, &cut);
        tokio::pin!(work);
        loop {
            let end = timers.end(&front.record);
            tokio::select! {
                biased;
                result = &mut work => {
                    return match result {
                        Ok(()) => Event::StepDone,
                        Err(failure) => Event::StepFailed(failure),
                    };
                }
                Some(message) = front.messages.recv() => front.answer_during_step(message).await,
                () = Timers::sleep(timers.longest_sleep(), end.as_ref()) => {
                    if let Some(end) = timers.end(&front.record).filter(Due::is_over) {
                        front.answer_during_step((end.event, None)).await;
                    }
                }
            }
        }
    }

    /// Waits for the next event: exits before timers before requests. A request that changes
    /// nothing is answered here.
    async fn wait(&mut self) -> Option<Message> {
        let Self { front, body, timers } = self;
        loop {
            let due = timers.next(&front.record, body.running.as_ref());
            tokio::select! {
                biased;
                Some(exit) = body.exits_rx.recv() => return Some((exit, None)),
                () = Timers::sleep(timers.longest_sleep(), due.as_ref()) => {
                    // Traffic that came after the timer was set starts the idle time anew.
                    let due = timers.next(&front.record, body.running.as_ref()).filter(Due::is_over);
                    if let Some(due) = due {
                        return Some((due.event, None));
                    }
                }
                message = front.messages.recv() => {
                    let (event, verdict_tx) = message?;
                    front.note_stop(&event);
                    let (verdict, acts) = front.preview(&event);
                    if acts {
                        return Some((event, verdict_tx));
                    }
                    if let Some(verdict_tx) = verdict_tx {
                        // The asker may have gone away; the event counts all the same.
                        let _ = verdict_tx.send(verdict);
                    }
                    if front.stopping.is_some() {
                        return Some((event, None));
                    }
                }
            }
        }
    }
}

impl Front {
    /// What the machine would say to a request, without moving it.
    fn preview(&self, event: &Event) -> (Result<(), DenyReason>, bool) {
        match self.machine.clone().on(event.clone()) {
            Decision::Deny(reason) => (Err(reason), false),
            Decision::Ignore => (Ok(()), false),
            Decision::Begin(_) | Decision::Changed | Decision::CutShort => (Ok(()), true),
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
        let before = (self.machine.clone(), self.record.clone());
        let decision = self.machine.on(event);
        let mut verdict = match decision {
            Decision::Deny(reason) => Err(reason),
            Decision::Begin(_) | Decision::Changed | Decision::CutShort | Decision::Ignore => Ok(()),
        };
        if decision == Decision::CutShort {
            match self.persist().await {
                Ok(()) => self.publish(None),
                // The asker hears of it and may ask again.
                Err(_) if verdict_tx.is_some() => {
                    (self.machine, self.record) = before;
                    verdict = Err(DenyReason::NotRecorded);
                }
                // Time is over whether it is written or not; the end of the step will be.
                Err(_) => {}
            }
            if verdict.is_ok() {
                self.cut.cancel();
            }
        }
        if let Some(verdict_tx) = verdict_tx {
            // The asker may have gone away; the event counts anyway.
            let _ = verdict_tx.send(verdict);
        }
    }

    /// Moves the machine, writes the row, publishes; returns the step to perform. What is only
    /// asked for does not happen when it cannot be written; what has happened is written in the
    /// end.
    async fn take(&mut self, event: Event, body: &Body) -> Result<Option<Step>, hearth_records::Error> {
        let note = match (&event, self.machine.phase()) {
            (Event::StepFailed(Failure::Undone(reason)), _) => Some(reason.clone()),
            // Set only after a suspend that was undone, and still true.
            (Event::StepDone, Phase::ResumeHook) => self.record.state_reason.clone(),
            _ => None,
        };
        self.failed_resumes +=
            u64::from(matches!((&event, self.machine.phase()), (Event::StepFailed(_), Phase::Resuming)));
        let before = (self.machine.clone(), self.record.clone());
        let has_happened = event.has_happened();
        let step = match self.machine.on(event) {
            Decision::Begin(step) => Some(step),
            Decision::Changed | Decision::CutShort => None,
            Decision::Ignore | Decision::Deny(_) => return Ok(None),
        };
        self.record.state_reason = match &step {
            Some(Step::Terminate(reason) | Step::TerminateHook(reason)) => Some(reason.clone()),
            _ if self.machine.phase() == Phase::Terminated => self.record.state_reason.take(),
            _ => note,
        };
        if has_happened {
            self.persist_in_the_end().await;
        } else if let Err(error) = self.persist().await {
            (self.machine, self.record) = before;
            // Whoever waits for a change looks again; a timer comes again, but not at once.
            self.publish(body.running.clone());
            tokio::time::sleep(PERSIST_PAUSE).await;
            return Err(error);
        }
        if self.machine.phase() == Phase::Running
            && let Some(running) = &body.running
        {
            running.begin_idle_time();
        }
        self.publish(body.running.clone());
        Ok(step)
    }

    /// Writes the row, again and again if it must. Until it is written, what is published is what
    /// the row says, and requests are refused. A service that stops leaves the rest to its
    /// successor, which looks at what there is.
    async fn persist_in_the_end(&mut self) {
        while self.persist().await.is_err() {
            if self.stopping.is_some() {
                return;
            }
            let pause = tokio::time::sleep(PERSIST_PAUSE);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    Some((event, verdict_tx)) = self.messages.recv() => {
                        self.note_stop(&event);
                        if let Some(verdict_tx) = verdict_tx {
                            // The asker may have gone away.
                            let _ = verdict_tx.send(Err(DenyReason::NotRecorded));
                        }
                    }
                }
            }
        }
    }

    async fn persist(&mut self) -> Result<(), hearth_records::Error> {
        let record = &mut self.record;
        record.generation += 1;
        record.state = self.machine.public_state();
        let now = self.host.clock.wall();
        record.suspended_at = match record.state {
            MicrovmState::Suspended => Some(record.suspended_at.unwrap_or(now)),
            _ => None,
        };
        if record.state == MicrovmState::Terminated {
            record.terminated_at = Some(now);
        }
        let written = self.host.records.microvms.update_microvm(record).await;
        if let Err(error) = &written {
            tracing::error!(microvm = %record.id, %error, "the record could not be written");
        }
        written
    }

    fn publish(&self, running: Option<RunningMicrovm>) {
        let state = self.record.state;
        let running = if state == MicrovmState::Running { running } else { None };
        self.publish.send_replace(Published { state, running, failed_resumes: self.failed_resumes });
    }
}
