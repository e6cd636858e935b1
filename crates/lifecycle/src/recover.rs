//! After a start of the service: what the former process left is taken over, finished or undone.
//!
//! In three parts, between which the server removes what nobody wants: [`find`] looks at every
//! microVM that has not ended and takes over the guests that still run; the leftovers of
//! others go; [`Recovery::finish`] goes on with each microVM as [`verdict`] says. The table is
//! in docs/lifecycle.md.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hearth_api::{MicrovmId, MicrovmState, Timestamp};
use hearth_guest::guest::Error as GuestError;
use hearth_guest::{AdoptedGuest, Guest};
use hearth_guest_protocol::chain;
use hearth_records::{Cause, MicrovmRecord, NodeId, Origin, Reason};

use crate::at_rest::{own_snapshot, put_back};
use crate::hooks::Hooks;
use crate::machine::{Phase, Step};
use crate::records::Unwritten;
use crate::registry::{Registry, is_alive};
use crate::steps::Host;

mod upgrade;

/// Between two attempts to write a record.
const WRITE_PAUSE: Duration = Duration::from_secs(1);

/// What is found of every microVM that has not ended.
#[derive(Debug)]
pub struct Recovery {
    found: Vec<Found>,
    /// Ids of all of them.
    alive: BTreeSet<String>,
}

#[derive(Debug)]
struct Found {
    record: MicrovmRecord,
    guest: Option<Guest>,
    verdict: Verdict,
}

/// What a microVM is found with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// Where its record says that it is.
    phase: Phase,
    /// Its memory and disk on the disk fit each other, or would with the copy of the disk.
    fits: bool,
    /// Its app wants to be told of a suspend.
    suspend_hook: bool,
    /// Its guest.
    guest: GuestFound,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum GuestFound {
    Gone,
    Paused,
    Running,
    /// It is there and cannot be taken over, for this reason.
    Refused(String),
}

/// What is to be done with a microVM. The guest is ended unless the verdict needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// It goes on as RUNNING.
    TakeOver,
    /// Its suspend is finished, from the hook on.
    FinishSuspendHook,
    /// Its suspend is finished; the app knows.
    FinishSuspend,
    /// Its guest is told that it runs, which ends the launch.
    FinishLaunch,
    /// Its guest is told that it runs and its resume hook is called, which ends the resume.
    FinishResume,
    /// It is launched from the image's snapshot, as if for the first time.
    LaunchAgain,
    /// It is resumed from its own snapshot.
    ResumeAgain,
    /// It is SUSPENDED.
    Suspended,
    /// It is released; its record may say why already.
    Terminate(Option<Reason>),
}

/// The table of docs/lifecycle.md.
fn verdict(finding: &Finding) -> Verdict {
    match (finding.phase, &finding.guest) {
        (Phase::TerminateHook | Phase::Terminating | Phase::Terminated, _) => Verdict::Terminate(None),
        (Phase::Launching, GuestFound::Running) => Verdict::FinishLaunch,
        // What a clone did before it was RUNNING nobody has seen, and it may have heard half of its
        // run hook.
        (Phase::Launching | Phase::RunHook, _) => Verdict::LaunchAgain,
        // Until the record says RUNNING there is a way back, but none is needed.
        (Phase::Resuming | Phase::ResumeHook, GuestFound::Running) => Verdict::FinishResume,
        (Phase::Resuming | Phase::ResumeHook, _) if finding.fits => Verdict::ResumeAgain,
        (_, _) if finding.fits => Verdict::Suspended,
        (_, GuestFound::Refused(why)) => Verdict::Terminate(Some(Reason::NotTakenOver { why: why.clone() })),
        (Phase::Suspended, GuestFound::Gone) => Verdict::Terminate(Some(snapshot_lost())),
        (_, GuestFound::Gone) => Verdict::Terminate(Some(Reason::VmmLost)),
        (Phase::Resuming | Phase::ResumeHook, GuestFound::Paused) => Verdict::FinishResume,
        (Phase::Running, _) => Verdict::TakeOver,
        // A guest that is paused was told already.
        (Phase::SuspendHook, GuestFound::Running) if finding.suspend_hook => Verdict::FinishSuspendHook,
        (Phase::SuspendHook | Phase::Suspending | Phase::Suspended, _) => Verdict::FinishSuspend,
    }
}

/// Somebody has removed files.
fn snapshot_lost() -> Reason {
    Reason::NotResumed { why: "its snapshot is not there any more".to_owned() }
}

