//! Networks that lead to the test's agent and are counted.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hearth_guest::{Egress, GuestNetwork, Networks};
use hearth_vmm::{GuestChannel, NetworkInterface};

use crate::agent::TestAgent;

#[derive(Debug)]
pub(crate) struct TestNetworks {
    pub(crate) used: Arc<AtomicUsize>,
    pub(crate) egresses: Arc<Mutex<Vec<Egress>>>,
    pub(crate) agent: TestAgent,
    pub(crate) flooding: Arc<AtomicBool>,
}

#[derive(Debug)]
struct TestNetwork {
    used: Arc<AtomicUsize>,
    agent: TestAgent,
}

#[async_trait]
impl Networks for TestNetworks {
    async fn acquire(&self, egress: Egress) -> std::io::Result<Box<dyn GuestNetwork>> {
        self.used.fetch_add(1, Ordering::SeqCst);
        self.egresses.lock().unwrap().push(egress);
        let agent = TestAgent { floods: self.flooding.load(Ordering::SeqCst), ..self.agent.clone() };
        Ok(Box::new(TestNetwork { used: self.used.clone(), agent }))
    }

    async fn adopt(&self, _: Option<u32>, _: Option<&str>) -> std::io::Result<Box<dyn GuestNetwork>> {
        Ok(Box::new(TestNetwork { used: self.used.clone(), agent: self.agent.clone() }))
    }
}

#[async_trait]
impl GuestNetwork for TestNetwork {
    fn namespace(&self) -> Option<Arc<OwnedFd>> {
        None
    }

    fn take_interfaces(&mut self) -> Vec<NetworkInterface> {
        Vec::new()
    }

    fn channel(&self) -> Arc<dyn GuestChannel> {
        Arc::new(self.agent.clone())
    }

    async fn release(self: Box<Self>) {
        self.used.fetch_sub(1, Ordering::SeqCst);
    }
}
