//! Ends that no supervisor can bring about: of microVMs whose supervisor was lost, that nobody
//! drives, or whose image is gone. They too release everything before the row says TERMINATED.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hearth_api::{MicrovmId, MicrovmState};
use hearth_guest::Guest;
use hearth_node::Refusal;
use hearth_records::{Actor, Cause, MicrovmRecord, Origin, Reason};
use tokio::sync::{mpsc, watch};

use crate::machine::{Event, Machine, Phase, Step};
use crate::published::Published;
use crate::records::Unwritten;
use crate::registry::{READ_PAUSE, Registry};

/// How long after its record a new microVM is handed over at the latest.
const HANDOVER: Duration = Duration::from_secs(1);

impl Registry {
    /// Terminates a microVM; success also when it has ended already. One that nobody drives,
    /// because its supervisor was lost or it could not be looked at when the service started, is
    /// ended by what its record says.
    pub async fn terminate(self: &Arc<Self>, id: &MicrovmId, actor: Option<Actor>) -> Result<(), Refusal> {
        match self.request(id, Event::Terminate, actor.clone()).await {
            Err(Refusal::Terminated) => {}
            other => return other,
        }
        let Some(record) = self.recorded(id).await? else { return Err(Refusal::NotFound) };
        if record.state == MicrovmState::Terminated {
            return Ok(());
        }
        if record.state == MicrovmState::Pending && !self.knows(id) {
            // It may have been recorded a moment ago, and is handed over in the next.
            tokio::time::sleep(HANDOVER).await;
        }
        let _turn = self.turn(id).await;
        if self.knows(id) {
            return self.request(id, Event::Terminate, actor).await.or_else(|refusal| match refusal {
                Refusal::Terminated => Ok(()),
                other => Err(other),
            });
        }
        let Some(record) = self.recorded(id).await? else { return Ok(()) };
        if record.state == MicrovmState::Terminated {
            return Ok(());
        }
        let origin = Origin::api(actor);
        let Some(record) = self.ending(record, Reason::Success, &origin).await else {
            return Err(Refusal::Internal);
        };
        let step = Step::Terminate(Reason::Success);
        self.supervise(record, None, Machine::found(Phase::Terminating), Some(step), origin);
        Ok(())
    }

    /// Ends a microVM whose supervisor was lost, on the supervisor's task. Its guest is
    /// being ended already.
    pub(crate) async fn end_lost(self: Arc<Self>, id: &MicrovmId) {
        let record = match self.host().records.microvms.microvm(id).await {
            Ok(Some(record)) if record.state != MicrovmState::Terminated => record,
            Ok(_) => return,
            Err(error) => {
                tracing::error!(microvm = %id, %error, "a lost microVM stays until it is terminated");
                return;
            }
        };
        let (messages_tx, messages_rx) = mpsc::channel(64);
        let (publish, published_rx) =
            watch::channel(Published { state: MicrovmState::Terminating, running: None, failed_resumes: 0 });
        {
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            let Some(entry) = entries.get_mut(id) else { return };
            (entry.messages_tx, entry.published_rx) = (messages_tx, published_rx);
        }
        let (reason, origin) = (Reason::SupervisorLost, Origin::of(Cause::Host));
        let Some(record) = self.ending(record, reason.clone(), &origin).await else { return };
        let (machine, step) = (Machine::found(Phase::Terminating), Step::Terminate(reason));
        let run = self.clone().drive((record, None), machine, Some(step), messages_rx, publish, origin);
        if let Err(error) = tokio::spawn(run).await {
            tracing::error!(microvm = %id, %error, "a lost microVM could not be ended; it can be terminated again");
        }
    }

    /// The record of a microVM without a guest that is to be ended; nothing if it is no longer this
    /// registry's to end.
    async fn ending(&self, was: MicrovmRecord, reason: Reason, origin: &Origin) -> Option<MicrovmRecord> {
        let mut to = was.entering(Phase::Terminating);
        to.reason = Some(reason);
        to.suspended_at = None;
        match self.host().change(&was, &to, origin).await {
            Ok(()) => Some(to),
            // Its end is written until that succeeds.
            Err(Unwritten::Failed) => Some(was),
            Err(Unwritten::Stale(_)) => None,
        }
    }

    /// Nothing can be done with a microVM whose image version is gone.
    pub(crate) async fn end_without_version(&self, was: MicrovmRecord, guest: Option<Guest>) {
        let reason = was.reason.clone().filter(|_| was.state == MicrovmState::Terminating);
        let reason = reason.unwrap_or(Reason::NoImageVersion);
        tracing::error!(microvm = %was.id, %reason);
        self.host().release(&was, guest).await;
        let mut to = was.entering(Phase::Terminated);
        to.reason = Some(reason);
        to.terminated_at = Some(self.host().clock.wall());
        let origin = Origin::of(Cause::Host);
        while let Err(Unwritten::Failed) = self.host().change(&was, &to, &origin).await {
            if self.tasks.is_closed() {
                return;
            }
            tokio::time::sleep(READ_PAUSE).await;
        }
    }
}
