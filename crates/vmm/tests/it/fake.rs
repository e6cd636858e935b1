//! What the fake driver promises to tests.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hearth_vmm::fake::{FakeOperation, FakeVmm};
use hearth_vmm::snapshot;
use hearth_vmm::{
    BootSource, Error, ExitReason, GuestChannel, GuestStream, Isolation, SnapshotTarget, VmSpec, Vmm as _,
};

#[derive(Debug)]
struct Nobody;

#[async_trait]
impl GuestChannel for Nobody {
    async fn connect(&self) -> io::Result<Box<dyn GuestStream>> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

/// A guest that nobody listens in.
pub(crate) fn spec(name: &str) -> VmSpec {
    VmSpec {
        name: name.to_owned(),
        run_dir: "/nonexistent".into(),
        vcpu_count: 1,
        memory_mib: 8,
        boot_source: BootSource {
            kernel_image_path: "/nonexistent".into(),
            initrd_path: "/nonexistent".into(),
            boot_args: String::new(),
        },
        drives: Vec::new(),
        network_interfaces: Vec::new(),
        isolation: Isolation {
            uid: 1,
            network_namespace: None,
            memory_limit_mib: None,
            cpu_limit_percent: None,
        },
        guest_channel: Arc::new(Nobody),
    }
}

#[tokio::test]
async fn the_whole_life_leaves_real_snapshots() {
    let (base, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fake = FakeVmm::new();
    let vm = fake.boot(spec("one"), Some(base.path())).await.unwrap();
    let target = SnapshotTarget::Base { directory: base.path().to_path_buf(), disks: Vec::new() };
    vm.create_snapshot(&target).await.unwrap_err();
    vm.pause().await.unwrap();
    vm.create_snapshot(&target).await.unwrap();
    vm.kill().await.unwrap();
    assert_eq!(vm.wait().await, ExitReason::Stopped);

    let snapshot = |number: u32| own.path().join(number.to_string());
    let mut previous = None;
    for number in 1..=2 {
        let vm = fake.restore(spec("two"), base.path(), previous.as_deref()).await.unwrap();
        assert_eq!(vm.connect_guest().await.err().unwrap().kind(), io::ErrorKind::TimedOut, "paused");
        vm.resume().await.unwrap();
        assert_eq!(vm.connect_guest().await.err().unwrap().kind(), io::ErrorKind::ConnectionRefused);
        vm.pause().await.unwrap();
        let directory = snapshot(number);
        std::fs::create_dir(&directory).unwrap();
        let target = SnapshotTarget::Layer { directory: directory.clone(), previous, disks: Vec::new() };
        vm.create_snapshot(&target).await.unwrap();
        vm.kill().await.unwrap();
        previous = Some(directory);
    }
    snapshot::verify(&snapshot(2)).unwrap();
    assert!(fake.names().is_empty());
    for (base, layers) in [(own.path(), &snapshot(2)), (base.path(), &snapshot(3))] {
        fake.restore(spec("three"), base, Some(layers)).await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn failures_delays_and_exits_come_as_scripted() {
    let fake = FakeVmm::new();
    fake.fail_next(FakeOperation::Boot, Error::Unsupported { operation: "boot" });
    fake.delay(FakeOperation::Boot, Duration::from_mins(1));
    let begin = tokio::time::Instant::now();
    fake.boot(spec("one"), None).await.unwrap_err();
    assert_eq!(begin.elapsed(), Duration::from_mins(1));
    let vm = fake.boot(spec("one"), None).await.unwrap();

    let crash = ExitReason::Failed { status: 139, log_tail: "segmentation fault".into() };
    fake.vm("one").unwrap().exit(crash.clone());
    assert_eq!(vm.wait().await, crash);
    let error = vm.pause().await.unwrap_err();
    assert!(matches!(error, Error::Exited { .. }), "{error}");
    vm.kill().await.unwrap();
    assert_eq!(vm.wait().await, crash, "the first reason counts");
    let operations: Vec<_> = fake.calls().into_iter().map(|(_, operation)| operation).collect();
    assert_eq!(operations[..2], [FakeOperation::Boot; 2]);
}
