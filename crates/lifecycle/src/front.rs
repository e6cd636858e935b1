//! The half of a supervisor that answers: it takes an event, asks the machine, writes the record,
//! publishes. It never waits for a VM.

use std::time::Duration;

use hearth_api::MicrovmState;
use hearth_records::{Actor, Cause, MicrovmRecord, Origin, Reason};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::machine::{Decision, DenyReason, Event, Failure, Machine, Phase, Step};
use crate::published::{Published, RunningMicrovm};
use crate::records::Unwritten;
use crate::spending::{NotSpent, Spending};
use crate::steps::SharedHost;

/// Between two attempts to record the end of a microVM.
const PERSIST_PAUSE: Duration = Duration::from_secs(1);

/// A message to a supervisor.
#[derive(Debug)]
pub(crate) struct Message {
    /// What happened.
    pub(crate) event: Event,
    /// Who asked for it, where somebody did.
    pub(crate) actor: Option<Actor>,
    /// Where the verdict goes.
    pub(crate) verdict_tx: Option<oneshot::Sender<Result<(), DenyReason>>>,
}

impl From<Event> for Message {
    fn from(event: Event) -> Self {
        Self { event, actor: None, verdict_tx: None }
    }
}

/// The half that answers: it never waits for a VM.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) host: SharedHost,
    pub(crate) machine: Machine,
    pub(crate) record: MicrovmRecord,
    pub(crate) messages: mpsc::Receiver<Message>,
    pub(crate) publish: watch::Sender<Published>,
    /// What has been said about the end of the service.
    pub(crate) stopping: Option<Stop>,
    pub(crate) failed_resumes: u64,
    /// Cuts the step under way short.
    pub(crate) cut: CancellationToken,
    /// What has set going what is under way.
    pub(crate) origin: Origin,
    /// Why it is being ended; the record may not say so yet.
    pub(crate) ends_for: Option<Reason>,
    /// Somebody else is the owner now.
    pub(crate) let_go: Option<LetGo>,
}

/// What becomes of the guest of a microVM that has another owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LetGo {
    /// A later process of this node has taken it over.
    Leave,
    /// It must not run here.
    Destroy,
}

/// What becomes of a running microVM when the service stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Suspend,
    Leave,
}

impl Front {
    /// What the machine would say to a request, without moving it.
    pub(crate) fn preview(&self, event: &Event) -> (Result<(), DenyReason>, bool) {
        match self.machine.clone().on(event.clone()) {
            Decision::Deny(reason) => (Err(reason), false),
            Decision::Ignore => (Ok(()), false),
            Decision::Begin(_) | Decision::Changed | Decision::CutShort => (Ok(()), true),
        }
    }

    /// What ends a supervisor whatever the machine says.
    pub(crate) fn note_stop(&mut self, event: &Event) {
        match event {
            Event::Shutdown => self.stopping = Some(Stop::Suspend),
            Event::Leave => self.stopping = Some(Stop::Leave),
            Event::Disowned => {
                self.let_go = Some(LetGo::Destroy);
                self.cut.cancel();
            }
            _ => {}
        }
    }

    pub(crate) async fn answer_during_step(&mut self, message: Message) {
        let Message { event, actor, verdict_tx } = message;
        self.note_stop(&event);
        let before = (self.machine.clone(), self.origin.clone());
        let cause = event.cause();
        let decision = self.machine.on(event);
        let mut verdict = match decision {
            Decision::Deny(reason) => Err(reason),
            Decision::Begin(_) | Decision::Changed | Decision::CutShort | Decision::Ignore => Ok(()),
        };
        if decision == Decision::CutShort {
            self.begins_by(cause, actor);
            let reason = self.machine.ends_for().cloned();
            match self.persist(reason, 0).await {
                Ok(()) => self.publish(None),
                // The asker hears of it and may ask again.
                Err(Unwritten::Failed) if verdict_tx.is_some() => {
                    (self.machine, self.origin) = before;
                    verdict = Err(DenyReason::NotRecorded);
                }
                // Time is over whether it is written or not; the end of the step will be.
                Err(Unwritten::Failed) => {}
                Err(Unwritten::Stale(_)) => verdict = Err(DenyReason::NotRecorded),
            }
            if verdict.is_ok() || self.let_go.is_some() {
                self.cut.cancel();
            }
        }
        if let Some(verdict_tx) = verdict_tx {
            // The asker may have gone away; the event counts anyway.
            let _ = verdict_tx.send(verdict);
        }
    }

