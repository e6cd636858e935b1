//! Which microVM and which port a request means.

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};

use crate::refusal::Refusal;

/// Port of the app when the request names none.
pub(crate) const DEFAULT_PORT: u16 = 8080;
/// Header that names the port.
pub(crate) const PROXY_PORT: HeaderName = HeaderName::from_static("x-aws-proxy-port");

/// The host names of endpoints: `<label>.lambda-microvm.<region>.<domain>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointHosts {
    suffix: String,
}

impl EndpointHosts {
    /// The names in a region and domain.
    pub fn new(region: &str, domain: &str) -> Self {
        Self { suffix: format!("lambda-microvm.{region}.{domain}").to_ascii_lowercase() }
    }

    /// What follows the label and its dot.
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// The label of a host name (without port), in lower case.
    fn label(&self, host: &str) -> Option<String> {
        let mut host = host.to_ascii_lowercase();
        let label = host.strip_suffix(&self.suffix)?.strip_suffix('.')?;
        let length = label.len();
        let is_one = !label.is_empty() && !label.contains('.');
        host.truncate(length);
        is_one.then_some(host)
    }

    /// The label that both the server name of the TLS connection and the request's host carry.
    pub(crate) fn agreed_label(&self, server_name: Option<&str>, authority: &Authority) -> Option<String> {
        let host = authority.host();
        server_name.filter(|name| name.eq_ignore_ascii_case(host)).and_then(|_| self.label(host))
    }
}

/// The authority of a request: of its target in absolute form or its pseudo-header, which a Host
/// field may only repeat, else its one Host field (RFC 9112, section 3.2; RFC 9113, section 8.3.1).
///
/// Targets that a server other than a proxy has no use for are refused as well: the app must not be
/// the first to notice.
pub(crate) fn authority<B>(request: &Request<B>) -> Result<Authority, Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (host, None) => host.map(HeaderValue::as_bytes),
        _ => return Err(Refusal::BadRequest),
    };
    let uri = request.uri();
    let target_is_known = match uri.path_and_query() {
        Some(target) => {
            target.path().starts_with('/') || uri.path() == "*" && request.method() == Method::OPTIONS
        }
        None => false,
    };
    if !target_is_known {
        return Err(Refusal::BadRequest);
    }
    let authority = match (uri.authority(), host) {
        (Some(authority), None) if request.version() == Version::HTTP_2 => Some(authority.clone()),
        (Some(authority), Some(host)) if host.eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            Some(authority.clone())
        }
        (None, Some(host)) => Authority::try_from(host).ok(),
        _ => None,
    };
    authority.filter(|authority| !authority.as_str().contains('@')).ok_or(Refusal::BadRequest)
}

/// The port that a request asks for, if any: in its header, else among its subprotocols.
pub(crate) fn port(headers: &HeaderMap, offered: Option<&str>) -> Result<Option<u16>, Refusal> {
    let mut values = headers.get_all(PROXY_PORT).iter();
    match (values.next(), values.next(), offered) {
        (None, _, None) => Ok(None),
        (None, _, Some(port)) => parse_port(port.as_bytes()).map(Some),
        (Some(value), None, _) => parse_port(value.as_bytes()).map(Some),
        (Some(_), Some(_), _) => Err(Refusal::BadRequest),
    }
}

