//! Which neighbour answers a request, and the HTTP around the small ones.
//!
//! By this order: `X-Amz-Target` → CloudWatch Logs or Service Quotas; signed for `iam` or `sts`, or
//! an unsigned form posted to `/` → the query protocol; everything else → S3, which does its own
//! signature check because bodies are streamed.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use hearth_auth::sigv4::{Denial, claimed_access_key, claimed_service, refuse_signed_headers};
use hearth_identity::{Caller, Identities};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use s3s::service::S3Service;

use crate::ObjectStorage;
use crate::json::Refusal;
use crate::logs::{self, Logs};
use crate::query::{self, Api};
use crate::quotas::{self, QuotaValues, ServiceQuotas};
use crate::s3::body::{self, Spoiled};
use crate::s3::virtual_hosts::Names;
use crate::s3::{control, sentences, version_2};

/// Longest body of a call to the small services, CloudWatch Logs excepted.
const MAXIMUM_BODY_BYTES: usize = 1024 * 1024;

/// Content type of the services that speak JSON 1.1.
const JSON: &str = "application/x-amz-json-1.1";

/// Everything the neighbours need.
#[derive(Debug, Clone)]
struct Companions {
    s3: S3Service,
    storage: ObjectStorage,
    names: Names,
    logs: Logs,
    quotas: ServiceQuotas,
    identities: Arc<Identities>,
}

/// A router whose fallback is S3, so it is to be mounted as the fallback of the control plane.
/// `quotas` are those that are set and those that would be by default. `names` are the server's
/// own, in front of which there can be a bucket.
pub fn router(
    storage: &ObjectStorage,
    store: Arc<dyn hearth_records::Logs>,
    identities: Arc<Identities>,
    region: &str,
    quotas: (QuotaValues, QuotaValues),
    names: &[String],
) -> Router {
    let names = Names::new(names);
    let companions = Companions {
        s3: storage.service(identities.clone(), names.clone()),
        storage: storage.clone(),
        names,
        logs: Logs::new(store, identities.clone(), region, quotas.0.live_tail_sessions),
        quotas: ServiceQuotas::new(identities.clone(), region, quotas.0, quotas.1),
        identities,
    };
    Router::new().fallback(dispatch).with_state(companions)
}

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Service {
    /// CloudWatch Logs with the operation.
    Logs(String),
    /// Service Quotas with the operation.
    Quotas(String),
    /// IAM or STS.
    Query(Api),
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
        if let Some(operation) = operation(logs::TARGET_PREFIX) {
            return Self::Logs(operation);
        }
        if let Some(operation) = operation(quotas::TARGET_PREFIX) {
            return Self::Quotas(operation);
        }
        let form = text(&parts.headers, CONTENT_TYPE)
            .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
        let authorization = text(&parts.headers, AUTHORIZATION);
        let service = claimed_service(authorization.as_deref(), parts.uri.query().unwrap_or(""));
        match service.as_deref() {
            Some("iam") => Self::Query(Api::Iam),
            Some("sts") => Self::Query(Api::Sts),
            // Nothing but a refusal can come of it.
            None if form && parts.method == Method::POST && parts.uri.path() == "/" => Self::Query(Api::Sts),
            // A request that names no service can only be an anonymous one to S3.
            None | Some("s3") => Self::S3,
            Some(other) => Self::Other(other.to_owned()),
        }
    }
}

async fn dispatch(State(companions): State<Companions>, request: Request) -> Response {
    let request_id = uuid::Uuid::new_v4().to_string();
    // A task of its own: hyper drops what it waits for when the client hangs up, and a change
    // must not stop half-way.
    let running = tokio::spawn(answer(companions, request, request_id.clone()));
    let mut response = running.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request broke off");
        respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "")
    });
    let request_id = request_id.parse().expect("invariant: a UUID is a header value");
    response.headers_mut().entry("x-amzn-requestid").or_insert(request_id);
    response
}

async fn answer(companions: Companions, request: Request, request_id: String) -> Response {
    let (parts, body) = request.into_parts();
    match Service::of(&parts) {
        Service::S3 => companions.s3(parts, body).await,
        Service::Logs(operation) => companions.logs(&operation, &parts, body).await,
        Service::Quotas(operation) => companions.quotas(&operation, &parts, body).await,
        Service::Query(api) => companions.query(api, &parts, body, &request_id).await,
        Service::Other(name) => unknown_operation(&name, &parts),
    }
}

/// The answer of JSON services; nothing is done, so the signature does not matter.
fn unknown_operation(service: &str, parts: &Parts) -> Response {
    let (method, path) = (&parts.method, parts.uri.path());
    let message = format!("There is no operation {method} {path} of the service '{service}' here.");
    let kind = hearth_api::ErrorKind::UnknownOperation;
    let body = serde_json::json!({ "message": message }).to_string();
    let mut response = respond(StatusCode::NOT_FOUND, "application/json", body);
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(kind.name()));
    response
}

impl Companions {
    async fn s3(&self, parts: Parts, body: Body) -> Response {
        if let Some(answer) = self.storage.preflight(&self.names, &parts).await {
            return answer;
        }
        let cross_origin = self.storage.cross_origin(&self.names, &parts).await;
        let mut response = self.s3_answer(parts, body).await;
        response.headers_mut().extend(cross_origin);
        response
    }

