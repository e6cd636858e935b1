//! Whether a request may pass.

use hearth_api::MicrovmId;
use hearth_auth::{TokenError, TokenKeys, TokenKind};
use http::{HeaderMap, HeaderName};

use crate::backend::Backend;
use crate::refusal::Refusal;
use crate::route::DEFAULT_PORT;
use crate::subprotocol::Offer;

/// Header that carries the token.
pub(crate) const PROXY_AUTH: HeaderName = HeaderName::from_static("x-aws-proxy-auth");

/// Port that stands for the shell. A request with a token for shells need not name it.
pub(crate) const SHELL_PORT: u16 = 8022;

/// What a request may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// Go to a port of the app.
    ToApp(MicrovmId, u16),
    /// Open a shell.
    ToShell(MicrovmId),
}

/// The token of a request: in its header, else among its subprotocols.
pub(crate) fn token<'a>(headers: &'a HeaderMap, offer: &Offer<'a>) -> Option<&'a str> {
    let mut tokens = headers.get_all(PROXY_AUTH).iter();
    match (tokens.next(), tokens.next()) {
        (None, _) => offer.token,
        (Some(token), None) => token.to_str().ok(),
        (Some(_), Some(_)) => None,
    }
}

/// Checks that a token opens `port` (`None`: it names none) of the endpoint with this label; `None` is a host that is no
/// endpoint.
///
/// The token is judged by itself first. Which host was asked is only ever compared with that of the token's own microVM:
/// hosts that exist and hosts that do not take the same way, and an unknown host costs no look at the database.
pub(crate) async fn admit<B: Backend>(
    keys: &TokenKeys,
    token: Option<&str>,
    label: Option<&str>,
    port: Option<u16>,
    now_seconds: i64,
    backend: &B,
) -> Result<Admitted, Refusal> {
    let token = token.filter(|token| !token.is_empty()).ok_or(Refusal::TokenMissing)?;
    let claims = keys.open(token).map_err(|error| match error {
        TokenError::Malformed => Refusal::TokenMissing,
        _ => Refusal::TokenRejected,
    })?;
    let is_endpoint = match label {
        Some(label) if claims.is_valid_at(now_seconds) => {
            backend.is_endpoint_of(label, &claims.microvm).await
        }
        _ => false,
    };
    if !is_endpoint {
        return Err(Refusal::TokenRejected);
    }
    let port = port.unwrap_or(match claims.kind {
        TokenKind::Http => DEFAULT_PORT,
        TokenKind::Shell => SHELL_PORT,
    });
    if !claims.opens(port) {
        return Err(Refusal::PortDenied);
    }
    Ok(match claims.kind {
        TokenKind::Http => Admitted::ToApp(claims.microvm, port),
        TokenKind::Shell => Admitted::ToShell(claims.microvm),
    })
}
