//! What a microVM holds while it lives: its guest, and the tasks that watch it. Performs the steps.

use std::sync::Arc;
use std::time::Duration;

use hearth_guest::Guest;
use hearth_guest::guest::{ask, describe_exit};
use hearth_guest_protocol::{Reply, Request, chain};
use hearth_records::{Hook, ImageVersionRecord, MicrovmRecord, Reason, Size};
use hearth_vmm::{GuestStream, Vm};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::at_rest::{forget_way_back, own_snapshot};
use crate::hooks::{Hooks, HooksPort, run_body};
use crate::machine::{Event, Failure, Step};
use crate::output::OutputLog;
use crate::published::RunningMicrovm;
use crate::spending::Work;
use crate::steps::{SharedHost, Started};

/// How long a step that failed or ends a life waits for the app's last output, which says why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The half of a supervisor that acts.
#[derive(Debug)]
pub(crate) struct Body {
    host: SharedHost,
    version: ImageVersionRecord,
    hooks: Hooks,
    output: Arc<OutputLog>,
    guest: Option<Guest>,
    /// The guest as the endpoint sees it. Nobody gets it before the record says RUNNING.
    pub(crate) running: Option<RunningMicrovm>,
    watchers: Vec<AbortHandle>,
    compaction: Option<JoinHandle<()>>,
    /// There may be a copy of the disk from before the resume.
    may_go_back: bool,
    /// Gives that up.
    forgetting: Option<JoinHandle<()>>,
    lives: u64,
    /// Number of the microVM's own snapshot, from which a life goes on; 0 without one. Read when it
    /// may have changed: no wake waits for that.
    pub(crate) snapshot: u32,
    exits_tx: mpsc::Sender<Event>,
    /// Ends of this life that nobody asked for.
    pub(crate) exits_rx: mpsc::Receiver<Event>,
}

impl Body {
    /// `guest` was taken over from an earlier server; the first step goes on with it.
    pub(crate) fn new(
        host: SharedHost,
        record: &MicrovmRecord,
        version: ImageVersionRecord,
        output: Arc<OutputLog>,
        guest: Option<Guest>,
    ) -> Self {
        let (exits_tx, exits_rx) = mpsc::channel(4);
        let snapshot = own_snapshot(record, &host.snapshots.microvm(&record.id));
        Self {
            host,
            hooks: Hooks::of(&version.configuration),
            version,
            output,
            guest,
            running: None,
            watchers: Vec::new(),
            compaction: None,
            may_go_back: true,
            forgetting: None,
            lives: 0,
            snapshot,
            exits_tx,
            exits_rx,
        }
    }

    /// Performs a step to its end, or until it is `cut` short: then it fails and everything it took
    /// is given back or held here.
    pub(crate) async fn perform(&mut self, work: &Work<'_>, step: Step) -> Result<(), Failure> {
        let host = self.host.clone();
        let Work { record, cut, .. } = work;
        match step {
            Step::Launch => {
                let Started { guest, stream } = match self.guest.take() {
                    Some(guest) => host.finish_start(work, guest).await?,
                    None => host.launch(work, &self.version).await?,
                };
                self.begin_life(record, guest, Some(stream));
            }
            Step::Resume => {
                self.rest().await;
                let resumed = match self.guest.take() {
                    Some(guest) => host.finish_start(work, guest).await,
                    None => host.resume(work, &self.version).await,
                };
                if resumed.is_err() {
                    // It may have been renewed.
                    self.snapshot = own_snapshot(record, &host.snapshots.microvm(&record.id));
                }
                let Started { guest, stream } = resumed?;
                self.may_go_back = true;
                self.begin_life(record, guest, Some(stream));
            }
            Step::RunHook => self.run_hook(work).await?,
            Step::ResumeHook => self.hook(Hook::Resume, String::new(), cut).await?,
            Step::SuspendHook => {
                self.drain(cut).await;
                self.hook(Hook::Suspend, String::new(), cut).await?;
            }
            Step::Suspend => self.suspend(work).await?,
            Step::TerminateHook(_) => self.terminate_hook(work).await,
            Step::Terminate(_) => {
                self.end_life();
                host.release(record, self.guest.take()).await;
            }
        }
        Ok(())
    }

