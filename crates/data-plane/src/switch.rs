//! Changes of protocol: WebSocket and other upgrades over HTTP/1.1, and WebSocket over HTTP/2 (RFC
//! 8441), which the app sees as an upgrade too.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use uuid::Uuid;

use crate::call::Call;
use crate::refusal::Refusal;
use crate::stop::Stop;

const WEBSOCKET: &str = "websocket";
/// What is hashed with the key of a handshake (RFC 6455, section 1.3).
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a request wants its connection to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Switch {
    /// Nothing else.
    No,
    /// `Upgrade`, over HTTP/1.1.
    Upgrade(HeaderValue),
    /// A WebSocket on a stream of HTTP/2.
    Http2WebSocket,
}

impl Switch {
    /// What a request asks for.
    pub(crate) fn of<B>(request: &Request<B>) -> Result<Self, Refusal> {
        if request.method() == Method::CONNECT {
            let protocol = request.extensions().get::<Protocol>();
            return match protocol.map(Protocol::as_str) {
                Some(WEBSOCKET) => Ok(Self::Http2WebSocket),
                _ => Err(Refusal::BadRequest),
            };
        }
        let Some(protocol) = request.headers().get(UPGRADE) else { return Ok(Self::No) };
        let asked = hearth_hop::has_option(request.headers(), "upgrade");
        Ok(if asked { Self::Upgrade(protocol.clone()) } else { Self::No })
    }

    pub(crate) fn is_websocket(&self) -> bool {
        match self {
            Self::No => false,
            Self::Upgrade(protocol) => protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()),
            Self::Http2WebSocket => true,
        }
    }

    /// Puts the wish into a request to the app; the answer to a WebSocket's key that was made here.
    pub(crate) fn ask(&self, headers: &mut HeaderMap, method: &mut Method) -> Option<HeaderValue> {
        let protocol = match self {
            Self::No => return None,
            Self::Upgrade(protocol) => protocol.clone(),
            Self::Http2WebSocket => HeaderValue::from_static(WEBSOCKET),
        };
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
        if *self != Self::Http2WebSocket {
            return None;
        }
        *method = Method::GET;
        let key = STANDARD.encode(Uuid::new_v4().as_bytes());
        let accept = accept_of(key.as_bytes());
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::try_from(key).ok()?);
        headers.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
        HeaderValue::try_from(accept).ok()
    }

    /// Makes the head of the app's answer, without the fields of its hop, the one that the client
    /// understands. Whether the protocol changes.
    pub(crate) fn answer(
        &self,
        status: &mut StatusCode,
        headers: &mut HeaderMap,
        app_protocol: Option<HeaderValue>,
        accept: Option<&HeaderValue>,
    ) -> Result<bool, Refusal> {
        let switched = *status == StatusCode::SWITCHING_PROTOCOLS;
        match self {
            // Without a request for it, switching would leave the client with bytes
            // that are not HTTP.
            Self::No if switched => Err(Refusal::AppUnreachable),
            Self::Upgrade(_) if switched => {
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
                headers.insert(UPGRADE, app_protocol.ok_or(Refusal::AppUnreachable)?);
                Ok(true)
            }
            Self::Http2WebSocket if switched => {
                let accepted = headers.remove(SEC_WEBSOCKET_ACCEPT);
                if accepted.is_none() || accepted.as_ref() != accept {
                    return Err(Refusal::AppUnreachable);
                }
                *status = StatusCode::OK;
                Ok(true)
            }
            // On HTTP/2, success would mean that there is a WebSocket now.
            Self::Http2WebSocket if status.is_success() => Err(Refusal::AppUnreachable),
            _ => Ok(false),
        }
    }
}

/// The answer to a handshake's key (RFC 6455, section 4.2.2).
pub(crate) fn accept_of(key: &[u8]) -> String {
    let mut sha1 = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    sha1.update(key);
    sha1.update(WEBSOCKET_GUID);
    STANDARD.encode(sha1.finish())
}

/// Copies raw bytes both ways, until one side or the microVM's life ends; then the client
/// sees an orderly end.
pub(crate) async fn tunnel(
    client: OnUpgrade,
    app: OnUpgrade,
    ended: impl Future<Output = ()>,
    call: Call,
    stop: Stop,
) {
    let Ok((client, app)) = tokio::try_join!(client, app) else { return };
    let (mut client, mut app) = (call.tunnel(TokioIo::new(client)), TokioIo::new(app));
    let cut = async {
        tokio::select! {
            result = copy_bidirectional(&mut client, &mut app) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "an upgraded connection broke");
                }
            }
            () = ended => {}
        }
        // It fails when the client has gone.
        let _ = client.shutdown().await;
    };
    stop.now.run_until_cancelled(cut).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_key_is_that_of_the_rfc() {
        assert_eq!(accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_what_was_asked_for_is_switched_to() {
        let (websocket, other) = (HeaderValue::from_static("websocket"), HeaderValue::from_static("x"));
        let answer = |switch: &Switch, status: u16, accept: Option<&'static str>| {
            let mut status = StatusCode::from_u16(status).unwrap();
            let mut headers = HeaderMap::new();
            headers.extend(accept.map(|accept| (SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(accept))));
            let expected = HeaderValue::from_static("right");
            let switched =
                switch.answer(&mut status, &mut headers, Some(websocket.clone()), Some(&expected))?;
            Ok::<_, Refusal>((switched, status.as_u16()))
        };
        let upgrade = Switch::Upgrade(other);
        let failed = Err(Refusal::AppUnreachable);
        assert_eq!(answer(&Switch::No, 200, None), Ok((false, 200)));
        assert_eq!(answer(&Switch::No, 101, None), failed);
        assert_eq!(answer(&upgrade, 101, None), Ok((true, 101)));
        assert_eq!(answer(&upgrade, 426, None), Ok((false, 426)));
        assert_eq!(answer(&Switch::Http2WebSocket, 101, Some("right")), Ok((true, 200)));
        assert_eq!(answer(&Switch::Http2WebSocket, 101, Some("wrong")), failed);
        assert_eq!(answer(&Switch::Http2WebSocket, 101, None), failed);
        assert_eq!(answer(&Switch::Http2WebSocket, 200, None), failed);
        assert_eq!(answer(&Switch::Http2WebSocket, 403, None), Ok((false, 403)));
    }
}
