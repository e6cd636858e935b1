//! What a guest holds on the host, and how it gets it back: only when its VMM is gone.
//!
//! A user id or an uplink that went to the next guest while the last one's VMM still runs would let
//! the two reach each other's files and traffic. So nothing is returned before the VMM has been
//! seen to end, whoever lets go of the guest: [`Guest::destroy`](crate::Guest::destroy), an early
//! return, a task that was aborted, or a panic.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hearth_guest_protocol::chain;
use hearth_host_net::Guard;
use hearth_vmm::{Vm, leftovers};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::network::GuestNetwork;
use crate::uid::Uid;

/// How long one attempt to end a VMM may take; the kernel needs a while for one with much memory.
const ATTEMPT: Duration = Duration::from_secs(20);
/// Between two attempts, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(1)];

/// Guests that are being ended, by name; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Endings(Arc<Mutex<BTreeMap<String, Vec<watch::Receiver<()>>>>>);

/// What a guest holds.
#[derive(Debug)]
pub(crate) struct Holdings {
    name: String,
    run_dir: PathBuf,
    endings: Endings,
    runtime: Option<Handle>,
    /// Taken when everything is given back, or left to a later server.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    /// None while it is being started, and of one that only its record names.
    vm: Option<Arc<dyn Vm>>,
    /// None of one that only its record names: such a network is taken down when the server starts.
    network: Option<Box<dyn GuestNetwork>>,
    uid: Option<Uid>,
}

impl Endings {
    /// Waits until nothing that had this name is being ended any more.
    pub(crate) async fn wait(&self, name: &str) {
        loop {
            let ending = {
                let mut endings = self.lock();
                let Some(of_name) = endings.get_mut(name) else { return };
                of_name.retain(|ending| ending.has_changed().is_ok());
                let Some(ending) = of_name.first().cloned() else {
                    endings.remove(name);
                    return;
                };
                ending
            };
            // The sender says nothing: it goes when the guest is gone.
            let mut ending = ending;
            let _ = ending.changed().await;
        }
    }

    fn begin(&self, name: &str) -> watch::Sender<()> {
        let (done_tx, done_rx) = watch::channel(());
        let mut endings = self.lock();
        endings.retain(|_, of_name| {
            of_name.retain(|ending| ending.has_changed().is_ok());
            !of_name.is_empty()
        });
        endings.entry(name.to_owned()).or_default().push(done_rx);
        done_tx
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<watch::Receiver<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holdings {
    pub(crate) fn new(
        name: String,
        run_dir: PathBuf,
        endings: Endings,
        network: Option<Box<dyn GuestNetwork>>,
        uid: Option<Uid>,
    ) -> Self {
        let held = Some(Held { vm: None, network, uid });
        Self { name, run_dir, endings, runtime: Handle::try_current().ok(), held }
    }

    pub(crate) fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    pub(crate) fn set_vm(&mut self, vm: Arc<dyn Vm>) {
        if let Some(held) = &mut self.held {
            held.vm = Some(vm);
        }
    }

    /// What holds its network to a policy, if it has one.
    pub(crate) fn guard(&self) -> Option<Arc<Guard>> {
        self.held.as_ref()?.network.as_ref()?.guard()
    }

    /// Leaves everything to a later server.
    pub(crate) fn leave(mut self) {
        if let Some(Held { network: Some(network), .. }) = self.held.take() {
            network.leave();
        }
    }

    /// Ends the VMM and gives everything back; returns when that is done, however long it takes.
    /// Goes on if the caller does not wait.
    pub(crate) async fn end(mut self) {
        let name = self.name.clone();
        let endings = self.endings.clone();
        match self.held.take() {
            Some(held) => {
                let done = endings.begin(&name);
                let task = tokio::spawn(end(name, self.run_dir.clone(), held, done));
                // It neither panics nor is it aborted, except when the runtime ends.
                let _ = task.await;
            }
            None => endings.wait(&name).await,
        }
    }
}

impl Drop for Holdings {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        tracing::warn!(guest = self.name, "a guest was lost; its VMM is ended");
        let runtime = Handle::try_current().ok().or_else(|| self.runtime.take());
        let Some(runtime) = runtime else { return held.quarantine() };
        let done = self.endings.begin(&self.name);
        runtime.spawn(end(self.name.clone(), self.run_dir.clone(), held, done));
    }
}

impl Held {
    /// Keeps what it is for ever: nobody else must get it.
    fn quarantine(self) {
        std::mem::forget((self.network, self.uid));
    }
}

/// Ends the VMM, however often that has to be tried, and then gives everything back. The
/// `_done` sender goes last.
async fn end(name: String, run_dir: PathBuf, held: Held, _done: watch::Sender<()>) {
    let mut pause = PAUSES[0];
    while let Err(error) = try_to_end(held.vm.clone(), run_dir.clone()).await {
        tracing::warn!(
            guest = name,
            error,
            "a VMM could not be ended; its user id and network stay reserved"
        );
        // It may also end by itself.
        match &held.vm {
            Some(vm) if tokio::time::timeout(pause, vm.wait()).await.is_ok() => break,
            Some(_) => {}
            None => tokio::time::sleep(pause).await,
        }
        pause = PAUSES[1].min(pause * 2);
    }
    let Held { vm, network, uid } = held;
    drop(vm);
    if let Some(network) = network {
        network.release().await;
    }
    remove_run_dir(&run_dir);
    drop(uid);
}

/// One attempt; on a task of its own, so that a panic of the driver is one more failure.
async fn try_to_end(vm: Option<Arc<dyn Vm>>, run_dir: PathBuf) -> Result<(), String> {
    let attempt = tokio::spawn(async move {
        if let Some(vm) = vm {
            return vm.kill().await.map_err(|error| chain(&error));
        }
        // A start that failed or was given up: what the driver has recorded is what runs.
        let ended = tokio::task::spawn_blocking(move || leftovers::end_recorded(&run_dir)).await;
        ended.map_err(|error| error.to_string())?.map_err(|error| chain(&error))
    });
    match tokio::time::timeout(ATTEMPT, attempt).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(panicked)) => Err(panicked.to_string()),
        Err(_) => Err(format!("it did not end within {} s", ATTEMPT.as_secs())),
    }
}

fn remove_run_dir(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a run directory could not be removed");
    }
}
