//! How many TLS handshakes a source gets in a second. Each costs more than a request does, and one
//! that is cut off for what it sends can come back at once: an honest burst waits a little, and who
//! comes without end is turned away.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::sources::source_of;
use hearth_rate::Bucket;

/// Longest wait for a handshake's turn: below the ten seconds that a handshake may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sources that are remembered before those that may have a second's worth again are forgotten.
const SOURCES: usize = 1024;

/// The handshakes of all sources; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Handshakes {
    per_second: Option<u32>,
    sources: Arc<Mutex<HashMap<IpAddr, Bucket>>>,
}

impl Handshakes {
    /// So many per second of one source; `None` is no limit.
    pub(crate) fn new(per_second: Option<u32>) -> Self {
        Self { per_second, sources: Arc::default() }
    }

    /// How long a connection from this address is to wait for its handshake; `None` when
    /// too many wait already.
    pub(crate) fn turn(&self, address: IpAddr) -> Option<Duration> {
        let Some(per_second) = self.per_second else { return Some(Duration::ZERO) };
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES {
            sources.retain(|_, bucket| !bucket.is_full());
        }
        let bucket = sources.entry(source_of(address)).or_insert_with(|| Bucket::new(per_second.into()));
        bucket.reserve(PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_source_waits_and_is_turned_away_and_others_are_not() {
        let handshakes = Handshakes::new(Some(10));
        let turn = |address: &str| handshakes.turn(address.parse().unwrap());
        for _ in 0..10 {
            assert_eq!(turn("192.0.2.1"), Some(Duration::ZERO));
        }
        assert_eq!(turn("::ffff:192.0.2.1"), Some(Duration::from_millis(100)));
        assert_eq!((0..100).filter_map(|_| turn("192.0.2.1")).max(), Some(PATIENCE));
        assert_eq!(turn("192.0.2.1"), None);
        assert_eq!(turn("192.0.2.2"), Some(Duration::ZERO));
        advance(Duration::from_secs(1)).await;
        assert!(turn("192.0.2.1").is_some(), "who was turned away has not lengthened the wait");
    }

    #[tokio::test(start_paused = true)]
    async fn sources_are_forgotten() {
        let handshakes = Handshakes::new(Some(10));
        for second in 0..10 {
            for number in 0..1000 {
                handshakes.turn(Ipv4Addr::from_bits(second * 1000 + number).into());
            }
            advance(Duration::from_secs(1)).await;
        }
        assert!(handshakes.sources.lock().unwrap().len() <= 2 * SOURCES);
    }

    #[test]
    fn there_may_be_no_limit() {
        let handshakes = Handshakes::new(None);
        assert!((0..5000).all(|_| handshakes.turn([127, 0, 0, 1].into()) == Some(Duration::ZERO)));
    }
}
