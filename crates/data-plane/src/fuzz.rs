//! Random input for what is read before a token has been verified: names of hosts, the port. The
//! tokens themselves have theirs in `hearth_auth`.

use http::{HeaderMap, HeaderValue, Request};

use crate::route::{self, EndpointHosts};

const SUFFIX: &str = "lambda-microvm.us-east-1.localhost";

#[test]
fn fuzz_hosts() {
    let hosts = EndpointHosts::new("us-east-1", "localhost");
    bolero::check!().for_each(|bytes: &[u8]| {
        let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
        let with = |value: HeaderValue| {
            let mut request = Request::new(());
            request.headers_mut().append("host", value);
            route::authority(&request).ok()
        };
        let below = HeaderValue::from_bytes(&[bytes, b".", SUFFIX.as_bytes()].concat());
        for authority in [with(value), below.ok().and_then(with)].into_iter().flatten() {
            let text = authority.as_str();
            assert!(!text.contains('@') && !text.contains('/'), "{text}");
            let own = format!("known.{SUFFIX}");
            assert!(hosts.agreed_label(Some(&own), &authority).is_none_or(|label| label == "known"));
            if let Some(label) = hosts.agreed_label(Some(authority.host()), &authority) {
                assert!(!label.is_empty() && !label.contains('.'), "{text}");
                assert!(authority.host().eq_ignore_ascii_case(&format!("{label}.{SUFFIX}")), "{text}");
            }
        }
    });
}

#[test]
fn fuzz_ports() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
        let mut headers = HeaderMap::new();
        headers.append("x-aws-proxy-port", value);
        if let Ok(Some(port)) = route::port(&headers, None) {
            let text = std::str::from_utf8(bytes).unwrap();
            assert_eq!(text.trim_start_matches('0'), port.to_string(), "{text:?}");
        }
    });
}
