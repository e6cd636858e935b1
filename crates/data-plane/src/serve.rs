//! The listeners: accept, serve, shut down.

use std::sync::Arc;
use std::time::Duration;

use hearth_auth::TokenKeys;
use rustls::server::ResolvesServerCert;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::AppConnections;
use crate::backend::Backend;
use crate::call::Observation;
use crate::connection;
use crate::limits::{MicrovmLimits, Usages};
use crate::route::EndpointHosts;
use crate::sources::Sources;
use crate::tls;
use crate::wake::Waiting;

/// Pause after a failed accept, which mostly means that descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the endpoints cannot be served: the TLS library refused the configuration.
#[derive(Debug, thiserror::Error)]
#[error("TLS could not be set up")]
pub struct TlsError(#[from] rustls::Error);

/// How much is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataPlaneConfig {
    /// Client connections at a time; more wait in the listeners' queues.
    pub connections: usize,
    /// Of one source: an IPv4 address, or a /64 of IPv6. More are closed at once.
    pub connections_per_source: Option<u32>,
    /// What a microVM may take.
    pub microvm_limits: MicrovmLimits,
}

/// What the connections of a data plane share.
#[derive(Debug)]
pub(crate) struct Shared<B: Backend> {
    pub(crate) backend: Arc<B>,
    pub(crate) hosts: EndpointHosts,
    pub(crate) keys: Arc<TokenKeys>,
    pub(crate) apps: AppConnections,
    pub(crate) usages: Arc<Usages>,
    pub(crate) waiting: Waiting<B>,
    pub(crate) observation: Arc<Observation>,
    pub(crate) stop: Stop,
}

/// How connections learn of the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// No new requests; what is under way may finish.
    pub(crate) soon: CancellationToken,
    /// At once.
    pub(crate) now: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// The running endpoints. Dropping it does not stop them; [`DataPlane::shutdown`] does.
#[derive(Debug)]
pub struct DataPlane {
    stop: Stop,
}

impl DataPlane {
    /// Serves the listeners with the certificate that `certificate` has at the time of each handshake.
    pub fn start<B: Backend>(
        listeners: Vec<TcpListener>,
        hosts: EndpointHosts,
        certificate: Arc<dyn ResolvesServerCert>,
        keys: Arc<TokenKeys>,
        backend: Arc<B>,
        observation: Arc<Observation>,
        config: DataPlaneConfig,
    ) -> Result<Self, TlsError> {
        let tls = TlsAcceptor::from(Arc::new(tls::server_config(certificate)?));
        let stop = Stop::default();
        let usages = Arc::new(Usages::new(config.microvm_limits));
        let apps = AppConnections::new(Arc::clone(&usages));
        let waiting = Waiting::new(Arc::clone(&backend));
        let shared =
            Arc::new(Shared { backend, hosts, keys, apps, usages, waiting, observation, stop: stop.clone() });
        let (apps, soon) = (shared.apps.clone(), stop.soon.clone());
        stop.tasks.spawn(async move { soon.run_until_cancelled(apps.expire()).await });
        let places = Arc::new(Semaphore::new(config.connections));
        let sources = Sources::new(config.connections_per_source);
        for listener in listeners {
            stop.tasks.spawn(accept(
                listener,
                tls.clone(),
                Arc::clone(&shared),
                Arc::clone(&places),
                sources.clone(),
            ));
        }
        Ok(Self { stop })
    }

    /// Stops accepting, lets requests under way finish for at most `grace`, then cuts what is left.
    pub async fn shutdown(self, grace: Duration) {
        self.stop.soon.cancel();
        self.stop.tasks.close();
        if tokio::time::timeout(grace, self.stop.tasks.wait()).await.is_err() {
            self.stop.now.cancel();
            self.stop.tasks.wait().await;
        }
    }
}

async fn accept<B: Backend>(
    listener: TcpListener,
    tls: TlsAcceptor,
    shared: Arc<Shared<B>>,
    places: Arc<Semaphore>,
    sources: Sources,
) {
    let serve_all = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, client)) => {
                    // Dropping it closes it: before TLS there is nobody to tell.
                    let Some(from_source) = sources.connection(client.ip()) else { continue };
                    let (tls, shared) = (tls.clone(), Arc::clone(&shared));
                    let tasks = shared.stop.tasks.clone();
                    tasks.spawn(async move {
                        let _places = (place, from_source);
                        connection::serve(stream, client, tls, shared).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "an endpoint connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    shared.stop.soon.run_until_cancelled(serve_all).await;
}
