//! [`GuestFactory`] starts guests; [`Guest`] is one of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hearth_guest_protocol::client::{self, ClientError, ForwardStream};
use hearth_guest_protocol::{Reply, Request};
use hearth_host_net::Guard;
use hearth_vmm::{
    BootSource, CONSOLE_FILE, Drive, DriveImage, ExitReason, GuestStream, Isolation, Vm, VmSpec, Vmm,
};

use crate::artefacts::Artefacts;
pub use crate::error::Error;
use crate::holdings::{Endings, Holdings};
use crate::network::{GuestNetwork, Networks};
use crate::plan::{GuestPlan, KernelModules, RootDisk};
use crate::record::Record;
pub use crate::restored::restored;
use crate::uid::{Uid, UidPool};

/// `virtio-blk` serial of the root disk.
pub const ROOT_DISK: &str = "root";

/// Kernel command line of every guest: quiet, because a serial console costs more than it tells;
/// `panic=-1` makes a panic end the VMM (`-no-reboot`) instead of hanging; the clock of a TCG guest
/// is the TSC that QEMU emulates; the table of TCP connections is small, because the agent walks
/// through it after each restore; the kernel does not test its ciphers, which under TCG would be a
/// quarter of its boot.
const BOOT_ARGS: &str = "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t tsc=reliable no_timer_check \
     random.trust_cpu=on mitigations=off ipv6.disable_ipv6=1 audit=0 thash_entries=1024 cryptomgr.notests";

/// How long a guest may take to come up, in the first and in the last attempt. A few seconds are
/// usual; a busy host under TCG takes minutes.
const BOOT_TIMEOUTS: [Duration; 2] = [Duration::from_mins(2), Duration::from_mins(5)];

/// Starts guests on this host.
#[derive(Debug, Clone)]
pub struct GuestFactory {
    /// The driver.
    pub vmm: Arc<dyn Vmm>,
    /// Where networks come from.
    pub networks: Arc<dyn Networks>,
    /// Kernel and initial RAM file system.
    pub artefacts: Artefacts,
    /// User ids of the VMM processes.
    pub uids: UidPool,
    /// Directory for run-time files of VMM processes.
    pub run_root: PathBuf,
    /// Guests that are being ended.
    pub endings: Endings,
}

/// A running or paused guest with everything it holds. One that is dropped is ended.
#[derive(Debug)]
pub struct Guest {
    vm: Arc<dyn Vm>,
    holdings: Holdings,
}

impl GuestFactory {
    /// Boots a guest; with `snapshot_directory` its RAM becomes the memory file of a base
    /// snapshot made there.
    pub async fn boot(&self, plan: GuestPlan, snapshot_directory: Option<&Path>) -> Result<Guest, Error> {
        let (spec, holdings) = self.prepare(plan).await?;
        let vm = self.vmm.boot(spec, snapshot_directory).await;
        Guest::started(vm, holdings).await
    }

    /// Boots a guest and waits until its agent answers, or until `stopped`. One that does not come
    /// up is given up and booted once more: under TCG two in some 150 boots hung, why is not known.
    /// The console of the first goes to the log.
    pub async fn boot_until_up(
        &self,
        plan: impl Fn() -> GuestPlan,
        snapshot_directory: Option<&Path>,
        stopped: impl Future<Output = ()>,
    ) -> Result<Guest, Error> {
        tokio::pin!(stopped);
        let mut timeouts = BOOT_TIMEOUTS.into_iter();
        loop {
            let timeout = timeouts.next().unwrap_or_default();
            let guest = self.boot(plan(), snapshot_directory).await?;
            let up = tokio::select! {
                up = guest.while_it_runs(wait_for_agent(guest.vm(), timeout)) => up.and_then(|answered| answered),
                () = &mut stopped => Err(Error::Stopped),
            };
            match up {
                Ok(()) => return Ok(guest),
                Err(Error::Unreachable(_) | Error::Agent(_) | Error::TimedOut(_)) if timeouts.len() > 0 => {
                    guest.give_up(timeout).await;
                }
                Err(error) => {
                    guest.destroy().await;
                    return Err(error);
                }
            }
        }
    }

    /// Restores a paused guest from an image's snapshot and, if there is one, its own: from their
    /// directories.
    pub async fn restore(&self, plan: GuestPlan, base: &Path, own: Option<&Path>) -> Result<Guest, Error> {
        let (spec, holdings) = self.prepare(plan).await?;
        let vm = self.vmm.restore(spec, base, own).await;
        Guest::started(vm, holdings).await
    }

    async fn prepare(&self, plan: GuestPlan) -> Result<(VmSpec, Holdings), Error> {
        // Two VMMs must never work on the same files.
        self.end_leftover(&plan.name).await;
        let mut network = self
            .networks
            .acquire(plan.egress)
            .await
            .map_err(|source| Error::Network { name: plan.name.clone(), source })?;
        let uid = self.uids.take();
        let run_dir = self.run_root.join(&plan.name);
        let made = std::fs::create_dir_all(&run_dir)
            .and_then(|()| Record::write(&run_dir, uid.get(), network.uplink()));
        if let Err(source) = made {
            network.release().await;
            return Err(Error::Directory { path: run_dir, source });
        }
        let (interfaces, namespace) = (network.take_interfaces(), network.namespace());
        let (guest_channel, user) = (network.channel(), uid.get());
        let holdings = self.holdings(&plan.name, Some(network), Some(uid));
        let initrd = match plan.root {
            Some(RootDisk::Base { modules: KernelModules::All, .. }) => &self.artefacts.initrd_all,
            _ => &self.artefacts.initrd,
        };
        let root = plan.root.map(|root| Drive {
            drive_id: ROOT_DISK.to_owned(),
            image: match root {
                RootDisk::Base { path, .. } => DriveImage::Raw(path),
                RootDisk::Clone { base, overlay } => DriveImage::Overlay { base, overlay },
            },
        });
        let spec = VmSpec {
            name: plan.name,
            run_dir: run_dir.clone(),
            vcpu_count: plan.vcpu_count,
            memory_mib: plan.memory_mib,
            boot_source: BootSource {
                kernel_image_path: self.artefacts.kernel.clone(),
                initrd_path: initrd.clone(),
                boot_args: BOOT_ARGS.to_owned(),
            },
            drives: root.into_iter().chain(plan.drives).collect(),
            network_interfaces: interfaces,
            isolation: Isolation {
                uid: user,
                network_namespace: namespace,
                memory_limit_mib: plan.limits.memory_mib,
                cpu_limit_percent: plan.limits.cpu_percent,
            },
            guest_channel,
        };
        Ok((spec, holdings))
    }

