//! The registry as the planes see it.

use std::io;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use hearth_api::{EgressDecisions, MicrovmId, MicrovmState, NetworkConnectorArn};
use hearth_guest::guest::AppStream;
use hearth_node::{Destination, Endpoint, Life, Node, Passing, Refusal, Request, Unreachable};
use hearth_records::{Actor, MicrovmRecord, NodeId, Origin};

use crate::machine::{Machine, Step};
use crate::published::RunningMicrovm;
use crate::registry::Registry;

#[async_trait]
impl Node for Registry {
    type Life = RunningMicrovm;

    fn id(&self) -> &NodeId {
        &self.host().node
    }

    fn seal_payload(&self, id: &MicrovmId, payload: &str) -> io::Result<Vec<u8>> {
        self.host().sealing.seal(id, payload).map_err(io::Error::other)
    }

    fn launch(self: Arc<Self>, record: MicrovmRecord, actor: Option<Actor>) {
        self.supervise(record, None, Machine::launching(), Some(Step::Launch), Origin::api(actor));
    }

    async fn request(
        self: Arc<Self>,
        id: &MicrovmId,
        request: Request,
        actor: Option<Actor>,
    ) -> Result<(), Refusal> {
        match request {
            Request::Suspend => self.suspend(id, actor).await,
            Request::Resume => self.resume(id, actor).await,
            Request::Terminate => self.terminate(id, actor).await,
        }
    }

    fn endpoint(&self, id: &MicrovmId) -> Option<Endpoint<RunningMicrovm>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(id)?;
        let published = entry.published_rx.borrow();
        let running = published.running.clone().filter(|_| published.state == MicrovmState::Running);
        Some(Endpoint { label: Arc::clone(&entry.label), ingress: entry.ingress, running })
    }

    fn account(&self, id: &MicrovmId) -> Option<Arc<str>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(id).map(|entry| Arc::clone(&entry.account))
    }

    async fn egress_changed(&self, connector: &NetworkConnectorArn) {
        self.host().egresses.changed(connector).await;
    }

    fn egress_decisions(&self, id: &MicrovmId) -> Option<EgressDecisions> {
        self.host().egresses.told(id.as_str())
    }

    async fn was_endpoint_of(&self, label: &str, id: &MicrovmId) -> bool {
        let record = self.host().records.microvms.microvm(id).await.unwrap_or_else(|error| {
            tracing::error!(microvm = %id, %error, "the endpoint of a microVM could not be looked up");
            None
        });
        record.is_some_and(|record| record.endpoint_label.as_str() == label)
    }

    async fn ensure_running(&self, id: &MicrovmId) -> Result<RunningMicrovm, Unreachable> {
        Self::ensure_running(self, id).await
    }
}

impl Life for RunningMicrovm {
    type Stream = AppStream;

    fn id(&self) -> &MicrovmId {
        &self.id
    }

    fn generation(&self) -> u64 {
        self.life
    }

    fn vcpus(&self) -> u8 {
        self.vcpus
    }

    async fn connect(&self, to: Destination) -> io::Result<AppStream> {
        match to {
            Destination::App(port) => self.connect_app(port).await,
            Destination::Agent => Ok(AppStream::connected(self.connect_agent().await?)),
        }
    }

    fn enter(&self) -> Option<Passing> {
        self.requests.enter()
    }

    fn traffic(&self, bytes: u64) {
        if bytes > 0 {
            self.traffic.touch();
        }
    }

    fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.ended.clone().cancelled_owned()
    }
}
