//! Cross-origin requests of browsers: preflights are answered, and answers get the headers, as
//! the bucket's rules say.

use std::sync::Arc;

use axum::body::Body;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, HOST, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use s3s::dto::{CORSConfiguration, CORSRule};
use s3s::{S3Result, s3_error};

use super::ObjectStorage;
use super::bucket::Bucket;
use super::index::Look;
use super::virtual_hosts::Names;

const MAXIMUM_RULES: usize = 100;
/// Each is compared with each pattern, for anybody who asks. A browser's origin is a host name, and
/// requests have few headers.
const MAXIMUM_ORIGIN_BYTES: usize = 1024;
const MAXIMUM_ASKED_NAMES: usize = 100;
const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "HEAD"];

/// Refuses rules that S3 does not take.
pub(super) fn check(setting: &CORSConfiguration) -> S3Result<()> {
    if setting.cors_rules.is_empty() || setting.cors_rules.len() > MAXIMUM_RULES {
        return Err(s3_error!(MalformedXML, "There must be 1 to 100 CORS rules."));
    }
    for rule in &setting.cors_rules {
        if rule.allowed_methods.is_empty() || rule.allowed_origins.is_empty() {
            return Err(s3_error!(
                MalformedXML,
                "A CORS rule must have an AllowedMethod and an AllowedOrigin."
            ));
        }
        if let Some(method) = rule.allowed_methods.iter().find(|it| !METHODS.contains(&it.as_str())) {
            return Err(s3_error!(
                InvalidRequest,
                "Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            ));
        }
        let patterns = rule.allowed_origins.iter().chain(rule.allowed_headers.iter().flatten());
        if let Some(pattern) = patterns.into_iter().find(|pattern| pattern.matches('*').count() > 1) {
            return Err(s3_error!(InvalidRequest, "\"{pattern}\" can not have more than one wildcard."));
        }
    }
    Ok(())
}

impl ObjectStorage {
    /// The answer to a preflight; `None` when the request is none. Nobody has signed it, so
    /// what it costs is bounded: it reads the bucket that it is about, and compares away
    /// from the async threads.
    pub(crate) async fn preflight(&self, names: &Names, parts: &Parts) -> Option<Response<Body>> {
        let method = parts.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.to_str().ok()?.to_owned();
        if parts.method != Method::OPTIONS || !parts.headers.contains_key(ORIGIN) {
            return None;
        }
        let refused = "CORSResponse: This CORS request is not allowed. The origin, the method or a header is in no rule \
                       of the bucket's CORS configuration.";
        let bucket = self.bucket_of_cors(names, parts).await;
        let headers = parts.headers.clone();
        let compare = move || match bucket.as_deref().and_then(|bucket| bucket.cors.as_ref()) {
            None => Err("CORSResponse: CORS is not enabled for this bucket."),
            Some(setting) => allow(setting, &headers, &method, true).ok_or(refused),
        };
        let mut response = Response::new(Body::empty());
        match self.unsigned(compare).await {
            Ok(headers) => response.headers_mut().extend(headers),
            Err(message) => {
                let xml = format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>AccessForbidden</Code>\
                     <Message>{message}</Message></Error>"
                );
                *response.body_mut() = Body::from(xml);
                *response.status_mut() = StatusCode::FORBIDDEN;
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
            }
        }
        Some(response)
    }

    /// What the answer to a request of another origin gets in addition.
    pub(crate) async fn cross_origin(&self, names: &Names, parts: &Parts) -> HeaderMap {
        if !parts.headers.contains_key(ORIGIN) {
            return HeaderMap::new();
        }
        let bucket = self.bucket_of_cors(names, parts).await;
        let setting = bucket.as_deref().and_then(|bucket| bucket.cors.as_ref());
        let headers = setting.and_then(|it| allow(it, &parts.headers, parts.method.as_str(), false));
        headers.unwrap_or_default()
    }

    async fn bucket_of_cors(&self, names: &Names, parts: &Parts) -> Option<Arc<Bucket>> {
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str));
        let name = if let Some(bucket) = host.and_then(|host| names.bucket(host)) {
            bucket.to_ascii_lowercase()
        } else {
            let first = parts.uri.path().split('/').nth(1).unwrap_or_default();
            percent_decode_str(first).decode_utf8().ok()?.into_owned()
        };
        match self.disk.index.look(&name) {
            Look::Missing => return None,
            Look::Loaded(bucket) => return Some(bucket),
            Look::Unloaded(_) => {}
        }
        let disk = self.disk.clone();
        self.unsigned(move || disk.find_any(&name).ok().flatten()).await
    }
}

/// The headers of the first rule that fits.
fn allow(
    setting: &CORSConfiguration,
    headers: &HeaderMap,
    method: &str,
    preflight: bool,
) -> Option<HeaderMap> {
    let origin = headers.get(ORIGIN)?;
    let origin_text = origin.to_str().ok().filter(|origin| origin.len() <= MAXIMUM_ORIGIN_BYTES)?;
    let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).filter(|_| preflight);
    let asked_text = asked.map_or(Ok(""), HeaderValue::to_str).ok()?.to_ascii_lowercase();
    let asked_names: Vec<&str> =
        asked_text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if asked_names.len() > MAXIMUM_ASKED_NAMES {
        return None;
    }
    let (rule, pattern) = setting.cors_rules.iter().find_map(|rule| {
        let pattern = rule.allowed_origins.iter().find(|pattern| fits(pattern, origin_text))?;
        let covered = |name: &&str| {
            rule.allowed_headers.iter().flatten().any(|pattern| fits(&pattern.to_ascii_lowercase(), name))
        };
        let all =
            rule.allowed_methods.iter().any(|own| own.as_str() == method) && asked_names.iter().all(covered);
        all.then_some((rule, pattern))
    })?;
    let mut answer = HeaderMap::new();
    if pattern == "*" {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    } else {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    describe(rule, asked, &mut answer);
    Some(answer)
}

fn describe(rule: &CORSRule, asked: Option<&HeaderValue>, answer: &mut HeaderMap) {
    let mut insert = |name: http::HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            answer.insert(name, value);
        }
    };
    let methods: Vec<&str> = rule.allowed_methods.iter().map(String::as_str).collect();
    insert(ACCESS_CONTROL_ALLOW_METHODS, methods.join(", "));
    let exposed: Vec<&str> = rule.expose_headers.iter().flatten().map(String::as_str).collect();
    if !exposed.is_empty() {
        insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.join(", "));
    }
    if let Some(seconds) = rule.max_age_seconds {
        insert(ACCESS_CONTROL_MAX_AGE, seconds.to_string());
    }
    insert(VARY, "Origin, Access-Control-Request-Headers, Access-Control-Request-Method".to_owned());
    if let Some(asked) = asked {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
}

/// Whether a pattern with at most one `*` fits.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}
