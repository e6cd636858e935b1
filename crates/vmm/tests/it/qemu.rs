//! The life of VMs under QEMU: boot, snapshot, clones, layers, and what is left afterwards.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hearth_vmm::snapshot::{self, SnapshotDisk, create_overlay, sparse_digest};
use hearth_vmm::{
    BootSource, Drive, DriveImage, Error, ExitReason, Isolation, Qemu, QemuConfig, SnapshotTarget, Vm,
    VmSpec, Vmm,
};

use tracing_subscriber::EnvFilter;

use crate::conformance::{conforms, replace};
use crate::guest::{ask, boot_source, missing, wait_until_ready};
use crate::network::Network;

const MEMORY_MIB: u32 = 512;
const DISK_BYTES: u64 = 64 * MIB;
const MIB: u64 = 1024 * 1024;

/// Directory and driver of a test.
pub(crate) struct Host {
    directory: tempfile::TempDir,
    pub(crate) qemu: Qemu,
    boot_source: BootSource,
    memory_mib: u32,
    next: AtomicU32,
    /// Tells the VMs of this test from those of others that run now.
    prefix: String,
}

impl Host {
    pub(crate) async fn new(test: &str) -> Self {
        Self::of_size(test, MEMORY_MIB, DISK_BYTES).await
    }

    pub(crate) async fn of_size(test: &str, memory_mib: u32, disk_bytes: u64) -> Self {
        // Another test may have set it up already. `RUST_LOG=debug` shows the times
        // of single steps.
        let _ = tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env()).try_init();
        let directory = tempfile::tempdir().unwrap();
        let boot_source = boot_source(directory.path());
        let disk = File::create(directory.path().join("disk")).unwrap();
        disk.set_len(disk_bytes).unwrap();
        let jail_program = PathBuf::from(env!("CARGO_BIN_EXE_hearth-vmm-test-jail"));
        let qemu = Qemu::new(QemuConfig { jail_program, ..QemuConfig::default() }).await.unwrap();
        eprintln!("{} because {}", qemu.capabilities().description, qemu.accelerator().reason);
        Self {
            directory,
            qemu,
            boot_source,
            memory_mib,
            next: AtomicU32::new(1),
            prefix: format!("test-{}-{test}", std::process::id()),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A spec with a run directory, a network and a user of its own.
    pub(crate) fn spec(&self, name: &str, image: DriveImage) -> VmSpec {
        self.spec_with_network(name, image).0
    }

    /// The same for the microVM `name`, with its network.
    pub(crate) fn clone_spec(&self, name: &str) -> (VmSpec, Network) {
        let overlay = self.make_dir(name).join("overlay");
        if !overlay.exists() {
            create_overlay(&self.path("disk"), &overlay).unwrap();
        }
        self.spec_with_network(name, DriveImage::Overlay { base: self.path("disk"), overlay })
    }

    fn spec_with_network(&self, name: &str, image: DriveImage) -> (VmSpec, Network) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (network, interface) = Network::new();
        let guest_channel = Arc::new(network.clone());
        let spec = VmSpec {
            name: format!("{}-{name}", self.prefix),
            run_dir: self.make_dir(&format!("run-{number}")),
            vcpu_count: 1,
            memory_mib: self.memory_mib,
            boot_source: self.boot_source.clone(),
            drives: vec![Drive { drive_id: "root".into(), image }],
            network_interfaces: vec![interface],
            isolation: Isolation {
                uid: 2_000_000_000 + number,
                network_namespace: Some(network.namespace()),
                memory_limit_mib: Some(self.memory_mib + 256),
                cpu_limit_percent: Some(200),
            },
            guest_channel,
        };
        (spec, network)
    }

    /// Boots a VM, waits for it, and turns it into the base `base`.
    pub(crate) async fn make_base(&self) -> PathBuf {
        let base = self.make_dir("base");
        let begin = Instant::now();
        let vm =
            self.qemu.boot(self.spec("boot", DriveImage::Raw(self.path("disk"))), Some(&base)).await.unwrap();
        let started = begin.elapsed();
        wait_until_ready(&*vm).await;
        eprintln!("boot: process {started:?}, ready {:?}", begin.elapsed());
        assert_eq!(ask(&*vm, "count").await.unwrap(), "1");
        assert_eq!(ask(&*vm, "write base").await.unwrap(), "4096");
        assert_eq!(ask(&*vm, "zeros").await.unwrap(), MIB.to_string());
        let blocks = fs::metadata(self.path("disk")).unwrap().blocks();
        assert!(blocks * 512 < MIB, "zeros take no room on the host: {blocks} blocks");
        let target =
            SnapshotTarget::Base { directory: base.clone(), disks: vec![disk_at(self.path("disk"))] };
        let refused = vm.create_snapshot(&target).await.unwrap_err();
        assert!(matches!(refused, Error::Refused { .. }), "running: {refused}");
        vm.pause().await.unwrap();
        let begin = Instant::now();
        let info = vm.create_snapshot(&target).await.unwrap();
        eprintln!("base snapshot: {:?}, {info:?}", begin.elapsed());
        let sealed = vm.resume().await.unwrap_err();
        assert!(matches!(sealed, Error::Refused { .. }), "a base must not run on: {sealed}");
        vm.kill().await.unwrap();
        assert_eq!(vm.wait().await, ExitReason::Stopped);
        snapshot::verify(&base).unwrap();
        base
    }

