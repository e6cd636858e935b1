//! The way to a microVM that may be suspended, woken, and suspended again while a
//! request waits for it.
//!
//! Until the first byte of a request has gone to the app it can be held for as long as it takes: a
//! life that ends, or a connection that cannot be opened to a guest that has just been resumed,
//! costs another attempt, not the request.

use std::time::Duration;

use hearth_api::MicrovmId;
use hearth_node::{Life, Node, Passing};
use tokio::time::{Instant, sleep, timeout_at};

use crate::app::AppConnection;
use crate::call::Call;
use crate::client::Client;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::target::Target;
use crate::wake::Woken;

/// Longest wait of a request for its microVM, over all attempts.
pub(crate) const WAIT_MAX: Duration = Duration::from_mins(1);
/// The first pause between two attempts; each is twice as long as the one before.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(5);
/// How long a request waits until it is within its microVM's limits, unless they are the service's,
/// and how often it looks.
const PATIENCE: Duration = Duration::from_secs(10);
const COUNT_PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Where a request goes, and whose it is.
#[derive(Debug)]
pub(crate) struct Way<'request, N: Node> {
    microvm: &'request MicrovmId,
    target: Target<'request>,
    client: &'request Client,
    call: &'request Call,
    shared: &'request Shared<N>,
    is_counted: bool,
    /// When it is given up, once it had to wait.
    until: Option<Instant>,
}

/// The app can be sent the request.
#[derive(Debug)]
pub(crate) struct Reached<L> {
    pub(crate) running: L,
    /// A suspend waits as long as this is held.
    pub(crate) passing: Passing,
    pub(crate) connection: AppConnection,
}

impl<'request, N: Node> Way<'request, N> {
    pub(crate) fn new(
        microvm: &'request MicrovmId,
        target: Target<'request>,
        (client, call): (&'request Client, &'request Call),
        shared: &'request Shared<N>,
    ) -> Self {
        Self { microvm, target, client, call, shared, is_counted: false, until: None }
    }

    pub(crate) fn target(&self) -> Target<'request> {
        self.target
    }

    /// Connects to the app; `running` is the microVM if it was found running.
    pub(crate) async fn reach(&mut self, running: Option<N::Life>) -> Result<Reached<N::Life>, Refusal> {
        if let Some(running) = running
            && let Some(passing) = running.enter()
        {
            self.count(&running).await?;
            match self.shared.apps.connect(&running, self.target, &self.shared.stop).await {
                Ok(connection) => return Ok(Reached { running, passing, connection }),
                Err(Refusal::MicrovmUnreachable) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        // In a box, as most requests have no use for its state, but would have to carry it.
        Box::pin(self.wake()).await
    }

    /// Waits for the microVM and connects to its app, as often as it takes.
    pub(crate) async fn wake(&mut self) -> Result<Reached<N::Life>, Refusal> {
        let until = *self.until.get_or_insert_with(|| Instant::now() + WAIT_MAX);
        timeout_at(until, self.keep_trying()).await.unwrap_or(Err(Refusal::MicrovmUnreachable))
    }

    async fn keep_trying(&mut self) -> Result<Reached<N::Life>, Refusal> {
        let mut pause = PAUSE_MIN;
        loop {
            let waiting = self.shared.waiting.wait(self.microvm, &self.shared.stop);
            let woken = self.call.waking(waiting).await?;
            match self.try_once(woken).await {
                Err(Refusal::MicrovmUnreachable) => {}
                other => return other,
            }
            // Whatever ended that life, or keeps its guest from answering, is not over in no time.
            sleep(pause).await;
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    async fn try_once(&mut self, woken: Woken<N::Life>) -> Result<Reached<N::Life>, Refusal> {
        let Woken { running, on_its_way, place } = woken;
        let passing = running.enter().ok_or(Refusal::MicrovmUnreachable)?;
        self.count(&running).await?;
        let mut on_its_way = Some(on_its_way);
        let mut connecting = Box::pin(self.shared.apps.connect(&running, self.target, &self.shared.stop));
        let connection = std::future::poll_fn(|context| {
            let connected = connecting.as_mut().poll(context);
            drop(on_its_way.take());
            connected
        });
        let connection = connection.await?;
        drop(connecting);
        self.call.hold(place);
        Ok(Reached { running, passing, connection })
    }

    /// Counts the request with its microVM, once.
    async fn count(&mut self, running: &N::Life) -> Result<(), Refusal> {
        if std::mem::replace(&mut self.is_counted, true) {
            return Ok(());
        }
        match self.client.count(running, self.shared) {
            Err(Refusal::TooManyRequests) if self.shared.usages.are_patient() => {
                Box::pin(self.wait_to_be_counted(running)).await?;
            }
            counted => counted?,
        }
        self.client.prove(self.microvm, self.shared)
    }

    /// Waits until the microVM may have one more.
    async fn wait_to_be_counted(&self, running: &N::Life) -> Result<(), Refusal> {
        let until = Instant::now() + PATIENCE;
        loop {
            sleep(COUNT_PAUSE).await;
            match self.client.count(running, self.shared) {
                Err(Refusal::TooManyRequests) if Instant::now() < until => {}
                counted => return counted,
            }
        }
    }
}
