//! A node whose microVMs are ports on loopback.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use async_trait::async_trait;
use futures::FutureExt as _;
use hearth_api::{EgressDecisions, MicrovmId, NetworkConnectorArn, PortSpecification};
use hearth_auth::{Claims, TokenKey, TokenKeys, TokenKind};
use hearth_certificates::{CertificateAuthority, OwnCertificate};
use hearth_data_plane::{
    AccessLog, DataPlane, DataPlaneConfig, EndpointHosts, MicrovmLimits, Observation, Workers,
};
use hearth_guest_protocol::codec::{encode, frame_length};
use hearth_guest_protocol::{Reply, Request, ShellSpec};
use hearth_node::{
    Destination, Endpoint, Ingress, Life, Node, Passing, Refusal, Request as NodeRequest, Requests,
    Unreachable,
};
use hearth_records::{Actor, MicrovmRecord, NodeId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use stream::Stream;

#[path = "fake_stream.rs"]
mod stream;

/// Label of the endpoint of the one microVM that there is.
pub(crate) const LABEL: &str = "0b7e3b0e-6a8a-4f0c-9b57-3a1f5f0e7d11";
/// Label of the other microVM, in the tests that have one.
pub(crate) const NEIGHBOUR: &str = "1c8f4c1f-7b9b-4a1d-8c68-4b2a6a1f8e22";
/// Label of the microVM that has ended, in the test that has one.
pub(crate) const ENDED: &str = "2d9a5d2a-8cac-4b2e-9d79-5c3b7b2a9a33";
/// What fits between a fake shell and the endpoint.
const SHELL_BUFFER_BYTES: usize = 64 << 10;
const SUFFIX: &str = "lambda-microvm.us-east-1.localhost";

/// No limits but one that no test reaches; threads as the server has them.
pub(crate) const CONFIG: DataPlaneConfig = DataPlaneConfig {
    connections: 4096,
    app_connections: 4096,
    connections_per_microvm: None,
    connections_per_account: None,
    connections_per_source: None,
    handshakes_per_second_per_source: None,
    client_timeout: None,
    microvm_limits: MicrovmLimits::NONE,
    workers: Workers::Threads(NonZeroUsize::new(2).unwrap()),
};

pub(crate) fn host(label: &str) -> String {
    format!("{label}.{SUFFIX}")
}

#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) id: MicrovmId,
    pub(crate) generation: u64,
    pub(crate) ports: Arc<Mutex<HashMap<u16, SocketAddr>>>,
    pub(crate) traffic: Arc<AtomicU64>,
    pub(crate) connects: Arc<AtomicUsize>,
    pub(crate) ended: CancellationToken,
    /// Those under way.
    pub(crate) requests: Requests,
    /// Whether its guest takes no connections at present.
    pub(crate) unreachable: Arc<AtomicBool>,
    /// Whether the host is out of descriptors.
    pub(crate) wanting: Arc<AtomicBool>,
    /// How many connections are dead when they are opened, from now on.
    pub(crate) dead_connections: Arc<AtomicUsize>,
    /// How many shells the agent does not start, nor say why, from now on.
    pub(crate) hanging_shells: Arc<AtomicUsize>,
    /// The agent's ends of shells, with what was asked for.
    pub(crate) shells: Arc<Mutex<Vec<(ShellSpec, DuplexStream)>>>,
}

impl Life for App {
    type Stream = Stream;

    fn id(&self) -> &MicrovmId {
        &self.id
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn vcpus(&self) -> u8 {
        2
    }

    async fn connect(&self, to: Destination) -> io::Result<Stream> {
        let Destination::App(port) = to else { return Ok(self.connect_agent().await) };
        self.connects.fetch_add(1, Ordering::SeqCst);
        if self.ended.is_cancelled() || self.unreachable.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if self.wanting.load(Ordering::SeqCst) {
            return Err(rustix::io::Errno::MFILE.into());
        }
        let address = self.ports.lock().unwrap().get(&port).copied();
        match address {
            Some(_) if one_less(&self.dead_connections) => Ok(Stream::Dead),
            Some(address) => Ok(Stream::Open(TcpStream::connect(address).await?)),
            None => Ok(Stream::Refused),
        }
    }

    fn enter(&self) -> Option<Passing> {
        self.requests.enter()
    }

    fn traffic(&self, bytes: u64) {
        self.traffic.fetch_add(bytes, Ordering::SeqCst);
    }

    fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.ended.clone().cancelled_owned()
    }
}

