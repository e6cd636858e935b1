//! Access keys and their secrets.

use std::collections::BTreeMap;
use std::fmt;

use hearth_api::AccountId;

use crate::sigv4::{Denial, Identity, SignedRequest, verify};

/// What belongs to an access key.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Secret access key.
    pub secret: String,
    /// Account that the key speaks for.
    pub account: AccountId,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("account", &self.account).finish_non_exhaustive()
    }
}

/// All access keys that the server knows.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    by_access_key: BTreeMap<String, Credential>,
}

impl Credentials {
    /// The credential of an access key.
    pub fn lookup(&self, access_key: &str) -> Option<Credential> {
        self.by_access_key.get(access_key).cloned()
    }

    /// Verifies that one of these keys signed this HTTP request for `service` at about `now`. `body` is the whole body.
    pub fn authenticate(
        &self,
        parts: &http::request::Parts,
        body: &[u8],
        service: &str,
        now: jiff::Timestamp,
    ) -> Result<Identity, Denial> {
        let headers: Vec<(&str, &[u8])> =
            parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let request = SignedRequest {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or(""),
            headers: &headers,
            body,
        };
        verify(&request, service, now, |access_key| self.lookup(access_key))
    }
}

impl FromIterator<(String, Credential)> for Credentials {
    fn from_iter<I: IntoIterator<Item = (String, Credential)>>(pairs: I) -> Self {
        Self { by_access_key: pairs.into_iter().collect() }
    }
}
