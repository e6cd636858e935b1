//! Signed calls to the API, and what comes back.

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use hearth_auth::sigv4::{Scope, SignedRequest, sign};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::connection::Connection;
use crate::net::{self, Stream};

/// RFC 3986 unreserved characters stay as they are; everything else is encoded, as
/// signatures want it.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Version of the service model `lambda-microvms`; the first part of every path.
const API_VERSION: &str = "/2025-09-09";
/// Version of the service model `lambda-core`, before the paths of its operations.
const CORE_VERSION: &str = "/2026-04-04";
/// First part of the paths of our extensions.
const EXTENSION_VERSION: &str = "/hearth/2026-11-22";

/// One part of a path, or a value of a query, encoded.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// An error answer of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub(crate) struct ApiError {
    /// Exception or error code, such as `ResourceNotFoundException`.
    pub(crate) code: String,
    /// The service's sentence, without a full stop.
    pub(crate) message: String,
}

/// One request to one of the services behind the API's address.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// Signing name: `lambda`, `s3`, `logs` or `sts`.
    pub(crate) service: &'a str,
    /// HTTP method.
    pub(crate) method: Method,
    /// Path, encoded.
    pub(crate) path: String,
    /// Query, encoded; empty when there is none.
    pub(crate) query: String,
    /// Headers besides those of the signature.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Body.
    pub(crate) body: Bytes,
}

/// A client of one server.
pub(crate) struct Client {
    connection: Connection,
}

impl Client {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// The server and the identity in use.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Calls an operation of `lambda-microvms`; `path` and `query` are encoded. The
    /// answer is the API's JSON.
    pub(crate) async fn microvms(
        &self,
        method: Method,
        path: &str,
        query: String,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        self.lambda(method, format!("{API_VERSION}{path}"), query, body).await
    }

    /// Calls an extension of Hearth's own, which has no parameters but those in its path.
    pub(crate) async fn extension(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        self.extension_with(method, path, String::new()).await
    }

    /// Calls an extension of Hearth's own with this query; its names and values are encoded.
    pub(crate) async fn extension_with(
        &self,
        method: Method,
        path: &str,
        query: String,
    ) -> anyhow::Result<Value> {
        self.lambda(method, format!("{EXTENSION_VERSION}{path}"), query, None).await
    }

    /// Calls an extension of Hearth's own with this body.
    pub(crate) async fn extension_body(
        &self,
        method: Method,
        path: &str,
        body: Value,
    ) -> anyhow::Result<Value> {
        self.lambda(method, format!("{EXTENSION_VERSION}{path}"), String::new(), Some(body)).await
    }

    /// GetNetworkConnector of `lambda-core`, or DeleteNetworkConnector.
    pub(crate) async fn network_connector(&self, method: Method, name: &str) -> anyhow::Result<Value> {
        let path = format!("{CORE_VERSION}/network-connectors/{}", encode(name));
        self.lambda(method, path, String::new(), None).await
    }

