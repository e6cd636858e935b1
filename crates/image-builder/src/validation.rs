//! Tries a snapshot out: starts a throw-away clone of it, as a launch would, and asks the app's `validate` hook whether
//! it is fit for use.

use std::path::Path;
use std::time::Duration;

use hearth_api::ImageConfiguration;
use hearth_guest::{Guest, GuestFactory, GuestPlan, Limits, RootDisk, guest};
use tokio_util::sync::CancellationToken;

use crate::app_output::AppOutput;
use crate::build_hook::BuildHook;
use crate::build_log::BuildLog;
use crate::builder::{not_up, stopped_failure};
use crate::container_build::egress;
use crate::failure::BuildFailure;
use crate::image_snapshot::container_exit;

/// How long the agent of the clone may take to answer.
const RESTORED_TIMEOUT: Duration = Duration::from_secs(20);

/// The snapshot to try out.
#[derive(Debug)]
pub(crate) struct Validation<'a> {
    pub(crate) name: String,
    pub(crate) configuration: &'a ImageConfiguration,
    pub(crate) hook: BuildHook,
    /// Root disk of the image.
    pub(crate) disk: &'a Path,
    /// Directory of the snapshot.
    pub(crate) snapshot: &'a Path,
    /// Holds what the clone writes, until the build removes it.
    pub(crate) scratch: &'a Path,
    pub(crate) vcpu_count: u8,
    pub(crate) memory_mib: u32,
    /// Bytes of output that the app had written before the snapshot.
    pub(crate) output_position: u64,
}

impl Validation<'_> {
    /// Succeeds when the hook has answered 200; what the app prints meanwhile goes to `log`.
    pub(crate) async fn run(
        self,
        guests: &GuestFactory,
        log: &mut BuildLog,
        stopped: &CancellationToken,
    ) -> Result<(), BuildFailure> {
        let own = self.scratch.join("validate");
        let overlay = own.join("disk.qcow2");
        std::fs::create_dir_all(&own)
            .map_err(|error| BuildFailure::platform("make the directory of the validation", &error))?;
        hearth_vmm::snapshot::create_overlay(self.disk, &overlay)
            .map_err(|error| BuildFailure::platform("make the disk of the validation", &error))?;
        let plan = GuestPlan {
            name: self.name.clone(),
            vcpu_count: self.vcpu_count,
            memory_mib: self.memory_mib,
            root: Some(RootDisk::Clone { base: self.disk.to_owned(), overlay }),
            drives: Vec::new(),
            egress: egress(self.configuration),
            limits: Limits { memory_mib: Some(self.memory_mib + 1024), cpu_percent: None },
        };
        let guest = guests
            .restore(plan, self.snapshot, &own)
            .await
            .map_err(|error| not_up("restore the snapshot for its validation", &error))?;
        let result = tokio::select! {
            result = guest.while_it_runs(self.ask(&guest, log)) => result
                .unwrap_or_else(|error| Err(BuildFailure::platform("run the validation microVM", &error))),
            () = stopped.cancelled() => Err(stopped_failure()),
        };
        guest.destroy().await;
        result
    }

    async fn ask(&self, guest: &Guest, log: &mut BuildLog) -> Result<(), BuildFailure> {
        let vm = guest.vm();
        vm.resume().await.map_err(|error| BuildFailure::platform("start the validation microVM", &error))?;
        guest::restored(vm, RESTORED_TIMEOUT)
            .await
            .map_err(|error| not_up("wake the validation microVM", &error))?;
        let poll = async {
            tokio::select! {
                result = self.hook.poll(guest) => result,
                failure = container_exit(guest) => Err(failure),
            }
        };
        AppOutput::new(log, self.output_position).copy_during(vm, poll).await
    }
}
