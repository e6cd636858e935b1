//! How much is answered over UDP, where the source of a query may be forged.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Answers to one network (/24, or /56 of IPv6) in a second.
const NETWORK_MAX: u32 = 200;
/// Answers to all in a second.
const TOTAL_MAX: u32 = 5000;
const WINDOW: Duration = Duration::from_secs(1);

/// Counts the queries of the present second.
#[derive(Debug)]
pub(crate) struct Limiter {
    began: Instant,
    total: u32,
    networks: HashMap<[u8; 7], u32>,
}

/// What a query is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Answer,
    /// Tells the source to use TCP. A real client has its answer there; the victim of a forged
    /// address gets no more than the forger has spent.
    UseTcp,
    Drop,
}

impl Limiter {
    pub(crate) fn new(now: Instant) -> Self {
        Self { began: now, total: 0, networks: HashMap::new() }
    }

    pub(crate) fn judge(&mut self, source: IpAddr, now: Instant) -> Verdict {
        if now.duration_since(self.began) >= WINDOW {
            (self.began, self.total) = (now, 0);
            self.networks.clear();
        }
        self.total += 1;
        if self.total > TOTAL_MAX {
            return Verdict::Drop;
        }
        let of_network = self.networks.entry(network(source)).or_default();
        *of_network += 1;
        match *of_network {
            ..=NETWORK_MAX => Verdict::Answer,
            number if number % 2 == 0 => Verdict::UseTcp,
            _ => Verdict::Drop,
        }
    }
}

fn network(source: IpAddr) -> [u8; 7] {
    match source.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            // No network of IPv6 that is in use begins with zeros.
            [0, 0, 0, 0, a, b, c]
        }
        IpAddr::V6(address) => std::array::from_fn(|index| address.octets()[index]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_share_and_all_have_theirs() {
        let now = Instant::now();
        let mut limiter = Limiter::new(now);
        let from = |network: u16, host: u8| {
            let [a, b] = network.to_be_bytes();
            IpAddr::from([10, a, b, host])
        };
        for number in 0..NETWORK_MAX {
            assert_eq!(limiter.judge(from(1, number as u8), now), Verdict::Answer);
        }
        let next: Vec<Verdict> = (0..4).map(|host| limiter.judge(from(1, host), now)).collect();
        assert_eq!(next, [Verdict::Drop, Verdict::UseTcp, Verdict::Drop, Verdict::UseTcp]);
        assert_eq!(limiter.judge(from(2, 1), now), Verdict::Answer);
        let answered =
            (3..10_000).filter(|network| limiter.judge(from(*network, 1), now) != Verdict::Drop).count();
        assert_eq!(answered as u32, TOTAL_MAX - NETWORK_MAX - 5);
        assert_eq!(limiter.judge(from(1, 1), now + WINDOW), Verdict::Answer);
    }
}