    /// Waits until the files are at rest. A merge that failed was logged and leaves the
    /// layers as they were.
    pub(crate) async fn rest(&mut self) {
        if let Some(compaction) = self.compaction.take() {
            let _ = compaction.await;
        }
        if let Some(forgetting) = self.forgetting.take() {
            let _ = forgetting.await;
        }
    }

    /// The record says that it runs.
    pub(crate) fn runs(&mut self, record: &MicrovmRecord) {
        if std::mem::take(&mut self.may_go_back) {
            let (host, own) = (self.host.clone(), self.host.snapshots.microvm(&record.id));
            self.forgetting = Some(tokio::spawn(async move { forget_way_back(&host.records, &own).await }));
        }
    }

    async fn run_hook(&mut self, work: &Work<'_>) -> Result<(), Failure> {
        let id = &work.record.id;
        let payload = match self.host.records.microvms.payload(id).await {
            Ok(None) => Some(String::new()),
            Ok(Some(sealed)) => self.host.sealing.open(id, &sealed),
            Err(error) => {
                tracing::error!(microvm = %id, %error, "the payload of the run hook could not be read");
                None
            }
        };
        let payload = payload.ok_or(Failure::Fatal(Reason::PayloadLost))?;
        self.hook(Hook::Run, run_body(id, &payload), work.cut).await
    }

    async fn terminate_hook(&mut self, work: &Work<'_>) {
        if let Err(Failure::Fatal(reason) | Failure::Undone(reason)) =
            self.hook(Hook::Terminate, String::new(), work.cut).await
        {
            tracing::warn!(microvm = %work.record.id, %reason, "the terminate hook failed; the MicroVM ends all the same");
            return;
        }
        self.hear_last_words().await;
    }

    async fn hook(&mut self, hook: Hook, body: String, cut: &CancellationToken) -> Result<(), Failure> {
        let Some(guest) = &self.guest else {
            return Err(Failure::Fatal(Reason::NoGuest));
        };
        let mut warm = self.running.as_ref().and_then(RunningMicrovm::take_warm);
        let called = tokio::select! {
            biased;
            called = self.hooks.call(hook, body, guest, &mut warm) => called,
            () = cut.cancelled() => return Err(Failure::Fatal(Reason::HookCutShort)),
        };
        match &called {
            Ok(()) => {
                if let Some(running) = &self.running {
                    running.warmed(warm);
                }
            }
            Err(_) => self.hear_last_words().await,
        }
        called
    }

    /// Stores what the app has printed so far, because its guest is about to go.
    async fn hear_last_words(&mut self) {
        self.end_life();
        if let Some(guest) = &self.guest {
            self.output.drain(guest.vm(), LAST_WORDS).await;
        }
    }

    /// Waits for requests under way; those that come meanwhile are held by the endpoint
    /// until the next life.
    async fn drain(&self, cut: &CancellationToken) {
        if let Some(running) = &self.running {
            cut.run_until_cancelled(running.drain()).await;
        }
    }

    async fn suspend(&mut self, work: &Work<'_>) -> Result<(), Failure> {
        let Work { record, cut, .. } = work;
        self.drain(cut).await;
        self.end_life();
        let Some(guest) = self.guest.take() else {
            return Err(Failure::Fatal(Reason::NoGuest));
        };
        // What is not stored yet is read from the guest again.
        let _ = cut.run_until_cancelled(self.output.flush()).await;
        if let Some(forgetting) = self.forgetting.take() {
            // A way back that is left goes with its snapshot.
            let _ = forgetting.await;
        }
        let suspended = self.host.suspend(work, guest).await;
        // Also one that failed may have left a whole one.
        self.snapshot = own_snapshot(record, &self.host.snapshots.microvm(&record.id));
        match suspended {
            Ok(()) => {
                self.compaction = Some(self.host.compact(record));
                Ok(())
            }
            Err((guest, failure)) => {
                self.begin_life(record, guest, None);
                Err(failure)
            }
        }
    }

