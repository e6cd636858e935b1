//! The listeners: accept, hand over to a worker, shut down.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hearth_auth::{OpenedTokens, TokenKeys};
use hearth_node::Node;
use rustls::server::ResolvesServerCert;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;

use crate::app::AppConnections;
use crate::call::Observation;
use crate::connection::{self, Accepted};
use crate::handshakes::Handshakes;
use crate::limits::{MicrovmLimits, Usages};
use crate::liveness;
use crate::places::{Limits, Places};
use crate::route::EndpointHosts;
use crate::shared::Shared;
use crate::sources::Sources;
use crate::stop::Stop;
use crate::tls;
use crate::wake::Waiting;
use crate::workers::{Worker, WorkerThreads, Workers};

/// Pause after a failed accept, which mostly means that descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the endpoints cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The TLS library refused the configuration.
    #[error("TLS could not be set up")]
    Tls(#[from] rustls::Error),
    /// The kernel has no more threads or descriptors.
    #[error("the endpoints' threads could not be started")]
    Workers(#[source] io::Error),
}

/// How much is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataPlaneConfig {
    /// Client connections at a time. When there are more, those are cut that have shown no good
    /// token; if all have, an idle one of the account with the most.
    pub connections: usize,
    /// Connections to apps at a time; one microVM may have half of them. More wait for a moment,
    /// and are refused then.
    pub app_connections: usize,
    /// Of those that have shown a good token for one microVM. More are refused, and closed.
    pub connections_per_microvm: Option<u32>,
    /// Proven connections to all microVMs of one account, at most.
    pub connections_per_account: Option<u32>,
    /// Of one source: an IPv4 address, or a /64 of IPv6. More are closed at once.
    pub connections_per_source: Option<u32>,
    /// TLS handshakes of one source; more wait for up to five seconds, and are closed beyond that.
    pub handshakes_per_second_per_source: Option<u32>,
    /// How long a client may acknowledge nothing, or leave no room for what is to be sent, until
    /// its connection is cut.
    pub client_timeout: Option<Duration>,
    /// What a microVM may take.
    pub microvm_limits: MicrovmLimits,
    /// Where connections are served.
    pub workers: Workers,
}

/// The running endpoints. Dropping it does not stop them; [`DataPlane::shutdown`] does.
#[derive(Debug)]
pub struct DataPlane {
    stop: Stop,
    threads: WorkerThreads,
}

impl DataPlane {
    /// Serves the listeners with the certificate that `certificate` has at the time of each
    /// handshake. Must be called on the runtime on which microVMs are waited for.
    pub fn start<N: Node>(
        listeners: Vec<TcpListener>,
        hosts: EndpointHosts,
        certificate: Arc<dyn ResolvesServerCert>,
        keys: Arc<TokenKeys>,
        node: Arc<N>,
        observation: Arc<Observation>,
        config: DataPlaneConfig,
    ) -> Result<Self, StartError> {
        let tls = TlsAcceptor::from(Arc::new(tls::server_config(certificate)?));
        let stop = Stop::default();
        let usages = Arc::new(Usages::new(config.microvm_limits, config.app_connections));
        let server = Handle::current();
        let waiting = Arc::new(Waiting::new(Arc::clone(&node), server.clone()));
        let (workers, threads) = config.workers.start(&server).map_err(StartError::Workers)?;
        let apps = AppConnections::new(Arc::clone(&usages), workers.len())?;
        let opened = OpenedTokens::default();
        let of_all = Shared {
            node,
            hosts,
            keys,
            opened,
            apps,
            usages,
            waiting,
            observation,
            server,
            stop: stop.clone(),
        };
        let with_shared = |(number, worker): (usize, Worker)| {
            let shared = Arc::new(of_all.of_worker(number));
            let (apps, soon) = (shared.apps.clone(), stop.soon.clone());
            let expire = async move { soon.run_until_cancelled(apps.expire()).await };
            stop.tasks.spawn_on(expire, &worker.runtime);
            (worker, shared)
        };
        let workers: Arc<[_]> = workers.into_iter().enumerate().map(with_shared).collect();
        let places = Places::new(
            Limits {
                all: config.connections,
                microvm: config.connections_per_microvm,
                account: config.connections_per_account,
            },
            stop.soon.clone(),
        );
        let sources = Sources::new(config.connections_per_source);
        let handshakes = Handshakes::new(config.handshakes_per_second_per_source);
        for listener in listeners {
            if let Some(timeout) = config.client_timeout
                && let Err(error) = liveness::watch_clients(&listener, timeout)
            {
                tracing::warn!(%error, "clients of an endpoint that are gone will not be noticed");
            }
            stop.tasks.spawn(accept(
                listener,
                tls.clone(),
                Arc::clone(&workers),
                stop.clone(),
                places.clone(),
                sources.clone(),
                handshakes.clone(),
            ));
        }
        Ok(Self { stop, threads })
    }

    /// Stops accepting, lets requests under way finish for at most `grace`, then cuts what is left.
    pub async fn shutdown(self, grace: Duration) {
        self.stop.soon.cancel();
        self.stop.tasks.close();
        if tokio::time::timeout(grace, self.stop.tasks.wait()).await.is_err() {
            self.stop.now.cancel();
            self.stop.tasks.wait().await;
        }
        self.threads.end().await;
    }
}

async fn accept<N: Node>(
    listener: TcpListener,
    tls: TlsAcceptor,
    workers: Arc<[(Worker, Arc<Shared<N>>)]>,
    stop: Stop,
    places: Places,
    sources: Sources,
    handshakes: Handshakes,
) {
    let serve_all = async {
        loop {
            match listener.accept().await {
                Ok((stream, client)) => {
                    // Dropping it closes it: before TLS there is nobody to tell.
                    let Some(from_source) = sources.connection(client.ip()) else { continue };
                    let Some(pause) = handshakes.turn(client.ip()) else { continue };
                    let place = places.take().await;
                    let idlest = workers.iter().min_by_key(|(worker, _)| worker.connections());
                    let (Some((worker, shared)), Ok(stream)) = (idlest, stream.into_std()) else { continue };
                    let on_worker = worker.connection();
                    let accepted = Accepted { stream, address: client, pause, place, from_source, on_worker };
                    let serve = connection::serve(accepted, tls.clone(), Arc::clone(shared));
                    stop.tasks.spawn_on(serve, &worker.runtime);
                }
                Err(error) => {
                    tracing::warn!(%error, "an endpoint connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    stop.soon.run_until_cancelled(serve_all).await;
}
