//! A plain HTTP/1.1 server: small answers, long ones, uploads, a WebSocket echo.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::Error;

static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// So many bytes, in pieces of 64 KiB.
struct Zeroes(u64);

impl Body for Zeroes {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.0.min(ZEROES.len() as u64);
        if length == 0 {
            return Poll::Ready(None);
        }
        self.0 -= length;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROES[..length as usize])))))
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

pub(crate) async fn serve(address: SocketAddr) -> Result<(), Error> {
    let listener = TcpListener::bind(address).await?;
    println!("ready");
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            // The clients say what went wrong.
            let _ = connection.with_upgrades().await;
        });
    }
}

/// Takes the body, and answers with N bytes to `/bytes/N`, with 13 to anything else.
async fn answer(mut request: Request<Incoming>) -> Result<Response<Zeroes>, hyper::Error> {
    if let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) {
        let accept = derive_accept_key(key.as_bytes());
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None);
                let (mut sink, mut messages) = stream.await.split();
                while let Some(Ok(message)) = messages.next().await {
                    if message.is_close() || sink.send(message).await.is_err() {
                        return;
                    }
                }
            }
        });
        let mut response = Response::new(Zeroes(0));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(
            SEC_WEBSOCKET_ACCEPT,
            HeaderValue::from_str(&accept).expect("invariant: base64 is a header value"),
        );
        return Ok(response);
    }
    let length = request.uri().path().strip_prefix("/bytes/").and_then(|length| length.parse().ok());
    while let Some(frame) = request.frame().await {
        frame?;
    }
    Ok(Response::new(Zeroes(length.unwrap_or(13))))
}
