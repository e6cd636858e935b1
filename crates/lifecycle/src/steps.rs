//! What a step does: each takes what the microVM holds and leaves it either changed or as it was.

use std::sync::Arc;

use hearth_egress::Egresses;
use hearth_guest::guest::{self, Error as GuestError};
use hearth_guest::{Egress, Guest, GuestFactory, GuestPlan, Limits, RootDisk};
use hearth_guest_protocol::chain;
use hearth_records::{AppRecord, ImageVersionRecord, MicrovmRecord, NodeId, Origin, Reason, Size};
use hearth_snapshots::{Lease, MicrovmFiles, Snapshots};
use hearth_vmm::{Error as VmmError, GuestStream};

use crate::at_rest::{keep_disk, own_snapshot, put_back};
use crate::clock::Clock;
use crate::hooks::HooksPort;
use crate::machine::Failure;
use crate::payload::SealingKey;
use crate::records::{Records, Unwritten};
use crate::spending::{NotSpent, Work};

/// What every supervisor works with.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) node: NodeId,
    pub(crate) records: Records,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) guests: GuestFactory,
    pub(crate) egresses: Arc<Egresses>,
    pub(crate) snapshots: Snapshots,
    /// Host memory that a VMM process may use beyond its guest's RAM, in MiB.
    pub(crate) vmm_overhead_mib: u32,
    pub(crate) hooks_port: HooksPort,
    pub(crate) sealing: SealingKey,
}

/// A guest that runs, and the connection over which it was told so.
pub(crate) struct Started {
    pub(crate) guest: Guest,
    pub(crate) stream: Box<dyn GuestStream>,
}

impl Host {
    /// Changes a microVM of this node, if its record still is what it `was`.
    pub(crate) async fn change(
        &self,
        was: &MicrovmRecord,
        to: &MicrovmRecord,
        origin: &Origin,
    ) -> Result<(), Unwritten> {
        if was.owner.node != self.node {
            tracing::error!(microvm = %was.id, owner = %was.owner.node, "a microVM is another node's to change");
            return Err(Unwritten::Stale(Some(Box::new(was.clone()))));
        }
        self.records.change(was, to, origin).await
    }

    /// The snapshot that a microVM was cloned from, or is to be.
    fn image(&self, record: &MicrovmRecord, own: &MicrovmFiles) -> Result<Lease, VmmError> {
        // A file system that has no more links for it keeps it by the version alone.
        match own.image()? {
            Some(image) => Ok(image),
            None => self.snapshots.image(&record.image_arn, record.image_version),
        }
    }

    /// What its connectors let a microVM reach now.
    pub(crate) async fn egress(&self, record: &MicrovmRecord) -> Result<Egress, GuestError> {
        let connectors = &record.settings.egress_network_connectors;
        let egress = self.egresses.resolve(record.id.as_str(), connectors).await;
        egress.map_err(|error| GuestError::Refused(chain(&error)))
    }

    /// Restores the image's snapshot into a fresh clone. On failure nothing is left but the
    /// directory, which the termination removes.
    pub(crate) async fn launch(
        &self,
        work: &Work<'_>,
        version: &ImageVersionRecord,
    ) -> Result<Started, Failure> {
        let record = work.record;
        let own = self.snapshots.microvm(&record.id);
        let image = self.image(record, &own).map_err(|error| fatal("find its image", &error))?;
        own.make(&image).map_err(|error| fatal("make its disk", &error))?;
        let started = match self.restore(record, version, &image, None).await {
            Ok(guest) => self.begin(work, guest).await,
            Err(error) => Err(error),
        };
        started.map_err(|error| {
            tracing::warn!(microvm = %record.id, error = %chain(&error), "a launch failed");
            Failure::Fatal(Reason::NotLaunched { why: chain(&error) })
        })
    }

    /// Restores the microVM from its own snapshot.
    pub(crate) async fn resume(
        &self,
        work: &Work<'_>,
        version: &ImageVersionRecord,
    ) -> Result<Started, Failure> {
        let record = work.record;
        let own = self.snapshots.microvm(&record.id);
        let snapshot = match own.snapshot() {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => {
                let why = format!("{} has no snapshot", own.directory().display());
                return Err(Failure::Fatal(Reason::NotResumed { why }));
            }
            Err(error) => return Err(self.not_resumed(work, None, &error.into())),
        };
        let image = self.image(record, &own).map_err(|error| without_image(record, &error))?;
        // What an earlier resume has left.
        match own.has_way_back() {
            Ok(true) if !put_back(&own) => {
                let why = "its disk could not be put back".to_owned();
                return Err(Failure::Undone(Reason::NotResumed { why }));
            }
            Err(error) => return Err(self.not_resumed(work, None, &error.into())),
            Ok(_) => {}
        }
        // While QEMU starts, which works on the disk only when the guest runs.
        let keeping = keep_disk(&own);
        let restored = self.restore(record, version, &image, Some(&snapshot)).await;
        let kept = keeping.await.unwrap_or(false);
        let started = match restored {
            Ok(guest) => self.begin(work, guest).await,
            Err(error) => {
                if kept && let Err(error) = own.keep_none() {
                    tracing::warn!(microvm = %record.id, error = %chain(&error), "the copy of a disk stays");
                }
                Err(error)
            }
        };
        if !kept && started.is_ok() {
            tracing::warn!(microvm = %record.id, "it was resumed without a copy of its disk to go back to");
        }
        started.map_err(|error| self.not_resumed(work, Some(&image), &error))
    }

