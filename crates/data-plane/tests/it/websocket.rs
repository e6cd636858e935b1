//! WebSocket handshakes: subprotocols for the endpoint, and WebSocket over HTTP/2.

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{
    TestBody, connect, connect_http2, describe, empty, request_http2, send, serve_app, soon, text,
    two_minutes_pass,
};
use crate::fake::{LABEL, World, host};

/// Key and answer of RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Accepts a WebSocket whose subprotocol is the one that is named in the path, and sends
/// back what it is sent.
async fn app(mut request: Request<Incoming>) -> Response<TestBody> {
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    if header("upgrade").as_deref() != Some("websocket") || request.uri().path() == "/plain" {
        return describe(request).await;
    }
    assert_eq!((request.method(), header("sec-websocket-version").as_deref()), (&Method::GET, Some("13")));
    assert_eq!(header("connection").as_deref(), Some("upgrade"));
    let mut builder = Response::builder().status(101).header("upgrade", "websocket");
    builder = builder
        .header("connection", "upgrade")
        .header("x-offered", header("sec-websocket-protocol").unwrap_or_default());
    if let Some(chosen) = request.uri().path().strip_prefix("/choose/") {
        builder = builder.header("sec-websocket-protocol", chosen);
    }
    let accept = match request.uri().path() {
        "/wrong-answer" => "d3Jvbmc=".to_owned(),
        _ => accept_of(&header("sec-websocket-key").unwrap()),
    };
    tokio::spawn(async move {
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
        let mut piece = [0; 5];
        while stream.read_exact(&mut piece).await.is_ok() {
            stream.write_all(&piece).await.unwrap();
        }
    });
    builder.header("sec-websocket-accept", accept).body(empty()).unwrap()
}

/// The answer to a key (RFC 6455, section 4.2.2).
fn accept_of(key: &str) -> String {
    use base64::Engine as _;
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

fn handshake(path: &str, protocols: &[&str]) -> http::request::Builder {
    let mut builder =
        Request::builder().uri(path).header("host", host(LABEL)).header("connection", "Upgrade");
    builder = builder.header("upgrade", "websocket").header("sec-websocket-version", "13");
    for protocol in protocols {
        builder = builder.header("sec-websocket-protocol", *protocol);
    }
    builder.header("sec-websocket-key", KEY)
}

/// Subprotocol chosen and subprotocols that the app was offered.
fn protocols<B>(response: &Response<B>) -> (Option<&str>, Option<&str>) {
    let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap());
    (header("sec-websocket-protocol"), header("x-offered"))
}

#[tokio::test]
async fn token_and_port_can_be_subprotocols() {
    let world = World::start().await;
    serve_app(world.listen(9000).await, app);
    let token = format!("lambda-microvms.authentication.{}", world.token());
    let cases: [(&str, &[&str], _); 4] = [
        ("/", &["lambda-microvms", &token, "lambda-microvms.port.9000"], (Some("lambda-microvms"), Some(""))),
        (
            "/",
            &[&format!("a, lambda-microvms,{token}, lambda-microvms.port.9000 ,b")],
            (Some("lambda-microvms"), Some("a, b")),
        ),
        (
            "/choose/b",
            &["lambda-microvms", &token, "a, b", "lambda-microvms.port.9000"],
            (Some("b"), Some("a, b")),
        ),
        (
            "/choose/a",
            &["a", &format!("{token},lambda-microvms.port.9000, lambda-microvms")],
            (Some("a"), Some("a")),
        ),
    ];
    for (path, offered, expected) in cases {
        let mut response = send(&world, handshake(path, offered).body(empty()).unwrap()).await;
        assert_eq!(response.status(), 101, "{offered:?}");
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(protocols(&response), expected, "{offered:?}");
        let mut socket = TokioIo::new(soon(hyper::upgrade::on(&mut response)).await.unwrap());
        socket.write_all(b"hello").await.unwrap();
        let mut back = [0; 5];
        soon(socket.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, b"hello");
    }
}

#[tokio::test]
async fn headers_come_before_subprotocols() {
    let world = World::start().await;
    serve_app(world.listen(9000).await, app);
    let builder =
        handshake("/", &["lambda-microvms, lambda-microvms.port.1, lambda-microvms.authentication.x"]);
    let builder = builder.header("x-aws-proxy-port", "9000").header("x-aws-proxy-auth", world.token());
    let response = send(&world, builder.body(empty()).unwrap()).await;
    assert_eq!(
        (response.status().as_u16(), protocols(&response)),
        (101, (Some("lambda-microvms"), Some("")))
    );
    // Without the marker, a token in the header is enough, and nothing is chosen for the client.
    let builder = handshake("/", &["own"]).header("x-aws-proxy-port", "9000");
    let response =
        send(&world, builder.header("x-aws-proxy-auth", world.token()).body(empty()).unwrap()).await;
    assert_eq!((response.status().as_u16(), protocols(&response)), (101, (None, Some("own"))));
}

