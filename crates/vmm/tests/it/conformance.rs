//! What every driver does, whatever its VMM: one suite for QEMU and for the fake with which the
//! layers above are tested.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use hearth_vmm::fake::FakeVmm;
use hearth_vmm::snapshot::{self, SnapshotDisk};
use hearth_vmm::{Adoption, Error, ExitReason, SnapshotTarget, Vm, VmSpec, Vmm};

use crate::fake::spec;
use crate::guest::wait_until_ready;
use crate::qemu::Host;

/// A driver and what its microVMs are made of.
#[async_trait]
pub(crate) trait Subject: Sync {
    fn vmm(&self) -> &dyn Vmm;

    /// For the microVM with this name, whose own directory exists then.
    fn spec_of(&self, name: &str) -> VmSpec;

    /// The microVM's own directory.
    fn own(&self, name: &str) -> PathBuf;

    /// Where its snapshot is, if there is one.
    fn snapshot(&self, name: &str) -> PathBuf {
        self.own(name).join("snapshot")
    }

    /// Its disks.
    fn disks(&self, name: &str) -> Vec<SnapshotDisk>;

    /// Waits until the guest, which runs, answers.
    async fn answers(&self, vm: &dyn Vm);
}

/// Runs the suite on clones of `base`, which the driver has made.
pub(crate) async fn conforms(subject: &dyn Subject, base: &Path) {
    snapshots_are_of_paused_vms_and_count(subject, base).await;
    an_end_is_final_and_can_be_asked_for_again(subject, base).await;
    damage_is_told_and_leaves_nothing(subject, base).await;
    assert!(subject.vmm().adopt(nobody(subject)).await.unwrap().is_none());
}

async fn restored(subject: &dyn Subject, name: &str, base: &Path) -> Arc<dyn Vm> {
    let snapshot = subject.snapshot(name);
    let layers = snapshot.exists().then_some(&*snapshot);
    subject.vmm().restore(subject.spec_of(name), base, layers).await.unwrap()
}

async fn snapshots_are_of_paused_vms_and_count(subject: &dyn Subject, base: &Path) {
    let (own, new) = (subject.snapshot("conforming"), subject.own("conforming").join("new"));
    let vm = restored(subject, "conforming", base).await;
    assert_eq!(snapshot::generation(&own).unwrap(), 0);
    for generation in 1..=2 {
        vm.resume().await.unwrap();
        subject.answers(&*vm).await;
        let layer = SnapshotTarget::Layer {
            directory: new.clone(),
            previous: own.exists().then(|| own.clone()),
            disks: subject.disks("conforming"),
        };
        fs::create_dir(&new).unwrap();
        let running = vm.create_snapshot(&layer).await.unwrap_err();
        assert!(matches!(running, Error::Refused { .. }), "{running}");
        vm.pause().await.unwrap();
        let target = SnapshotTarget::Base { directory: own.join("base"), disks: Vec::new() };
        let base_of_clone = vm.create_snapshot(&target).await.unwrap_err();
        assert!(matches!(base_of_clone, Error::Unsupported { .. }), "{base_of_clone}");
        vm.create_snapshot(&layer).await.unwrap();
        replace(&own, &new);
        assert_eq!(snapshot::generation(&own).unwrap(), generation);
        snapshot::verify(&own).unwrap();
    }
    vm.kill().await.unwrap();
    // What it was is there again, in another process.
    let vm = restored(subject, "conforming", base).await;
    vm.resume().await.unwrap();
    subject.answers(&*vm).await;
    vm.kill().await.unwrap();
    assert_eq!(snapshot::generation(&own).unwrap(), 2, "an end writes nothing");
}

/// Puts a snapshot in the place of the one before it.
pub(crate) fn replace(own: &Path, new: &Path) {
    if own.exists() {
        fs::remove_dir_all(own).unwrap();
    }
    fs::rename(new, own).unwrap();
}

async fn an_end_is_final_and_can_be_asked_for_again(subject: &dyn Subject, base: &Path) {
    let vm = restored(subject, "ending", base).await;
    for _ in 0..2 {
        vm.kill().await.unwrap();
        assert_eq!(vm.wait().await, ExitReason::Stopped);
    }
    vm.resume().await.unwrap_err();
    vm.pause().await.unwrap_err();
    let (directory, disks) = (subject.snapshot("ending"), subject.disks("ending"));
    fs::create_dir(&directory).unwrap();
    let target = SnapshotTarget::Layer { directory: directory.clone(), previous: None, disks };
    vm.create_snapshot(&target).await.unwrap_err();
    assert_eq!(snapshot::generation(&directory).unwrap(), 0);
}

async fn damage_is_told_and_leaves_nothing(subject: &dyn Subject, base: &Path) {
    let own = subject.snapshot("conforming");
    let state = own.join("device-state.0002");
    let whole = fs::read(&state).unwrap();
    fs::write(&state, &whole[..whole.len() / 2]).unwrap();
    let spec = subject.spec_of("conforming");
    let run_dir = spec.run_dir.clone();
    let damaged = subject.vmm().restore(spec, base, Some(&own)).await.unwrap_err();
    assert!(matches!(damaged, Error::Damaged { .. }), "{damaged}");
    assert!(!run_dir.join("vmm.json").exists(), "a VMM is left");
    fs::write(&state, whole).unwrap();
    let vm = restored(subject, "conforming", base).await;
    vm.kill().await.unwrap();
}

fn nobody(subject: &dyn Subject) -> Adoption {
    let VmSpec { name, run_dir, guest_channel, .. } = subject.spec_of("nobody");
    Adoption { name, run_dir, guest_channel }
}

#[async_trait]
impl Subject for Host {
    fn vmm(&self) -> &dyn Vmm {
        &self.qemu
    }

    fn spec_of(&self, name: &str) -> VmSpec {
        self.clone_spec(name).0
    }

    fn own(&self, name: &str) -> PathBuf {
        self.path(name)
    }

    fn disks(&self, name: &str) -> Vec<SnapshotDisk> {
        vec![SnapshotDisk { drive_id: "root".to_owned(), path: self.own(name).join("overlay") }]
    }

    async fn answers(&self, vm: &dyn Vm) {
        wait_until_ready(vm).await;
    }
}

/// The fake, and a directory for its microVMs.
struct Fake(FakeVmm, tempfile::TempDir);

#[async_trait]
impl Subject for Fake {
    fn vmm(&self) -> &dyn Vmm {
        &self.0
    }

    fn spec_of(&self, name: &str) -> VmSpec {
        fs::create_dir_all(self.own(name)).unwrap();
        spec(name)
    }

    fn own(&self, name: &str) -> PathBuf {
        self.1.path().join(name)
    }

    fn disks(&self, _: &str) -> Vec<SnapshotDisk> {
        Vec::new()
    }

    /// There is no guest: nobody listens where it would.
    async fn answers(&self, vm: &dyn Vm) {
        let refused = vm.connect_guest().await.err().unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

#[tokio::test]
async fn the_fake_conforms() {
    let fake = Fake(FakeVmm::new(), tempfile::tempdir().unwrap());
    let vm = fake.0.boot(fake.spec_of("base"), Some(&fake.own("base"))).await.unwrap();
    vm.pause().await.unwrap();
    let base = fake.own("base");
    vm.create_snapshot(&SnapshotTarget::Base { directory: base.clone(), disks: Vec::new() }).await.unwrap();
    vm.kill().await.unwrap();
    conforms(&fake, &base).await;
}
