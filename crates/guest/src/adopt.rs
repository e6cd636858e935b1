//! Taking over a guest that an earlier server has left.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use hearth_host_net::Egress;
use hearth_vmm::{Adopted, Adoption, GuestChannel, GuestStream};

use crate::error::Error;
use crate::guest::{Guest, GuestFactory};
use crate::record::Record;

/// A guest that was taken over.
#[derive(Debug)]
pub struct AdoptedGuest {
    /// The guest.
    pub guest: Guest,
    /// Whether its vCPUs run; otherwise it is paused.
    pub running: bool,
}

/// The way to the agent, which is known only after the VM: its process leads to its network.
#[derive(Debug, Default)]
struct LateChannel(OnceLock<Arc<dyn GuestChannel>>);

#[async_trait]
impl GuestChannel for LateChannel {
    async fn connect(&self) -> io::Result<Box<dyn GuestStream>> {
        self.0.get().ok_or(io::ErrorKind::NotConnected)?.connect().await
    }

    async fn connect_app(&self, port: u16, limit: Duration) -> io::Result<Box<dyn GuestStream>> {
        self.0.get().ok_or(io::ErrorKind::NotConnected)?.connect_app(port, limit).await
    }
}

impl GuestFactory {
    /// Takes over the guest of this name, if it still runs, with this way out from now on. On
    /// failure it stays as it is, and can be removed with [`hearth_vmm::leftovers`].
    pub async fn adopt(&self, name: &str, egress: &Egress) -> Result<Option<AdoptedGuest>, Error> {
        let run_dir = self.run_root.join(name);
        let Some(record) = Record::read(name, &run_dir)? else { return Ok(None) };
        let channel = Arc::new(LateChannel::default());
        let adoption = Adoption { name: name.to_owned(), run_dir, guest_channel: channel.clone() };
        let Some(Adopted { vm, running }) = self.vmm.adopt(adoption).await? else { return Ok(None) };
        let uid = self.uids.claim(record.uid).ok_or_else(|| Error::NotAdoptable {
            name: name.to_owned(),
            detail: format!("its user id {} is in use", record.uid),
        })?;
        let network = self.networks.adopt(vm.pid(), record.uplink.as_deref(), egress).await;
        let network = network.map_err(|source| Error::Network { name: name.to_owned(), source })?;
        // It was empty until here.
        let _ = channel.0.set(network.channel());
        let guest = Guest::new(vm, self.holdings(name, Some(network), Some(uid)));
        Ok(Some(AdoptedGuest { guest, running }))
    }
}
