//! What the operator fixes, and what the operations work with.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_api::{AccountId, EndpointLabel};
use hearth_auth::TokenKeys;
use hearth_identity::Identities;
use hearth_image_builder::ImageBuilder;
use hearth_node::Node;
use hearth_records::{CurrentLimits, Quotas, Records};
use hearth_service::pages::PageKey;
use hearth_service::places::Places;
use hearth_service::throttle::Throttle;

use crate::endpoints::Endpoints;
use crate::rates::Rates;
use crate::recent_pages::RecentPages;

/// Port that needs no mention in an endpoint.
const HTTPS_PORT: u16 = 443;
/// Requests of an account that may wait for events at a time.
const WAITING: u32 = 64;

/// Settings of the operator.
#[derive(Debug, Clone)]
pub struct ControlPlaneConfig {
    /// The first account, whose root user runs the server.
    pub operator: AccountId,
    /// Region, such as `us-east-1`.
    pub region: String,
    /// Domain of the endpoints, such as `localhost`.
    pub endpoint_domain: String,
    /// Port of the endpoints.
    pub endpoint_port: u16,
    /// Least `maxIdleDurationSeconds`; 60 on the service.
    pub minimum_idle_seconds: u32,
    /// Largest `maximumDurationInSeconds`; 28800 on the service, 0 for no limit.
    pub maximum_duration_seconds: u32,
    /// Whether `imageIdentifier` may be a bare name, which the service refuses.
    pub lenient_image_names: bool,
    /// Whether images for another architecture than the host's are accepted, and
    /// built for the host's.
    pub any_architecture: bool,
    /// How much an account may have.
    pub limits: CurrentLimits,
    /// How fast an account may call.
    pub rates: Rates,
    /// What accounts may reach that do not say.
    pub default_egress: DefaultEgress,
    /// Memory in MiB that the host keeps available: no microVM is launched when there is less.
    pub minimum_available_memory_mib: u64,
}

/// What the operator lets accounts reach that do not say: the name of a managed egress connector,
/// or of an egress policy of the account's.
#[derive(Debug, Clone)]
pub struct DefaultEgress {
    /// For every account,
    pub all: String,
    /// but for these.
    pub by_account: BTreeMap<String, String>,
}

impl Default for DefaultEgress {
    fn default() -> Self {
        Self { all: "INTERNET_EGRESS".to_owned(), by_account: BTreeMap::new() }
    }
}

/// The parts of the server that operations use.
#[derive(Debug, Clone)]
pub struct Services {
    /// Database.
    pub store: Arc<dyn Records>,
    /// Drives microVMs.
    pub node: Arc<dyn Node>,
    /// Image builds.
    pub image_builder: Arc<ImageBuilder>,
    /// Who calls, and what they may do.
    pub identities: Arc<Identities>,
    /// Keys of endpoint tokens.
    pub token_keys: Arc<TokenKeys>,
    /// The endpoints themselves.
    pub endpoints: Arc<dyn Endpoints>,
}

/// Settings and services together: what operations work with.
#[derive(Debug)]
pub struct Context {
    pub(crate) config: ControlPlaneConfig,
    pub(crate) services: Services,
    pub(crate) throttle: Throttle,
    pub(crate) recent_pages: RecentPages,
    /// Requests that wait for events.
    pub(crate) waiting: Arc<Places>,
    pub(crate) page_key: PageKey,
}

impl Context {
    pub(crate) fn new(config: ControlPlaneConfig, services: Services) -> Self {
        let page_key = PageKey(services.token_keys.derive("nextToken"));
        Self {
            throttle: config.rates.throttle(),
            recent_pages: RecentPages::new(),
            waiting: Places::new(WAITING),
            page_key,
            config,
            services,
        }
    }

    /// How much an account may have now.
    pub(crate) fn quotas(&self) -> Quotas {
        self.config.limits.get().quotas
    }

    /// `endpoint` member: `<label>.lambda-microvm.<region>.<domain>`, with the port when it is not
    /// 443.
    pub(crate) fn endpoint(&self, label: &EndpointLabel) -> String {
        let ControlPlaneConfig { region, endpoint_domain, endpoint_port, .. } = &self.config;
        let host = format!("{label}.lambda-microvm.{region}.{endpoint_domain}");
        if *endpoint_port == HTTPS_PORT { host } else { format!("{host}:{endpoint_port}") }
    }
}
