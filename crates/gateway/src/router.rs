//! Which neighbour answers a request.
//!
//! By this order: `X-Amz-Target` → CloudWatch Logs or Service Quotas; signed for `iam` or `sts`, or
//! an unsigned form posted to `/` → IAM or STS; everything else → S3, which does its own signature
//! check because bodies are streamed.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use hearth_auth::sigv4::claimed_service;
use hearth_iam_api::{Iam, Sts};
use hearth_identity::Identities;
use hearth_logs_api::Logs;
use hearth_quotas_api::{QuotaValues, ServiceQuotas};
use hearth_records as records;
use hearth_s3_api::{Names, ObjectStorage, S3};
use hearth_service::pages::PageKey;
use hearth_service::wire::respond;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// The APIs beside the control plane.
#[derive(Debug, Clone)]
pub struct Neighbours {
    s3: S3,
    logs: Arc<Logs>,
    quotas: Arc<ServiceQuotas>,
    iam: Arc<Iam>,
    sts: Arc<Sts>,
}

impl Neighbours {
    /// `quotas` are those that are set and those that would be by default. `names` are the server's
    /// own, in front of which there can be a bucket.
    pub fn new(
        storage: &ObjectStorage,
        store: Arc<dyn records::Logs>,
        identities: &Arc<Identities>,
        region: &str,
        page_key: PageKey,
        quotas: (QuotaValues, QuotaValues),
        names: &[String],
    ) -> Self {
        let sessions = quotas.0.live_tail_sessions;
        Self {
            s3: S3::new(storage, identities.clone(), Names::new(names)),
            logs: Logs::new(store, identities.clone(), region, page_key, sessions),
            quotas: ServiceQuotas::new(identities.clone(), region, page_key, quotas),
            iam: Iam::new(identities.clone(), page_key),
            sts: Sts::new(identities.clone()),
        }
    }

    /// A router whose fallback is S3, so it is to be mounted as the fallback of the control plane.
    pub fn router(self) -> Router {
        Router::new().fallback(dispatch).with_state(self)
    }
}

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Service {
    /// CloudWatch Logs with the operation.
    Logs(String),
    /// Service Quotas with the operation.
    Quotas(String),
    Iam,
    Sts,
    S3,
    /// One that is not here, with the name it was signed for.
    Other(String),
}

impl Service {
    fn of(parts: &Parts) -> Self {
        let text = |headers: &HeaderMap, name| -> Option<String> {
            Some(headers.get(name)?.to_str().ok()?.to_owned())
        };
        let target = text(&parts.headers, http::HeaderName::from_static("x-amz-target"));
        let operation =
            |prefix| target.as_deref().and_then(|target| target.strip_prefix(prefix)).map(str::to_owned);
        if let Some(operation) = operation(hearth_logs_api::TARGET_PREFIX) {
            return Self::Logs(operation);
        }
        if let Some(operation) = operation(hearth_quotas_api::TARGET_PREFIX) {
            return Self::Quotas(operation);
        }
        let form = text(&parts.headers, CONTENT_TYPE)
            .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
        let authorization = text(&parts.headers, AUTHORIZATION);
        let service = claimed_service(authorization.as_deref(), parts.uri.query().unwrap_or(""));
        match service.as_deref() {
            Some("iam") => Self::Iam,
            Some("sts") => Self::Sts,
            // Nothing but a refusal can come of it.
            None if form && parts.method == Method::POST && parts.uri.path() == "/" => Self::Sts,
            // A request that names no service can only be an anonymous one to S3.
            None | Some("s3") => Self::S3,
            Some(other) => Self::Other(other.to_owned()),
        }
    }
}

async fn dispatch(State(neighbours): State<Neighbours>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let service = Service::of(&parts);
    let request = Request::from_parts(parts, body);
    match service {
        Service::S3 => neighbours.s3.answer(request).await,
        Service::Logs(operation) => neighbours.logs.answer(operation, request).await,
        Service::Quotas(operation) => neighbours.quotas.answer(operation, request).await,
        Service::Iam => neighbours.iam.answer(request).await,
        Service::Sts => neighbours.sts.answer(request).await,
        Service::Other(name) => unknown_operation(&name, &request),
    }
}

/// The answer of JSON services; nothing is done, so the signature does not matter.
fn unknown_operation(service: &str, request: &Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let message = format!("There is no operation {method} {path} of the service '{service}' here.");
    let kind = hearth_api::ErrorKind::UnknownOperation;
    let body = serde_json::json!({ "message": message }).to_string();
    let mut response = respond(StatusCode::NOT_FOUND, "application/json", body);
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(kind.name()));
    let id = uuid::Uuid::new_v4().to_string();
    tracing::debug!(id, service, %method, path, status = 404, "answered");
    let id = id.parse().expect("invariant: a UUID is a header value");
    response.headers_mut().insert("x-amzn-requestid", id);
    response
}
