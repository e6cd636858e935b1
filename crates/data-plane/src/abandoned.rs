//! Requests over HTTP/2 that their client resets before they were answered
//! (CVE-2023-44487, "rapid reset").
//!
//! A reset stream no longer counts as open, but its request may have reached the app
//! already, which goes on with it. So the limit of streams does not bound what a client can
//! make an app do; this does.

use std::sync::Arc;

use hearth_rate::Bucket;
use tokio::sync::Notify;

/// How many requests of one connection may be reset per second, and at once: more than the streams
/// that there may be, so that a browser may leave a page, and few enough for an app.
const PER_SECOND_MAX: u64 = 200;

/// The requests of one connection.
#[derive(Debug)]
pub(crate) struct Abandoned {
    allowed: Bucket,
    too_many: Notify,
}

/// A request that counts as abandoned if this is dropped before it was answered.
#[derive(Debug)]
pub(crate) struct Unanswered(Option<Arc<Abandoned>>);

impl Abandoned {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { allowed: Bucket::new(PER_SECOND_MAX), too_many: Notify::new() })
    }

    /// A request has come.
    pub(crate) fn request(self: &Arc<Self>) -> Unanswered {
        Unanswered(Some(Arc::clone(self)))
    }

    /// Resolves when too many were reset.
    pub(crate) async fn too_many(&self) {
        self.too_many.notified().await;
    }
}

impl Unanswered {
    pub(crate) fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(abandoned) = self.0.take()
            && !abandoned.allowed.take()
        {
            abandoned.too_many.notify_one();
        }
    }
}
