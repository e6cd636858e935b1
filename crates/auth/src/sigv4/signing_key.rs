//! Signing keys, which are derived from a secret in four steps and are the same for a day.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use quick_cache::sync::Cache;

use super::TERMINATOR;
use super::claim::ScopeRef;

/// Keys that are kept. With more access keys in use, keys are derived again.
const KEPT: usize = 1024;

/// Signing keys that were derived lately, so that it is done once a day for each access
/// key, region and service.
pub struct SigningKeys(Cache<String, Arc<hmac::Key>>);

impl Default for SigningKeys {
    fn default() -> Self {
        Self(Cache::new(KEPT))
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys").field("kept", &self.0.len()).finish_non_exhaustive()
    }
}

impl SigningKeys {
    /// The key of this secret for a scope. It is looked for by the secret itself, so that a
    /// changed one has another.
    pub(super) fn get(&self, secret: &str, scope: &ScopeRef<'_>) -> Arc<hmac::Key> {
        let name = format!("{scope} {secret}");
        self.0.get(&name).unwrap_or_else(|| {
            let key = Arc::new(derive(secret, scope));
            self.0.insert(name, key.clone());
            key
        })
    }
}

/// "Derive a signing key" of the IAM user guide.
pub(super) fn derive(secret: &str, scope: &ScopeRef<'_>) -> hmac::Key {
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
    for part in [scope.date, scope.region, scope.service, TERMINATOR] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_secret_and_scope_has_its_own_key_every_time() {
        let keys = SigningKeys::default();
        let scope = ScopeRef { date: "20260102", region: "us-east-1", service: "lambda" };
        let scopes = [
            scope,
            ScopeRef { date: "20260103", ..scope },
            ScopeRef { region: "us-east-2", ..scope },
            ScopeRef { service: "s3", ..scope },
        ];
        let signed = |key: &hmac::Key| hmac::sign(key, b"text").as_ref().to_vec();
        for _ in 0..2 {
            let mut seen = Vec::new();
            for (secret, scope) in
                ["one", "other"].iter().flat_map(|secret| scopes.map(|scope| (secret, scope)))
            {
                let found = signed(&keys.get(secret, &scope));
                assert_eq!(found, signed(&derive(secret, &scope)));
                assert!(!seen.contains(&found));
                seen.push(found);
            }
        }
        assert_eq!(keys.0.len(), 8);
    }
}