    async fn s3_answer(&self, mut parts: Parts, body: Body) -> Response {
        if let Some(refusal) = refuse_names(&parts) {
            self.identities.intake().drain(&parts, body).await;
            return refusal;
        }
        version_2::move_token(&mut parts);
        control::sort_query(&mut parts);
        // Nothing but a refusal can come of a caller that nobody knows, and of a signature for
        // another time or service. Their bodies are not kept.
        let prepared = if !self.is_known(&parts) {
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            Ok(body::unread())
        } else if !is_timely(&parts, jiff::Timestamp::now()) {
            // A client whose clock is wrong gets to see it, and corrects itself.
            if !parts.headers.contains_key(EXPECT) {
                self.identities.intake().drain(&parts, body).await;
            }
            Ok(body::thrown_away())
        } else {
            body::prepare(&mut parts, body, self.identities.intake()).await
        };
        let refuse = |spoiled: Spoiled| respond(spoiled.status(), "application/xml", spoiled.to_xml());
        let (body, broke_off) = match prepared {
            Ok(prepared) => prepared,
            Err(spoiled) => return refuse(spoiled),
        };
        let is_control = control::is_control(&parts.uri, &parts.headers);
        match self.s3.call(http::Request::from_parts(parts, body)).await {
            Ok(response) => match broke_off.get() {
                Some(spoiled) if !response.status().is_success() => refuse(spoiled),
                _ => sentences::with_message(response, is_control).map(Body::new),
            },
            Err(error) => {
                tracing::error!(?error, "S3 could not answer");
                respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "")
            }
        }
    }

    /// Whether there is the access key that claims to have signed a request to S3.
    fn is_known(&self, parts: &Parts) -> bool {
        let authorization = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let query = parts.uri.query().unwrap_or("");
        let key = claimed_access_key(authorization, query).or_else(|| version_2::access_key(query));
        key.is_some_and(|key| self.identities.credential(&key).is_ok())
    }

    async fn logs(&self, operation: &str, parts: &Parts, body: Body) -> Response {
        let outcome = match self.authenticate("logs", parts, body, logs::maximum_body_bytes(operation)).await
        {
            Ok((caller, body)) => self.logs.call(operation, &body, &caller).await,
            Err(error) => Err(Refusal::new(error.kind.name(), error.message)),
        };
        match outcome {
            Ok(logs::Answer::Json(body)) => respond(StatusCode::OK, JSON, body),
            Ok(logs::Answer::Events(body)) => {
                respond(StatusCode::OK, "application/vnd.amazon.eventstream", body)
            }
            Err(error) => respond(error.status(), JSON, error.body()),
        }
    }

    async fn quotas(&self, operation: &str, parts: &Parts, body: Body) -> Response {
        let outcome = match self.authenticate("servicequotas", parts, body, MAXIMUM_BODY_BYTES).await {
            Ok((caller, body)) => self.quotas.call(operation, &body, &caller),
            Err(error) => Err(Refusal::new(error.kind.name(), error.message)),
        };
        match outcome {
            Ok(body) => respond(StatusCode::OK, JSON, body),
            Err(error) => respond(error.status(), JSON, error.body()),
        }
    }

    async fn query(&self, api: Api, parts: &Parts, body: Body, request_id: &str) -> Response {
        let outcome = match self.authenticate(api.service(), parts, body, MAXIMUM_BODY_BYTES).await {
            Ok((caller, body)) => query::call(api, &self.identities, parts, &body, &caller).await,
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok((action, result)) => {
                respond(StatusCode::OK, "text/xml", api.answer(&action, result, request_id))
            }
            Err(refusal) => respond(refusal.status(), "text/xml", api.error(&refusal, request_id)),
        }
    }

    /// Reads the body and verifies the signature.
    async fn authenticate(
        &self,
        service: &str,
        parts: &Parts,
        body: Body,
        maximum_bytes: usize,
    ) -> Result<(Caller, Bytes), hearth_api::Error> {
        self.identities.receive(parts, body, service, maximum_bytes).await
    }
}

/// Whether the headers, or the URL, of a request to S3 leave it open that its signature is good at
/// `now`. `s3s` decides, and reads URLs that are not complete in its own way.
fn is_timely(parts: &Parts, now: jiff::Timestamp) -> bool {
    if let Some(expired) = version_2::is_expired(parts.uri.query().unwrap_or(""), now) {
        return !expired;
    }
    match Identities::check_scope(parts, "s3", now) {
        Ok(()) => true,
        Err(Denial::Missing | Denial::Incomplete(_)) => !parts.headers.contains_key(AUTHORIZATION),
        Err(_) => false,
    }
}

/// Refuses what `s3s` would build a long text of before it knows that the signature is wrong.
fn refuse_names(parts: &Parts) -> Option<Response> {
    let query = parts.uri.query().unwrap_or("");
    let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
    let of_header =
        headers.find_map(|value| refuse_signed_headers(&String::from_utf8_lossy(value.as_bytes()), ""));
    let (code, message) = match of_header {
        Some(message) => ("AuthorizationHeaderMalformed", message),
        None => ("AuthorizationQueryParametersError", refuse_signed_headers("", query)?),
    };
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    Some(respond(StatusCode::BAD_REQUEST, "application/xml", xml))
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
