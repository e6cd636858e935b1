//! The end of the data plane, as its connections learn of it.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How connections learn of the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// No new requests; what is under way may finish.
    pub(crate) soon: CancellationToken,
    /// At once.
    pub(crate) now: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Stop {
    /// A copy for one worker. Tokens are looked at many times for each request, under a lock, which
    /// workers then do not share.
    pub(crate) fn of_worker(&self) -> Self {
        Self { soon: self.soon.child_token(), now: self.now.child_token(), tasks: self.tasks.clone() }
    }
}
