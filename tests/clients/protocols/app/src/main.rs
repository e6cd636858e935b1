//! usage: protocols [PORT]
//!
//! An app that speaks what the endpoint forwards: HTTP/1.1, HTTP/2 without TLS, Server-Sent Events,
//! WebSocket and gRPC on port 8080 or the one that is named, and HTTP/1.1 alone on port 8082. Ports
//! 8443 and 8444 are the same with TLS and nothing else. gRPC messages are bytes, so that clients
//! need no generated code. Whoever names a port is told the one that was taken, and speaks to the
//! app without an endpoint.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::{WebSocketStream, tungstenite};
use yawc::frame::OpCode;
use yawc::{CompressionLevel, Options, WebSocket};

type Answer = Response<BoxBody<Bytes, hyper::Error>>;
type Frames = mpsc::Sender<Result<Frame<Bytes>, hyper::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if let Some(port) = std::env::args().nth(1) {
        let named = TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("the port is free");
        println!("{}", named.local_addr().expect("it is bound").port());
        return serve(named, Versions::Both, None).await;
    }
    let listen = async |port| TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
    tokio::join!(
        serve(listen(8080).await, Versions::Both, None),
        serve(listen(8082).await, Versions::Http1, None),
        serve(listen(8443).await, Versions::Both, Some(tls(&[b"h2", b"http/1.1"]))),
        serve(listen(8444).await, Versions::Http1, Some(tls(&[]))),
    );
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Versions {
    Http1,
    Both,
}

/// TLS with a certificate that nobody knows.
fn tls(protocols: &[&[u8]]) -> TlsAcceptor {
    let names = vec!["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a name is all that it takes");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("it was just written");
    let builder = ServerConfig::builder().with_no_client_auth();
    let config = builder.with_single_cert(vec![made.cert.der().clone()], key);
    let mut config = config.expect("key and certificate belong together");
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, versions: Versions, tls: Option<TlsAcceptor>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let tls = tls.clone();
        tokio::spawn(async move {
            match tls {
                None => serve_connection(stream, versions).await,
                // Who does not speak it is told so by an alert.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve_connection(stream, versions).await;
                    }
                }
            }
        });
    }
}

async fn serve_connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, versions: Versions) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
    let stream = TokioIo::new(stream);
    // How the connection ends is the client's business.
    if versions == Versions::Http1 {
        let builder = hyper::server::conn::http1::Builder::new();
        let _ = builder.serve_connection(stream, service).with_upgrades().await;
    } else {
        let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection_with_upgrades(stream, service).await;
    }
}

async fn answer(request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    match &*path {
        "/echo" => Response::new(request.into_body().boxed()),
        "/count" => {
            let (mut count, mut body) = (0, request.into_body());
            while let Some(Ok(frame)) = body.frame().await {
                count += frame.data_ref().map_or(0, Bytes::len);
            }
            text(200, format!("{count}"))
        }
        "/bytes" => {
            let count = request.uri().query().and_then(|query| query.parse().ok()).unwrap_or(0);
            streamed(move |frames| bytes(frames, count))
        }
        "/silent" => streamed(silent),
        "/early" => text(413, "too much".to_owned()),
        "/events" => {
            let mut response = streamed(events);
            response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
            response
        }
        "/page" => {
            let mut response = text(200, include_str!("page.html").to_owned());
            response.headers_mut().insert("content-type", HeaderValue::from_static("text/html"));
            response
        }
        "/ws" => websocket(request),
        "/deflate" => deflated(request),
        _ if path.starts_with("/test.Echo/") => {
            grpc(request, path.rsplit('/').next().unwrap_or("").to_owned())
        }
        _ => {
            let version = format!("{:?}", request.version());
            let host = request.headers().get("host").and_then(|host| host.to_str().ok().map(str::to_owned));
            let host = host.or(request.uri().authority().map(ToString::to_string)).unwrap_or_default();
            text(200, format!("{} {path} {version} {host}", request.method()))
        }
    }
}

fn text(status: u16, text: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed());
    *response.status_mut() = status.try_into().expect("a status");
    response
}

fn streamed<F: Future<Output = ()> + Send + 'static>(write: impl FnOnce(Frames) -> F) -> Answer {
    let (frames, mut receiver) = mpsc::channel(1);
    tokio::spawn(write(frames));
    let stream = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    Response::new(BodyExt::boxed(StreamBody::new(stream)))
}

/// Bytes of value 7.
async fn bytes(frames: Frames, mut count: usize) {
    let piece = Bytes::from(vec![7; 65536]);
    while count > 0 {
        let piece = piece.slice(..count.min(piece.len()));
        count -= piece.len();
        if frames.send(Ok(Frame::data(piece))).await.is_err() {
            return;
        }
    }
}

/// One byte, and then nothing, for as long as the client stays.
async fn silent(frames: Frames) {
    if frames.send(Ok(Frame::data(Bytes::from_static(b"x")))).await.is_ok() {
        frames.closed().await;
    }
}

