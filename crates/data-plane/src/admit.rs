//! Whether a request may pass.

use hearth_api::MicrovmId;
use hearth_auth::{TokenError, TokenKeys, TokenKind};
use http::{HeaderMap, HeaderName};

use crate::refusal::Refusal;

/// Header that carries the token.
const PROXY_AUTH: HeaderName = HeaderName::from_static("x-aws-proxy-auth");

/// Checks the token of a request to `port` of `microvm`; `None` is a host that is no endpoint, which must be refused
/// in the same way as an endpoint that the token is not for.
pub(crate) fn admit(
    keys: &TokenKeys,
    headers: &HeaderMap,
    microvm: Option<MicrovmId>,
    port: u16,
    now_seconds: i64,
) -> Result<MicrovmId, Refusal> {
    let mut tokens = headers.get_all(PROXY_AUTH).iter();
    let token = match (tokens.next(), tokens.next()) {
        (Some(token), None) => token.to_str().ok(),
        _ => None,
    };
    // No token is ever made for the empty id.
    let microvm = microvm.unwrap_or_else(|| MicrovmId::from_stored(""));
    match keys.verify(token, &microvm, port, now_seconds) {
        Ok(claims) if claims.kind == TokenKind::Http => Ok(microvm),
        Err(TokenError::Missing | TokenError::Malformed) => Err(Refusal::TokenMissing),
        Err(TokenError::PortDenied) => Err(Refusal::PortDenied),
        Ok(_)
        | Err(
            TokenError::UnknownKey
            | TokenError::BadTag
            | TokenError::Expired
            | TokenError::Revoked
            | TokenError::WrongMicrovm
            | TokenError::TooManyPorts,
        ) => Err(Refusal::TokenRejected),
    }
}
