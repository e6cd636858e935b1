//! Token and port among the subprotocols of a WebSocket handshake, for clients that cannot send
//! headers of their own (docs/endpoint.md, "Tokens"): `lambda-microvms`,
//! `lambda-microvms.authentication.<token>`, `lambda-microvms.port.<n>`.

use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue};

use crate::refusal::Refusal;

/// The subprotocol that marks the others as the endpoint's, and is answered when the
/// app chooses none.
const MARKER: &str = "lambda-microvms";
const TOKEN: &str = "authentication.";
const PORT: &str = "port.";

/// What a handshake offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offer<'a> {
    pub(crate) token: Option<&'a str>,
    pub(crate) port: Option<&'a str>,
    marked: bool,
    /// What is left for the app.
    others: Vec<&'a str>,
}

/// The part of an offer that outlives the request's headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ForApp {
    marked: bool,
    others: Option<HeaderValue>,
}

impl<'a> Offer<'a> {
    /// Reads the offer of a handshake, which may be in several fields (RFC 6455, section 11.3.4).
    pub(crate) fn of(headers: &'a HeaderMap) -> Result<Self, Refusal> {
        let mut offer = Self::default();
        let mut ours = false;
        for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
            let value = value.to_str().map_err(|_| Refusal::BadRequest)?;
            for protocol in value.split(',').map(str::trim).filter(|protocol| !protocol.is_empty()) {
                let Some(own) = protocol.strip_prefix(MARKER) else {
                    offer.others.push(protocol);
                    continue;
                };
                match own.strip_prefix('.') {
                    None if own.is_empty() => offer.marked = true,
                    None => offer.others.push(protocol),
                    Some(own) => {
                        ours = true;
                        offer.take(own)?;
                    }
                }
            }
        }
        if ours && !offer.marked { Err(Refusal::BadRequest) } else { Ok(offer) }
    }

    fn take(&mut self, own: &'a str) -> Result<(), Refusal> {
        if let Some(token) = own.strip_prefix(TOKEN) {
            // Two tokens are none, as in the header.
            if self.token.replace(token).is_some() {
                return Err(Refusal::TokenMissing);
            }
        } else if let Some(port) = own.strip_prefix(PORT)
            && self.port.replace(port).is_some()
        {
            return Err(Refusal::BadRequest);
        }
        Ok(())
    }

    pub(crate) fn for_app(&self) -> ForApp {
        let others = (!self.others.is_empty()).then(|| self.others.join(", "));
        ForApp { marked: self.marked, others: others.and_then(|others| others.try_into().ok()) }
    }
}

impl ForApp {
    /// Leaves the app only what is its own.
    pub(crate) fn put(self, headers: &mut HeaderMap) {
        match self.others {
            Some(others) => _ = headers.insert(SEC_WEBSOCKET_PROTOCOL, others),
            None => _ = headers.remove(SEC_WEBSOCKET_PROTOCOL),
        }
    }

    /// Chooses for an app that has chosen none: browsers take no connection whose
    /// subprotocols were all ignored.
    pub(crate) fn complete(marked: bool, headers: &mut HeaderMap) {
        if marked && !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(MARKER));
        }
    }

    pub(crate) fn is_marked(&self) -> bool {
        self.marked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[&'static str]) -> HeaderMap {
        fields.iter().map(|field| (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(field))).collect()
    }

    fn left(fields: &[&'static str]) -> Option<String> {
        let mut headers = headers(fields);
        let for_app = Offer::of(&headers).unwrap().for_app();
        for_app.put(&mut headers);
        headers.get(SEC_WEBSOCKET_PROTOCOL).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn what_is_the_endpoint_s_is_taken_out() {
        let fields =
            &["a, lambda-microvms", "lambda-microvms.authentication.t.o..k,b", "lambda-microvms.port.9000"];
        let headers = headers(fields);
        let offer = Offer::of(&headers).unwrap();
        assert_eq!((offer.token, offer.port, offer.marked), (Some("t.o..k"), Some("9000"), true));
        assert_eq!(left(fields).as_deref(), Some("a, b"));
        assert_eq!(left(&["lambda-microvms, lambda-microvms.unknown.x"]), None);
        assert_eq!(left(&[" a ,, lambda-microvmsx"]).as_deref(), Some("a, lambda-microvmsx"));
        assert_eq!(left(&[]), None);
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for (fields, refusal) in [
            (&["lambda-microvms.authentication.t"][..], Refusal::BadRequest),
            (&["lambda-microvms.port.80, a"], Refusal::BadRequest),
            (&["lambda-microvms, lambda-microvms.port.80", "lambda-microvms.port.80"], Refusal::BadRequest),
            (
                &["lambda-microvms, lambda-microvms.authentication.a, lambda-microvms.authentication.a"],
                Refusal::TokenMissing,
            ),
        ] {
            assert_eq!(Offer::of(&headers(fields)), Err(refusal), "{fields:?}");
        }
    }

    #[test]
    fn the_marker_is_chosen_if_the_app_chose_none() {
        for (marked, chosen, expected) in
            [(true, None, Some("lambda-microvms")), (true, Some("a"), Some("a")), (false, None, None)]
        {
            let mut headers = headers(chosen.as_slice());
            ForApp::complete(marked, &mut headers);
            assert_eq!(headers.get(SEC_WEBSOCKET_PROTOCOL).map(|value| value.to_str().unwrap()), expected);
        }
    }
}
