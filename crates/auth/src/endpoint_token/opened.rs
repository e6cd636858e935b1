//! Tokens that were opened before: to decrypt the same one with each request of a client would cost
//! more than all else that is asked of it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::ring::Ring;
use super::{Claims, TokenError, TokenKeys};

/// How many are remembered; a new one takes the place of another.
const SLOTS: usize = 1024;
/// Longest token that is remembered, in bytes. Those for a few ports have less than a thousand.
const LONGEST: usize = 2048;

/// Opens tokens, and remembers what it has seen.
#[derive(Debug)]
pub struct OpenedTokens(Mutex<Box<[Option<Opened>]>>);

#[derive(Debug)]
struct Opened {
    token: Box<str>,
    /// What opened it; keys that have changed since may not.
    ring: Arc<Ring>,
    claims: Arc<Claims>,
}

impl Default for OpenedTokens {
    fn default() -> Self {
        Self(Mutex::new((0..SLOTS).map(|_| None).collect()))
    }
}

impl OpenedTokens {
    /// What [`TokenKeys::open`] would answer now.
    pub fn open(&self, keys: &TokenKeys, token: &str) -> Result<Arc<Claims>, TokenError> {
        let ring = keys.ring.load();
        let slot = slot(token.as_bytes());
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner)[slot]
            .as_ref()
            .filter(|opened| opened.is(token) && Arc::ptr_eq(&opened.ring, &ring))
            .map(|opened| Arc::clone(&opened.claims));
        let claims = if let Some(claims) = known {
            claims
        } else {
            let claims = Arc::new(TokenKeys::decrypt(&ring, token)?);
            if token.len() <= LONGEST {
                let opened =
                    Opened { token: token.into(), ring: Arc::clone(&ring), claims: Arc::clone(&claims) };
                self.0.lock().unwrap_or_else(PoisonError::into_inner)[slot] = Some(opened);
            }
            claims
        };
        keys.refuse_revoked(&claims)?;
        Ok(claims)
    }
}

impl Opened {
    /// Takes the same time wherever they differ.
    fn is(&self, token: &str) -> bool {
        verify_slices_are_equal(self.token.as_bytes(), token.as_bytes()).is_ok()
    }
}

/// From the end of the authentication tag, which is as good as random.
fn slot(token: &[u8]) -> usize {
    let mut hasher = DefaultHasher::new();
    token.last_chunk::<8>().hash(&mut hasher);
    hasher.finish() as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use hearth_api::PortSpecification;

    use super::super::tests::{NOW, key, microvm};
    use super::*;

    fn claims() -> Claims {
        super::super::tests::claims(vec![PortSpecification::AllPorts {}])
    }

    #[test]
    fn what_was_opened_before_is_judged_as_if_it_were_new() {
        let keys = TokenKeys::new(key(1), vec![]);
        let opened = OpenedTokens::default();
        let token = keys.issue(&claims()).unwrap();
        for _ in 0..2 {
            assert_eq!(*opened.open(&keys, &token).unwrap(), claims());
        }
        // Each single character that is another one.
        for index in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(opened.open(&keys, &changed).err(), keys.open(&changed).err(), "{index}");
        }
        keys.revoke(&microvm(), 1, NOW);
        assert_eq!(opened.open(&keys, &token), Err(TokenError::Revoked));
    }

    #[test]
    fn keys_that_are_gone_open_nothing_any_more() {
        let keys = TokenKeys::new(key(1), vec![]);
        let opened = OpenedTokens::default();
        let token = keys.issue(&claims()).unwrap();
        opened.open(&keys, &token).unwrap();
        keys.replace(key(2), vec![key(1)]);
        opened.open(&keys, &token).unwrap();
        keys.replace(key(3), vec![key(2)]);
        assert_eq!(opened.open(&keys, &token), Err(TokenError::UnknownKey));
    }

    #[test]
    fn tokens_that_share_a_place_are_told_apart() {
        let keys = TokenKeys::new(key(1), vec![]);
        let opened = OpenedTokens::default();
        let tokens: Vec<_> = (0..2 * SLOTS as i64)
            .map(|more| {
                let claims = Claims { expires_at_seconds: NOW + more, ..claims() };
                (keys.issue(&claims).unwrap(), claims)
            })
            .collect();
        for (token, claims) in tokens.iter().chain(&tokens) {
            assert_eq!(*opened.open(&keys, token).unwrap(), *claims);
        }
    }
}
