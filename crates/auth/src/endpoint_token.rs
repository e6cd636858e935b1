//! Tokens for the endpoints of microVMs: compact JWE (RFC 7516) with `alg: dir` and `enc:
//! A256GCM` (RFC 7518, sections 4.5 and 5.3), as the service issues them. Only the server that
//! issued a token can read it.
//!
//! Keys change and microVMs' tokens are revoked while requests are checked: both are
//! read without a lock.

mod opened;
mod ring;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearth_api::{MicrovmId, PortSpecification};
use serde::{Deserialize, Serialize};

pub use opened::OpenedTokens;
pub use ring::TokenKey;
use ring::{NONCE_LENGTH, Ring, TAG_LENGTH};

/// Longest life of a token in seconds: `expirationInMinutes` is at most 60
/// (CreateMicrovmAuthToken).
pub const LONGEST_LIFE_SECONDS: i64 = 60 * 60;
/// Longest token that is issued or looked at, in characters (`AuthTokenValue` of the
/// service model).
const MAXIMUM_TOKEN_LENGTH: usize = 8000;
/// Claims are padded with spaces to a multiple of this many bytes, so that a token's length
/// does not tell its ports.
const PADDING_BLOCK: usize = 512;
/// How much longer than a token's life a revocation is remembered, in seconds, for
/// clocks that are set back.
const REVOCATION_MARGIN_SECONDS: i64 = 60 * 60;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// Requests to the app (CreateMicrovmAuthToken).
    Http,
    /// A terminal (CreateMicrovmShellAuthToken).
    Shell,
}

/// What a token grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The one microVM.
    #[serde(rename = "vm")]
    pub microvm: MicrovmId,
    /// Ports that may be reached.
    pub ports: Vec<PortSpecification>,
    /// Last second of validity, in seconds since 1970-01-01T00:00:00Z.
    #[serde(rename = "exp")]
    pub expires_at_seconds: i64,
    /// Purpose.
    pub kind: TokenKind,
    /// How many times the microVM's tokens had been revoked when this one was made.
    #[serde(rename = "rev", default, skip_serializing_if = "is_zero")]
    pub revocations: u64,
}

impl Claims {
    /// Whether they still hold at a time in seconds since 1970-01-01T00:00:00Z.
    pub fn is_valid_at(&self, now_seconds: i64) -> bool {
        now_seconds <= self.expires_at_seconds
    }

    /// Whether `port` may be reached.
    pub fn opens(&self, port: u16) -> bool {
        self.ports.iter().any(|ports| ports.contains(port))
    }
}

/// Why a token was refused or could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a compact JWE of our form.
    #[error("token malformed")]
    Malformed,
    /// Made with a key that is not in the ring.
    #[error("token key unknown")]
    UnknownKey,
    /// Changed, or made with another key of the same id.
    #[error("token authentication tag wrong")]
    BadTag,
    /// Made before the microVM's tokens were revoked.
    #[error("token revoked")]
    Revoked,
    /// So many ports that the token would be longer than clients accept.
    #[error("too many ports for one token")]
    TooManyPorts,
}

/// The keys, the newest of which makes tokens while all read them, and what has been revoked.
#[derive(Debug)]
pub struct TokenKeys {
    ring: ArcSwap<Ring>,
    /// Stays the same when the keys change.
    root: [u8; 32],
    /// Nearly always empty.
    revoked: ArcSwap<HashMap<MicrovmId, Revoked>>,
    revoking: Mutex<()>,
}

#[derive(Debug, Clone, Copy)]
struct Revoked {
    times: u64,
    /// Until then there may be tokens from before.
    until_seconds: i64,
}

impl TokenKeys {
    /// A ring whose `newest` key makes the tokens; other keys are derived from `newest` as well.
    pub fn new(newest: TokenKey, older: Vec<TokenKey>) -> Self {
        let root = newest.secret;
        Self::with_root(root, newest, older)
    }

    /// A ring whose derived keys come from `root`, so that they do not change when `newest` does.
    pub fn with_root(root: [u8; 32], newest: TokenKey, older: Vec<TokenKey>) -> Self {
        Self {
            ring: ArcSwap::from_pointee(Ring::new(newest, older)),
            root,
            revoked: ArcSwap::default(),
            revoking: Mutex::default(),
        }
    }

    /// Changes the keys. Requests that are being checked finish with the former ones.
    pub fn replace(&self, newest: TokenKey, older: Vec<TokenKey>) {
        self.ring.store(Ring::new(newest, older).into());
    }