impl App {
    /// A connection to an agent that starts the shell that it is asked for.
    async fn connect_agent(&self) -> Stream {
        if one_less(&self.hanging_shells) {
            std::future::pending::<()>().await;
        }
        let (host, mut agent) = duplex(SHELL_BUFFER_BYTES);
        let shells = Arc::clone(&self.shells);
        tokio::spawn(async move {
            let mut length = [0; 4];
            agent.read_exact(&mut length).await.unwrap();
            let mut request = vec![0; frame_length(length).unwrap()];
            agent.read_exact(&mut request).await.unwrap();
            let Request::Shell { shell } = serde_json::from_slice(&request).unwrap() else {
                panic!("nothing but shells is asked for");
            };
            let mut shells = shells.lock().unwrap();
            // Before it is said to run: who hears that finds it here.
            agent.write_all(&encode(&Reply::Done).unwrap()).now_or_never().unwrap().unwrap();
            shells.push((shell, agent));
        });
        Stream::Agent(host)
    }
}

/// Takes one of what is left; whether there was one.
fn one_less(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

/// What the microVM does when it is asked to run: nothing yet, a life, or a refusal.
pub(crate) type State = Option<Result<App, Unreachable>>;

#[derive(Debug)]
pub(crate) struct FakeNode {
    pub(crate) state: watch::Sender<State>,
    pub(crate) asked: AtomicUsize,
    verified: AtomicUsize,
    /// The threads that asked for it, one for each request.
    pub(crate) asked_on: Mutex<Vec<ThreadId>>,
    /// The threads that woke it.
    pub(crate) woken_on: Mutex<Vec<ThreadId>>,
    /// What it runs as once it is asked to.
    pub(crate) next_life: Mutex<Option<App>>,
    pub(crate) ingress: Mutex<Ingress>,
    /// The threads that looked for what has ended.
    pub(crate) looked_up_on: Mutex<Vec<ThreadId>>,
    /// A second microVM, which is always running.
    neighbour: Mutex<Option<App>>,
    /// Labels of microVMs that have ended.
    pub(crate) ended: Mutex<HashMap<MicrovmId, String>>,
    id: MicrovmId,
}

#[async_trait]
impl Node for FakeNode {
    type Life = App;

    fn id(&self) -> &NodeId {
        unreachable!("endpoints need no name")
    }

    fn seal_payload(&self, _: &MicrovmId, _: &str) -> io::Result<Vec<u8>> {
        unreachable!("endpoints launch nothing")
    }

    fn launch(self: Arc<Self>, _: MicrovmRecord, _: Option<Actor>) {
        unreachable!("endpoints launch nothing")
    }

    async fn egress_changed(&self, _: &NetworkConnectorArn) {
        unreachable!("endpoints change nothing")
    }

    fn egress_decisions(&self, _: &MicrovmId) -> Option<EgressDecisions> {
        unreachable!("endpoints ask for none")
    }

    async fn request(
        self: Arc<Self>,
        _: &MicrovmId,
        _: NodeRequest,
        _: Option<Actor>,
    ) -> Result<(), Refusal> {
        unreachable!("endpoints wake, and ask for nothing else")
    }

    fn endpoint(&self, id: &MicrovmId) -> Option<Endpoint<App>> {
        let ingress = *self.ingress.lock().unwrap();
        if let Some(neighbour) = self.neighbour(id) {
            return Some(Endpoint { label: NEIGHBOUR.into(), ingress, running: Some(neighbour) });
        }
        if *id != self.id {
            return None;
        }
        self.asked_on.lock().unwrap().push(thread::current().id());
        self.verified.fetch_add(1, Ordering::SeqCst);
        let running = self.state.borrow().clone().and_then(Result::ok);
        Some(Endpoint { label: LABEL.into(), ingress, running })
    }

    fn account(&self, id: &MicrovmId) -> Option<Arc<str>> {
        Some(if *id == self.id { "first" } else { "second" }.into())
    }

    async fn was_endpoint_of(&self, label: &str, id: &MicrovmId) -> bool {
        self.looked_up_on.lock().unwrap().push(thread::current().id());
        self.ended.lock().unwrap().get(id).is_some_and(|ended| ended == label)
    }

    async fn ensure_running(&self, id: &MicrovmId) -> Result<App, Unreachable> {
        if *id != self.id {
            return Err(Unreachable::NotFound);
        }
        self.woken_on.lock().unwrap().push(thread::current().id());
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut state = self.state.subscribe();
        if let Some(next_life) = self.next_life.lock().unwrap().take() {
            self.state.send_replace(Some(Ok(next_life)));
        }
        let decided = state.wait_for(Option::is_some).await.unwrap().clone();
        decided.unwrap()
    }
}

impl FakeNode {
    fn neighbour(&self, id: &MicrovmId) -> Option<App> {
        self.neighbour.lock().unwrap().clone().filter(|neighbour| neighbour.id == *id)
    }

    /// Requests to the first microVM with a token that was.
    pub(crate) fn verified(&self) -> usize {
        self.verified.load(Ordering::SeqCst)
    }
}

/// A data plane with one running microVM.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) node: Arc<FakeNode>,
    pub(crate) app: App,
    pub(crate) plane: DataPlane,
    pub(crate) ca_pem: std::path::PathBuf,
    pub(crate) access_log: std::path::PathBuf,
    pub(crate) observation: Arc<Observation>,
    _data: tempfile::TempDir,
    pub(crate) keys: Arc<TokenKeys>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::limited(MicrovmLimits::NONE).await
    }

    /// One whose connections are served by the test's own thread: with the test's clock, which may
    /// be stopped, and one after the other.
    pub(crate) async fn on_this_thread() -> Self {
        Self::configured(DataPlaneConfig { workers: Workers::Caller, ..CONFIG }).await
    }

    /// A microVM with two vCPUs may take no more than this of each.
    pub(crate) async fn limited(microvm_limits: MicrovmLimits) -> Self {
        Self::configured(DataPlaneConfig { microvm_limits, ..CONFIG }).await
    }

    pub(crate) async fn configured(config: DataPlaneConfig) -> Self {
        let data = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::open(data.path()).unwrap();
        let ca_pem = authority.pem_path();
        let app = App {
            id: MicrovmId::new(),
            generation: 1,
            ports: Arc::default(),
            traffic: Arc::default(),
            connects: Arc::default(),
            ended: CancellationToken::new(),
            requests: Requests::default(),
            unreachable: Arc::default(),
            wanting: Arc::default(),
            dead_connections: Arc::default(),
            hanging_shells: Arc::default(),
            shells: Arc::default(),
        };
        let node = Arc::new(FakeNode {
            state: watch::Sender::new(Some(Ok(app.clone()))),
            asked: AtomicUsize::new(0),
            verified: AtomicUsize::new(0),
            asked_on: Mutex::default(),
            woken_on: Mutex::default(),
            next_life: Mutex::default(),
            ingress: Mutex::new(Ingress { http: true, shell: true }),
            looked_up_on: Mutex::default(),
            neighbour: Mutex::default(),
            ended: Mutex::default(),
            id: app.id.clone(),
        });
        let keys = Arc::new(TokenKeys::new(key(1), vec![]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hosts = EndpointHosts::new("us-east-1", "localhost");
        let certificate = OwnCertificate::issue(authority, hosts.suffix()).unwrap().served();
        let access_log = data.path().join("access.log");
        let observation = Arc::new(Observation {
            access_log: Some(Arc::new(AccessLog::open(&access_log).unwrap())),
            ..Observation::default()
        });
        let plane = DataPlane::start(
            vec![listener],
            hosts,
            certificate,
            Arc::clone(&keys),
            Arc::clone(&node),
            Arc::clone(&observation),
            config,
        )
        .unwrap();
        Self { address, node, app, plane, ca_pem, access_log, observation, _data: data, keys }
    }

    /// A token for every port of the microVM.
    pub(crate) fn token(&self) -> String {
        self.keys.issue(&self.claims()).unwrap()
    }

    pub(crate) fn claims(&self) -> Claims {
        Claims {
            microvm: self.app.id.clone(),
            ports: vec![PortSpecification::AllPorts {}],
            expires_at_seconds: jiff::Timestamp::now().as_second() + 600,
            kind: TokenKind::Http,
            revocations: 0,
        }
    }

    pub(crate) fn issue(&self, claims: &Claims) -> String {
        self.keys.issue(claims).unwrap()
    }

    /// A second microVM with the endpoint [`NEIGHBOUR`]: a token for it, and what its
    /// port 8080 listens on.
    pub(crate) async fn neighbour(&self) -> (String, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ports = HashMap::from([(8080, listener.local_addr().unwrap())]);
        let app = App { id: MicrovmId::new(), ports: Arc::new(Mutex::new(ports)), ..self.app.clone() };
        let claims = Claims { microvm: app.id.clone(), ..self.claims() };
        *self.node.neighbour.lock().unwrap() = Some(app);
        (self.issue(&claims), listener)
    }

    /// Makes a listener the app's port.
    pub(crate) async fn listen(&self, port: u16) -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.app.ports.lock().unwrap().insert(port, listener.local_addr().unwrap());
        listener
    }

    pub(crate) fn connects(&self) -> usize {
        self.app.connects.load(Ordering::SeqCst)
    }
}

pub(crate) fn key(byte: u8) -> TokenKey {
    TokenKey { kid: Uuid::from_bytes([byte; 16]), secret: [byte; 32] }
}
