//! The network of one guest, as its VM and its owner see it. [`HostNetworks`] is the real one;
//! tests bring their own.

use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hearth_guest_protocol::{APP_MAC, CONTROL_MAC};
use hearth_host_net::{Connector, Egress, Guard, HostNet, Network};
use hearth_vmm::{GuestChannel, GuestStream, NetworkInterface};

/// Makes networks.
#[async_trait]
pub trait Networks: Send + Sync + fmt::Debug {
    /// A network that nothing else uses, with this way out.
    async fn acquire(&self, egress: Egress) -> std::io::Result<Box<dyn GuestNetwork>>;

    /// The network of a guest that an earlier server has started, with the name that
    /// [`GuestNetwork::uplink`] had there, and this way out. `vmm` is the guest's process.
    async fn adopt(
        &self,
        vmm: Option<u32>,
        uplink: Option<&str>,
        egress: &Egress,
    ) -> std::io::Result<Box<dyn GuestNetwork>> {
        let _ = (vmm, uplink, egress);
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// A network that one VM uses for one life.
#[async_trait]
pub trait GuestNetwork: Send + Sync + fmt::Debug {
    /// The namespace to put the VMM into.
    fn namespace(&self) -> Option<Arc<OwnedFd>>;

    /// The NICs, app first, control second; empty when taken before.
    fn take_interfaces(&mut self) -> Vec<NetworkInterface>;

    /// How to reach the agent.
    fn channel(&self) -> Arc<dyn GuestChannel>;

    /// What a later server needs to find it again, if it has a way out.
    fn uplink(&self) -> Option<String> {
        None
    }

    /// What holds it to a policy, if it has one.
    fn guard(&self) -> Option<Arc<Guard>> {
        None
    }

    /// Leaves everything to the VMM and a later server.
    fn leave(self: Box<Self>) {}

    /// Gives everything back.
    async fn release(self: Box<Self>);
}

/// Networks made of namespaces and TAPs on this host.
#[derive(Debug)]
pub struct HostNetworks(pub Arc<HostNet>);

#[derive(Debug)]
struct HostNetwork {
    network: Network,
    interfaces: Vec<NetworkInterface>,
}

#[derive(Debug)]
struct AgentChannel(Connector);

#[async_trait]
impl Networks for HostNetworks {
    async fn acquire(&self, egress: Egress) -> std::io::Result<Box<dyn GuestNetwork>> {
        let network = self.0.acquire(egress).await.map_err(std::io::Error::other)?;
        let taps = network.take_taps().expect("invariant: a new network has its TAPs");
        let interfaces = vec![
            NetworkInterface { tap: taps.app, guest_mac: APP_MAC },
            NetworkInterface { tap: taps.control, guest_mac: CONTROL_MAC },
        ];
        Ok(Box::new(HostNetwork { network, interfaces }))
    }

    async fn adopt(
        &self,
        vmm: Option<u32>,
        uplink: Option<&str>,
        egress: &Egress,
    ) -> std::io::Result<Box<dyn GuestNetwork>> {
        let pid = vmm.ok_or(std::io::ErrorKind::NotFound)?;
        let namespace = File::open(format!("/proc/{pid}/ns/net"))?.into();
        let network = self.0.adopt(namespace, uplink, egress).await.map_err(std::io::Error::other)?;
        Ok(Box::new(HostNetwork { network, interfaces: Vec::new() }))
    }
}

#[async_trait]
impl GuestNetwork for HostNetwork {
    fn namespace(&self) -> Option<Arc<OwnedFd>> {
        Some(self.network.namespace())
    }

    fn take_interfaces(&mut self) -> Vec<NetworkInterface> {
        std::mem::take(&mut self.interfaces)
    }

    fn channel(&self) -> Arc<dyn GuestChannel> {
        Arc::new(AgentChannel(self.network.connector()))
    }

    fn uplink(&self) -> Option<String> {
        self.network.uplink()
    }

    fn guard(&self) -> Option<Arc<Guard>> {
        self.network.guard()
    }

    fn leave(self: Box<Self>) {
        self.network.leave();
    }

    async fn release(self: Box<Self>) {
        self.network.release().await;
    }
}

#[async_trait]
impl GuestChannel for AgentChannel {
    async fn connect(&self) -> std::io::Result<Box<dyn GuestStream>> {
        Ok(Box::new(self.0.connect_agent().await?))
    }

    async fn connect_app(&self, port: u16, limit: Duration) -> std::io::Result<Box<dyn GuestStream>> {
        Ok(Box::new(self.0.connect_app(port, limit).await?))
    }
}
