//! What the endpoints need of microVMs. The server's is [`Registry`]; tests bring their own.

use std::io;
use std::sync::Arc;

use hearth_api::MicrovmId;
use hearth_guest_protocol::ShellSpec;
use hearth_guest_protocol::client::{ClientError, Shell};
use hearth_lifecycle::{AppStream, Endpoint, Passing, Registry, RunningMicrovm, ShellStream, Unreachable};
use tokio::io::{AsyncRead, AsyncWrite};

/// Finds microVMs and wakes them.
pub trait Backend: Send + Sync + 'static {
    /// A running microVM.
    type App: RunningApp;

    /// The endpoint of a microVM, if it has not ended. Called for every request: never waits.
    fn endpoint(&self, id: &MicrovmId) -> Option<Endpoint<Self::App>>;

    /// The account of a microVM, if that has not ended. Called once for each connection.
    fn account(&self, id: &MicrovmId) -> Option<Arc<str>>;

    /// Whether this label began the host name of the endpoint of this microVM, which has ended.
    fn was_endpoint_of(&self, label: &str, id: &MicrovmId) -> impl Future<Output = bool> + Send;

    /// Waits until the microVM is running; wakes it if its idle policy says so.
    fn ensure_running(&self, id: &MicrovmId) -> impl Future<Output = Result<Self::App, Unreachable>> + Send;
}

/// A microVM in one of its lives: from a launch or resume to the next suspend or termination.
pub trait RunningApp: Clone + Send + Sync + Unpin + 'static {
    /// A connection to the app.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// What a shell's bytes pass through.
    type Shell: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Whose life this is.
    fn id(&self) -> &MicrovmId;

    /// Number of this life; connections of another one are dead.
    fn generation(&self) -> u64;

    /// vCPUs of its size at peak, by which its limits are.
    fn vcpus(&self) -> u8;

    /// Connects to a TCP port of the app. That nobody listens may show only on the first read, as
    /// [`io::ErrorKind::ConnectionRefused`]; an error here means that the microVM could not be
    /// reached, or, with [`io::ErrorKind::PermissionDenied`], that no request may go to this port.
    fn connect(&self, port: u16) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Starts a shell in the app's container.
    fn open_shell(
        &self,
        spec: &ShellSpec,
    ) -> impl Future<Output = Result<Shell<Self::Shell>, ClientError>> + Send;

    /// Begins a request, for which a suspend waits; `None` when this life is about to end.
    fn enter(&self) -> Option<Passing>;

    /// Tells that bytes went to or came from the app.
    fn traffic(&self, bytes: u64);

    /// Resolves when this life ends.
    fn ended(&self) -> impl Future<Output = ()> + Send + 'static;
}

impl Backend for Registry {
    type App = RunningMicrovm;

    fn endpoint(&self, id: &MicrovmId) -> Option<Endpoint> {
        self.endpoint(id)
    }

    fn account(&self, id: &MicrovmId) -> Option<Arc<str>> {
        self.account(id)
    }

    async fn was_endpoint_of(&self, label: &str, id: &MicrovmId) -> bool {
        self.was_endpoint_of(label, id).await
    }

    async fn ensure_running(&self, id: &MicrovmId) -> Result<RunningMicrovm, Unreachable> {
        self.ensure_running(id).await
    }
}

impl RunningApp for RunningMicrovm {
    type Stream = AppStream;
    type Shell = ShellStream;

    fn id(&self) -> &MicrovmId {
        self.id()
    }

    fn generation(&self) -> u64 {
        self.generation()
    }

    fn vcpus(&self) -> u8 {
        self.vcpus()
    }

    async fn connect(&self, port: u16) -> io::Result<Self::Stream> {
        self.connect(port).await
    }

    async fn open_shell(&self, spec: &ShellSpec) -> Result<Shell<ShellStream>, ClientError> {
        self.open_shell(spec).await
    }

    fn enter(&self) -> Option<Passing> {
        self.enter()
    }

    fn traffic(&self, bytes: u64) {
        self.traffic(bytes);
    }

    fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.ended()
    }
}