/// Looks at every microVM that has not ended, and takes over the guests that still run.
pub async fn find(registry: &Arc<Registry>) -> hearth_records::Result<Recovery> {
    let host = registry.host();
    let mut records = host.records.microvms.microvms_alive().await?;
    let alive: BTreeSet<String> = records.iter().map(|record| record.id.to_string()).collect();
    // Those of other nodes are their business; nobody has claimed those of an older version.
    records.retain(|record| record.owner.node == host.node || record.owner.node == NodeId::nobody());
    if records.len() < alive.len() {
        tracing::warn!(
            node = %host.node, microvms = alive.len() - records.len(),
            "microVMs on record belong to other nodes, and only those can suspend, resume and end them; is the file `node` that \
             of this data directory?"
        );
    }
    // Side by side: one that does not answer must not hold up the others.
    let looking = records.into_iter().map(|record| look(registry.clone(), record)).map(tokio::spawn);
    let mut found = Vec::new();
    for looked in looking.collect::<Vec<_>>() {
        // A panic in there was logged by the runtime. The record and its files stay
        // until the next start.
        found.extend(looked.await.ok().flatten());
    }
    Ok(Recovery { found, alive })
}

/// Takes a suspended microVM over from whichever node has it; its files must be here. False when it
/// is not suspended, or somebody else was faster.
pub async fn take_over(registry: &Arc<Registry>, id: &MicrovmId) -> hearth_records::Result<bool> {
    let _turn = registry.turn(id).await;
    let Some(record) = registry.host().records.microvms.microvm(id).await? else { return Ok(false) };
    if record.phase != Phase::Suspended || !registry.disown(&record).await {
        return Ok(false);
    }
    let Some(mut found) = look(registry.clone(), record).await else { return Ok(false) };
    Ok(found.go_on_or_leave(registry).await)
}

async fn look(registry: Arc<Registry>, record: MicrovmRecord) -> Option<Found> {
    let host = registry.host();
    let own = host.snapshots.microvm(&record.id);
    // Without its version it is ended by its supervisor.
    let version =
        host.records.images.image_version(&record.image_arn, record.image_version).await.ok().flatten();
    let hooks = version.map(|version| Hooks::of(&version.configuration).enabled()).unwrap_or_default();
    let files = upgrade::OldFiles::of(&own);
    let record = claim(&registry, &record, files.tell(&record, &own, hooks)).await?;
    files.give_up(host, &record).await;
    let (guest, guest_found) = match adopt(host, &record).await {
        Ok(None) => (None, GuestFound::Gone),
        Ok(Some(AdoptedGuest { guest, running: true })) => (Some(guest), GuestFound::Running),
        Ok(Some(AdoptedGuest { guest, running: false })) => (Some(guest), GuestFound::Paused),
        Err(error) => (None, GuestFound::Refused(chain(&error))),
    };
    let finding = Finding {
        phase: if is_alive(record.state) { record.phase } else { Phase::Terminating },
        fits: own_snapshot(&record, &own) > record.spent,
        suspend_hook: hooks.suspend,
        guest: guest_found,
    };
    let verdict = verdict(&finding);
    tracing::info!(microvm = %record.id, ?finding, ?verdict, "found");
    Some(Found { record, guest, verdict })
}

/// Takes over a guest, held to what its connectors say now.
async fn adopt(host: &Host, record: &MicrovmRecord) -> Result<Option<AdoptedGuest>, GuestError> {
    let (name, connectors) = (record.id.as_str(), &record.settings.egress_network_connectors);
    let adopted = host.guests.adopt(name, &host.egress(record).await?).await?;
    if let Some(AdoptedGuest { guest, .. }) = &adopted {
        host.egresses.keep(name, connectors, guest).await;
    }
    Ok(adopted)
}

/// From here on no earlier process of this node changes the record any more. Nothing if another
/// node has it meanwhile.
async fn claim(registry: &Registry, was: &MicrovmRecord, to: MicrovmRecord) -> Option<MicrovmRecord> {
    let owner = was.owner.succeeded_by(registry.host().node.clone());
    write(registry, was, MicrovmRecord { generation: was.generation + 1, owner, ..to }).await
}

impl Recovery {
    /// Names of the guests that were taken over: what else is left of earlier guests may go.
    pub fn names(&self) -> BTreeSet<String> {
        let taken = self.found.iter().filter(|found| found.guest.is_some());
        taken.map(|found| found.record.id.to_string()).collect()
    }