async fn events(frames: Frames) {
    for number in 0..5 {
        let event = format!("id: {number}\ndata: event {number}\n\n");
        if frames.send(Ok(Frame::data(event.into()))).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Sends every message back. Of the subprotocols that it is offered, it chooses `chat`.
fn websocket(mut request: Request<Incoming>) -> Answer {
    let header = |name| request.headers().get(name).map(|value: &HeaderValue| value.as_bytes().to_vec());
    let Some(key) = header("sec-websocket-key") else { return text(426, "WebSocket only".to_owned()) };
    let offered = String::from_utf8(header("sec-websocket-protocol").unwrap_or_default()).unwrap_or_default();
    let mut response = text(101, String::new());
    let headers = response.headers_mut();
    headers.insert("connection", HeaderValue::from_static("upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    let accept = derive_accept_key(&key);
    headers.insert("sec-websocket-accept", HeaderValue::try_from(accept).expect("base64"));
    if offered.split(", ").any(|protocol| protocol == "chat") {
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("chat"));
    }
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(&mut request).await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(message) = socket.next().await {
            let sent = match message {
                Ok(message) if message.is_text() || message.is_binary() => socket.send(message).await,
                Ok(_) => continue,
                // That it is told why is all that is left to do.
                Err(error) => return drop(socket.close(close_frame(&error)).await),
            };
            if sent.is_err() {
                return;
            }
        }
    });
    response
}

/// What a client is told that breaks the protocol (RFC 6455, section 7.4.1).
fn close_frame(error: &tungstenite::Error) -> Option<CloseFrame> {
    let code = match error {
        tungstenite::Error::Protocol(_) => CloseCode::Protocol,
        tungstenite::Error::Utf8(_) => CloseCode::Invalid,
        tungstenite::Error::Capacity(_) => CloseCode::Size,
        _ => return None,
    };
    Some(CloseFrame { code, reason: "".into() })
}

/// Sends every message back, compressed (RFC 7692) if the client offers that.
fn deflated(request: Request<Incoming>) -> Answer {
    let options = Options::default()
        .with_compression_level(CompressionLevel::fast())
        .with_max_payload_read(16 << 20)
        .with_max_read_buffer(32 << 20);
    let Ok((response, upgraded)) = WebSocket::upgrade_with_options(request, options) else {
        return text(426, "WebSocket only".to_owned());
    };
    tokio::spawn(async move {
        let Ok(mut socket) = upgraded.await else { return };
        while let Some(frame) = socket.next().await {
            let is_message = matches!(frame.opcode(), OpCode::Text | OpCode::Binary);
            if is_message && socket.send(frame).await.is_err() {
                return;
            }
        }
    });
    response.map(|body| body.map_err(|never| match never {}).boxed())
}

fn grpc(request: Request<Incoming>, method: String) -> Answer {
    let timeout = request.headers().get("grpc-timeout").cloned();
    let mut response = streamed(move |frames| async move {
        let status = match &*method {
            "Unary" | "Both" => each(request.into_body(), &frames).await,
            "ClientStream" => joined(request.into_body(), &frames).await,
            "ServerStream" => counted(request.into_body(), &frames).await,
            "Slow" => {
                frames.closed().await;
                1
            }
            _ => 12,
        };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(status));
        // The client may have gone.
        let _ = frames.send(Ok(Frame::trailers(trailers))).await;
    });
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    if let Some(timeout) = timeout {
        response.headers_mut().insert("x-timeout", timeout);
    }
    response
}

/// The messages of a call, without their five bytes of prefix.
fn messages(body: Incoming) -> impl futures_util::Stream<Item = Bytes> + Unpin {
    let state = (body, BytesMut::new());
    Box::pin(futures_util::stream::unfold(state, |(mut body, mut buffer)| async {
        loop {
            if buffer.len() >= 5 {
                let length = u32::from_be_bytes([buffer[1], buffer[2], buffer[3], buffer[4]]) as usize;
                if buffer.len() >= 5 + length {
                    buffer.advance(5);
                    return Some((buffer.split_to(length).freeze(), (body, buffer)));
                }
            }
            let frame = body.frame().await?.ok()?;
            buffer.extend_from_slice(frame.data_ref()?);
        }
    }))
}

async fn send(frames: &Frames, message: &[u8]) {
    let mut framed = BytesMut::from(&[0][..]);
    framed.extend_from_slice(&u32::try_from(message.len()).expect("a short message").to_be_bytes());
    framed.extend_from_slice(message);
    // The client may have gone.
    let _ = frames.send(Ok(Frame::data(framed.freeze()))).await;
}

async fn each(body: Incoming, frames: &Frames) -> u16 {
    let mut messages = messages(body);
    while let Some(message) = messages.next().await {
        send(frames, &message).await;
    }
    0
}

async fn joined(body: Incoming, frames: &Frames) -> u16 {
    let all: Vec<Bytes> = messages(body).collect().await;
    send(frames, &all.concat()).await;
    0
}

/// As many messages as the first one says.
async fn counted(body: Incoming, frames: &Frames) -> u16 {
    let first = messages(body).next().await.unwrap_or_default();
    let count = std::str::from_utf8(&first).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    for number in 0..count {
        send(frames, format!("{number}").as_bytes()).await;
    }
    0
}
