//! The payload of the run hook, from RunMicrovm's answer until the hook has answered.
//!
//! It must survive a crash in between, and be nowhere afterwards. A database keeps what was deleted
//! in its pages and its log, so it is sealed there, with a key that is kept elsewhere.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use hearth_api::MicrovmId;

/// Seals payloads (AES-256-GCM). What one microVM is to be told cannot be opened as another's.
pub struct SealingKey(RandomizedNonceKey);

impl fmt::Debug for SealingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SealingKey")
    }
}

impl SealingKey {
    /// A key of 256 bits, which should be random.
    ///
    /// # Errors
    /// When the library cannot make keys.
    pub fn new(key: &[u8; 32]) -> Result<Self, Unspecified> {
        RandomizedNonceKey::new(&AES_256_GCM, key).map(Self)
    }

    /// The payload, to be opened for this microVM only: nonce, ciphertext and tag.
    ///
    /// # Errors
    /// When there is no random number.
    pub(crate) fn seal(&self, id: &MicrovmId, payload: &str) -> Result<Vec<u8>, Unspecified> {
        let mut text = payload.as_bytes().to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(id.as_str()), &mut text)?;
        Ok([&nonce.as_ref()[..], &text].concat())
    }

    /// What was sealed; nothing if it was with another key or for another microVM.
    pub(crate) fn open(&self, id: &MicrovmId, sealed: &[u8]) -> Option<String> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let payload = self.0.open_in_place(nonce, Aad::from(id.as_str()), &mut text).ok()?;
        String::from_utf8(payload.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_and_the_microvm_open_a_payload() {
        let key = SealingKey::new(&[1; 32]).unwrap();
        let (id, other) = (MicrovmId::new(), MicrovmId::new());
        let sealed = key.seal(&id, "secret").unwrap();
        assert_eq!(key.open(&id, &sealed).as_deref(), Some("secret"));
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_ne!(key.seal(&id, "secret").unwrap(), sealed);
        assert_eq!(key.open(&other, &sealed), None);
        assert_eq!(SealingKey::new(&[2; 32]).unwrap().open(&id, &sealed), None);
        assert_eq!(key.open(&id, &sealed[..sealed.len() - 1]), None);
        assert_eq!(key.open(&id, b"short"), None);
    }
}
