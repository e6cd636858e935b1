//! Egress policies: an extension, which AWS does not have.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{NetworkConnectorArn, NetworkConnectorState, Timestamp};

/// What an egress policy lets microVMs reach. `R` is what a rule is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressPolicy<R> {
    /// The network connector that it is.
    pub network_connector_arn: NetworkConnectorArn,
    /// Name, unique in the account.
    pub name: String,
    /// State of the connector.
    pub state: NetworkConnectorState,
    /// Last change.
    pub updated_at: Timestamp,
    /// Its rules; numbers of rules count from 1.
    pub rules: Vec<R>,
}

/// Verdicts of [`EgressDecision`].
pub const ALLOWED: &str = "ALLOWED";
/// See [`ALLOWED`].
pub const REFUSED: &str = "REFUSED";

/// What has been decided by the egress policy of a microVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressDecisions {
    /// Decisions, by the time that they were first made. The same again is counted.
    pub decisions: Vec<EgressDecision>,
    /// How many more there were that are not kept, or how often some were not seen.
    pub lost: u64,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressDecision {
    /// `ALLOWED` or `REFUSED`.
    pub verdict: String,
    /// `dns` of a question for a name, else `tcp`, `udp`, `icmp` or `ip-<number>`.
    pub protocol: String,
    /// Name that was asked for, or whose address it is, where that is known.
    pub name: Option<String>,
    /// Address.
    pub address: Option<Ipv4Addr>,
    /// Port.
    pub port: Option<u16>,
    /// Number of the rule that allowed it, the last time.
    pub rule: Option<usize>,
    /// Why it was refused.
    pub reason: Option<String>,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
    /// How often.
    pub count: u64,
}