    fn begin_life(&mut self, record: &MicrovmRecord, guest: Guest, warm: Option<Box<dyn GuestStream>>) {
        self.lives += 1;
        // An exit of a former life, reported late, must not end this one.
        (self.exits_tx, self.exits_rx) = mpsc::channel(4);
        let vm = guest.vm().clone();
        let watchers = [
            tokio::spawn(watch_vmm(vm.clone(), self.exits_tx.clone())),
            tokio::spawn(settled(watch_container(vm.clone(), self.output.clone(), self.exits_tx.clone()))),
            tokio::spawn(settled(self.output.clone().follow(vm.clone()))),
        ];
        self.watchers = watchers.iter().map(JoinHandle::abort_handle).collect();
        // Those of the build are called on it too.
        let port = self.version.configuration.hooks.as_ref().and_then(|hooks| hooks.port);
        let closed_port = port.filter(|_| self.host.hooks_port == HooksPort::Closed);
        let running = RunningMicrovm::new(record.id.clone(), self.lives, vm, warm);
        let size = Size::of(&self.version.configuration);
        let running = running.with_vcpus(size.map_or(1, |size| size.vcpu_count));
        self.running = Some(running.with_closed_port(closed_port));
        self.guest = Some(guest);
    }

    /// Begins a life with the guest that was taken over.
    pub(crate) fn take_over(&mut self, record: &MicrovmRecord) {
        if let Some(guest) = self.guest.take() {
            self.begin_life(record, guest, None);
        }
    }

    /// Leaves a guest that still runs to a later server.
    pub(crate) async fn leave(&mut self) {
        self.end_life();
        let Some(guest) = self.guest.take() else { return };
        self.output.flush().await;
        guest.leave();
    }

    /// Gives up the guest of a microVM that has another owner, which may have it already.
    pub(crate) async fn let_go(&mut self, leave: bool) {
        self.end_life();
        match self.guest.take() {
            Some(guest) if leave => guest.leave(),
            Some(guest) => guest.destroy().await,
            None => {}
        }
    }

    fn end_life(&mut self) {
        if let Some(running) = self.running.take() {
            running.end();
        }
        for watcher in self.watchers.drain(..) {
            watcher.abort();
        }
    }
}

impl Drop for Body {
    /// Whatever became of its supervisor: nobody goes on talking to the guest, which goes with it.
    fn drop(&mut self) {
        self.end_life();
    }
}

/// Begins once the guest has had time for its first request: after a restore its CPUs are cold, and
/// what else it is asked then is paid by whoever waits for that request.
async fn settled(watch: impl Future<Output = ()>) {
    tokio::time::sleep(Duration::from_millis(700)).await;
    watch.await;
}

async fn watch_vmm(vm: Arc<dyn Vm>, exits_tx: mpsc::Sender<Event>) {
    let how = describe_exit(&vm.wait().await);
    // Nobody listens any more when this life has ended already.
    let _ = exits_tx.send(Event::VmmExited(how)).await;
}

async fn watch_container(vm: Arc<dyn Vm>, output: Arc<OutputLog>, exits_tx: mpsc::Sender<Event>) {
    const DAY: Duration = Duration::from_hours(24);
    loop {
        match ask(&vm, &Request::WaitExit, DAY).await {
            Ok(Reply::Exited { code }) => {
                output.ended(LAST_WORDS).await;
                // Nobody listens any more when this life has ended already.
                let _ = exits_tx.send(Event::ContainerExited(code)).await;
                return;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(error = %chain(&error), "the watch of the app broke; trying again"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
