//! What goes wrong, and where: everything that a step waits for comes through here first.

use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use hearth_vmm::fake::{FakeOperation, FakeVmm, Schedule};
use hearth_vmm::{Error, ExitReason};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::Notify;

/// Something that a step waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    Driver(FakeOperation),
    Network,
    NetworkRelease,
    Connect,
    Restored,
    Hook,
    Record,
}

/// What befalls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails.
    Fail,
    /// It takes long.
    Slow,
    /// It is never heard of again.
    Hang,
    /// The VMM of the microVM is gone when it begins.
    VmmExit,
    /// The microVM is to be terminated while it takes long.
    Terminate,
    /// The supervisor, or whoever comes there, panics.
    Panic,
    /// The service is killed.
    Crash,
}

impl Fault {
    pub(super) const ALL: [Self; 7] =
        [Self::Fail, Self::Slow, Self::Hang, Self::VmmExit, Self::Terminate, Self::Panic, Self::Crash];
}

#[derive(Debug)]
enum Mode {
    Off,
    /// One in so many, of any kind but [`Fault::Crash`].
    Random {
        one_in: u32,
    },
    /// At this visit, counted from now.
    At {
        visits_left: u32,
        fault: Fault,
    },
}

/// The schedule of all faults.
#[derive(Debug)]
pub(super) struct Faults {
    state: Mutex<(Mode, StdRng)>,
    vmm: OnceLock<Weak<FakeVmm>>,
    pub(super) crash: Notify,
    pub(super) terminate: Notify,
    injected: Mutex<std::collections::BTreeMap<String, u32>>,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new((Mode::Off, StdRng::seed_from_u64(seed))),
            vmm: OnceLock::new(),
            crash: Notify::new(),
            terminate: Notify::new(),
            injected: Mutex::default(),
        })
    }

    pub(super) fn rule(self: &Arc<Self>, vmm: &Arc<FakeVmm>) {
        self.vmm.set(Arc::downgrade(vmm)).unwrap();
        vmm.obey(self.clone());
    }

    pub(super) fn off(&self) {
        self.state.lock().unwrap().0 = Mode::Off;
    }

    pub(super) fn at_random(&self, one_in: u32) {
        self.state.lock().unwrap().0 = Mode::Random { one_in };
    }

    pub(super) fn at(&self, visits_left: u32, fault: Fault) {
        self.state.lock().unwrap().0 = Mode::At { visits_left, fault };
    }

    /// Whether the fault that was ordered has come.
    pub(super) fn has_struck(&self) -> bool {
        matches!(self.state.lock().unwrap().0, Mode::Off)
    }

    /// How often each fault was injected at each site.
    pub(super) fn injected(&self) -> std::collections::BTreeMap<String, u32> {
        self.injected.lock().unwrap().clone()
    }

    fn draw(&self, site: Site) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        let (mode, random) = &mut *state;
        let fault = match mode {
            Mode::Random { one_in } if random.random_range(0..*one_in) == 0 => {
                // Only the driver says whose VMM it is; that of others ends by their users' hands.
                let kinds = if matches!(site, Site::Driver(_)) { 5 } else { 4 };
                [Fault::Fail, Fault::Slow, Fault::Hang, Fault::Panic, Fault::VmmExit]
                    [random.random_range(0..kinds)]
            }
            Mode::Off | Mode::Random { .. } => return None,
            Mode::At { visits_left: 0, fault } => {
                let fault = *fault;
                *mode = Mode::Off;
                fault
            }
            Mode::At { visits_left, .. } => {
                *visits_left -= 1;
                return None;
            }
        };
        *self.injected.lock().unwrap().entry(format!("{site:?} {fault:?}")).or_default() += 1;
        Some(fault)
    }

    /// Waits as the fault wants, if there is one; whether the site is to fail.
    pub(super) async fn visit(&self, site: Site, name: Option<&str>) -> bool {
        let Some(fault) = self.draw(site) else { return false };
        // What returns a network is not expected to fail: the kernel does it. What ends a
        // guest is tried again.
        let sure = site == Site::NetworkRelease;
        match fault {
            Fault::Fail => return !sure,
            Fault::Hang if matches!(site, Site::Restored | Site::Hook | Site::Connect) => {
                std::future::pending::<()>().await;
            }
            // Only guests can be silent for ever; drivers and kernels have their time limits.
            Fault::Slow | Fault::Hang => tokio::time::sleep(Duration::from_secs(7)).await,
            Fault::VmmExit => self.exit(name),
            Fault::Panic if sure => {}
            // Without the hook, which would print thousands of backtraces.
            Fault::Panic => std::panic::resume_unwind(Box::new("it was told to panic")),
            Fault::Terminate => {
                self.terminate.notify_one();
                tokio::time::sleep(Duration::from_secs(7)).await;
            }
            Fault::Crash => {
                self.crash.notify_one();
                std::future::pending::<()>().await;
            }
        }
        false
    }

    /// Ends the VM with this name; without a name there is one only.
    fn exit(&self, name: Option<&str>) {
        let Some(vmm) = self.vmm.get().and_then(Weak::upgrade) else { return };
        let names = name.map_or_else(|| vmm.names(), |name| vec![name.to_owned()]);
        for vm in names.iter().filter_map(|name| vmm.vm(name)) {
            vm.exit(ExitReason::Failed { status: 139, log_tail: String::new() });
        }
    }
}

#[async_trait]
impl Schedule for Faults {
    async fn before(&self, name: &str, operation: FakeOperation) -> hearth_vmm::Result<()> {
        if self.visit(Site::Driver(operation), Some(name)).await {
            return Err(Error::TimedOut { command: format!("{operation:?}"), seconds: 30 });
        }
        Ok(())
    }
}
