//! Whether a request may pass.

use std::sync::Arc;

use hearth_api::MicrovmId;
use hearth_auth::{TokenError, TokenKind};
use hearth_node::{Endpoint, Ingress, Node};
use http::{HeaderMap, HeaderName};

use crate::refusal::Refusal;
use crate::route::DEFAULT_PORT;
use crate::shared::Shared;
use crate::subprotocol::Offer;

/// Header that carries the token.
pub(crate) const PROXY_AUTH: HeaderName = HeaderName::from_static("x-aws-proxy-auth");

/// Port that stands for the shell. A request with a token for shells need not name it.
pub(crate) const SHELL_PORT: u16 = 8022;

/// The endpoint of a microVM that has ended takes everything, to say so.
const ENDED: Ingress = Ingress { http: true, shell: true };

/// What a request may do.
#[derive(Debug)]
pub(crate) enum Admitted<A> {
    /// Go to a port of the app.
    ToApp(Found<A>, u16),
    /// Open a shell.
    ToShell(Found<A>),
}

/// The microVM that a request is for.
#[derive(Debug)]
pub(crate) struct Found<A> {
    pub(crate) microvm: MicrovmId,
    pub(crate) ingress: Ingress,
    /// Whether it has not ended.
    pub(crate) is_alive: bool,
    /// If it is running.
    pub(crate) running: Option<A>,
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

/// Checks that a token opens `port` (`None`: it names none) of the endpoint with this label; `None`
/// is a host that is no endpoint.
///
/// The token is judged by itself first. Which host was asked is only ever compared with that of the
/// token's own microVM: hosts that exist and hosts that do not take the same way, and an unknown
/// host costs no look at the database.
pub(crate) async fn admit<N: Node>(
    token: Option<&str>,
    label: Option<&str>,
    port: Option<u16>,
    now_seconds: i64,
    shared: &Shared<N>,
) -> Result<Admitted<N::Life>, Refusal> {
    let token = token.filter(|token| !token.is_empty()).ok_or(Refusal::TokenMissing)?;
    let claims = shared.opened.open(&shared.keys, token).map_err(|error| match error {
        TokenError::Malformed => Refusal::TokenMissing,
        _ => Refusal::TokenRejected,
    })?;
    let label = label.filter(|_| claims.is_valid_at(now_seconds)).ok_or(Refusal::TokenRejected)?;
    let found = shared.node.endpoint(&claims.microvm);
    let is_alive = found.is_some();
    let (is_endpoint, ingress, running) = if let Some(Endpoint { label: its, ingress, running }) = found {
        (*its == *label, ingress, running)
    } else {
        // In a box, as most requests have no use for its state, but would have to carry it.
        (Box::pin(has_been_endpoint_of(label, &claims.microvm, shared)).await, ENDED, None)
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
    let found = Found { microvm: claims.microvm.clone(), ingress, is_alive, running };
    Ok(match claims.kind {
        TokenKind::Http => Admitted::ToApp(found, port),
        TokenKind::Shell => Admitted::ToShell(found),
    })
}

/// Reads the disk, which is not for the threads that serve connections.
async fn has_been_endpoint_of<N: Node>(label: &str, microvm: &MicrovmId, shared: &Shared<N>) -> bool {
    let (node, label, microvm) = (Arc::clone(&shared.node), label.to_owned(), microvm.clone());
    let looking = async move { node.was_endpoint_of(&label, &microvm).await };
    // It fails when the server ends.
    shared.server.spawn(looking).await.unwrap_or(false)
}