    /// Restores the microVM `name`, paused.
    pub(crate) async fn restore(&self, name: &str, base: &Path) -> Result<Arc<dyn Vm>, Error> {
        let (spec, _) = self.clone_spec(name);
        self.qemu.restore(spec, base, self.snapshot_of(name).as_deref()).await
    }

    /// The microVM's own snapshot, if there is one.
    pub(crate) fn snapshot_of(&self, name: &str) -> Option<PathBuf> {
        let snapshot = self.path(name).join("snapshot");
        snapshot.exists().then_some(snapshot)
    }

    /// Where the next one is written.
    pub(crate) fn target(&self, name: &str) -> SnapshotTarget {
        let directory = self.path(name).join("new");
        fs::create_dir(&directory).unwrap();
        let disks = vec![disk_at(self.path(name).join("overlay"))];
        SnapshotTarget::Layer { directory, previous: self.snapshot_of(name), disks }
    }

    /// Restores the microVM `name` and lets it run.
    pub(crate) async fn launch(&self, name: &str, base: &Path) -> Arc<dyn Vm> {
        let begin = Instant::now();
        let vm = self.restore(name, base).await.unwrap();
        let restored = begin.elapsed();
        vm.resume().await.unwrap();
        let resumed = begin.elapsed();
        wait_until_ready(&*vm).await;
        eprintln!("launch {name}: restored {restored:?}, runs {resumed:?}, answers {:?}", begin.elapsed());
        vm
    }

    /// Suspends a VM; returns the bytes of memory written.
    pub(crate) async fn suspend(&self, name: &str, vm: &dyn Vm) -> u64 {
        let begin = Instant::now();
        vm.pause().await.unwrap();
        let paused = begin.elapsed();
        let target = self.target(name);
        let info = vm.create_snapshot(&target).await.unwrap();
        replace(&self.path(name).join("snapshot"), target.directory());
        let written = begin.elapsed();
        vm.kill().await.unwrap();
        eprintln!(
            "suspend {name}: paused {paused:?}, written {written:?}, gone {:?}, {info:?}",
            begin.elapsed()
        );
        info.memory_bytes
    }
}

fn digest(path: &Path) -> String {
    sparse_digest(path).unwrap()
}

fn status_field(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_once(':').unwrap().1.trim().to_owned()
}

/// Memory of a process in KiB that is its own, without file pages that nobody else
/// happens to map now.
fn private_kib(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let kib = |line: &str| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
    rollup.lines().filter(|line| line.starts_with("Private_Dirty")).map(kib).sum()
}

