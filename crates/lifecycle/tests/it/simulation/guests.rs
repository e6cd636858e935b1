//! Networks and agents of the simulation: they count what is held, and see what
//! reaches an app too early.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hearth_guest::{Egress, GuestNetwork, Networks};
use hearth_guest_protocol::{FORWARD_CONNECTED, HookResult, Reply, Request, codec};
use hearth_vmm::{GuestChannel, GuestStream, NetworkInterface};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_util::sync::CancellationToken;

use super::faults::{Faults, Site};

/// What all guests of a simulation share.
#[derive(Debug)]
pub(super) struct Guests {
    pub(super) faults: Arc<Faults>,
    /// Networks in use.
    pub(super) used: AtomicUsize,
    /// Requests that reached an app.
    pub(super) served: AtomicU32,
    /// Hooks that were called.
    pub(super) hooks: Mutex<Vec<String>>,
}

#[derive(Debug)]
pub(super) struct SimulatedNetworks(pub(super) Arc<Guests>);

#[derive(Debug)]
struct Network {
    guests: Arc<Guests>,
    agent: Agent,
    released: CancellationToken,
}

/// The agent of one life of a microVM.
#[derive(Debug, Clone)]
struct Agent {
    guests: Arc<Guests>,
    /// A run or resume hook of this life has returned 200.
    told: Arc<AtomicBool>,
    released: CancellationToken,
}

impl Guests {
    pub(super) fn new(faults: Arc<Faults>) -> Arc<Self> {
        Arc::new(Self {
            faults,
            used: AtomicUsize::new(0),
            served: AtomicU32::new(0),
            hooks: Mutex::default(),
        })
    }
}

#[async_trait]
impl Networks for SimulatedNetworks {
    async fn acquire(&self, _egress: Egress) -> std::io::Result<Box<dyn GuestNetwork>> {
        let guests = self.0.clone();
        if guests.faults.visit(Site::Network, None).await {
            return Err(std::io::ErrorKind::AddrNotAvailable.into());
        }
        guests.used.fetch_add(1, Ordering::SeqCst);
        let released = CancellationToken::new();
        let agent = Agent { guests: guests.clone(), told: Arc::default(), released: released.clone() };
        Ok(Box::new(Network { guests, agent, released }))
    }
}

#[async_trait]
impl GuestNetwork for Network {
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
        self.guests.faults.visit(Site::NetworkRelease, None).await;
        self.released.cancel();
        self.guests.used.fetch_sub(1, Ordering::SeqCst);
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
        loop {
            let mut prefix = [0; 4];
            if stream.read_exact(&mut prefix).await.is_err() {
                return;
            }
            let mut body = vec![0; codec::frame_length(prefix).unwrap()];
            stream.read_exact(&mut body).await.unwrap();
            let faults = &self.guests.faults;
            let reply = match serde_json::from_slice(&body).unwrap() {
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
            if stream.write_all(&codec::encode(&reply).unwrap()).await.is_err() {
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