    /// Whether the microVM can be resumed later, after this one did not succeed. An image that is
    /// damaged is not the microVM's: it may be put back, and all that were cloned from it with it.
    fn not_resumed(&self, work: &Work<'_>, image: Option<&Lease>, error: &GuestError) -> Failure {
        let record = work.record;
        if let (GuestError::Vmm(damaged @ VmmError::Damaged { path, .. }), Some(image)) = (error, image)
            && path.starts_with(image.directory())
        {
            return without_image(record, damaged);
        }
        tracing::warn!(microvm = %record.id, error = %chain(error), "a resume failed");
        let reason = Reason::NotResumed { why: chain(error) };
        let lost = matches!(error, GuestError::Vmm(VmmError::Damaged { .. }))
            || own_snapshot(record, &self.snapshots.microvm(&record.id)) <= work.spent();
        if lost { Failure::Fatal(reason) } else { Failure::Undone(reason) }
    }

    /// Restores a guest, which is paused. A step that is cut short waits for it: what the driver
    /// has begun it ends, in its own time limits, because half a VM could not be released.
    async fn restore(
        &self,
        record: &MicrovmRecord,
        version: &ImageVersionRecord,
        image: &Lease,
        own: Option<&Lease>,
    ) -> Result<Guest, GuestError> {
        let disk = self.snapshots.microvm(&record.id).disk();
        let app =
            version.app.as_ref().ok_or_else(|| GuestError::Refused("the image has no snapshot".into()))?;
        let (name, connectors) = (record.id.to_string(), &record.settings.egress_network_connectors);
        let egress = self.egress(record).await?;
        let plan = GuestPlan {
            name: name.clone(),
            vcpu_count: app.vcpu_count,
            memory_mib: app.memory_mib,
            root: Some(RootDisk::Clone { base: image.disk(), overlay: disk }),
            drives: Vec::new(),
            egress,
            limits: self.limits(app, version),
        };
        let guest = self.guests.restore(plan, image.directory(), own.map(Lease::directory)).await?;
        self.egresses.keep(&name, connectors, &guest).await;
        Ok(guest)
    }

    /// Goes on with a guest that an earlier server had restored, and perhaps
    /// resumed, when it was killed.
    pub(crate) async fn finish_start(&self, work: &Work<'_>, guest: Guest) -> Result<Started, Failure> {
        self.begin(work, guest).await.map_err(|error| self.not_resumed(work, None, &error))
    }

    /// Lets a restored guest run and tells it so. Until it has answered, a resume can be taken
    /// back: what the guest has written to its disk goes with it, and the microVM is on disk as it
    /// was. When the step is cut short, nobody waits for the agent.
    ///
    /// The copy of the disk stays until the record says RUNNING, for a service that is killed
    /// together with the guest.
    async fn begin(&self, work: &Work<'_>, guest: Guest) -> Result<Started, GuestError> {
        let Work { record, cut, .. } = work;
        let own = self.snapshots.microvm(&record.id);
        let vm = guest.vm();
        // From here on the guest may write to its disk, and its snapshot no longer fits.
        let way_back = match self.way_back(work, &own).await {
            Ok(way_back) => way_back,
            Err(error) => {
                guest.destroy().await;
                return Err(error);
            }
        };
        let started = match vm.resume().await {
            Ok(()) => tokio::select! {
                biased;
                () = cut.cancelled() => Err(GuestError::Stopped),
                // A guest that dies is not waited for.
                restored = guest.while_it_runs(guest::restored(vm)) => restored.and_then(|restored| restored),
            },
            Err(error) => Err(error.into()),
        };
        match started {
            Ok(stream) => Ok(Started { guest, stream }),
            Err(error) => {
                let resumes = work.snapshot > 0;
                if resumes && !way_back && !cut.is_cancelled() {
                    self.keep(record, &guest).await;
                }
                // Whatever it still writes, it has written when this returns.
                guest.destroy().await;
                if resumes && way_back {
                    put_back(&own);
                }
                Err(error)
            }
        }
    }

    /// Whether there is a way back for a guest that is about to run. Without one, its snapshot is
    /// recorded as spent, and the disk is taken from it.
    async fn way_back(&self, work: &Work<'_>, own: &MicrovmFiles) -> Result<bool, GuestError> {
        if own.has_way_back()? {
            return Ok(true);
        }
        own.check_alone()?;
        if let Err(NotSpent) = work.spend(work.snapshot).await {
            return Err(GuestError::Refused("that there is no way back could not be recorded".into()));
        }
        // Where that fails, the snapshot has a disk that does not fit it, and is spent.
        if let Err(error) = own.forget_way_back() {
            tracing::warn!(microvm = %work.record.id, error = %chain(&error), "the disk of a snapshot stays");
        }
        Ok(false)
    }

