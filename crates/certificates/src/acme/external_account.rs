//! The account that the operator has with an ACME server by other means (RFC 8555, section 7.3.4).

use std::path::PathBuf;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use instant_acme::ExternalAccountKey;

use super::{AcmeError, file_error};

/// As certificate authorities give keys: some with padding, some without.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// What is shorter is no key but a mistake, in bytes.
const SHORTEST_KEY: usize = 16;

/// An account to which a new ACME account is bound.
#[derive(Debug, Clone)]
pub struct ExternalAccount {
    /// Key identifier, as the certificate authority gave it.
    pub key_id: String,
    /// File with the key for HMAC-SHA-256 in base64url. It is read when an account is made, and
    /// not needed afterwards.
    pub key_file: PathBuf,
}

impl ExternalAccount {
    /// The key, read from its file.
    pub(super) fn key(&self) -> Result<ExternalAccountKey, AcmeError> {
        let path = &self.key_file;
        let text = std::fs::read(path).map_err(|source| file_error(path, source))?;
        let key = BASE64URL.decode(text.trim_ascii()).ok().filter(|key| key.len() >= SHORTEST_KEY);
        let key = key.ok_or_else(|| AcmeError::ExternalAccountKey { path: path.clone() })?;
        Ok(ExternalAccountKey::new(self.key_id.clone(), &key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_with_padding_and_line_end_or_without() {
        let directory = tempfile::tempdir().unwrap();
        let account = ExternalAccount { key_id: "id".into(), key_file: directory.path().join("key") };
        let refusal = || account.key().map(drop).unwrap_err().to_string();
        assert_eq!(refusal(), format!("cannot read or write {}", account.key_file.display()));
        for (text, is_good) in [
            ("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W", true),
            ("AAECAwQFBgcICQoLDA0OD_8=\n", true),
            ("AAECAwQFBgcICQoLDA0OD_8", true),
            ("AAECAwQFBgcICQoLDA0OD/8=", false),
            ("AAEC", false),
            ("", false),
        ] {
            std::fs::write(&account.key_file, text).unwrap();
            assert_eq!(account.key().is_ok(), is_good, "{text}");
            if !is_good {
                assert!(refusal().contains("does not hold a key"), "{text}");
            }
        }
    }
}
