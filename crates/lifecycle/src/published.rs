//! What a supervisor publishes: the state, and while it runs, the handle to talk to the guest.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hearth_api::{MicrovmId, MicrovmState};
use hearth_guest::guest::AppStream;
use hearth_node::Requests;
use hearth_vmm::{GuestStream, Vm};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long an app may take to be reached past the agent, as long as nobody knows whether it can
/// be, and afterwards. This is what a guest costs that has no such way, or has it no more; a busy
/// one takes longer, and is reached through the agent from then on.
const FIRST_TRY: Duration = Duration::from_millis(450);
const LATER_TRIES: Duration = Duration::from_secs(1);

/// The published side of a supervisor.
#[derive(Debug, Clone)]
pub struct Published {
    /// Public state.
    pub state: MicrovmState,
    /// The guest, while [`MicrovmState::Running`].
    pub running: Option<RunningMicrovm>,
    /// Resumes that failed since its supervisor began.
    pub failed_resumes: u64,
}

/// A microVM that answers; clones share it. It stays valid until
/// [`Life::ended`](hearth_node::Life::ended).
#[derive(Clone)]
pub struct RunningMicrovm {
    pub(crate) id: MicrovmId,
    pub(crate) life: u64,
    vm: Arc<dyn Vm>,
    /// The connection that the life began with, for whoever connects first.
    warm: Arc<Mutex<Option<Box<dyn GuestStream>>>>,
    past_agent: Arc<PastAgent>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) requests: Requests,
    pub(crate) ended: CancellationToken,
    /// A port that no request may go to.
    closed_port: Option<u16>,
    pub(crate) vcpus: u8,
}

/// Whether apps can be reached past the agent: 0 until that is known. A guest may be older than
/// that way, or its app may have closed it.
#[derive(Debug, Default)]
struct PastAgent(AtomicU8);

impl PastAgent {
    const OPEN: u8 = 1;
    const CLOSED: u8 = 2;

    /// How long to try, if at all.
    fn limit(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            Self::CLOSED => None,
            Self::OPEN => Some(LATER_TRIES),
            _ => Some(FIRST_TRY),
        }
    }

    /// What an attempt has shown. A way that was closed once is not tried again.
    fn learn(&self, state: u8) {
        self.0.fetch_max(state, Ordering::Relaxed);
    }
}

/// When the last byte went through the endpoint.
#[derive(Debug)]
pub(crate) struct Traffic {
    since: Instant,
    last_millis: AtomicU64,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), last_millis: AtomicU64::new(0) }
    }

    pub(crate) fn touch(&self) {
        self.last_millis.store(self.since.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// The moment of the last byte (of the start of this life if there was none).
    pub(crate) fn last(&self) -> Instant {
        self.since + std::time::Duration::from_millis(self.last_millis.load(Ordering::Relaxed))
    }
}

impl std::fmt::Debug for RunningMicrovm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningMicrovm")
            .field("id", &self.id)
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

impl RunningMicrovm {
    pub(crate) fn new(id: MicrovmId, life: u64, vm: Arc<dyn Vm>, warm: Option<Box<dyn GuestStream>>) -> Self {
        Self {
            id,
            life,
            vm,
            warm: Arc::new(Mutex::new(warm)),
            past_agent: Arc::default(),
            traffic: Arc::new(Traffic::new()),
            requests: Requests::default(),
            ended: CancellationToken::new(),
            closed_port: None,
            vcpus: 1,
        }
    }

    pub(crate) fn with_closed_port(self, closed_port: Option<u16>) -> Self {
        Self { closed_port, ..self }
    }

    pub(crate) fn with_vcpus(self, vcpus: u8) -> Self {
        Self { vcpus, ..self }
    }

    /// Opens a connection to a TCP port of the app; that nothing listens there shows on the first
    /// read, as [`io::ErrorKind::ConnectionRefused`]. A port that is closed to requests is
    /// [`io::ErrorKind::PermissionDenied`].
    ///
    /// The guest's kernel leads it to the app; what it does not take goes through the agent, which
    /// knows more ways (an app may listen on `::1` alone).
    pub(crate) async fn connect_app(&self, port: u16) -> io::Result<AppStream> {
        if self.closed_port == Some(port) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        match self.connect_past_agent(port).await {
            Some(stream) => Ok(AppStream::connected(stream)),
            None => Ok(AppStream::new(self.connect_agent().await?, port)),
        }
    }

    async fn connect_past_agent(&self, port: u16) -> Option<Box<dyn GuestStream>> {
        let limit = self.past_agent.limit()?;
        match self.vm.connect_app(port, limit).await {
            Ok(stream) => {
                self.past_agent.learn(PastAgent::OPEN);
                Some(stream)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => None,
            Err(error) => {
                tracing::debug!(microvm = %self.id, %error, "the app was not reached past the agent");
                self.past_agent.learn(PastAgent::CLOSED);
                None
            }
        }
    }

    pub(crate) async fn connect_agent(&self) -> io::Result<Box<dyn GuestStream>> {
        match self.take_warm() {
            Some(stream) => Ok(stream),
            None => self.vm.connect_guest().await,
        }
    }

    /// Lets no more requests begin, and waits for those under way, though not for ever.
    pub(crate) async fn drain(&self) {
        self.requests.drain(|| self.last_traffic()).await;
    }

    /// Takes the connection that the life began with.
    pub(crate) fn take_warm(&self) -> Option<Box<dyn GuestStream>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Gives it back, ready for the next request.
    pub(crate) fn warmed(&self, stream: Option<Box<dyn GuestStream>>) {
        *self.warm.lock().unwrap_or_else(PoisonError::into_inner) = stream;
    }

    /// Idle time counts from now at the earliest: hooks are no traffic, but the app
    /// was not idle either.
    pub(crate) fn begin_idle_time(&self) {
        self.traffic.touch();
    }

    pub(crate) fn last_traffic(&self) -> Instant {
        self.traffic.last()
    }

    pub(crate) fn end(&self) {
        self.ended.cancel();
        self.take_warm();
    }
}
