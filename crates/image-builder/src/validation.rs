//! Tries a snapshot out: starts a throw-away clone of it, as a launch would, and asks the app's
//! `validate` hook whether it is fit for use.

use hearth_guest::{Guest, GuestFactory, RootDisk, guest};
use hearth_snapshots::BuildFiles;
use tokio_util::sync::CancellationToken;

use crate::app_output::AppOutput;
use crate::build_guest::{WayOut, not_up, plan, until_stopped};
use crate::build_hook::BuildHook;
use crate::build_log::BuildLog;
use crate::failure::BuildFailure;
use crate::image_snapshot::container_exit;

/// The snapshot to try out.
#[derive(Debug)]
pub(crate) struct Validation<'a> {
    pub(crate) name: String,
    pub(crate) way_out: WayOut<'a>,
    pub(crate) hook: BuildHook,
    /// Has the snapshot, and holds what the clone writes until the build removes it.
    pub(crate) files: &'a BuildFiles,
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
        let (draft, overlay) = (self.files.image(), self.files.directory().join("validate.qcow2"));
        hearth_vmm::snapshot::create_overlay(&draft.disk(), &overlay)
            .map_err(|error| BuildFailure::platform("make the disk of the validation", &error))?;
        let root = RootDisk::Clone { base: draft.disk(), overlay };
        let size = (self.vcpu_count, self.memory_mib);
        let egress = self.way_out.resolve(&self.name).await?;
        let plan = plan(&self.name, size, Some(root), egress);
        let guest = guests
            .restore(plan, draft.directory(), None)
            .await
            .map_err(|error| not_up("restore the snapshot for its validation", &error))?;
        let _kept = self.way_out.keep(&self.name, &guest).await;
        let result =
            until_stopped("run the validation microVM", &guest, self.ask(&guest, log), stopped).await;
        guest.destroy().await;
        result
    }

    async fn ask(&self, guest: &Guest, log: &mut BuildLog) -> Result<(), BuildFailure> {
        let vm = guest.vm();
        vm.resume().await.map_err(|error| BuildFailure::platform("start the validation microVM", &error))?;
        guest::restored(vm).await.map_err(|error| not_up("wake the validation microVM", &error))?;
        let poll = async {
            tokio::select! {
                result = self.hook.poll(guest) => result,
                failure = container_exit(guest) => Err(failure),
            }
        };
        AppOutput::new(log, self.output_position).copy_during(vm, poll).await
    }
}
