//! Service Quotas: what the operator has set, under the service's codes. Reading only.
//!
//! Reading order: [`QuotaValues`], `definitions` (the quotas), `operations` (the table).

mod definitions;
mod operations;

use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use hearth_identity::Identities;
use hearth_service::pages::PageKey;

pub use definitions::QuotaValues;
pub use operations::Access;

/// Prefix of `X-Amz-Target`.
pub const TARGET_PREFIX: &str = "ServiceQuotasV20190624.";

/// Service Quotas.
#[derive(Debug)]
pub struct ServiceQuotas {
    identities: Arc<Identities>,
    region: String,
    page_key: PageKey,
    applied: QuotaValues,
    defaults: QuotaValues,
}

impl ServiceQuotas {
    /// `applied` are the quotas that are set, `defaults` those that would be.
    pub fn new(
        identities: Arc<Identities>,
        region: &str,
        page_key: PageKey,
        (applied, defaults): (QuotaValues, QuotaValues),
    ) -> Arc<Self> {
        Arc::new(Self { identities, region: region.to_owned(), page_key, applied, defaults })
    }

    /// Answers a request for the operation `name`: `X-Amz-Target` without its prefix.
    pub async fn answer(self: Arc<Self>, name: String, request: Request) -> Response {
        hearth_service::json::answer(self, name, request).await
    }
}