#[tokio::test]
async fn what_is_wrong_refuses_the_handshake() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, app);
    let token = format!("lambda-microvms.authentication.{}", world.token());
    let refused: [(&[&str], _); 7] = [
        (&[&token], 400),
        (&["lambda-microvms", &token, "lambda-microvms.port.0"], 400),
        (&["lambda-microvms", &token, "lambda-microvms.port.80", "lambda-microvms.port.80"], 400),
        (&["lambda-microvms"], 403),
        (&["lambda-microvms", "lambda-microvms.authentication.", "lambda-microvms.port.8080"], 403),
        (&["lambda-microvms", &token, &token], 403),
        (&["lambda-microvms", "lambda-microvms.authentication.banana"], 403),
    ];
    for (offered, status) in refused {
        let response = send(&world, handshake("/", offered).body(empty()).unwrap()).await;
        assert_eq!(response.status(), status, "{offered:?}");
        assert!(response.headers().contains_key("x-aws-proxy-error"));
    }
    // Only WebSocket handshakes have subprotocols.
    let mut sender = connect(&world, LABEL).await;
    let plain = Request::builder().uri("/").header("host", host(LABEL));
    let plain = plain.header("sec-websocket-protocol", format!("lambda-microvms, {token}"));
    let response = soon(sender.send_request(plain.body(empty()).unwrap())).await.unwrap();
    assert_eq!(response.status(), 403);
}

fn http2_handshake(world: &World, path: &str) -> http::request::Builder {
    let builder = request_http2(world, path).method(Method::CONNECT).header("sec-websocket-version", "13");
    builder.extension(Protocol::from_static("websocket"))
}

#[tokio::test]
async fn a_websocket_of_http2_is_an_upgrade_to_the_app() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, app);
    let mut sender = connect_http2(&world).await;
    // The setting that allows it (RFC 8441, section 3) comes with the server's first frames.
    let first = request_http2(&world, "/plain").body(empty()).unwrap();
    assert_eq!(soon(sender.send_request(first)).await.unwrap().status(), 200);
    let request = http2_handshake(&world, "/choose/a").header("sec-websocket-protocol", "a, lambda-microvms");
    let mut response = soon(sender.send_request(request.body(empty()).unwrap())).await.unwrap();
    assert_eq!((response.status().as_u16(), protocols(&response)), (200, (Some("a"), Some("a"))));
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let mut socket = TokioIo::new(soon(hyper::upgrade::on(&mut response)).await.unwrap());
    for piece in [b"one..", b"two.."] {
        socket.write_all(piece).await.unwrap();
        let mut back = [0; 5];
        soon(socket.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, piece);
    }
    world.app.ended.cancel();
    assert_eq!(soon(socket.read(&mut [0; 1])).await.unwrap_or(0), 0, "the end of the life ends the stream");
}

#[tokio::test]
async fn an_app_that_declines_a_websocket_of_http2_is_told_apart_from_one_that_accepts() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, app);
    serve_app(world.listen(9000).await, |_| async { Response::builder().status(403).body(empty()).unwrap() });
    let mut sender = connect_http2(&world).await;
    let first = request_http2(&world, "/plain").body(empty()).unwrap();
    assert_eq!(soon(sender.send_request(first)).await.unwrap().status(), 200);
    for (path, port, status) in [("/plain", "8080", 502), ("/wrong-answer", "8080", 502), ("/", "9000", 403)]
    {
        let request = http2_handshake(&world, path).header("x-aws-proxy-port", port).body(empty()).unwrap();
        let response = soon(sender.send_request(request)).await.unwrap();
        assert_eq!(response.status(), status, "{path} {port}");
        text(response).await;
    }
    let other = request_http2(&world, "/").method(Method::CONNECT).extension(Protocol::from_static("other"));
    let response = soon(sender.send_request(other.body(empty()).unwrap())).await.unwrap();
    assert_eq!(response.status(), 400);
}

#[tokio::test]
async fn a_connection_of_http2_is_kept_as_long_as_it_has_a_websocket() {
    let world = World::on_this_thread().await;
    serve_app(world.listen(8080).await, app);
    let (mut sender, mut quiet) = (connect_http2(&world).await, connect_http2(&world).await);
    let plain = || request_http2(&world, "/plain").body(empty()).unwrap();
    for one in [&mut sender, &mut quiet] {
        text(soon(one.send_request(plain())).await.unwrap()).await;
    }
    let request = http2_handshake(&world, "/").body(empty()).unwrap();
    let mut response = soon(sender.send_request(request)).await.unwrap();
    let mut socket = TokioIo::new(soon(hyper::upgrade::on(&mut response)).await.unwrap());
    two_minutes_pass().await;
    soon(async {
        while !quiet.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(soon(sender.send_request(plain())).await.unwrap().status(), 200);
    socket.write_all(b"still").await.unwrap();
    let mut back = [0; 5];
    soon(socket.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"still");
    // The stream ends when both sides have ended it.
    socket.shutdown().await.unwrap();
    assert_eq!(soon(socket.read(&mut back)).await.unwrap(), 0);
    drop(socket);
    two_minutes_pass().await;
    soon(async {
        while !sender.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