    /// Waits until nothing that had this name runs any more: neither a guest that is being ended,
    /// nor what its record names. A VMM that cannot be ended is waited for.
    pub async fn end_leftover(&self, name: &str) {
        self.endings.wait(name).await;
        if self.run_root.join(name).exists() {
            self.holdings(name, None, None).end().await;
        }
    }

    /// Reserves the user id of a VMM that an earlier server left and that could not be ended, for
    /// as long as it lives.
    pub fn quarantine(&self, name: &str) {
        let uid = Record::uid(name, &self.run_root.join(name)).and_then(|uid| self.uids.claim(uid));
        drop(self.holdings(name, None, uid));
    }

    pub(crate) fn holdings(
        &self,
        name: &str,
        network: Option<Box<dyn GuestNetwork>>,
        uid: Option<Uid>,
    ) -> Holdings {
        Holdings::new(name.to_owned(), self.run_root.join(name), self.endings.clone(), network, uid)
    }
}

impl Guest {
    pub(crate) fn new(vm: Arc<dyn Vm>, mut holdings: Holdings) -> Self {
        holdings.set_vm(vm.clone());
        Self { vm, holdings }
    }

    async fn started(vm: hearth_vmm::Result<Arc<dyn Vm>>, holdings: Holdings) -> Result<Self, Error> {
        match vm {
            Ok(vm) => Ok(Self::new(vm, holdings)),
            Err(error) => {
                holdings.end().await;
                Err(error.into())
            }
        }
    }

    /// The virtual machine.
    pub fn vm(&self) -> &Arc<dyn Vm> {
        &self.vm
    }

    /// What holds it to an egress policy, if it has one.
    pub fn guard(&self) -> Option<Arc<Guard>> {
        self.holdings.guard()
    }

    /// Runs `work` with this guest to its end, or until the VMM ends by itself, which no
    /// connection to the guest tells.
    pub async fn while_it_runs<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            reason = self.vm.wait() => Err(Error::Ended(describe_exit(&reason))),
        }
    }

    /// Ends a guest that did not come up, and logs what it had to say.
    async fn give_up(self, timeout: Duration) {
        if let Err(error) = self.vm.kill().await {
            tracing::warn!(%error, "a VMM process could not be ended");
        }
        let console = std::fs::read(self.holdings.run_dir().join(CONSOLE_FILE)).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        tracing::warn!(?timeout, %console, "a guest did not come up and is booted once more");
        self.destroy().await;
    }

    /// Leaves the guest as it is, to be taken over by a later server ([`GuestFactory::adopt`]).
    /// Only the connections to it go.
    pub fn leave(self) {
        self.holdings.leave();
    }

    /// Ends the VMM process and gives everything back. It returns when the process is gone: one
    /// that cannot be ended keeps its user id and its network, and is tried again. The end goes on
    /// if nobody waits for it.
    pub async fn destroy(self) {
        self.holdings.end().await;
    }
}

/// Why a VMM ended by itself, for a sentence that begins with "the"; what it wrote goes to the log.
pub fn describe_exit(reason: &ExitReason) -> String {
    match reason {
        ExitReason::Stopped => "guest powered itself off".to_owned(),
        ExitReason::Failed { status, log_tail } => {
            tracing::error!(status, log_tail, "a VMM process ended by itself");
            match status {
                -1 => "virtual machine monitor ended unexpectedly".to_owned(),
                status => format!("virtual machine monitor ended unexpectedly (status {status})"),
            }
        }
    }
}

/// Asks the agent one thing and waits at most `timeout` for its answer. The agent's own error
/// becomes [`Error::Refused`].
pub async fn ask(vm: &Arc<dyn Vm>, request: &Request, timeout: Duration) -> Result<Reply, Error> {
    let answer = async {
        let stream = vm.connect_guest().await.map_err(Error::Unreachable)?;
        client::ask(stream, request).await.map_err(Error::Agent)
    };
    match tokio::time::timeout(timeout, answer).await {
        Err(_) => Err(Error::TimedOut(timeout)),
        Ok(Err(Error::Agent(ClientError::Agent(message)))) => Err(Error::Refused(message)),
        Ok(answer) => answer,
    }
}

/// A connection to a TCP port of the app.
pub type AppStream = ForwardStream<Box<dyn GuestStream>>;

/// Waits until a freshly booted guest's agent answers.
async fn wait_for_agent(vm: &Arc<dyn Vm>, timeout: Duration) -> Result<(), Error> {
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        match ask(vm, &Request::Hello, Duration::from_secs(5)).await {
            Ok(_) => return Ok(()),
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
