//! Ends that no supervisor can bring about: of microVMs whose supervisor was lost, that nobody
//! drives, or whose image is gone. They too release everything before the row says TERMINATED.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hearth_api::{MicrovmId, MicrovmState};
use hearth_guest::Guest;
use hearth_records::MicrovmRecord;
use tokio::sync::{mpsc, watch};

use crate::machine::{Event, Machine, Phase, REASON_SUCCESS, Step};
use crate::published::Published;
use crate::registry::{READ_PAUSE, Refusal, Registry};

/// How long after its record a new microVM is handed over at the latest.
const HANDOVER: Duration = Duration::from_secs(1);

/// `stateReason` of a microVM whose supervisor was lost.
const REASON_SUPERVISOR_LOST: &str = "The service has failed while it was driving the MicroVM.";

impl Registry {
    /// Terminates a microVM; success also when it has ended already. One that nobody drives,
    /// because its supervisor was lost or it could not be looked at when the service started, is
    /// ended by what its record says.
    pub async fn terminate(self: &Arc<Self>, id: &MicrovmId) -> Result<(), Refusal> {
        match self.request(id, Event::Terminate).await {
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
        if self.knows(id) {
            return self.request(id, Event::Terminate).await.or_else(|refusal| match refusal {
                Refusal::Terminated => Ok(()),
                other => Err(other),
            });
        }
        let (record, machine, step) = self.ending(record, REASON_SUCCESS).await;
        self.supervise(record, None, machine, Some(step));
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
        let (record, machine, step) = self.ending(record, REASON_SUPERVISOR_LOST).await;
        let run = self.clone().drive((record, None), machine, Some(step), messages_rx, publish);
        if let Err(error) = tokio::spawn(run).await {
            tracing::error!(microvm = %id, %error, "a lost microVM could not be ended; it can be terminated again");
        }
    }

    /// Where a microVM without a guest is ended from.
    async fn ending(&self, mut record: MicrovmRecord, reason: &str) -> (MicrovmRecord, Machine, Step) {
        record.generation += 1;
        record.state = MicrovmState::Terminating;
        record.state_reason = Some(reason.to_owned());
        record.suspended_at = None;
        if let Err(error) = self.host().records.microvms.update_microvm(&record).await {
            // Its end is written until that succeeds.
            tracing::error!(microvm = %record.id, %error, "the record could not be written");
        }
        (record, Machine::found(Phase::Terminating), Step::Terminate(reason.to_owned()))
    }

    /// Nothing can be done with a microVM whose image version is gone.
    pub(crate) async fn end_without_version(&self, mut record: MicrovmRecord, guest: Option<Guest>) {
        let reason = record.state_reason.take().filter(|_| record.state == MicrovmState::Terminating);
        let reason =
            reason.unwrap_or_else(|| "The image version of the MicroVM no longer exists.".to_owned());
        tracing::error!(microvm = %record.id, reason);
        self.host().release(&record, guest).await;
        record.generation += 1;
        record.state = MicrovmState::Terminated;
        record.state_reason = Some(reason);
        record.terminated_at = Some(self.host().clock.wall());
        while let Err(error) = self.host().records.microvms.update_microvm(&record).await {
            tracing::error!(microvm = %record.id, %error, "the record could not be written");
            if self.tasks.is_closed() {
                return;
            }
            tokio::time::sleep(READ_PAUSE).await;
        }
    }
}