    /// Moves the machine, writes the row, publishes; returns the step to perform. What
    /// is only asked for does not happen when it cannot be written; what has happened
    /// is written in the end.
    pub(crate) async fn take(
        &mut self,
        event: Event,
        actor: Option<Actor>,
        body: &Body,
    ) -> Result<Option<Step>, Unwritten> {
        if self.let_go.is_some() {
            return Ok(None);
        }
        let note = match (&event, self.machine.phase()) {
            (Event::StepFailed(Failure::Undone(reason)), _) => Some(reason.clone()),
            // Set only after a suspend that was undone, and still true.
            (Event::StepDone, Phase::ResumeHook) => self.record.reason.clone(),
            _ => None,
        };
        self.failed_resumes +=
            u64::from(matches!((&event, self.machine.phase()), (Event::StepFailed(_), Phase::Resuming)));
        let before = (self.machine.clone(), self.origin.clone());
        let (has_happened, cause) = (event.has_happened(), event.cause());
        let step = match self.machine.on(event) {
            Decision::Begin(step) => Some(step),
            Decision::Changed | Decision::CutShort => None,
            Decision::Ignore | Decision::Deny(_) => return Ok(None),
        };
        self.begins_by(cause, actor);
        let reason = match &step {
            Some(Step::Terminate(reason) | Step::TerminateHook(reason)) => Some(reason.clone()),
            _ if self.machine.phase() == Phase::Terminated => self.ends_for.clone(),
            _ => note,
        };
        if has_happened {
            self.persist_in_the_end(reason, body.snapshot).await?;
        } else if let Err(error) = self.persist(reason, body.snapshot).await {
            (self.machine, self.origin) = before;
            if self.let_go.is_none() {
                // Whoever waits for a change looks again; a timer comes again, but not at once.
                self.publish(body.running.clone());
                tokio::time::sleep(PERSIST_PAUSE).await;
            }
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

    /// Notes what has set going what follows; the end of a step goes on with what began it.
    fn begins_by(&mut self, cause: Option<Cause>, actor: Option<Actor>) {
        if let Some(cause) = cause {
            self.origin = Origin { cause, actor };
        }
    }

    /// Writes the row, again and again if it must. Until it is written, what is published is what
    /// the row says, and requests are refused. A service that stops leaves the rest to its
    /// successor, which looks at what there is.
    async fn persist_in_the_end(&mut self, reason: Option<Reason>, snapshot: u32) -> Result<(), Unwritten> {
        loop {
            match self.persist(reason.clone(), snapshot).await {
                Err(Unwritten::Failed) if self.stopping.is_some() || self.let_go.is_some() => return Ok(()),
                Err(Unwritten::Failed) => {}
                done => return done,
            }
            let pause = tokio::time::sleep(PERSIST_PAUSE);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    Some(Message { event, verdict_tx, .. }) = self.messages.recv() => {
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

    /// Writes what the machine says, if this still is the owner. One that runs goes on from
    /// `snapshot` (0 is the image's), which is spent then.
    async fn persist(&mut self, reason: Option<Reason>, snapshot: u32) -> Result<(), Unwritten> {
        let mut to = self.record.entering(self.machine.phase());
        if to.phase == Phase::Running {
            to.spent = to.spent.max(snapshot);
        }
        // It may be on its way to another end already.
        to.state = self.machine.public_state();
        to.reason = reason;
        let now = self.host.clock.wall();
        to.suspended_at = match to.state {
            MicrovmState::Suspended => Some(to.suspended_at.unwrap_or(now)),
            _ => None,
        };
        if to.state == MicrovmState::Terminated {
            to.terminated_at = Some(now);
        }
        self.write(to).await
    }

    /// Records that the guest goes on from a snapshot with no way back.
    pub(crate) async fn spend(&mut self, Spending { snapshot, done_tx }: Spending) {
        let generation = self.record.generation + 1;
        let to = MicrovmRecord { spent: snapshot, generation, ..self.record.clone() };
        let written = self.write(to).await;
        if self.let_go.is_some() {
            self.cut.cancel();
        }
        // A step waits for it.
        let _ = done_tx.send(written.map_err(|_| NotSpent));
    }

    async fn write(&mut self, to: MicrovmRecord) -> Result<(), Unwritten> {
        let written = self.host.change(&self.record, &to, &self.origin).await;
        match &written {
            Ok(()) => self.record = to,
            Err(Unwritten::Stale(now)) => {
                let by_node = now.as_ref().is_some_and(|now| now.owner.node == self.record.owner.node);
                self.let_go = Some(if by_node { LetGo::Leave } else { LetGo::Destroy });
            }
            Err(Unwritten::Failed) => {}
        }
        written
    }

    pub(crate) fn publish(&self, running: Option<RunningMicrovm>) {
        let state = self.record.state;
        let running = if state == MicrovmState::Running { running } else { None };
        self.publish.send_replace(Published { state, running, failed_resumes: self.failed_resumes });
    }
}
