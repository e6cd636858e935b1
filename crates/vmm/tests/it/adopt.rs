//! VMs that outlive the process that started them. A runtime stands for that process: with it go
//! its tasks, its QMP connections and its watchers, but not its VMs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearth_vmm::snapshot::Manifest;
use hearth_vmm::{Adopted, Adoption, Error, ExitReason, Vm, Vmm};
use tokio::runtime::Runtime;

use crate::guest::{ask, missing, wait_until_ready};
use crate::hosts::{digests, pretend};
use crate::network::Network;
use crate::qemu::Host;

/// What a later server knows of a VM.
struct Left {
    name: String,
    run_dir: PathBuf,
    network: Network,
    pid: u32,
}

impl Left {
    async fn adopt(&self, host: &Host) -> Result<Option<Adopted>, Error> {
        let guest_channel = Arc::new(self.network.clone());
        let (name, run_dir) = (self.name.clone(), self.run_dir.clone());
        host.qemu.adopt(Adoption { name, run_dir, guest_channel }).await
    }
}

/// Restores a VM that its server leaves: running if `run`, otherwise paused.
async fn leave(host: &Host, name: &str, base: &Path, run: bool) -> Left {
    let (spec, network) = host.clone_spec(name);
    let (name_in_spec, run_dir) = (spec.name.clone(), spec.run_dir.clone());
    host.make_dir(name);
    let vm = host.qemu.restore(spec, base, None).await.unwrap();
    if run {
        vm.resume().await.unwrap();
        wait_until_ready(&*vm).await;
        assert_eq!(ask(&*vm, "count").await.unwrap(), "2");
    }
    Left { name: name_in_spec, run_dir, network, pid: vm.pid().unwrap() }
}

async fn end(vm: &dyn Vm) {
    vm.kill().await.unwrap();
    assert_eq!(vm.wait().await, ExitReason::Stopped);
}

#[test]
fn vms_are_taken_over_as_they_are() {
    if let Some(reason) = missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    let former = Runtime::new().unwrap();
    let (host, base, running, paused, ended, off, elsewhere) = former.block_on(async {
        let host = Host::new("adopt").await;
        let base = host.make_base().await;
        let running = leave(&host, "running", &base, true).await;
        let paused = leave(&host, "paused", &base, false).await;
        let ended = leave(&host, "ended", &base, true).await;
        let off = leave(&host, "off", &base, true).await;
        let elsewhere = leave(&host, "elsewhere", &base, true).await;
        (host, base, running, paused, ended, off, elsewhere)
    });
    former.shutdown_background();

    Runtime::new().unwrap().block_on(async {
        // Running: the same process with the same memory, and everything can be done with it.
        let Adopted { vm, running: runs } = running.adopt(&host).await.unwrap().unwrap();
        assert!(runs);
        assert_eq!(vm.pid(), Some(running.pid));
        assert_eq!(ask(&*vm, "count").await.unwrap(), "3");
        assert_eq!(ask(&*vm, "write later").await.unwrap(), "4096");
        host.suspend("running", &*vm).await;
        let vm = host.launch("running", &base).await;
        assert_eq!(
            ask(&*vm, "count").await.unwrap(),
            "4",
            "the layer has what was changed under both servers"
        );
        assert_eq!(ask(&*vm, "read").await.unwrap(), "later");
        end(&*vm).await;

        // Paused, as a server leaves it that is killed before a resume.
        let Adopted { vm, running: runs } = paused.adopt(&host).await.unwrap().unwrap();
        assert!(!runs);
        vm.resume().await.unwrap();
        wait_until_ready(&*vm).await;
        assert_eq!(ask(&*vm, "count").await.unwrap(), "2");
        end(&*vm).await;
        assert!(paused.adopt(&host).await.unwrap().is_none(), "it is gone");

        // Killed while nobody watched.
        let pid = rustix::process::Pid::from_raw(ended.pid.cast_signed()).unwrap();
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
        assert!(ended.adopt(&host).await.unwrap().is_none());

        // Switched off by its guest while nobody watched: taken over, and then ended
        // as it would have been.
        let network = off.network.clone();
        let _no_answer = crate::guest::say(&network, "off").await;
        let Adopted { vm, running: runs } = off.adopt(&host).await.unwrap().unwrap();
        assert!(runs);
        let reason = tokio::time::timeout(std::time::Duration::from_secs(30), vm.wait()).await.unwrap();
        assert_eq!(reason, ExitReason::Stopped);

        goes_on_under_its_own_accelerator(&host, &base, &elsewhere).await;
    });
}

/// A later server that runs guests under another accelerator takes over what runs, and can suspend
/// it; it cannot resume it.
async fn goes_on_under_its_own_accelerator(host: &Host, base: &Path, left: &Left) {
    pretend(base, |platform| "another".clone_into(&mut platform.accelerator));
    let Adopted { vm, running } = left.adopt(host).await.unwrap().unwrap();
    assert!(running);
    assert_eq!(vm.pid(), Some(left.pid));
    assert_eq!(ask(&*vm, "count").await.unwrap(), "3");
    host.suspend("elsewhere", &*vm).await;
    let directory = host.path("elsewhere");
    let taken = Manifest::read(&directory.join("snapshot")).unwrap().unwrap().platform;
    assert_eq!(taken.accelerator, "another", "its snapshot says what it ran under");
    let before = digests(&directory);
    let error = host.restore("elsewhere", base).await.unwrap_err();
    assert!(matches!(&error, Error::OtherAccelerator { taken, .. } if taken == "another"), "{error}");
    assert_eq!(digests(&directory), before, "nothing was touched");
}

#[test]
fn what_cannot_be_taken_over_says_why() {
    if let Some(reason) = missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    let former = Runtime::new().unwrap();
    let (host, booted, foreign) = former.block_on(async {
        let host = Host::new("refuse").await;
        let (spec, network) = host.clone_spec("booted");
        let (name, run_dir) = (spec.name.clone(), spec.run_dir.clone());
        let pid = host.qemu.boot(spec, None).await.unwrap().pid().unwrap();
        let booted = Left { name, run_dir, network, pid };
        let base = host.make_base().await;
        let foreign = leave(&host, "foreign", &base, false).await;
        (host, booted, foreign)
    });
    former.shutdown_background();

    Runtime::new().unwrap().block_on(async {
        let error = booted.adopt(&host).await.unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");

        let path = foreign.run_dir.join("vmm.json");
        let record = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, record.replacen("\"version\":1", "\"version\":2", 1)).unwrap();
        let error = foreign.adopt(&host).await.unwrap_err();
        assert!(matches!(error, Error::OtherFormat { found: 2, .. }), "{error}");

        // Both are ours to end, whatever version has started them.
        let kept = std::fs::read_dir(host.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        let kept =
            kept.map(|name| name.into_string().unwrap()).filter(|name| !name.starts_with("run-")).collect();
        hearth_vmm::leftovers::remove(&host.path(""), &kept);
        for left in [&booted, &foreign] {
            assert!(!left.run_dir.exists());
            assert!(left.adopt(&host).await.unwrap().is_none());
        }
    });
}