    /// Goes on with every microVM, and removes the files of all others.
    pub async fn finish(mut self, registry: &Arc<Registry>) {
        for mut found in std::mem::take(&mut self.found) {
            found.go_on_or_leave(registry).await;
        }
        registry.host().snapshots.keep_microvms(|id| self.alive.contains(id));
    }
}

impl Drop for Recovery {
    /// A server that cannot start leaves the guests to the next one.
    fn drop(&mut self) {
        for guest in self.found.drain(..).filter_map(|found| found.guest) {
            guest.leave();
        }
    }
}

impl Found {
    /// False if somebody else has claimed it.
    async fn go_on_or_leave(&mut self, registry: &Arc<Registry>) -> bool {
        let went_on = self.go_on(registry).await.is_some();
        if let Some(guest) = self.guest.take() {
            // A later process of this node has claimed it meanwhile.
            guest.leave();
        }
        went_on
    }

    /// Nothing if somebody else has claimed it; its guest is still here then.
    async fn go_on(&mut self, registry: &Arc<Registry>) -> Option<()> {
        let (mut record, verdict) = (self.record.clone(), self.verdict.clone());
        let host = registry.host();
        let keeps_guest =
            !matches!(verdict, Verdict::LaunchAgain | Verdict::ResumeAgain | Verdict::Suspended);
        if let Some(guest) = self.guest.take_if(|_| !keeps_guest) {
            guest.destroy().await;
        }
        let (phase, step) = match verdict {
            Verdict::TakeOver => {
                // It may have been killed between a failed suspend and the continuation.
                if let Some(guest) = &self.guest
                    && let Err(error) = guest.vm().resume().await
                {
                    tracing::error!(microvm = %record.id, error = %chain(&error), "a guest does not run on");
                }
                if record.state != MicrovmState::Running {
                    record = write(registry, &record, record.entering(Phase::Running)).await?;
                }
                (Phase::Running, None)
            }
            Verdict::FinishSuspendHook => (Phase::SuspendHook, Some(Step::SuspendHook)),
            Verdict::FinishSuspend => (Phase::Suspending, Some(Step::Suspend)),
            Verdict::FinishResume | Verdict::ResumeAgain => (Phase::Resuming, Some(Step::Resume)),
            Verdict::FinishLaunch | Verdict::LaunchAgain => (Phase::Launching, Some(Step::Launch)),
            Verdict::Suspended => {
                let own = host.snapshots.microvm(&record.id);
                // Where that fails, the next resume begins with it.
                if own.has_way_back().unwrap_or(true) && put_back(&own) {
                    tracing::info!(microvm = %record.id, "its disk is as it was before a resume");
                }
                if record.state != MicrovmState::Suspended {
                    let suspended_at = Some(host.clock.wall());
                    let to = MicrovmRecord { suspended_at, ..record.entering(Phase::Suspended) };
                    record = write(registry, &record, to).await?;
                }
                (Phase::Suspended, None)
            }
            Verdict::Terminate(reason) => {
                let reason = reason.or_else(|| record.reason.clone());
                let reason = reason.unwrap_or_else(|| reason_to_end(&record, host.clock.wall()));
                tracing::warn!(microvm = %record.id, %reason, "is ended");
                let to = MicrovmRecord {
                    reason: Some(reason.clone()),
                    suspended_at: None,
                    ..record.entering(Phase::Terminating)
                };
                record = write(registry, &record, to).await?;
                (Phase::Terminating, Some(Step::Terminate(reason)))
            }
        };
        registry.take(record, self.guest.take(), phase, step);
        Some(())
    }
}

/// Changes the record, again and again if it must: what is published next must be what it says.
/// Nothing if somebody else has changed it.
async fn write(registry: &Registry, was: &MicrovmRecord, to: MicrovmRecord) -> Option<MicrovmRecord> {
    let origin = Origin::of(Cause::Host);
    loop {
        match registry.host().records.change(was, &to, &origin).await {
            Ok(()) => return Some(to),
            Err(Unwritten::Failed) => tokio::time::sleep(WRITE_PAUSE).await,
            Err(Unwritten::Stale(_)) => return None,
        }
    }
}

/// Why a microVM was being ended during another step: that is recorded only when the step is over.
fn reason_to_end(record: &MicrovmRecord, now: Timestamp) -> Reason {
    let end = record.started_at.as_millis() + i64::from(record.settings.maximum_duration_in_seconds) * 1000;
    if now.as_millis() >= end { Reason::LifetimeOver } else { Reason::Success }
}

#[cfg(test)]
mod tests;
