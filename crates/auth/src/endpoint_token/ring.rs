//! The keys that are in use, each with what it needs to be used often.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::TokenError;

pub(super) const TAG_LENGTH: usize = 16;
pub(super) const NONCE_LENGTH: usize = 12;
/// Longest protected header that is looked at, in characters.
const MAXIMUM_HEADER_LENGTH: usize = 256;

/// A 256-bit key with its public id.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// Id, sent with each token.
    pub kid: Uuid,
    /// The key itself.
    pub secret: [u8; 32],
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Protected header; nothing else is understood, so nothing else is allowed (RFC 7516, section 4).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    kid: Uuid,
    alg: String,
    enc: String,
}

/// The keys, the newest first; never empty.
#[derive(Debug)]
pub(super) struct Ring(Vec<Key>);

/// A key that is scheduled, and the header of its tokens.
pub(super) struct Key {
    kid: Uuid,
    header: String,
    aead: RandomizedNonceKey,
}

impl Ring {
    pub(super) fn new(newest: TokenKey, older: Vec<TokenKey>) -> Self {
        Self(std::iter::once(newest).chain(older).map(|key| Key::new(&key)).collect())
    }

    pub(super) fn newest(&self) -> &Key {
        &self.0[0]
    }

    /// The key of a token with this header. Our own headers are recognised as they
    /// are; others are read.
    pub(super) fn find(&self, header: &str) -> Result<&Key, TokenError> {
        if let Some(key) = self.0.iter().find(|key| key.header == header) {
            return Ok(key);
        }
        if header.len() > MAXIMUM_HEADER_LENGTH {
            return Err(TokenError::Malformed);
        }
        let json = URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenError::Malformed)?;
        let header: Header = serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)?;
        if header.alg != "dir" || header.enc != "A256GCM" {
            return Err(TokenError::Malformed);
        }
        self.0.iter().find(|key| key.kid == header.kid).ok_or(TokenError::UnknownKey)
    }
}

impl Key {
    fn new(key: &TokenKey) -> Self {
        let header = Header { kid: key.kid, alg: "dir".to_owned(), enc: "A256GCM".to_owned() };
        let header = serde_json::to_vec(&header).expect("invariant: three strings are JSON");
        let aead =
            RandomizedNonceKey::new(&AES_256_GCM, &key.secret).expect("invariant: the key has 32 bytes");
        Self { kid: key.kid, header: URL_SAFE_NO_PAD.encode(header), aead }
    }

    /// Encrypts `text` in place; the header that it goes with, the nonce and the tag. Nonces are
    /// random: by NIST SP 800-38D, section 8.3, one key is good for 2³² tokens.
    pub(super) fn seal(&self, text: &mut [u8]) -> (&str, [u8; NONCE_LENGTH], [u8; TAG_LENGTH]) {
        let (nonce, tag) = self
            .aead
            .seal_in_place_separate_tag(Aad::from(self.header.as_bytes()), text)
            .expect("invariant: AES-GCM seals a text of a few KiB");
        let tag = tag.as_ref().try_into().expect("invariant: the tag of A256GCM has 16 bytes");
        (&self.header, *nonce.as_ref(), tag)
    }

    /// Decrypts `sealed`, which ends with the tag, in place.
    pub(super) fn open<'text>(
        &self,
        header: &str,
        nonce: [u8; NONCE_LENGTH],
        sealed: &'text mut [u8],
    ) -> Result<&'text [u8], TokenError> {
        let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from(header.as_bytes()));
        let opened = self.aead.open_in_place(nonce, aad, sealed);
        opened.map(|text| &*text).map_err(|_| TokenError::BadTag)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).finish_non_exhaustive()
    }
}
