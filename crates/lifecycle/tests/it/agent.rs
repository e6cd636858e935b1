//! An agent that answers inside this process.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hearth_guest_protocol::{FORWARD_CONNECTED, HookResult, OutputStream, Reply, Request};
use hearth_testkit::agent::{hear, say};
use hearth_vmm::{GuestChannel, GuestStream};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;

/// How the apps of all guests answer hooks, and which were called.
#[derive(Debug, Default)]
pub(crate) struct HookScript {
    /// Path without its prefix, and body.
    pub(crate) called: Vec<(String, String)>,
    /// The answer to a hook; 200 otherwise, and `None` for never.
    pub(crate) answers: HashMap<&'static str, Option<HookResult>>,
}

/// How the guests' kernels take connections to the app that go past the agent; and how
/// long each was tried.
#[derive(Debug)]
pub(crate) struct PastAgent {
    pub(crate) answer: Result<(), io::ErrorKind>,
    pub(crate) tried: Vec<Duration>,
}

impl Default for PastAgent {
    fn default() -> Self {
        Self { answer: Ok(()), tried: Vec::new() }
    }
}

/// The agent of every guest.
#[derive(Debug, Clone)]
pub(crate) struct TestAgent {
    pub(crate) app_exit_rx: watch::Receiver<Option<i32>>,
    pub(crate) output_rx: watch::Receiver<Vec<(u64, String)>>,
    pub(crate) hooks: Arc<Mutex<HookScript>>,
    pub(crate) past_agent: Arc<Mutex<PastAgent>>,
    /// While it is set, no agent answers that it was restored.
    pub(crate) silent: Arc<AtomicBool>,
    /// How many attempts to connect time out from now on.
    pub(crate) unheard: Arc<AtomicUsize>,
    /// Whether this guest says whatever it is asked for without end, and how many frames of
    /// that have been sent.
    pub(crate) floods: bool,
    pub(crate) flooded: Arc<AtomicUsize>,
}

#[async_trait]
impl GuestChannel for TestAgent {
    async fn connect(&self) -> io::Result<Box<dyn GuestStream>> {
        let heard = self.unheard.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if heard.is_ok() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (host, guest) = tokio::io::duplex(64 << 10);
        tokio::spawn(self.clone().answer(guest));
        Ok(Box::new(host))
    }

    async fn connect_app(&self, port: u16, limit: Duration) -> io::Result<Box<dyn GuestStream>> {
        let mut past_agent = self.past_agent.lock().unwrap();
        past_agent.tried.push(limit);
        past_agent.answer?;
        Ok(Box::new(std::io::Cursor::new(format!("port {port}").into_bytes())))
    }
}

impl TestAgent {
    /// Answers what a supervisor asks; anything else waits for the connection's end.
    async fn answer(mut self, mut stream: DuplexStream) {
        while let Some(request) = hear(&mut stream).await {
            if self.floods && !matches!(request, Request::Restored { .. }) {
                return self.flood(stream, &request).await;
            }
            let reply = match request {
                Request::Restored { .. } if self.silent.load(Ordering::SeqCst) => {
                    std::future::pending().await
                }
                Request::Restored { .. } => Reply::Done,
                Request::WaitExit => match self.app_exit_rx.wait_for(Option::is_some).await {
                    Ok(code) => Reply::Exited { code: code.unwrap() },
                    Err(_) => return,
                },
                Request::Hook { port: 9000, path, body, .. } => {
                    let name = path.strip_prefix("/aws/lambda-microvms/runtime/v1/").unwrap().to_owned();
                    let answer = {
                        let mut hooks = self.hooks.lock().unwrap();
                        hooks.called.push((name.clone(), body));
                        hooks.answers.get(name.as_str()).copied()
                    };
                    match answer.unwrap_or(Some(HookResult::Status { code: 200 })) {
                        Some(result) => Reply::Hook(result),
                        None => std::future::pending().await,
                    }
                }
                Request::Forward { port } => {
                    let answer = [&[FORWARD_CONNECTED], format!("agent's port {port}").as_bytes()].concat();
                    stream.write_all(&answer).await.unwrap();
                    return;
                }
                Request::Output { from } => return self.print(stream, from).await,
                _ => std::future::pending().await,
            };
            if say(&mut stream, &reply).await.is_err() {
                return;
            }
        }
    }

    /// Output that goes on, and to all other requests answers that were not asked for, until nobody
    /// reads them any more.
    async fn flood(&self, mut stream: DuplexStream, request: &Request) {
        let mut position = if let Request::Output { from } = request { *from } else { 0 };
        loop {
            let reply = match request {
                Request::Output { .. } => {
                    Reply::Output { position, stream: OutputStream::Stdout, data: "x".to_owned() }
                }
                _ => Reply::Done,
            };
            position += 1;
            if say(&mut stream, &reply).await.is_err() {
                return;
            }
            self.flooded.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Sends the output from a position on until the app has ended.
    async fn print(mut self, mut stream: DuplexStream, mut from: u64) {
        loop {
            let pieces = self.output_rx.borrow_and_update().clone();
            for (position, data) in pieces {
                if position + data.len() as u64 <= from {
                    continue;
                }
                let data = data[from.saturating_sub(position) as usize..].to_owned();
                let position = position.max(from);
                from = position + data.len() as u64;
                let reply = Reply::Output { position, stream: OutputStream::Stdout, data };
                if say(&mut stream, &reply).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                biased;
                changed = self.output_rx.changed() => if changed.is_err() { return },
                _ = self.app_exit_rx.wait_for(Option::is_some) => return,
            }
        }
    }
}
