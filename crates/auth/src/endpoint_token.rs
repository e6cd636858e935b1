//! Tokens for the endpoints of microVMs: compact JWE (RFC 7516) with `alg: dir` and `enc: A256GCM` (RFC 7518,
//! sections 4.5 and 5.3), as the service issues them. Only the server that issued a token can read it.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearth_api::{MicrovmId, PortSpecification};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest token that is issued or looked at, in characters (`AuthTokenValue` of the service model).
const MAXIMUM_TOKEN_LENGTH: usize = 8000;
/// Longest protected header that is looked at, in characters.
const MAXIMUM_HEADER_LENGTH: usize = 256;
/// Claims are padded with spaces to a multiple of this many bytes, so that a token's length does not tell its ports.
const PADDING_BLOCK: usize = 512;
const TAG_LENGTH: usize = 16;
const NONCE_LENGTH: usize = 12;

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
}

/// Why a token was refused or could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No token.
    #[error("token missing")]
    Missing,
    /// Not a compact JWE of our form.
    #[error("token malformed")]
    Malformed,
    /// Made with a key that is not in the ring.
    #[error("token key unknown")]
    UnknownKey,
    /// Changed, or made with another key of the same id.
    #[error("token authentication tag wrong")]
    BadTag,
    /// Too old.
    #[error("token expired")]
    Expired,
    /// For another microVM.
    #[error("token is for another microVM")]
    WrongMicrovm,
    /// For other ports.
    #[error("port not covered by the token")]
    PortDenied,
    /// So many ports that the token would be longer than clients accept.
    #[error("too many ports for one token")]
    TooManyPorts,
}

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

/// Key ring: the newest key makes tokens, all keys read them.
#[derive(Debug, Clone)]
pub struct TokenKeys {
    newest: TokenKey,
    older: Vec<TokenKey>,
}

/// Protected header; nothing else is understood, so nothing else is allowed (RFC 7516, section 4).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    kid: Uuid,
    alg: String,
    enc: String,
}

impl TokenKeys {
    /// A ring whose `newest` key makes the tokens.
    pub fn new(newest: TokenKey, older: Vec<TokenKey>) -> Self {
        Self { newest, older }
    }

