//! Fields of HTTP messages that are for the next hop alone: a proxy takes them out before it passes
//! a message on (RFC 9110, section 7.6.1).
//!
//! Invariant: what routes a message stays, whatever the message says.

use http::header::{CONNECTION, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName};

/// Fields of one hop, beside those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Whether one of the `Connection` fields has this option, in any case.
#[inline]
pub fn has_option(headers: &HeaderMap, option: &str) -> bool {
    options(headers).any(|found| found.eq_ignore_ascii_case(option))
}

/// The members of all `Connection` fields.
fn options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Removes the fields of the hop that a message has come over.
#[inline]
pub fn remove_fields(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = options(headers).filter_map(|option| option.parse().ok()).collect();
        // A client must not be able to remove what routes the message.
        for name in named.into_iter().filter(|name| name != HOST) {
            headers.remove(name);
        }
    }
    // To look for each would take a hash of each.
    if headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn fields_of_the_hop_go_and_all_others_stay() {
        let fields = [
            ("connection", "Keep-Alive, X-Own"),
            ("host", "a"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("x-own", "1"),
            ("x-other", "2"),
        ];
        let mut left = headers(&fields);
        remove_fields(&mut left);
        assert_eq!(left, headers(&[("host", "a"), ("x-other", "2")]));
    }

    #[test]
    fn the_host_stays_even_if_it_is_named() {
        let mut left = headers(&[("connection", "host"), ("host", "a")]);
        remove_fields(&mut left);
        assert_eq!(left, headers(&[("host", "a")]));
    }

    #[test]
    fn options_are_found_in_any_case() {
        let headers = headers(&[("connection", "keep-alive, Upgrade")]);
        assert!(has_option(&headers, "upgrade") && !has_option(&headers, "close"));
    }
}