    async fn lambda(
        &self,
        method: Method,
        path: String,
        query: String,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let call = Call {
            service: "lambda",
            method,
            path,
            query,
            headers: body.iter().map(|_| ("content-type", "application/json".to_owned())).collect(),
            body: body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string())),
        };
        let body = self.send(call).await?;
        parse_json(&body)
    }

    /// All pages of a list operation.
    pub(crate) async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut query = String::new();
        loop {
            let mut page = self.microvms(Method::GET, path, query, None).await?;
            if let Value::Array(page) = page["items"].take() {
                items.extend(page);
            }
            match page["nextToken"].as_str() {
                Some(token) => query = format!("nextToken={}", encode(token)),
                None => return Ok(items),
            }
        }
    }

    /// Calls an operation of CloudWatch Logs (JSON 1.1).
    pub(crate) async fn logs(&self, operation: &str, body: &Value) -> anyhow::Result<Value> {
        let call = Call {
            service: "logs",
            method: Method::POST,
            path: "/".to_owned(),
            query: String::new(),
            headers: vec![
                ("content-type", "application/x-amz-json-1.1".to_owned()),
                ("x-amz-target", format!("Logs_20140328.{operation}")),
            ],
            body: Bytes::from(body.to_string()),
        };
        parse_json(&self.send(call).await?)
    }

    /// The account of the key in use (STS GetCallerIdentity, whose answer is XML).
    pub(crate) async fn account(&self) -> anyhow::Result<String> {
        let call = Call {
            service: "sts",
            method: Method::POST,
            path: "/".to_owned(),
            query: String::new(),
            headers: vec![("content-type", "application/x-www-form-urlencoded".to_owned())],
            body: Bytes::from_static(b"Action=GetCallerIdentity&Version=2011-06-15"),
        };
        let answer = self.send(call).await?;
        let account = xml_text(&String::from_utf8_lossy(&answer), "Account");
        account.context("GetCallerIdentity named no account")
    }

    /// Signs and sends; the body of a good answer, else an [`ApiError`].
    pub(crate) async fn send(&self, call: Call<'_>) -> anyhow::Result<Bytes> {
        let api = self.connection.address();
        let stream = self.connect().await?;
        let request = self.sign(call)?;
        let response =
            net::send(stream, request).await.with_context(|| format!("the call to {api} failed"))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.with_context(|| format!("the answer of {api} broke off"))?.to_bytes();
        if parts.status.is_success() {
            Ok(body)
        } else {
            Err(api_error(parts.status, &parts.headers, &body).into())
        }
    }

    async fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        let (api, address) = (&self.connection.api, self.connection.address());
        let host = api.host_str().expect("invariant: an address of an API has a host");
        let port = api.port_or_known_default().expect("invariant: http and https have a port");
        let stream = net::connect(host, port).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                anyhow!("no server answers at {address}; start it with `hearth serve --data-dir DIR`")
            }
            _ => anyhow!(error).context(format!("no connection to {address}")),
        })?;
        match (api.scheme(), &self.connection.ca_bundle) {
            ("https", Some(ca_bundle)) => net::start_tls(stream, host, ca_bundle).await,
            ("https", None) => {
                Err(anyhow!("HEARTH_CA_BUNDLE is not set; it names the certificates to trust {address} by"))
            }
            _ => Ok(Box::new(stream)),
        }
    }

    fn sign(&self, call: Call<'_>) -> anyhow::Result<Request<Full<Bytes>>> {
        let Connection { api, region, access_key, secret, session_token, .. } = &self.connection;
        let mut headers = call.headers;
        headers.push(("host", api.authority().to_owned()));
        if let Some(token) = session_token {
            headers.push(("x-amz-security-token", token.clone()));
        }
        let to_sign: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let request = SignedRequest {
            method: call.method.as_str(),
            path: &call.path,
            query: &call.query,
            headers: &to_sign,
            body: &call.body,
        };
        let scope = Scope { access_key, secret, region, service: call.service };
        let signature = sign(&request, &scope, jiff::Timestamp::now());
        let target = match call.query.as_str() {
            "" => call.path,
            query => format!("{}?{query}", call.path),
        };
        let mut builder = Request::builder().method(call.method).uri(target);
        for (name, value) in headers.into_iter().chain(signature) {
            builder = builder.header(name, value);
        }
        builder.body(Full::new(call.body)).context("the request cannot be written as HTTP")
    }
}

/// Whether `error` is an answer with this exception.
pub(crate) fn is_exception(error: &anyhow::Error, code: &str) -> bool {
    error.downcast_ref::<ApiError>().is_some_and(|error| error.code == code)
}

fn parse_json(body: &[u8]) -> anyhow::Result<Value> {
    serde_json::from_slice(body).context("the answer is not JSON")
}

/// Reads the three forms of errors: rest-json (type in a header), JSON 1.1 (type in
/// `__type`) and XML.
fn api_error(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ApiError {
    let text = String::from_utf8_lossy(body);
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let header = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let code =
        header.or_else(|| json["__type"].as_str()).map(str::to_owned).or_else(|| xml_text(&text, "Code"));
    // The type may have a URL behind a colon or, in JSON 1.1, a name space before a hash.
    let code = code.unwrap_or_else(|| format!("HTTP {}", status.as_u16()));
    let code = code.split(':').next().unwrap_or_default().rsplit('#').next().unwrap_or_default().to_owned();
    let message = json["message"].as_str().or_else(|| json["Message"].as_str()).map(str::to_owned);
    let message = message
        .or_else(|| xml_text(&text, "Message"))
        .or_else(|| status.canonical_reason().map(str::to_owned))
        .unwrap_or_else(|| "the call was refused".to_owned());
    ApiError { code, message: message.trim_end_matches('.').to_owned() }
}

/// The text of the first element of this name; enough for answers whose elements are
/// known and hold no markup.
fn xml_text(xml: &str, element: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{element}>"))?;
    let (text, _) = rest.split_once(&format!("</{element}>"))?;
    Some(text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(header: Option<&str>, body: &str) -> ApiError {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert("x-amzn-errortype", header.parse().unwrap());
        }
        api_error(StatusCode::NOT_FOUND, &headers, body.as_bytes())
    }

    #[test]
    fn errors_of_all_services_are_read() {
        let rest = error(
            Some("ResourceNotFoundException:http://internal/"),
            r#"{"message":"MicroVM not found: x."}"#,
        );
        assert_eq!(rest.to_string(), "MicroVM not found: x (ResourceNotFoundException)");
        let json = error(None, r#"{"__type":"com.amazon#ResourceNotFoundException","message":"no group"}"#);
        assert_eq!(json.to_string(), "no group (ResourceNotFoundException)");
        let xml =
            error(None, "<Error><Code>NoSuchBucket</Code><Message>a &lt;b&gt; is missing</Message></Error>");
        assert_eq!(xml.to_string(), "a <b> is missing (NoSuchBucket)");
        assert_eq!(error(None, "").to_string(), "Not Found (HTTP 404)");
    }

    #[test]
    fn arns_are_encoded_as_one_part_of_a_path() {
        assert_eq!(encode("arn:aws:x/y z~_.-"), "arn%3Aaws%3Ax%2Fy%20z~_.-");
    }
}