    /// A key for another purpose, which tells nothing about the newest key (HMAC-SHA-256 of the purpose, RFC 2104).
    ///
    /// # Panics
    /// Never: the MAC has 32 bytes.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &self.newest.secret);
        let tag = aws_lc_rs::hmac::sign(&key, purpose.as_bytes());
        tag.as_ref().try_into().expect("invariant: a SHA-256 MAC has 32 bytes")
    }

    /// Makes a token with these claims.
    ///
    /// # Panics
    /// Never: what is sealed is JSON of a few KiB.
    pub fn issue(&self, claims: &Claims) -> Result<String, TokenError> {
        let header = Header { kid: self.newest.kid, alg: "dir".to_owned(), enc: "A256GCM".to_owned() };
        let header = serde_json::to_vec(&header).expect("invariant: three strings are JSON");
        let header = URL_SAFE_NO_PAD.encode(header);
        let mut text = serde_json::to_vec(claims).expect("invariant: claims have string keys only");
        text.resize(text.len().next_multiple_of(PADDING_BLOCK), b' ');
        let (nonce, tag) = aead_key(&self.newest)
            .seal_in_place_separate_tag(Aad::from(header.as_bytes()), &mut text)
            .expect("invariant: AES-GCM seals a text of a few KiB");
        let token = format!(
            "{header}..{}.{}.{}",
            URL_SAFE_NO_PAD.encode(nonce.as_ref()),
            URL_SAFE_NO_PAD.encode(&text),
            URL_SAFE_NO_PAD.encode(tag),
        );
        if token.len() > MAXIMUM_TOKEN_LENGTH { Err(TokenError::TooManyPorts) } else { Ok(token) }
    }

    /// Reads a token and checks that it opens `port` of `microvm` at `now_seconds` (seconds since 1970).
    pub fn verify(
        &self,
        token: Option<&str>,
        microvm: &MicrovmId,
        port: u16,
        now_seconds: i64,
    ) -> Result<Claims, TokenError> {
        let claims = self.open(token.filter(|text| !text.is_empty()).ok_or(TokenError::Missing)?)?;
        if claims.expires_at_seconds < now_seconds {
            Err(TokenError::Expired)
        } else if claims.microvm != *microvm {
            Err(TokenError::WrongMicrovm)
        } else if claims.ports.iter().any(|ports| ports.contains(port)) {
            Ok(claims)
        } else {
            Err(TokenError::PortDenied)
        }
    }

    /// Decrypts a token; what it grants, and until when, is the caller's to judge.
    pub fn open(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > MAXIMUM_TOKEN_LENGTH {
            return Err(TokenError::Malformed);
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [header_part, "", nonce, text, tag] = parts[..] else { return Err(TokenError::Malformed) };
        if header_part.len() > MAXIMUM_HEADER_LENGTH {
            return Err(TokenError::Malformed);
        }
        let header: Header =
            serde_json::from_slice(&decode(header_part)?).map_err(|_| TokenError::Malformed)?;
        if header.alg != "dir" || header.enc != "A256GCM" {
            return Err(TokenError::Malformed);
        }
        let key = std::iter::once(&self.newest)
            .chain(&self.older)
            .find(|key| key.kid == header.kid)
            .ok_or(TokenError::UnknownKey)?;
        let nonce: [u8; NONCE_LENGTH] = decode(nonce)?.try_into().map_err(|_| TokenError::Malformed)?;
        let tag: [u8; TAG_LENGTH] = decode(tag)?.try_into().map_err(|_| TokenError::Malformed)?;
        let mut sealed = decode(text)?;
        sealed.extend_from_slice(&tag);
        let aad = Aad::from(header_part.as_bytes());
        let text = aead_key(key)
            .open_in_place(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .map_err(|_| TokenError::BadTag)?;
        serde_json::from_slice(text).map_err(|_| TokenError::Malformed)
    }
}

fn aead_key(key: &TokenKey) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM, &key.secret).expect("invariant: the key has 32 bytes")
}

