//! Guests of the fake driver.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use hearth_api::{BuildId, ImageArn, ImageVersion};
use hearth_guest::{
    Artefacts, Egress, Endings, GuestFactory, GuestPlan, KernelModules, Limits, Networks, RootDisk, UidPool,
};
use hearth_snapshots::Snapshots;
use hearth_vmm::SnapshotTarget;
use hearth_vmm::fake::FakeVmm;

/// Makes guests that boot from no files, as the fake driver reads none.
pub fn factory(
    vmm: &Arc<FakeVmm>,
    networks: impl Networks + 'static,
    uids: UidPool,
    run_root: PathBuf,
) -> GuestFactory {
    let nowhere = PathBuf::from("/nonexistent");
    let artefacts = Artefacts {
        kernel: nowhere.clone(),
        initrd: nowhere.clone(),
        initrd_all: nowhere.clone(),
        builder_disk: nowhere,
        version: "1".to_owned(),
        key: "key".to_owned(),
    };
    let (vmm, networks) = (vmm.clone(), Arc::new(networks));
    GuestFactory { vmm, networks, artefacts, uids, run_root, endings: Endings::default() }
}

/// A guest with one vCPU, no disks, and as little RAM as there can be, since the fake driver writes
/// all of it into snapshots.
pub fn plan(name: &str) -> GuestPlan {
    GuestPlan {
        name: name.to_owned(),
        vcpu_count: 1,
        memory_mib: 1,
        root: None,
        drives: Vec::new(),
        egress: Egress::Internet,
        limits: Limits::default(),
    }
}

/// Makes an image version with a root disk and a base snapshot of a guest on it, as a build does.
pub async fn publish_base(
    guests: &GuestFactory,
    snapshots: &Snapshots,
    arn: &ImageArn,
    version: ImageVersion,
) {
    let build = snapshots.build(&BuildId::new());
    build.make().unwrap();
    let draft = build.image();
    File::create(draft.disk()).unwrap().set_len(1 << 20).unwrap();
    let root = RootDisk::Base { path: draft.disk(), modules: KernelModules::Needed };
    let plan = GuestPlan { root: Some(root), ..plan("snapshot") };
    let guest = guests.boot(plan, Some(draft.directory())).await.unwrap();
    guest.vm().pause().await.unwrap();
    let target = SnapshotTarget::Base { directory: draft.directory().to_owned(), disks: Vec::new() };
    guest.vm().create_snapshot(&target).await.unwrap();
    guest.destroy().await;
    snapshots.publish(&draft, arn, version, b"{}").unwrap();
    build.remove();
}
