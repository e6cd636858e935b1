//! What lies below HTTP on the ports of microVMs, TLS or nothing, as far as it has been seen.
//!
//! A port is taken for plain until its first answer is none that a plain one gives. Then it is
//! asked once, with a TLS handshake of which nothing else comes
//! ([`probe`](crate::upstream_tls::UpstreamTls::probe)).

use std::convert::Infallible;
use std::sync::Arc;

use http::header::CONNECTION;
use http::{Response, StatusCode, Version};
use quick_cache::sync::Cache;
use tokio::sync::OnceCell;

use crate::app_port::AppPort;
use crate::layer::Layer;

/// Ports that are remembered, each in about 150 bytes. Of what is forgotten nothing worse
/// comes than another probe.
const KEPT: usize = 16_384;

/// The ports of all microVMs; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Ports {
    /// In one life; and TLS also under the place in any life.
    seen: Arc<Cache<AppPort, Arc<OnceCell<Layer>>>>,
}

impl Ports {
    pub(crate) fn new() -> Self {
        Self { seen: Arc::new(Cache::new(KEPT)) }
    }

    /// What was seen on a port. TLS is taken over from a life before: what resumes is the same app,
    /// and a handshake that fails tells if it is not.
    pub(crate) fn layer(&self, place: &AppPort) -> Option<Layer> {
        let seen = |place: &AppPort| self.seen.get(place)?.get().copied();
        seen(place).or_else(|| seen(&place.in_any_life()))
    }

    /// The port has answered in plain HTTP.
    pub(crate) fn plain(&self, place: &AppPort) {
        // While a probe is under way, what it finds is what counts.
        let _ = self.port(place).set(Layer::Plain);
    }

    /// What `probe` finds, or has found in this life. All that come meanwhile wait for one probe.
    /// None if the app could not be asked.
    pub(crate) async fn settle(
        &self,
        place: &AppPort,
        probe: impl Future<Output = Option<Layer>>,
    ) -> Option<Layer> {
        let probe = async || probe.await.ok_or(());
        let layer = *self.port(place).get_or_try_init(probe).await.ok()?;
        if layer != Layer::Plain {
            self.seen.insert(place.in_any_life(), Arc::new(OnceCell::new_with(Some(layer))));
        }
        Some(layer)
    }

    /// The port does not speak TLS any more.
    pub(crate) fn forget(&self, place: &AppPort) {
        self.seen.remove(place);
        self.seen.remove(&place.in_any_life());
    }

    fn port(&self, place: &AppPort) -> Arc<OnceCell<Layer>> {
        match self.seen.get_or_insert_with(place, || Ok::<_, Infallible>(Arc::default())) {
            Ok(port) => port,
            Err(never) => match never {},
        }
    }
}

/// Whether an answer in plain HTTP may be that of a port which wants TLS: servers that notice say
/// 400, and cannot go on with the connection. So do nginx, Apache, Tomcat and, in HTTP/1.0, Go;
/// others just close it.
pub(crate) fn may_want_tls<B>(answer: &Response<B>) -> bool {
    answer.status() == StatusCode::BAD_REQUEST
        && (answer.version() == Version::HTTP_10
            || answer.headers().contains_key(CONNECTION) && hearth_hop::has_option(answer.headers(), "close"))
}
