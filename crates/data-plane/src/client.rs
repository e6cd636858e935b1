//! The client of one connection: what it is let in to and how it counts.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hearth_api::MicrovmId;
use hearth_node::{Life as _, Node};
use tokio_util::sync::CancellationToken;

use crate::activity::Busy;
use crate::control_frames::PING_BYTES;
use crate::limits::{Counting, Usage};
use crate::places::Place;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::sources::FromSource;
use crate::workers::OnWorker;

/// Whose connection it is. It counts everywhere until this is dropped: a tunnel holds it beyond
/// the HTTP/1.1 before it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    /// Name that the TLS handshake asked for (SNI).
    pub(crate) server_name: Option<String>,
    place: Place,
    hung_up: CancellationToken,
    _from_source: FromSource,
    _on_worker: OnWorker,
    /// As whose it counts, once a request has been let in. Server name and host must agree, so
    /// it is one microVM's.
    counting: Mutex<Option<Counting>>,
    /// Whose endpoint it is, once a request has been let in.
    microvm: OnceLock<MicrovmId>,
}

impl Client {
    /// A client that has not asked for anything yet.
    pub(crate) fn new(
        address: SocketAddr,
        server_name: Option<String>,
        place: Place,
        from_source: FromSource,
        on_worker: OnWorker,
    ) -> Self {
        Self {
            address,
            server_name,
            hung_up: place.gives_way(),
            place,
            _from_source: from_source,
            _on_worker: on_worker,
            counting: Mutex::default(),
            microvm: OnceLock::new(),
        }
    }

    /// A request has shown a good token for a microVM that has not ended.
    pub(crate) fn prove<N: Node>(&self, microvm: &MicrovmId, shared: &Shared<N>) -> Result<(), Refusal> {
        self.place.prove(microvm, || shared.node.account(microvm).unwrap_or_else(|| "".into()))
    }

    /// A request is under way, until this is dropped.
    pub(crate) fn busy(&self) -> Busy {
        self.place.busy()
    }

    /// Whether a request of it was let in and counted.
    pub(crate) fn is_counted(&self) -> bool {
        self.place.is_proven() && self.counting.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether no request of it is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.place.is_idle()
    }

    /// Cancelled when its connection is to end as soon as what is under way is over.
    pub(crate) fn hung_up(&self) -> CancellationToken {
        self.hung_up.clone()
    }

    /// Ends it when what is under way is over.
    pub(crate) fn hang_up(&self) {
        self.hung_up.cancel();
    }

    /// A request has been let in to this microVM, whose all requests on this connection are.
    pub(crate) fn let_in(&self, microvm: &MicrovmId) {
        self.microvm.get_or_init(|| microvm.clone());
    }

    /// It is there, and wants what it uses to stay awake; that wakes nothing.
    pub(crate) fn pinged<N: Node>(&self, shared: &Shared<N>) {
        let endpoint = self.microvm.get().and_then(|microvm| shared.node.endpoint(microvm));
        if let Some(running) = endpoint.and_then(|endpoint| endpoint.running) {
            running.traffic(PING_BYTES);
        }
    }

    /// Counts a request to a microVM, and with the first one the connection.
    pub(crate) fn count<N: Node>(&self, running: &N::Life, shared: &Shared<N>) -> Result<(), Refusal> {
        count(&self.counting, || shared.usages.of(running.id(), running.vcpus()))
    }
}

/// Counts a request, and the connection if it does not yet: once, also when its first requests
/// come at the same time.
fn count(counting: &Mutex<Option<Counting>>, usage: impl FnOnce() -> Arc<Usage>) -> Result<(), Refusal> {
    let mut counting = counting.lock().unwrap_or_else(PoisonError::into_inner);
    let counting = match &mut *counting {
        Some(counting) => counting,
        none => none.insert(usage().connection()?),
    };
    counting.usage().request()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::limits::{MicrovmLimits, Usages};

    #[test]
    fn first_requests_that_come_together_count_their_connection_once() {
        const REQUESTS: usize = 4;
        let usages = Usages::new(MicrovmLimits { connections: Some(1), ..MicrovmLimits::NONE }, 64);
        for _ in 0..500 {
            let (counting, together) = (Mutex::default(), Barrier::new(REQUESTS));
            let request = || {
                together.wait();
                count(&counting, || usages.of(&MicrovmId::from_stored("a"), 1))
            };
            let verdicts: Vec<_> = std::thread::scope(|scope| {
                let requests: Vec<_> = (0..REQUESTS).map(|_| scope.spawn(request)).collect();
                requests.into_iter().map(|request| request.join().unwrap()).collect()
            });
            assert_eq!(verdicts, [Ok(()); REQUESTS]);
        }
    }
}