fn assert_confined(vm: &dyn Vm, uid_base: u32) {
    let pid = vm.pid().unwrap();
    let uids = status_field(pid, "Uid");
    let uid: u32 = uids.split_whitespace().next().unwrap().parse().unwrap();
    assert!(uid > uid_base && uids.split_whitespace().all(|other| other == uid.to_string()), "{uids}");
    assert_eq!(status_field(pid, "Groups"), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status_field(pid, set), "0000000000000000", "{set}");
    }
    assert_eq!(status_field(pid, "NoNewPrivs"), "1");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let file_size = limits.lines().find_map(|line| line.strip_prefix("Max file size")).unwrap();
    let longest = (2 * DISK_BYTES + 64 * MIB).to_string();
    assert_eq!(file_size.split_whitespace().take(2).collect::<Vec<_>>(), [&*longest, &*longest]);
    let ignored = u64::from_str_radix(&status_field(pid, "SigIgn"), 16).unwrap();
    assert_ne!(ignored & 1 << (nix::libc::SIGXFSZ - 1), 0, "what is too long fails, and does not end it");
    assert_eq!(status_field(pid, "Seccomp"), "2");
    assert!(status_field(pid, "NSpid").ends_with("\t1"), "first in its own PID namespace");
    for namespace in ["mnt", "net", "ipc", "uts", "pid"] {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{namespace}")).unwrap();
        assert_ne!(of(&pid.to_string()), of("self"), "{namespace}");
    }
    let mut visible: Vec<_> = fs::read_dir(format!("/proc/{pid}/root"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !["bin", "sbin", "lib", "lib32", "lib64", "libx32"].contains(&name.as_str()))
        .collect();
    visible.sort();
    assert_eq!(visible, ["dev", "etc", "proc", "usr"]);
    let error = File::create(format!("/proc/{pid}/root/etc/file")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "500");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clones_of_a_snapshot_live_apart_sleep_and_wake() {
    if let Some(reason) = missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    let host = Host::new("life").await;
    let base = host.make_base().await;
    let (memory, disk) = (base.join("memory"), host.path("disk"));
    let (memory_digest, disk_digest) = (digest(&memory), digest(&disk));

    let one = host.launch("one", &base).await;
    let two = host.launch("two", &base).await;
    assert_confined(&*one, 2_000_000_000);
    assert_eq!(ask(&*one, "count").await.unwrap(), "2", "memory of the base");
    assert_eq!(ask(&*one, "count").await.unwrap(), "3");
    assert_eq!(ask(&*two, "count").await.unwrap(), "2", "memory of its own");
    assert_eq!(ask(&*one, "read").await.unwrap(), "base");
    assert_eq!(ask(&*one, "write one").await.unwrap(), "4096");
    assert_eq!(ask(&*two, "read").await.unwrap(), "base", "a disk of its own");
    eprintln!("private memory: {} KiB", private_kib(one.pid().unwrap()));

    // First generation: some pages changed, and the process gone.
    let pid = one.pid().unwrap();
    let first = host.suspend("one", &*one).await;
    assert!(first < 16 * MIB, "{first} bytes for a guest that did little");
    assert!(!Path::new(&format!("/proc/{pid}")).exists());

    let one = host.launch("one", &base).await;
    assert_eq!(ask(&*one, "count").await.unwrap(), "4", "memory survives");
    assert_eq!(ask(&*one, "read").await.unwrap(), "one", "so does the disk");
    assert_eq!(ask(&*one, "fill 64 7").await.unwrap(), "filled");
    let sum = ask(&*one, "sum").await.unwrap();
    assert_eq!(ask(&*one, "write two").await.unwrap(), "4096");

    // Second generation: what changed in between, and not what was saved before.
    let second = host.suspend("one", &*one).await;
    assert!((64 * MIB..80 * MIB).contains(&second), "{second} bytes for 64 MiB changed");
    let one = host.launch("one", &base).await;
    assert_eq!(ask(&*one, "sum").await.unwrap(), sum);
    assert_eq!(ask(&*one, "count").await.unwrap(), "5");
    assert_eq!(ask(&*one, "read").await.unwrap(), "two");

    // Third generation: the 64 MiB are private pages of the process, but known.
    let third = host.suspend("one", &*one).await;
    assert!(third < 16 * MIB, "{third} bytes although little changed");
    snapshot::verify(&host.snapshot_of("one").unwrap()).unwrap();
    assert_eq!(ask(&*two, "count").await.unwrap(), "3", "the neighbour noticed nothing");

    two.kill().await.unwrap();
    conforms(&host, &base).await;
    assert_eq!(digest(&memory), memory_digest, "no clone changed the base's memory");
    assert_eq!(digest(&disk), disk_digest, "nor its disk");
    assert_eq!(fs::metadata(&memory).unwrap().mode() & 0o777, 0o444);
}

/// The guest's disk, as a snapshot knows it.
fn disk_at(path: PathBuf) -> SnapshotDisk {
    SnapshotDisk { drive_id: "root".into(), path }
}

/// Sends a command that ends the guest, which is gone before it can answer.
async fn end_by(vm: &dyn Vm, command: &str) -> ExitReason {
    let ended = tokio::time::timeout(Duration::from_secs(30), async {
        let (reason, _no_answer) =
            tokio::join!(vm.wait(), tokio::time::timeout(Duration::from_secs(1), ask(vm, command)));
        reason
    });
    ended.await.unwrap()
}

/// Groups of the VMs of this test that exist now.
fn groups(host: &Host) -> Vec<PathBuf> {
    ["memory", "cpu", "pids", "unified", "."]
        .iter()
        .filter_map(|hierarchy| fs::read_dir(format!("/sys/fs/cgroup/{hierarchy}/hearth")).ok())
        .flatten()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&host.prefix))
        .map(|entry| entry.path())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_end_is_noticed_and_nothing_is_lost_or_left_behind() {
    if let Some(reason) = missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    let host = Host::new("ends").await;
    let base = host.make_base().await;

    let vm = host.launch("killed", &base).await;
    let limited = host.qemu.capabilities().memory_limit.is_ok();
    assert_eq!(limited, !groups(&host).is_empty(), "limits where the host allows them");
    let pid = rustix::process::Pid::from_raw(vm.pid().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(vm.wait().await, ExitReason::Failed { status: 137, log_tail: String::new() });
    let error = vm.pause().await.unwrap_err();
    assert!(matches!(error, Error::Exited { .. }), "{error}");

    let vm = host.launch("off", &base).await;
    assert_eq!(end_by(&*vm, "off").await, ExitReason::Stopped);

    let vm = host.launch("panicking", &base).await;
    match end_by(&*vm, "reset").await {
        ExitReason::Failed { log_tail, .. } => assert!(log_tail.contains("Kernel panic"), "{log_tail}"),
        ExitReason::Stopped => panic!("a panic is a failure"),
    }

    crate::full_disk::stops_nothing(&host, &base).await;
    crate::damage::is_found(&host, &base).await;
    crate::hosts::are_told_apart(&host, &base).await;

    assert_eq!(groups(&host), Vec::<PathBuf>::new());
    for number in 1..host.next.load(Ordering::Relaxed) {
        let run_dir = host.path(&format!("run-{number}"));
        let left: Vec<_> = fs::read_dir(&run_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "vmm.log" || name == "console.log"), "{left:?}");
    }
}
