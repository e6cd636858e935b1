//! What all that serve requests work with.

use std::sync::Arc;

use hearth_auth::{OpenedTokens, TokenKeys};
use hearth_node::Node;
use tokio::runtime::Handle;

use crate::app::AppConnections;
use crate::call::Observation;
use crate::limits::Usages;
use crate::route::EndpointHosts;
use crate::stop::Stop;
use crate::wake::Waiting;

/// What the connections of one worker share. Each worker has a copy of its own: what is counted for
/// every request, such as references to this, is then not written to by several CPUs.
#[derive(Debug)]
pub(crate) struct Shared<N: Node> {
    pub(crate) node: Arc<N>,
    pub(crate) hosts: EndpointHosts,
    pub(crate) keys: Arc<TokenKeys>,
    /// Tokens that were seen before.
    pub(crate) opened: OpenedTokens,
    pub(crate) apps: AppConnections,
    pub(crate) usages: Arc<Usages>,
    pub(crate) waiting: Arc<Waiting<N>>,
    pub(crate) observation: Arc<Observation>,
    /// The server's own runtime.
    pub(crate) server: Handle,
    pub(crate) stop: Stop,
}

impl<N: Node> Shared<N> {
    /// The copy of a worker.
    pub(crate) fn of_worker(&self, worker: usize) -> Self {
        Self {
            node: Arc::clone(&self.node),
            hosts: self.hosts.clone(),
            keys: Arc::clone(&self.keys),
            opened: OpenedTokens::default(),
            apps: self.apps.of_worker(worker),
            usages: Arc::clone(&self.usages),
            waiting: Arc::clone(&self.waiting),
            observation: Arc::new(Observation::clone(&self.observation)),
            server: self.server.clone(),
            stop: self.stop.of_worker(),
        }
    }
}
