//! What the planes ask of a node: to drive microVMs, and to reach them. The node of this process
//! is the registry of `lifecycle`; tests bring their own.
//!
//! Invariants: nothing here knows how a microVM is driven; a request to an endpoint makes no
//! virtual call, as [`Life`] is a type parameter of the data plane, and its bytes are copied
//! nowhere in between.
//!
//! Reading order: [`Node`], [`Life`], `ingress` (what an endpoint takes), `passing` (requests that
//! a suspend waits for).

mod ingress;
mod passing;

use std::fmt;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use hearth_api::{EgressDecisions, MicrovmId, MicrovmState, NetworkConnectorArn};
use hearth_records::{Actor, MicrovmRecord, NodeId};
use tokio::io::{AsyncRead, AsyncWrite};

pub use ingress::Ingress;
pub use passing::{Passing, Requests};

/// Drives microVMs and reaches them. What the control plane asks can be asked of a `dyn Node`; what
/// each request to an endpoint asks needs a type.
#[async_trait]
pub trait Node: Send + Sync + fmt::Debug + 'static {
    /// A running microVM.
    type Life: Life
    where
        Self: Sized;

    /// Its name in the records: who owns the microVMs that it drives.
    fn id(&self) -> &NodeId;

    /// The payload of a run hook as it is to be recorded with its microVM.
    ///
    /// # Errors
    /// When there is no random number.
    fn seal_payload(&self, id: &MicrovmId, payload: &str) -> io::Result<Vec<u8>>;

    /// Launches a microVM that has been recorded as PENDING; returns at once.
    fn launch(self: Arc<Self>, record: MicrovmRecord, actor: Option<Actor>);

    /// Asks for a change of state. Done when the request is accepted, or when the microVM is in
    /// that state already.
    async fn request(
        self: Arc<Self>,
        id: &MicrovmId,
        request: Request,
        actor: Option<Actor>,
    ) -> Result<(), Refusal>;

    /// The endpoint of a microVM, if that has not ended. Called for every request: never waits.
    fn endpoint(&self, id: &MicrovmId) -> Option<Endpoint<Self::Life>>
    where
        Self: Sized;

    /// The account of a microVM that has not ended. Called once for each connection: never waits.
    fn account(&self, id: &MicrovmId) -> Option<Arc<str>>;

    /// Holds the microVMs of an egress connector to it as it is now. Done when they are.
    async fn egress_changed(&self, connector: &NetworkConnectorArn);

    /// What has been decided by the egress policy of a microVM that has not ended; `None` for one
    /// without a policy.
    fn egress_decisions(&self, id: &MicrovmId) -> Option<EgressDecisions>;

    /// Whether the host name of the endpoint of this microVM, which has ended, begins with `label`.
    /// Only the microVM is looked up: how long it takes tells nothing of other endpoints.
    async fn was_endpoint_of(&self, label: &str, id: &MicrovmId) -> bool;

    /// Waits until the microVM is RUNNING, and wakes it if its idle policy says so.
    async fn ensure_running(&self, id: &MicrovmId) -> Result<Self::Life, Unreachable>
    where
        Self: Sized;
}

/// A microVM in one of its lives: from a launch or resume to the next suspend or termination.
/// Clones share it.
pub trait Life: Clone + Send + Sync + Unpin + 'static {
    /// A connection into the guest.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Whose life this is.
    fn id(&self) -> &MicrovmId;

    /// Number of this life, from 1; connections of another one are dead.
    fn generation(&self) -> u64;

    /// vCPUs of its size at peak, by which its limits are; the host may have given it fewer.
    fn vcpus(&self) -> u8;

    /// Connects into the guest. That nobody listens on a port of the app may show only on the
    /// first read, as [`io::ErrorKind::ConnectionRefused`]; an error here means that the microVM
    /// could not be reached, or, with [`io::ErrorKind::PermissionDenied`], that no request may go
    /// there.
    fn connect(&self, to: Destination) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Begins a request, for which a suspend waits; `None` when this life is about to end.
    fn enter(&self) -> Option<Passing>;

    /// Tells that bytes went to or came from the guest.
    fn traffic(&self, bytes: u64);

    /// Resolves when this life ends.
    fn ended(&self) -> impl Future<Output = ()> + Send + 'static;
}

/// Where a connection into a guest leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// A TCP port of the app.
    App(u16),
    /// The agent, which starts shells.
    Agent,
}

/// A change of state that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// To SUSPENDED.
    Suspend,
    /// To RUNNING.
    Resume,
    /// To TERMINATED.
    Terminate,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such microVM.
    NotFound,
    /// The microVM has ended or is ending.
    Terminated,
    /// The microVM is in a state that does not allow this now.
    Busy(MicrovmState),
    /// The records cannot be read or written, or nobody drives the microVM: the node has logged
    /// which. Nothing was done.
    Internal,
}

/// The endpoint of a microVM that has not ended.
#[derive(Debug, Clone)]
pub struct Endpoint<L> {
    /// What its host name begins with.
    pub label: Arc<str>,
    /// What it takes.
    pub ingress: Ingress,
    /// The microVM, if it is [`MicrovmState::Running`].
    pub running: Option<L>,
}

/// Why a microVM cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// There is no such microVM.
    NotFound,
    /// It is suspended, and traffic does not wake it.
    Suspended,
    /// It has ended, or is ending.
    Terminated,
    /// It could not be resumed, or not in time.
    Failed,
}
