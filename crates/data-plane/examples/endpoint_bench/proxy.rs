//! The data plane with its token check, in front of microVMs that are all the same upstream.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hearth_api::{EgressDecisions, MicrovmId, NetworkConnectorArn, PortSpecification};
use hearth_auth::{Claims, TokenKey, TokenKeys, TokenKind};
use hearth_certificates::{CertificateAuthority, OwnCertificate};
use hearth_data_plane::{DataPlane, DataPlaneConfig, EndpointHosts, MicrovmLimits, Observation, Workers};
use hearth_node::{
    Destination, Endpoint, Ingress, Life, Node, Passing, Refusal, Request, Requests, Unreachable,
};
use hearth_records::{Actor, MicrovmRecord, NodeId};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::Error;

const REGION: &str = "us-east-1";
const DOMAIN: &str = "localhost";

#[derive(Debug)]
struct Upstreams {
    by_id: HashMap<MicrovmId, (Arc<str>, Requests)>,
    address: SocketAddr,
}

#[derive(Debug, Clone)]
struct Upstream {
    id: MicrovmId,
    address: SocketAddr,
    requests: Requests,
}

impl Upstreams {
    fn upstream(&self, id: &MicrovmId) -> Option<(Arc<str>, Upstream)> {
        let (label, requests) = self.by_id.get(id)?;
        let upstream = Upstream { id: id.clone(), address: self.address, requests: requests.clone() };
        Some((Arc::clone(label), upstream))
    }
}

#[async_trait]
impl Node for Upstreams {
    type Life = Upstream;

    fn id(&self) -> &NodeId {
        unreachable!("endpoints need no name")
    }

    fn seal_payload(&self, _: &MicrovmId, _: &str) -> io::Result<Vec<u8>> {
        unreachable!("endpoints launch nothing")
    }

    fn launch(self: Arc<Self>, _: MicrovmRecord, _: Option<Actor>) {}

    async fn egress_changed(&self, _: &NetworkConnectorArn) {}

    fn egress_decisions(&self, _: &MicrovmId) -> Option<EgressDecisions> {
        None
    }

    async fn request(self: Arc<Self>, _: &MicrovmId, _: Request, _: Option<Actor>) -> Result<(), Refusal> {
        Err(Refusal::NotFound)
    }

    fn endpoint(&self, id: &MicrovmId) -> Option<Endpoint<Upstream>> {
        let (label, upstream) = self.upstream(id)?;
        let ingress = Ingress { http: true, shell: false };
        Some(Endpoint { label, ingress, running: Some(upstream) })
    }

    fn account(&self, _: &MicrovmId) -> Option<Arc<str>> {
        None
    }

    async fn was_endpoint_of(&self, _: &str, _: &MicrovmId) -> bool {
        false
    }

    async fn ensure_running(&self, id: &MicrovmId) -> Result<Upstream, Unreachable> {
        self.upstream(id).map(|(_, upstream)| upstream).ok_or(Unreachable::NotFound)
    }
}

impl Life for Upstream {
    type Stream = TcpStream;

    fn id(&self) -> &MicrovmId {
        &self.id
    }

    fn generation(&self) -> u64 {
        1
    }

    fn vcpus(&self) -> u8 {
        1
    }

    async fn connect(&self, _: Destination) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn enter(&self) -> Option<Passing> {
        self.requests.enter()
    }

    fn traffic(&self, _: u64) {}

    fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }
}

/// Writes `hosts.json` into the directory, a list of `{"host": …, "token": …}`, and
/// serves until it is killed.
pub(crate) async fn serve(
    listen: SocketAddr,
    address: SocketAddr,
    directory: &Path,
    count: usize,
) -> Result<(), Error> {
    // As the server has it: what is not logged costs the same.
    tracing_subscriber::fmt().with_env_filter("info").with_writer(io::stderr).init();
    let hosts = EndpointHosts::new(REGION, DOMAIN);
    let keys = TokenKeys::new(TokenKey { kid: Uuid::new_v4(), secret: rand::random() }, Vec::new());
    let mut by_id = HashMap::new();
    let mut tokens = Vec::new();
    for _ in 0..count {
        let (label, id) =
            (Uuid::new_v4().to_string(), MicrovmId::from_stored(format!("microvm-{}", Uuid::new_v4())));
        let expires = std::time::SystemTime::now() + Duration::from_hours(1);
        let token = keys.issue(&Claims {
            microvm: id.clone(),
            ports: vec![PortSpecification::Port(8080)],
            expires_at_seconds: expires.duration_since(std::time::UNIX_EPOCH)?.as_secs() as i64,
            kind: TokenKind::Http,
            revocations: 0,
        })?;
        tokens.push(json!({ "host": format!("{label}.{}", hosts.suffix()), "token": token }));
        by_id.insert(id, (label.into(), Requests::default()));
    }
    std::fs::write(directory.join("hosts.json"), serde_json::to_vec(&tokens)?)?;
    let listener = TcpListener::bind(listen).await?;
    let certificate = OwnCertificate::issue(CertificateAuthority::open(directory)?, hosts.suffix())?.served();
    let (keys, upstreams) = (Arc::new(keys), Arc::new(Upstreams { by_id, address }));
    let observation = Arc::new(Observation::default());
    // As many as come: what is compared is the work, not the limits.
    let config = DataPlaneConfig {
        connections: 16384,
        app_connections: 16384,
        connections_per_microvm: None,
        connections_per_account: None,
        connections_per_source: None,
        handshakes_per_second_per_source: None,
        client_timeout: None,
        microvm_limits: MicrovmLimits::NONE,
        workers: Workers::one_per_cpu(),
    };
    let _plane = DataPlane::start(vec![listener], hosts, certificate, keys, upstreams, observation, config)?;
    println!("ready");
    std::future::pending().await
}