/// 1 to 65535 in plain digits.
fn parse_port(value: &[u8]) -> Result<u16, Refusal> {
    let port = std::str::from_utf8(value)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok());
    port.filter(|port| *port != 0).ok_or(Refusal::BadRequest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_server_name_must_be_the_same_endpoint() {
        let hosts = EndpointHosts::new("us-east-1", "localhost");
        let agreed = |server_name, host: &str| hosts.agreed_label(server_name, &host.parse().unwrap());
        let a = "a-1.lambda-microvm.us-east-1.localhost";
        assert_eq!(agreed(Some(a), a).as_deref(), Some("a-1"));
        assert_eq!(agreed(Some(a), "A-1.Lambda-microvm.US-EAST-1.localhost:8443").as_deref(), Some("a-1"));
        for (server_name, host) in [
            (None, a),
            (Some("b-2.lambda-microvm.us-east-1.localhost"), a),
            (Some(a), "a-1.lambda-microvm.eu-west-1.localhost"),
            (Some(a), "a-1.lambda-microvm.us-east-1.localhost.example"),
            (Some(a), "lambda-microvm.us-east-1.localhost"),
            (Some("x.a.lambda-microvm.us-east-1.localhost"), "x.a.lambda-microvm.us-east-1.localhost"),
            (Some(a), "alambda-microvm.us-east-1.localhost"),
            (Some(a), "127.0.0.1"),
        ] {
            assert_eq!(agreed(server_name, host), None, "{server_name:?} {host}");
        }
    }

    #[test]
    fn ports_are_plain_numbers() {
        let with = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PROXY_PORT, value.parse().unwrap());
            }
            port(&headers, None)
        };
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(with(&["1"]), Ok(Some(1)));
        assert_eq!(with(&["65535"]), Ok(Some(65535)));
        for bad in ["banana", "0", "-1", "+1", "1.5", "70000", "", " ", "80 80", "0x50"] {
            assert_eq!(with(&[bad]), Err(Refusal::BadRequest), "{bad:?}");
        }
        assert_eq!(with(&["80", "80"]), Err(Refusal::BadRequest));
    }

    #[test]
    fn the_header_s_port_comes_before_the_subprotocol_s() {
        assert_eq!(port(&HeaderMap::new(), Some("9000")), Ok(Some(9000)));
        let headers = HeaderMap::from_iter([(PROXY_PORT, HeaderValue::from_static("5000"))]);
        assert_eq!(port(&headers, Some("9000")), Ok(Some(5000)));
        for bad in ["", "0", "x", "65536"] {
            assert_eq!(port(&HeaderMap::new(), Some(bad)), Err(Refusal::BadRequest));
        }
    }

    #[test]
    fn target_and_host_must_name_the_same_authority() {
        let request = |version, method: &str, uri: &str, hosts: &[&str]| {
            let builder = Request::builder().version(version).method(method).uri(uri);
            let request = hosts.iter().fold(builder, |builder, host| builder.header("host", *host));
            authority(&request.body(()).unwrap()).map(|authority| authority.to_string())
        };
        let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
        for (version, uri, hosts) in [
            (h1, "/", &["a:1"][..]),
            (h1, "http://a:1/x", &["a:1"]),
            (h1, "http://a:1", &["A:1"]),
            (h2, "https://a:1/x?y", &[]),
            (h2, "https://a:1/x", &["a:1"]),
            (h2, "/x", &["a:1"]),
        ] {
            assert_eq!(request(version, "GET", uri, hosts).as_deref(), Ok("a:1"), "{uri} {hosts:?}");
        }
        for (version, method, uri, hosts) in [
            (h1, "GET", "/", &[][..]),
            (h1, "GET", "/", &["a:1", "a:1"]),
            (h1, "GET", "/", &["u@a"]),
            (h1, "GET", "http://a:1/", &[]),
            (h1, "GET", "http://a:1/", &["b"]),
            (h1, "GET", "http://u@a:1/", &["u@a:1"]),
            (h1, "GET", "a:1", &["a:1"]),
            (h1, "GET", "*", &["a:1"]),
            (h1, "CONNECT", "a:1", &["a:1"]),
            (h2, "GET", "https://a:1/", &["b:1"]),
            (h2, "GET", "https://a:1/", &["a:1", "a:1"]),
        ] {
            assert_eq!(
                request(version, method, uri, hosts),
                Err(Refusal::BadRequest),
                "{method} {uri} {hosts:?}"
            );
        }
        assert_eq!(request(h1, "OPTIONS", "*", &["a"]).as_deref(), Ok("a"));
    }
}
