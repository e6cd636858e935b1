//! Networks that are counted and lead to agents inside the test's process.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use hearth_guest::{Egress, GuestNetwork, Networks};
use hearth_vmm::{GuestChannel, NetworkInterface};

/// The agents of a test's guests. A closure is enough for those whose end is nobody's concern.
#[async_trait]
pub trait Agents: Send + Sync + 'static {
    /// How an agent is reached.
    type Channel: GuestChannel + Clone + 'static;

    /// The agent on a new network with this way out, or on an adopted one, whose way out is not
    /// known. Its error is that of the network.
    async fn begin(&self, egress: Option<Egress>) -> io::Result<Self::Channel>;

    /// Called when the agent's network is released, while that still counts.
    async fn end(&self, _: Self::Channel) {}
}

#[async_trait]
impl<F, C> Agents for F
where
    F: Fn(Option<Egress>) -> io::Result<C> + Send + Sync + 'static,
    C: GuestChannel + Clone + 'static,
{
    type Channel = C;

    async fn begin(&self, egress: Option<Egress>) -> io::Result<C> {
        self(egress)
    }
}

/// Makes networks for [`Agents`].
pub struct TestNetworks<A> {
    agents: Arc<A>,
    namespace: Option<Arc<OwnedFd>>,
    in_use: Arc<AtomicUsize>,
}

impl<A: Agents> TestNetworks<A> {
    /// Networks without a namespace.
    pub fn new(agents: A) -> Self {
        Self { agents: Arc::new(agents), namespace: None, in_use: Arc::default() }
    }

    /// Networks that all have this namespace.
    #[must_use]
    pub fn within(self, namespace: OwnedFd) -> Self {
        Self { namespace: Some(Arc::new(namespace)), ..self }
    }

    /// How many networks there are that were neither released, left nor dropped.
    pub fn in_use(&self) -> Arc<AtomicUsize> {
        self.in_use.clone()
    }

    async fn network(&self, egress: Option<Egress>) -> io::Result<Box<dyn GuestNetwork>> {
        let channel = self.agents.begin(egress).await?;
        self.in_use.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(TestNetwork { networks: self.clone(), channel }))
    }
}

impl<A> Clone for TestNetworks<A> {
    fn clone(&self) -> Self {
        let (agents, namespace, in_use) = (self.agents.clone(), self.namespace.clone(), self.in_use.clone());
        Self { agents, namespace, in_use }
    }
}

impl<A> fmt::Debug for TestNetworks<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestNetworks").field("in_use", &self.in_use).finish_non_exhaustive()
    }
}

#[async_trait]
impl<A: Agents> Networks for TestNetworks<A> {
    async fn acquire(&self, egress: Egress) -> io::Result<Box<dyn GuestNetwork>> {
        self.network(Some(egress)).await
    }

    async fn adopt(&self, _: Option<u32>, _: Option<&str>, _: &Egress) -> io::Result<Box<dyn GuestNetwork>> {
        self.network(None).await
    }
}

struct TestNetwork<A: Agents> {
    networks: TestNetworks<A>,
    channel: A::Channel,
}

impl<A: Agents> fmt::Debug for TestNetwork<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestNetwork").field(&self.channel).finish()
    }
}

#[async_trait]
impl<A: Agents> GuestNetwork for TestNetwork<A> {
    fn namespace(&self) -> Option<Arc<OwnedFd>> {
        self.networks.namespace.clone()
    }

    fn take_interfaces(&mut self) -> Vec<NetworkInterface> {
        Vec::new()
    }

    fn channel(&self) -> Arc<dyn GuestChannel> {
        Arc::new(self.channel.clone())
    }

    async fn release(self: Box<Self>) {
        self.networks.agents.end(self.channel.clone()).await;
    }
}

impl<A: Agents> Drop for TestNetwork<A> {
    fn drop(&mut self) {
        self.networks.in_use.fetch_sub(1, Ordering::SeqCst);
    }
}
