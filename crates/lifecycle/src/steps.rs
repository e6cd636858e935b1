//! What a step does: each takes what the microVM holds and leaves it either changed or as it was.

use std::path::Path;
use std::sync::Arc;

use hearth_api::reaches_internet;
use hearth_guest::guest::{self, Error as GuestError};
use hearth_guest::{Egress, Guest, GuestFactory, GuestPlan, Limits, RootDisk};
use hearth_guest_protocol::chain;
use hearth_records::{AppRecord, ImageVersionRecord, MicrovmRecord, NodeId, Origin, Reason, Size};
use hearth_snapshots::Files;
use hearth_vmm::snapshot::{MANIFEST_FILE, SnapshotDisk};
use hearth_vmm::{Error as VmmError, GuestStream, SnapshotTarget};

use crate::at_rest::{forget_kept, forget_kept_or_warn, keep_disk, own_snapshot, put_back};
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
    pub(crate) files: Files,
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

    /// Restores the image's snapshot into a fresh clone. On failure nothing is left but the
    /// directory, which the termination removes.
    pub(crate) async fn launch(
        &self,
        work: &Work<'_>,
        version: &ImageVersionRecord,
    ) -> Result<Started, Failure> {
        let record = work.record;
        let image = self.files.image(&record.image_arn, record.image_version);
        let own = self.files.microvm(&record.id);
        std::fs::create_dir_all(&own.directory)
            .and_then(|()| restrict(&own.directory))
            .map_err(|error| fatal("prepare its directory", &error))?;
        hearth_vmm::snapshot::create_overlay(&image.disk, &own.overlay)
            .map_err(|error| fatal("make its disk", &error))?;
        let started = match self.restore(record, version).await {
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
        let own = self.files.microvm(&record.id);
        let manifest = own.directory.join(MANIFEST_FILE);
        if !manifest.exists() {
            // The driver would take it for a first launch, and begin with the image's memory.
            let why = format!("{} is missing", manifest.display());
            return Err(Failure::Fatal(Reason::NotResumed { why }));
        }
        // A copy that an earlier resume has left is what the disk was before.
        if own.kept.exists() && !put_back(&own) {
            let why = "its disk could not be put back".to_owned();
            return Err(Failure::Undone(Reason::NotResumed { why }));
        }
        // While QEMU starts, which works on the disk only when the guest runs.
        let keeping = keep_disk(&own);
        let restored = self.restore(record, version).await;
        let kept = keeping.await.unwrap_or(false);
        let started = match restored {
            Ok(guest) => self.begin(work, guest).await,
            Err(error) => {
                forget_kept_or_warn(&own);
                Err(error)
            }
        };
        if !kept && started.is_ok() {
            tracing::warn!(microvm = %record.id, "it was resumed without a copy of its disk to go back to");
        }
        started.map_err(|error| self.not_resumed(work, &error))
    }

    /// Whether the microVM can be resumed later, after this one did not succeed.
    fn not_resumed(&self, work: &Work<'_>, error: &GuestError) -> Failure {
        let record = work.record;
        tracing::warn!(microvm = %record.id, error = %chain(error), "a resume failed");
        let reason = Reason::NotResumed { why: chain(error) };
        let lost = matches!(error, GuestError::Vmm(VmmError::Damaged { .. }))
            || own_snapshot(record, &self.files.microvm(&record.id)) <= work.spent();
        if lost { Failure::Fatal(reason) } else { Failure::Undone(reason) }
    }

    /// Restores a guest, which is paused. A step that is cut short waits for it: what the driver
    /// has begun it ends, in its own time limits, because half a VM could not be released.
    async fn restore(
        &self,
        record: &MicrovmRecord,
        version: &ImageVersionRecord,
    ) -> Result<Guest, GuestError> {
        let image = self.files.image(&record.image_arn, record.image_version);
        let own = self.files.microvm(&record.id);
        let app =
            version.app.as_ref().ok_or_else(|| GuestError::Refused("the image has no snapshot".into()))?;
        let plan = GuestPlan {
            name: record.id.to_string(),
            vcpu_count: app.vcpu_count,
            memory_mib: app.memory_mib,
            root: Some(RootDisk::Clone { base: image.disk, overlay: own.overlay }),
            drives: Vec::new(),
            egress: egress(record),
            limits: self.limits(app, version),
        };
        self.guests.restore(plan, &image.snapshot, &own.directory).await
    }

    /// Goes on with a guest that an earlier server had restored, and perhaps
    /// resumed, when it was killed.
    pub(crate) async fn finish_start(&self, work: &Work<'_>, guest: Guest) -> Result<Started, Failure> {
        self.begin(work, guest).await.map_err(|error| self.not_resumed(work, &error))
    }

    /// Lets a restored guest run and tells it so. Until it has answered, a resume can be taken
    /// back: what the guest has written to its disk goes with it, and the microVM is on disk as it
    /// was. When the step is cut short, nobody waits for the agent.
    ///
    /// The copy of the disk stays until the record says RUNNING, for a service that is killed
    /// together with the guest.
    async fn begin(&self, work: &Work<'_>, guest: Guest) -> Result<Started, GuestError> {
        let Work { record, cut, .. } = work;
        let own = self.files.microvm(&record.id);
        let vm = guest.vm();
        // From here on the guest may write to its disk, and its snapshot no longer fits.
        if !own.kept.exists()
            && let Err(NotSpent) = work.spend(work.snapshot).await
        {
            guest.destroy().await;
            return Err(GuestError::Refused("that there is no way back could not be recorded".into()));
        }
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
                let (resumes, kept) = (work.snapshot > 0, own.kept.exists());
                if resumes && !kept && !cut.is_cancelled() {
                    self.keep(record, &guest).await;
                }
                // Whatever it still writes, it has written when this returns.
                guest.destroy().await;
                if resumes && kept {
                    put_back(&own);
                }
                Err(error)
            }
        }
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
        let own = self.files.microvm(&record.id);
        guest.vm().pause().await?;
        // A copy of the disk is always of the disk that the snapshot was taken with.
        forget_kept(&self.records, &own).await.map_err(|source| VmmError::File {
            action: "remove",
            path: own.kept.clone(),
            source,
        })?;
        let disks = vec![SnapshotDisk { drive_id: guest::ROOT_DISK.to_owned(), path: own.overlay }];
        let target = SnapshotTarget::Layer { directory: own.directory, disks };
        guest.vm().create_snapshot(&target).await.map(drop)
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
        let snapshot = own_snapshot(record, &self.files.microvm(&record.id));
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
        let directory = self.files.microvm(&record.id).directory;
        remove_directory(&directory);
    }

    /// Merges snapshot layers when too much of them is outdated; runs beside a suspended microVM.
    pub(crate) fn compact(&self, record: &MicrovmRecord) -> tokio::task::JoinHandle<()> {
        let directory = self.files.microvm(&record.id).directory;
        tokio::task::spawn_blocking(move || {
            if let Err(error) = hearth_vmm::snapshot::compact(&directory) {
                tracing::warn!(directory = %directory.display(), error = %chain(&error),
                    "snapshot layers could not be merged; they stay as they are");
            }
        })
    }
}

