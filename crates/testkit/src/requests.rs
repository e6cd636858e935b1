//! Requests that are signed as AWS's SDKs sign them.

use hearth_auth::sigv4::{Scope, SignedRequest, sign};
use http::Request;
use jiff::Timestamp;

/// Region of all requests.
pub const REGION: &str = "us-east-1";
/// Account of [`Keys::root`].
pub const ACCOUNT: &str = "000000000000";
/// Account of [`Keys::other_root`].
pub const OTHER_ACCOUNT: &str = "111122223333";
const HOST: &str = "127.0.0.1:9400";

/// What signs requests.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Access key.
    pub id: String,
    /// Secret access key.
    pub secret: String,
    /// Session token of temporary credentials.
    pub token: Option<String>,
}

impl Keys {
    /// Long-lived credentials.
    pub fn new(id: &str, secret: &str) -> Self {
        Self { id: id.to_owned(), secret: secret.to_owned(), token: None }
    }

    /// Of the root user of [`ACCOUNT`].
    pub fn root() -> Self {
        Self::new("AKID", "secret")
    }

    /// Of the root user of [`OTHER_ACCOUNT`].
    pub fn other_root() -> Self {
        Self::new("AKIDOTHER", "other")
    }

    /// A request of now; `target` is the path with its query.
    pub fn sign<B: From<Vec<u8>>>(
        &self,
        service: &str,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Request<B> {
        self.sign_to(HOST, service, method, target, headers, body)
    }

    /// [`Self::sign`] for a request to this host.
    pub fn sign_to<B: From<Vec<u8>>>(
        &self,
        host: &str,
        service: &str,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Request<B> {
        self.sign_at((host, Timestamp::now()), service, method, target, headers, body)
    }

    /// [`Self::sign_to`] for a request that was signed at this time.
    pub fn sign_at<B: From<Vec<u8>>>(
        &self,
        (host, at): (&str, Timestamp),
        service: &str,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Request<B> {
        let token = self.token.iter().map(|token| ("x-amz-security-token", token.as_str()));
        let headers: Vec<(&str, &str)> =
            [("host", host)].into_iter().chain(headers.iter().copied()).chain(token).collect();
        let signed: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let scope = Scope { access_key: &self.id, secret: &self.secret, region: REGION, service };
        let added = sign(&SignedRequest { method, path, query, headers: &signed, body }, &scope, at);
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in added {
            request = request.header(name, value);
        }
        request.header("content-length", body.len()).body(body.to_vec().into()).unwrap()
    }
}