/// Strict base64url: no padding, no stray bits.
fn decode(text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn key(byte: u8) -> TokenKey {
        TokenKey { kid: Uuid::from_bytes([byte; 16]), secret: [byte; 32] }
    }

    fn ring() -> TokenKeys {
        TokenKeys::new(key(1), vec![])
    }

    fn microvm() -> MicrovmId {
        MicrovmId::from_stored("microvm-a")
    }

    fn claims(ports: Vec<PortSpecification>) -> Claims {
        Claims { microvm: microvm(), ports, expires_at_seconds: NOW, kind: TokenKind::Http }
    }

    fn judge(token: &str) -> Result<Claims, TokenError> {
        ring().verify(Some(token), &microvm(), 8080, NOW)
    }

    #[test]
    fn a_token_opens_its_ports_of_its_microvm_until_it_expires() {
        let claims = claims(vec![
            PortSpecification::Port(8080),
            PortSpecification::Range { start_port: 9000, end_port: 9002 },
        ]);
        let token = ring().issue(&claims).unwrap();
        for port in [8080, 9000, 9002] {
            assert_eq!(ring().verify(Some(&token), &microvm(), port, NOW).unwrap(), claims);
        }
        let verdict = |port, now| ring().verify(Some(&token), &microvm(), port, now).unwrap_err();
        assert_eq!(verdict(8081, NOW), TokenError::PortDenied);
        assert_eq!(verdict(9003, NOW), TokenError::PortDenied);
        assert_eq!(verdict(8080, NOW + 1), TokenError::Expired);
        let other = MicrovmId::from_stored("microvm-b");
        assert_eq!(ring().verify(Some(&token), &other, 8080, NOW), Err(TokenError::WrongMicrovm));
        assert_eq!(ring().verify(None, &microvm(), 8080, NOW), Err(TokenError::Missing));
        assert_eq!(ring().verify(Some(""), &microvm(), 8080, NOW), Err(TokenError::Missing));
    }

    #[test]
    fn the_form_is_that_of_the_service_and_the_length_tells_nothing() {
        let all = ring().issue(&claims(vec![PortSpecification::AllPorts {}])).unwrap();
        let some = ring().issue(&claims((1..10).map(PortSpecification::Port).collect())).unwrap();
        assert_eq!(all.len(), some.len());
        let parts: Vec<&str> = all.split('.').collect();
        assert_eq!((parts.len(), parts[1]), (5, ""));
        let header: serde_json::Value = serde_json::from_slice(&decode(parts[0]).unwrap()).unwrap();
        let expected = serde_json::json!({"kid": key(1).kid, "alg": "dir", "enc": "A256GCM"});
        assert_eq!(header, expected);
        let endless = (0..2000).map(PortSpecification::Port).collect();
        assert_eq!(ring().issue(&claims(endless)), Err(TokenError::TooManyPorts));
    }

    #[test]
    fn a_change_of_any_character_is_noticed() {
        let token = ring().issue(&claims(vec![PortSpecification::AllPorts {}])).unwrap();
        assert!(judge(&token).is_ok());
        for position in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(judge(&changed).is_err(), "position {position}");
        }
    }

    #[test]
    fn a_flipped_bit_in_nonce_text_or_tag_is_a_bad_tag() {
        let token = ring().issue(&claims(vec![PortSpecification::AllPorts {}])).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        for part in [2, 3, 4] {
            let mut bytes = decode(parts[part]).unwrap();
            for bit in [0, bytes.len() * 8 - 1] {
                bytes[bit / 8] ^= 1 << (bit % 8);
                let encoded = URL_SAFE_NO_PAD.encode(&bytes);
                let mut changed = parts.clone();
                changed[part] = &encoded;
                assert_eq!(judge(&changed.join(".")), Err(TokenError::BadTag), "part {part} bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn other_headers_are_refused_before_anything_is_decrypted() {
        let token = ring().issue(&claims(vec![PortSpecification::AllPorts {}])).unwrap();
        let rest = token.split_once('.').unwrap().1;
        let kid = key(1).kid;
        for (header, expected) in [
            (format!(r#"{{"kid":"{kid}","alg":"A256KW","enc":"A256GCM"}}"#), TokenError::Malformed),
            (format!(r#"{{"kid":"{kid}","alg":"none","enc":"A256GCM"}}"#), TokenError::Malformed),
            (format!(r#"{{"kid":"{kid}","alg":"dir","enc":"A128GCM"}}"#), TokenError::Malformed),
            (format!(r#"{{"kid":"{kid}","alg":"dir","enc":"A256GCM","zip":"DEF"}}"#), TokenError::Malformed),
            (format!(r#"{{"alg":"dir","enc":"A256GCM","kid":"{kid}"}}"#), TokenError::BadTag),
            (format!(r#"{{"kid":"{}","alg":"dir","enc":"A256GCM"}}"#, key(2).kid), TokenError::UnknownKey),
        ] {
            let changed = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(&header));
            assert_eq!(judge(&changed), Err(expected), "{header}");
        }
    }

    #[test]
    fn what_is_not_five_strict_parts_is_malformed() {
        let token = ring().issue(&claims(vec![PortSpecification::AllPorts {}])).unwrap();
        let with_key = token.replacen("..", ".AAAA.", 1);
        for bad in [
            "banana",
            "....",
            &token[..token.len() - 1],
            &format!("{token}="),
            &format!("{token}."),
            &with_key,
        ] {
            assert_eq!(judge(bad), Err(TokenError::Malformed), "{bad}");
        }
        assert_eq!(judge(&"A".repeat(MAXIMUM_TOKEN_LENGTH + 1)), Err(TokenError::Malformed));
    }

    #[test]
    fn older_keys_still_read_and_foreign_secrets_do_not() {
        let token = ring().issue(&claims(vec![PortSpecification::Port(8080)])).unwrap();
        let rotated = TokenKeys::new(key(2), vec![key(1)]);
        assert!(rotated.verify(Some(&token), &microvm(), 8080, NOW).is_ok());
        let foreign = TokenKeys::new(TokenKey { kid: key(1).kid, secret: [9; 32] }, vec![]);
        assert_eq!(foreign.verify(Some(&token), &microvm(), 8080, NOW), Err(TokenError::BadTag));
    }
}
