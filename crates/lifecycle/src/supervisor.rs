//! The one task that drives a microVM: it takes an event, asks the machine, writes the row,
//! publishes, and performs the step. It is the only writer of its row.

use std::sync::Arc;

use hearth_guest::Guest;
use hearth_records::{ImageVersionRecord, MicrovmRecord, Origin};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::front::{Front, LetGo, Message, Stop};
use crate::machine::{DenyReason, Event, Machine, Phase, Step};
use crate::output::OutputLog;
use crate::published::Published;
use crate::spending::Work;
use crate::steps::SharedHost;
use crate::timers::{Due, Timers};

/// Drives one microVM until it is terminated or the service stops.
#[derive(Debug)]
pub(crate) struct Supervisor {
    front: Front,
    body: Body,
    timers: Timers,
}

impl Supervisor {
    pub(crate) fn new(
        host: SharedHost,
        (machine, origin): (Machine, Origin),
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
        let body = Body::new(host.clone(), &record, version, Arc::new(output), guest);
        let cut = CancellationToken::new();
        let front = Front {
            host,
            machine,
            record,
            messages,
            publish,
            stopping: None,
            failed_resumes: 0,
            cut,
            origin,
            ends_for: None,
            let_go: None,
        };
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
            let Message { event, actor, verdict_tx } = match step.take() {
                Some(step) => self.perform(step).await.into(),
                None => match self.wait().await {
                    Some(message) => message,
                    None => break,
                },
            };
            let taken = self.front.take(event, actor, &self.body).await;
            if let Some(verdict_tx) = verdict_tx {
                // What is acknowledged is written and published. The asker may have gone away.
                let _ = verdict_tx.send(taken.as_ref().map(|_| ()).map_err(|_| DenyReason::NotRecorded));
            }
            if let Some(let_go) = self.front.let_go {
                self.body.let_go(let_go == LetGo::Leave).await;
                break;
            }
            step = taken.unwrap_or_default();
            let phase = self.front.machine.phase();
            if phase == Phase::Running {
                self.body.runs(&self.front.record);
            }
            if self.front.stopping == Some(Stop::Suspend) && step.is_none() && phase == Phase::Running {
                // The suspend failed, and nobody will be there to try again.
                let taken = self.front.take(Event::Unsuspended, None, &self.body).await;
                step = taken.unwrap_or_default();
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
        if let Step::Terminate(reason) = &step {
            front.ends_for = Some(reason.clone());
        }
        front.cut = CancellationToken::new();
        let cut = front.cut.clone();
        let (spending_tx, mut spending_rx) = mpsc::channel(1);
        let work = Work::new(&record, &cut, body.snapshot, spending_tx);
        let performing = body.perform(&work, step);
        tokio::pin!(performing);
        loop {
            // Told once, which the record may not say yet: it is told again when the step has
            // ended.
            let tells_end = !front.machine.is_ending();
            let end = timers.end(&front.record).filter(|_| tells_end);
            tokio::select! {
                biased;
                result = &mut performing => {
                    return match result {
                        Ok(()) => Event::StepDone,
                        Err(failure) => Event::StepFailed(failure),
                    };
                }
                Some(spending) = spending_rx.recv() => front.spend(spending).await,
                Some(message) = front.messages.recv() => front.answer_during_step(message).await,
                () = Timers::sleep(timers.longest_sleep(), end.as_ref()) => {
                    if let Some(end) = timers.end(&front.record).filter(Due::is_over) {
                        front.answer_during_step(end.event.into()).await;
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
                Some(exit) = body.exits_rx.recv() => return Some(exit.into()),
                () = Timers::sleep(timers.longest_sleep(), due.as_ref()) => {
                    // Traffic that came after the timer was set starts the idle time anew.
                    let due = timers.next(&front.record, body.running.as_ref()).filter(Due::is_over);
                    if let Some(due) = due {
                        return Some(due.event.into());
                    }
                }
                message = front.messages.recv() => {
                    let Message { event, actor, verdict_tx } = message?;
                    front.note_stop(&event);
                    let (verdict, acts) = front.preview(&event);
                    if acts {
                        return Some(Message { event, actor, verdict_tx });
                    }
                    if let Some(verdict_tx) = verdict_tx {
                        // The asker may have gone away; the event counts all the same.
                        let _ = verdict_tx.send(verdict);
                    }
                    if front.stopping.is_some() || front.let_go.is_some() {
                        return Some(event.into());
                    }
                }
            }
        }
    }
}