/// What the microVM's egress connectors let it reach.
fn egress(record: &MicrovmRecord) -> Egress {
    if reaches_internet(&record.settings.egress_network_connectors) { Egress::Internet } else { Egress::None }
}

/// Snapshots hold guests' memory: nobody but the service may look.
fn restrict(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
}

/// Removes a microVM's directory, after it has got another name: a copy or a merge that a lost
/// supervisor left under way finds no directory any more to put its file into.
fn remove_directory(directory: &Path) {
    use std::io::ErrorKind;
    let gone = directory.with_extension("gone");
    let removed = loop {
        match std::fs::remove_dir_all(&gone) {
            // The kernel had looked up the old name for a file that was just being made.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => continue,
            Err(error) if error.kind() != ErrorKind::NotFound => break Err(error),
            Ok(()) | Err(_) => {}
        }
        match std::fs::rename(directory, &gone) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if let Err(error) = removed {
        tracing::error!(directory = %directory.display(), %error, "a directory could not be removed");
    }
}

fn fatal(action: &str, error: &dyn std::error::Error) -> Failure {
    Failure::Fatal(Reason::NotLaunched { why: format!("cannot {action}: {}", chain(error)) })
}

/// Shared by the supervisor and its steps.
pub(crate) type SharedHost = Arc<Host>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_directory_that_others_still_write_to() {
        let parent = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let directory = parent.path().join("microvm-1");
            if round == 1 {
                std::fs::create_dir_all(directory.with_extension("gone").join("left by a crash")).unwrap();
            }
            std::fs::create_dir(&directory).unwrap();
            let writing = std::thread::spawn({
                let directory = directory.clone();
                move || {
                    let mut written = 0;
                    while std::fs::write(directory.join(written.to_string()), "").is_ok() {
                        written += 1;
                    }
                    written
                }
            });
            while std::fs::read_dir(&directory).unwrap().count() < 10 {}
            remove_directory(&directory);
            assert!(writing.join().unwrap() >= 10);
            assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
        }
    }
}
