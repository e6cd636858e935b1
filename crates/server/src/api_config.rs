//! `[api]`: who may connect to the API, and how often.

use serde::Deserialize;

/// `[api]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ApiConfig {
    /// Connections at a time; with more, those without a request give way.
    pub(crate) connections: u32,
    /// Connections of one source, an IPv4 address or a /64 of IPv6; 0 is no limit.
    pub(crate) connections_per_source: u32,
    /// Addresses and ranges of proxies whose `X-Forwarded-For` and
    /// `X-Forwarded-Proto` are believed.
    pub(crate) trusted_proxies: Vec<String>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self { connections: 1024, connections_per_source: 512, trusted_proxies: Vec::new() }
    }
}