    /// Writes the snapshot of a guest that ran for a moment and did not answer, so that its memory
    /// and disk fit again. For want of space, there was no copy of the disk to go back to.
    async fn keep(&self, record: &MicrovmRecord, guest: &Guest) {
        if let Err(error) = self.write_snapshot(record, guest).await {
            tracing::error!(microvm = %record.id, error = %chain(&error), "a snapshot could not be renewed");
        }
    }

    /// Pauses the guest and writes what changed; memory and disk fit each other when
    /// this has succeeded.
    async fn write_snapshot(&self, record: &MicrovmRecord, guest: &Guest) -> Result<(), VmmError> {
        let own = self.snapshots.microvm(&record.id);
        guest.vm().pause().await?;
        let draft = own.draft(guest::ROOT_DISK)?;
        guest.vm().create_snapshot(draft.target()).await?;
        let committed = tokio::task::spawn_blocking(move || draft.commit().map(drop));
        committed.await.expect("invariant: a commit does not panic")
    }

    /// A VMM may use its guest's RAM and some of its own; its CPU is bounded by the guest's vCPUs
    /// and one more for the VMM's own threads.
    fn limits(&self, app: &AppRecord, version: &ImageVersionRecord) -> Limits {
        let size = Size::of(&version.configuration);
        let vcpus = size.map_or(app.vcpu_count, |size| size.vcpu_count.min(app.vcpu_count));
        Limits {
            memory_mib: Some(app.memory_mib + self.vmm_overhead_mib),
            cpu_percent: Some(u32::from(vcpus) * 100 + 100),
        }
    }

    /// Writes what changed and ends the process. When writing fails the guest runs on and is given
    /// back. When it is cut short the VMM is killed, with which the writing fails.
    pub(crate) async fn suspend(&self, work: &Work<'_>, guest: Guest) -> Result<(), (Guest, Failure)> {
        let Work { record, cut, .. } = work;
        let written = {
            let writing = self.write_snapshot(record, &guest);
            tokio::pin!(writing);
            tokio::select! {
                biased;
                written = &mut writing => written,
                () = cut.cancelled() => {
                    if let Err(error) = guest.vm().kill().await {
                        tracing::warn!(microvm = %record.id, error = %chain(&error), "a VMM could not be ended");
                    }
                    writing.await
                }
            }
        };
        let Err(error) = written else {
            guest.destroy().await;
            return Ok(());
        };
        tracing::error!(microvm = %record.id, error = %chain(&error), "a suspend failed");
        // The snapshot may have become whole before the suspend failed; the guest then goes on from
        // that one.
        let snapshot = own_snapshot(record, &self.snapshots.microvm(&record.id));
        if let Err(NotSpent) = work.spend(snapshot).await {
            tracing::error!(microvm = %record.id, "a service that is killed now may fall back to a snapshot");
        }
        let why = chain(&error);
        let failure = match guest.vm().resume().await {
            Ok(()) => Failure::Undone(Reason::RunsOn { why }),
            Err(_) => Failure::Fatal(Reason::LostInSuspend { why }),
        };
        Err((guest, failure))
    }

    /// Gives everything back, the files included.
    pub(crate) async fn release(&self, record: &MicrovmRecord, guest: Option<Guest>) {
        if let Some(guest) = guest {
            guest.destroy().await;
        }
        // A supervisor that was lost had a guest that nobody holds any more.
        self.guests.end_leftover(record.id.as_str()).await;
        self.egresses.forget(record.id.as_str());
        self.snapshots.microvm(&record.id).remove();
    }

    /// Merges snapshot layers when too much of them is outdated; runs beside a suspended microVM.
    pub(crate) fn compact(&self, record: &MicrovmRecord) -> tokio::task::JoinHandle<()> {
        let own = self.snapshots.microvm(&record.id);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = own.compact() {
                let (microvm, error) = (own.directory().display(), chain(&error));
                tracing::warn!(%microvm, error, "snapshot layers could not be merged; they stay as they are");
            }
        })
    }
}

/// A resume that finds the image missing or damaged, and changes nothing.
fn without_image(record: &MicrovmRecord, error: &VmmError) -> Failure {
    tracing::error!(microvm = %record.id, error = %chain(error), "the image of a suspended microVM cannot be used");
    Failure::Undone(Reason::NotResumed { why: chain(error) })
}

fn fatal(action: &str, error: &dyn std::error::Error) -> Failure {
    Failure::Fatal(Reason::NotLaunched { why: format!("cannot {action}: {}", chain(error)) })
}

/// Shared by the supervisor and its steps.
pub(crate) type SharedHost = Arc<Host>;
