//! Requests to a microVM's endpoint.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::Value;

use crate::client::Client;
use crate::microvms;
use crate::net::{self, Stream};

/// Lifetime of the token of one request.
const TOKEN_MINUTES: u32 = 5;

/// A request to an app.
#[derive(Debug)]
pub(crate) struct AppRequest {
    /// Method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    /// Port that the app listens on.
    pub(crate) port: u16,
    /// Further headers.
    pub(crate) headers: HeaderMap,
    /// Body.
    pub(crate) body: Bytes,
}

/// Gets a token and sends the request.
pub(crate) async fn send(
    client: &Client,
    id: &str,
    request: AppRequest,
) -> anyhow::Result<Response<Incoming>> {
    let endpoint = Endpoint::of(client, id).await?;
    let token = microvms::create_auth_token(client, id, &[request.port], TOKEN_MINUTES).await?;
    let stream = endpoint.connect().await?;

    let mut head = Request::builder().method(request.method).uri(request.target);
    let headers = head.headers_mut().ok_or_else(|| anyhow!("the path cannot be written as HTTP"))?;
    headers.insert("host", HeaderValue::from_str(endpoint.authority())?);
    for (name, value) in auth_headers(&token)? {
        headers.insert(name, value);
    }
    headers.insert("x-aws-proxy-port", HeaderValue::from(request.port));
    headers.extend(request.headers);
    net::send(stream, head.body(Full::new(request.body))?).await
}

/// Where a microVM is reached.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// `host[:port]`.
    authority: String,
    /// Certificates to trust it by.
    ca_bundle: PathBuf,
}

impl Endpoint {
    /// That of a microVM.
    pub(crate) async fn of(client: &Client, id: &str) -> anyhow::Result<Self> {
        let authority = microvms::describe(client, id).await?.endpoint;
        let ca_bundle = client.connection().ca_bundle.clone().context(
            "HEARTH_CA_BUNDLE is not set; it names the certificates to trust endpoints by, and `hearth env` prints it",
        )?;
        Ok(Self { authority, ca_bundle })
    }

    /// At this address, with a certificate of these.
    #[cfg(test)]
    pub(crate) fn at(authority: String, ca_bundle: PathBuf) -> Self {
        Self { authority, ca_bundle }
    }

    /// Host, with the port when that is not 443.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// A connection with TLS.
    pub(crate) async fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        let (host, port) = host_and_port(&self.authority)?;
        let unreachable = || format!("no connection to {}", self.authority);
        let stream = net::connect(host, port).await.with_context(unreachable)?;
        net::start_tls(stream, host, &self.ca_bundle).await
    }
}

/// The headers in the answer of CreateMicrovmAuthToken or CreateMicrovmShellAuthToken.
pub(crate) fn auth_headers(token: &Value) -> anyhow::Result<Vec<(HeaderName, HeaderValue)>> {
    let headers = token["authToken"].as_object().context("the answer holds no token")?;
    headers
        .iter()
        .map(|(name, value)| {
            let mut value = HeaderValue::from_str(value.as_str().unwrap_or_default())?;
            value.set_sensitive(true);
            Ok((HeaderName::from_bytes(name.as_bytes())?, value))
        })
        .collect()
}

/// Splits `host[:port]`; 443 is the default.
fn host_and_port(endpoint: &str) -> anyhow::Result<(&str, u16)> {
    match endpoint.rsplit_once(':') {
        None => Ok((endpoint, 443)),
        Some((host, port)) => {
            Ok((host, port.parse().with_context(|| format!("{endpoint} is not the address of an endpoint"))?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_an_endpoint_is_443_unless_it_says_otherwise() {
        assert_eq!(host_and_port("a.localhost").unwrap(), ("a.localhost", 443));
        assert_eq!(host_and_port("a.localhost:8443").unwrap(), ("a.localhost", 8443));
        assert!(host_and_port("a.localhost:x").is_err());
    }

    #[test]
    fn every_header_of_the_token_is_sent() {
        let token = serde_json::json!({ "authToken": { "X-aws-proxy-auth": "a.b.c" } });
        let headers = auth_headers(&token).unwrap();
        assert_eq!(headers.len(), 1);
        assert_eq!((headers[0].0.as_str(), headers[0].1.to_str().unwrap()), ("x-aws-proxy-auth", "a.b.c"));
        assert!(auth_headers(&serde_json::json!({})).is_err());
    }
}
