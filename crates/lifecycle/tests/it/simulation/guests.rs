//! Agents of the simulation: they see what reaches an app too early.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hearth_guest::Egress;
use hearth_guest_protocol::{FORWARD_CONNECTED, HookResult, Reply, Request};
use hearth_testkit::agent::{hear, say};
use hearth_testkit::networks::Agents;
use hearth_vmm::{GuestChannel, GuestStream};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio_util::sync::CancellationToken;

use super::faults::{Faults, Site};

/// What all guests of a simulation share.
#[derive(Debug)]
pub(super) struct Guests {
    pub(super) faults: Arc<Faults>,
    /// Requests that reached an app.
    pub(super) served: AtomicU32,
    /// Hooks that were called.
    pub(super) hooks: Mutex<Vec<String>>,
}

pub(super) struct SimulatedAgents(pub(super) Arc<Guests>);

/// The agent of one life of a microVM.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    guests: Arc<Guests>,
    /// A run or resume hook of this life has returned 200.
    told: Arc<AtomicBool>,
    released: CancellationToken,
}

impl Guests {
    pub(super) fn new(faults: Arc<Faults>) -> Arc<Self> {
        Arc::new(Self { faults, served: AtomicU32::new(0), hooks: Mutex::default() })
    }
}

#[async_trait]
impl Agents for SimulatedAgents {
    type Channel = Agent;

    async fn begin(&self, _: Option<Egress>) -> std::io::Result<Agent> {
        let guests = self.0.clone();
        if guests.faults.visit(Site::Network, None).await {
            return Err(std::io::ErrorKind::AddrNotAvailable.into());
        }
        Ok(Agent { guests, told: Arc::default(), released: CancellationToken::new() })
    }

    async fn end(&self, agent: Agent) {
        self.0.faults.visit(Site::NetworkRelease, None).await;
        agent.released.cancel();
    }
}

#[async_trait]
impl GuestChannel for Agent {
    async fn connect(&self) -> std::io::Result<Box<dyn GuestStream>> {
        if self.guests.faults.visit(Site::Connect, None).await {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        let (host, guest) = tokio::io::duplex(4096);
        let (agent, released) = (self.clone(), self.released.clone());
        tokio::spawn(async move { released.run_until_cancelled(agent.answer(guest)).await });
        Ok(Box::new(host))
    }
}

impl Agent {
    /// Answers until the host hangs up, or a fault breaks the connection.
    async fn answer(self, mut stream: DuplexStream) {
        while let Some(request) = hear(&mut stream).await {
            let faults = &self.guests.faults;
            let reply = match request {
                Request::Restored { .. } => {
                    if faults.visit(Site::Restored, None).await {
                        return;
                    }
                    Reply::Done
                }
                Request::Hook { path, .. } => Reply::Hook(self.hook(&path).await),
                Request::Forward { .. } => return self.forward(stream).await,
                // The app never ends by itself, and prints nothing.
                _ => std::future::pending().await,
            };
            if say(&mut stream, &reply).await.is_err() {
                return;
            }
        }
    }

    async fn hook(&self, path: &str) -> HookResult {
        let name = path.rsplit('/').next().unwrap().to_owned();
        let begins = matches!(name.as_str(), "run" | "resume");
        self.guests.hooks.lock().unwrap().push(name);
        if self.guests.faults.visit(Site::Hook, None).await {
            return HookResult::Status { code: 500 };
        }
        self.told.fetch_or(begins, Ordering::SeqCst);
        HookResult::Status { code: 200 }
    }

    /// Says whether the app knew of this life when the request came.
    async fn forward(&self, mut stream: DuplexStream) {
        self.guests.served.fetch_add(1, Ordering::SeqCst);
        let told = u8::from(self.told.load(Ordering::SeqCst));
        // Whoever asked may have gone.
        let _ = stream.write_all(&[FORWARD_CONNECTED, told]).await;
    }
}
