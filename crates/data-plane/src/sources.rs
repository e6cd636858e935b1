//! How many connections each source of them has, so that one cannot take all that there are.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The connections of all sources.
#[derive(Debug, Clone)]
pub struct Sources {
    maximum: Option<u32>,
    counts: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

/// A connection that counts for its source while this lives.
#[derive(Debug)]
pub struct FromSource {
    sources: Sources,
    source: IpAddr,
}

impl Sources {
    /// At most `maximum` of one source; `None` is no limit.
    pub fn new(maximum: Option<u32>) -> Self {
        Self { maximum, counts: Arc::default() }
    }

    /// Counts a connection from this address; `None` when its source has as many as it may.
    pub fn connection(&self, address: IpAddr) -> Option<FromSource> {
        let source = source_of(address);
        let mut counts = self.lock();
        let count = counts.entry(source).or_default();
        if self.maximum.is_some_and(|maximum| *count >= maximum) {
            return None;
        }
        *count += 1;
        Some(FromSource { sources: self.clone(), source })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FromSource {
    fn drop(&mut self) {
        let mut counts = self.sources.lock();
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

/// What an address counts as: who has one of IPv6 mostly has all of its /64 (RFC 6177).
pub fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_so_many_connections_and_others_have_theirs() {
        let sources = Sources::new(Some(2));
        let from = |address: &str| sources.connection(address.parse().unwrap());
        let first = from("192.0.2.1").unwrap();
        let _second = from("::ffff:192.0.2.1").unwrap();
        assert!(from("192.0.2.1").is_none());
        let _other = from("192.0.2.2").unwrap();
        let _six = [from("2001:db8::1").unwrap(), from("2001:db8::2").unwrap()];
        assert!(from("2001:db8::3").is_none());
        assert!(from("2001:db8:0:1::3").is_some());
        drop(first);
        assert!(from("192.0.2.1").is_some());
        assert_eq!(sources.lock().len(), 3, "who has none is forgotten");
    }

    #[test]
    fn there_may_be_no_limit() {
        let sources = Sources::new(None);
        let all: Vec<_> = (0..5000).map(|_| sources.connection([127, 0, 0, 1].into()).unwrap()).collect();
        drop(all);
        assert!(sources.lock().is_empty());
    }
}
