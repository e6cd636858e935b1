//! A request to S3 before and after `s3s`: cross-origin headers, what is refused from the head
//! alone, and bodies that are checked on their way.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hearth_auth::sigv4::{Denial, claimed_access_key, refuse_signed_headers};
use hearth_identity::Identities;
use hearth_service::wire::respond;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use s3s::service::S3Service;
use tracing::Instrument as _;

use crate::body::{self, Spoiled};
use crate::virtual_hosts::Names;
use crate::{ObjectStorage, control, sentences, version_2};

/// S3 over HTTP. Clones share everything.
#[derive(Debug, Clone)]
pub struct S3 {
    service: S3Service,
    storage: ObjectStorage,
    names: Names,
    identities: Arc<Identities>,
}

impl S3 {
    /// Every request must be signed with a key of `identities`. A request whose host is a bucket
    /// and one of `names` is about that bucket.
    pub fn new(storage: &ObjectStorage, identities: Arc<Identities>, names: Names) -> Self {
        let service = storage.service(identities.clone(), names.clone());
        Self { service, storage: storage.clone(), names, identities }
    }

    /// Answers a request, and logs it once. It runs as a task of its own: hyper drops what it waits
    /// for when the client hangs up, and a change must not stop half-way.
    pub async fn answer(self, request: Request) -> Response {
        let id = uuid::Uuid::new_v4().to_string();
        let span =
            tracing::info_span!("request", id, method = %request.method(), path = request.uri().path());
        let began = Instant::now();
        let (parts, body) = request.into_parts();
        let running = async move { self.call(parts, body).await };
        let done = tokio::spawn(running.instrument(span.clone())).await;
        let mut response = done.unwrap_or_else(|error| {
            tracing::error!(%error, "a request broke off");
            respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "")
        });
        let status = response.status().as_u16();
        let microseconds = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        span.in_scope(|| tracing::debug!(service = "s3", status, microseconds, "answered"));
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().entry("x-amzn-requestid").or_insert(id);
        }
        response
    }

    async fn call(&self, parts: Parts, body: Body) -> Response {
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
        match self.service.call(http::Request::from_parts(parts, body)).await {
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
