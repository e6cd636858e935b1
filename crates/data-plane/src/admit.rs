//! Whether a request may pass.

use hearth_api::MicrovmId;
use hearth_auth::{TokenError, TokenKeys, TokenKind};
use http::{HeaderMap, HeaderName};

use crate::refusal::Refusal;
use crate::route::DEFAULT_PORT;

/// Header that carries the token.
const PROXY_AUTH: HeaderName = HeaderName::from_static("x-aws-proxy-auth");

/// What a request may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// Go to the app's port.
    ToApp(MicrovmId),
    /// Open a shell.
    ToShell(MicrovmId),
}

/// Port that stands for the shell. A request with a token for shells need not name it.
const SHELL_PORT: u16 = 8022;

/// Checks the token of a request to `port` (`None`: it names none) of `microvm`; `None` is a host that is no endpoint, which must be refused
/// in the same way as an endpoint that the token is not for.
pub(crate) fn admit(
    keys: &TokenKeys,
    headers: &HeaderMap,
    microvm: Option<MicrovmId>,
    port: Option<u16>,
    now_seconds: i64,
) -> Result<Admitted, Refusal> {
    let mut tokens = headers.get_all(PROXY_AUTH).iter();
    let token = match (tokens.next(), tokens.next()) {
        (Some(token), None) => token.to_str().ok(),
        _ => None,
    };
    // No token is ever made for the empty id.
    let microvm = microvm.unwrap_or_else(|| MicrovmId::from_stored(""));
    let app_port = port.unwrap_or(DEFAULT_PORT);
    let verdict = match keys.verify(token, &microvm, app_port, now_seconds) {
        Err(TokenError::PortDenied) if port.is_none() => {
            let shell = keys.verify(token, &microvm, SHELL_PORT, now_seconds);
            shell.and_then(|claims| match claims.kind {
                TokenKind::Shell => Ok(claims),
                TokenKind::Http => Err(TokenError::PortDenied),
            })
        }
        verdict => verdict,
    };
    match verdict.map(|claims| claims.kind) {
        Ok(TokenKind::Http) => Ok(Admitted::ToApp(microvm)),
        Ok(TokenKind::Shell) => Ok(Admitted::ToShell(microvm)),
        Err(TokenError::Missing | TokenError::Malformed) => Err(Refusal::TokenMissing),
        Err(TokenError::PortDenied) => Err(Refusal::PortDenied),
        Err(
            TokenError::UnknownKey
            | TokenError::BadTag
            | TokenError::Expired
            | TokenError::WrongMicrovm
            | TokenError::TooManyPorts,
        ) => Err(Refusal::TokenRejected),
    }
}