    /// Refuses the tokens of a microVM that were made when these had been revoked fewer than
    /// `times` times. That is remembered for as long as there can be such tokens.
    pub fn revoke(&self, microvm: &MicrovmId, times: u64, now_seconds: i64) {
        self.revoke_all([(microvm.clone(), times)], now_seconds);
    }

    /// As [`Self::revoke`] for each of these microVMs.
    pub fn revoke_all(&self, microvms: impl IntoIterator<Item = (MicrovmId, u64)>, now_seconds: i64) {
        let _one_at_a_time = self.revoking.lock().unwrap_or_else(PoisonError::into_inner);
        let mut revoked = HashMap::clone(&self.revoked.load());
        revoked.retain(|_, revoked| revoked.until_seconds >= now_seconds);
        let until_seconds = now_seconds + LONGEST_LIFE_SECONDS + REVOCATION_MARGIN_SECONDS;
        for (microvm, times) in microvms {
            let latest = revoked.entry(microvm).or_insert(Revoked { times, until_seconds });
            // Two revocations at the same time may come here in either order.
            if times > latest.times {
                *latest = Revoked { times, until_seconds };
            }
        }
        self.revoked.store(revoked.into());
    }

    /// A key for another purpose, which tells nothing about the root (HMAC-SHA-256 of
    /// the purpose, RFC 2104).
    ///
    /// # Panics
    /// Never: the MAC has 32 bytes.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &self.root);
        let tag = aws_lc_rs::hmac::sign(&key, purpose.as_bytes());
        tag.as_ref().try_into().expect("invariant: a SHA-256 MAC has 32 bytes")
    }

    /// Makes a token with these claims.
    ///
    /// # Panics
    /// Never: what is sealed is JSON of a few KiB.
    pub fn issue(&self, claims: &Claims) -> Result<String, TokenError> {
        let mut text = serde_json::to_vec(claims).expect("invariant: claims have string keys only");
        text.resize(text.len().next_multiple_of(PADDING_BLOCK), b' ');
        let ring = self.ring.load();
        let (header, nonce, tag) = ring.newest().seal(&mut text);
        let [nonce, text, tag] = [&nonce[..], &text, &tag].map(|part| URL_SAFE_NO_PAD.encode(part));
        let token = format!("{header}..{nonce}.{text}.{tag}");
        if token.len() > MAXIMUM_TOKEN_LENGTH { Err(TokenError::TooManyPorts) } else { Ok(token) }
    }

    /// Decrypts a token and refuses one that was revoked; what it grants, and until when, is
    /// the caller's to judge.
    pub fn open(&self, token: &str) -> Result<Claims, TokenError> {
        let claims = Self::decrypt(&self.ring.load(), token)?;
        self.refuse_revoked(&claims)?;
        Ok(claims)
    }

    fn decrypt(ring: &Ring, token: &str) -> Result<Claims, TokenError> {
        if token.len() > MAXIMUM_TOKEN_LENGTH {
            return Err(TokenError::Malformed);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(""), Some(nonce), Some(text), Some(tag), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed);
        };
        let key = ring.find(header)?;
        let nonce: [u8; NONCE_LENGTH] = decode_exactly(nonce)?;
        let tag: [u8; TAG_LENGTH] = decode_exactly(tag)?;
        let mut sealed = Vec::with_capacity(text.len());
        URL_SAFE_NO_PAD.decode_vec(text, &mut sealed).map_err(|_| TokenError::Malformed)?;
        sealed.extend_from_slice(&tag);
        let text = key.open(header, nonce, &mut sealed)?;
        serde_json::from_slice(text).map_err(|_| TokenError::Malformed)
    }

    fn refuse_revoked(&self, claims: &Claims) -> Result<(), TokenError> {
        let revoked = self.revoked.load();
        // Hashing an id for nothing would cost more than anything else here.
        if !revoked.is_empty()
            && revoked.get(&claims.microvm).is_some_and(|revoked| claims.revocations < revoked.times)
        {
            return Err(TokenError::Revoked);
        }
        Ok(())
    }
}

/// Strict base64url, no padding, no stray bits, of so many bytes.
fn decode_exactly<const N: usize>(text: &str) -> Result<[u8; N], TokenError> {
    let mut bytes = [0; N];
    // A text of another length is refused before anything is written.
    if text.len() != (N * 4).div_ceil(3) || URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(N) {
        return Err(TokenError::Malformed);
    }
    Ok(bytes)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
