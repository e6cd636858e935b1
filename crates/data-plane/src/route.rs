//! Which microVM and which port a request means.

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Request};

use crate::refusal::Refusal;

/// Port of the app when the request names none.
pub(crate) const DEFAULT_PORT: u16 = 8080;
/// Header that names the port.
const PROXY_PORT: HeaderName = HeaderName::from_static("x-aws-proxy-port");

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
        let host = host.to_ascii_lowercase();
        let label = host.strip_suffix(&self.suffix)?.strip_suffix('.')?;
        (!label.is_empty() && !label.contains('.')).then(|| label.to_owned())
    }

    /// The label that both the server name of the TLS connection and the request's host carry.
    pub(crate) fn agreed_label(&self, server_name: Option<&str>, authority: &Authority) -> Option<String> {
        let label = self.label(authority.host())?;
        (self.label(server_name?)? == label).then_some(label)
    }
}

/// The authority of a request: of its target if that is in absolute form, else its one Host field (RFC 9112,
/// section 3.2).
pub(crate) fn authority<B>(request: &Request<B>) -> Result<Authority, Refusal> {
    if let Some(authority) = request.uri().authority() {
        return Ok(authority.clone());
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host
            .to_str()
            .ok()
            .filter(|text| !text.contains('@'))
            .and_then(|text| text.parse().ok())
            .ok_or(Refusal::BadRequest),
        _ => Err(Refusal::BadRequest),
    }
}

/// The port that a request asks for, if it names one: 1 to 65535 in plain digits.
pub(crate) fn port(headers: &HeaderMap) -> Result<Option<u16>, Refusal> {
    let mut values = headers.get_all(PROXY_PORT).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.as_bytes(),
        (Some(_), Some(_)) => return Err(Refusal::BadRequest),
    };
    let port = std::str::from_utf8(value)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok());
    port.filter(|port| *port != 0).map(Some).ok_or(Refusal::BadRequest)
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
            port(&headers)
        };
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(with(&["1"]), Ok(Some(1)));
        assert_eq!(with(&["65535"]), Ok(Some(65535)));
        for bad in ["banana", "0", "-1", "+1", "1.5", "70000", "", " ", "80 80", "0x50"] {
            assert_eq!(with(&[bad]), Err(Refusal::BadRequest), "{bad:?}");
        }
        assert_eq!(with(&["80", "80"]), Err(Refusal::BadRequest));
    }
}
