//! What goes through, and in which form.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{
    TestBody, connect, describe, empty, fed, full, get, request, send, serve_app, soon, text,
};
use crate::fake::{LABEL, World, host};

async fn echo(request: Request<Incoming>) -> Response<TestBody> {
    Response::new(request.into_body().boxed())
}

#[tokio::test]
async fn the_app_sees_the_client_s_request_without_what_is_for_the_endpoint() {
    let world = World::start().await;
    serve_app(world.listen(5000).await, describe);
    let request = request(&world, "/a%20b/c?d=e&f")
        .method("POST")
        .header("x-aws-proxy-port", "5000")
        .header("X-AWS-Proxy-Something", "else")
        .header("traceparent", "00-1-2-03")
        .header("cookie", "a=b")
        .header("connection", "keep-alive, x-hop, host")
        .header("keep-alive", "timeout=5")
        .header("x-hop", "1")
        .header("te", "trailers")
        .header("x-amzn-requestid", "forged")
        .header("expect", "100-continue")
        .body(full("body"))
        .unwrap();
    let response = send(&world, request).await;
    assert_eq!(response.status(), 200);
    let id = response.headers()["x-amzn-requestid"].to_str().unwrap().to_owned();
    assert!(!response.headers().contains_key("x-aws-proxy-error"));
    let expected = [
        "POST /a%20b/c?d=e&f HTTP/1.1".to_owned(),
        "content-length: 4".to_owned(),
        "cookie: a=b".to_owned(),
        format!("host: {}", host(LABEL)),
        "traceparent: 00-1-2-03".to_owned(),
        format!("x-amzn-requestid: {id}"),
        "body".to_owned(),
    ];
    assert_eq!(text(response).await, expected.join("\n"));
}

#[tokio::test]
async fn host_keeps_its_port_and_the_absolute_form_is_understood() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, describe);
    let authority = format!("{}:8443", host(LABEL));
    for (uri, host_field) in [("/x".to_owned(), &*authority), (format!("https://{authority}/x"), &*authority)]
    {
        let request = Request::builder().uri(uri).header("host", host_field);
        let request = request.header("x-aws-proxy-auth", world.token()).body(empty()).unwrap();
        let seen = text(send(&world, request).await).await;
        assert!(
            seen.starts_with("GET /x HTTP/1.1\n") && seen.contains(&format!("host: {authority}\n")),
            "{seen}"
        );
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_at_the_same_time() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, echo);
    let (mut upload, body) = fed();
    upload.send(Ok(Frame::data("start".into()))).await.unwrap();
    let mut response = send(&world, request(&world, "/").method("PUT").body(body).unwrap()).await;
    for piece in ["start", "one", "two", "three"] {
        if piece != "start" {
            upload.send(Ok(Frame::data(piece.into()))).await.unwrap();
        }
        let frame = soon(response.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(upload);
    assert!(soon(response.body_mut().frame()).await.is_none());
}

#[tokio::test]
async fn large_bodies_arrive_whole_and_are_counted() {
    const CHUNK: usize = 1 << 20;
    const CHUNKS: usize = 48;
    let world = World::start().await;
    serve_app(world.listen(8080).await, echo);
    let chunks = (0..CHUNKS).map(|index| Ok(Frame::data(Bytes::from(vec![index as u8; CHUNK]))));
    let body = BodyExt::boxed(StreamBody::new(futures::stream::iter(chunks)));
    let response = send(&world, request(&world, "/").method("POST").body(body).unwrap()).await;
    let mut received = response.into_body().into_data_stream();
    let mut total = 0;
    while let Some(piece) = soon(received.next()).await {
        for byte in piece.unwrap() {
            assert_eq!(usize::from(byte), total / CHUNK);
            total += 1;
        }
    }
    assert_eq!(total, CHUNK * CHUNKS);
    let traffic = world.app.traffic.load(Ordering::SeqCst) as usize;
    assert!(traffic > 2 * total && traffic < 2 * total + total / 10, "{traffic}");
}

#[tokio::test]
async fn an_app_that_does_not_read_holds_the_client_back() {
    let world = World::start().await;
    let listener = world.listen(8080).await;
    let (mut upload, body) = fed();
    let client = tokio::spawn(
        connect(&world, LABEL).await.send_request(request(&world, "/").method("POST").body(body).unwrap()),
    );
    let (stalled, _) = soon(listener.accept()).await.unwrap();
    let chunk = Bytes::from(vec![0; 1 << 20]);
    let mut accepted = 0;
    // Nobody reads: buffers on the way fill up, and then the next piece is not taken any more.
    while let Ok(sent) =
        tokio::time::timeout(std::time::Duration::from_secs(1), upload.send(Ok(Frame::data(chunk.clone()))))
            .await
    {
        sent.unwrap();
        accepted += 1;
        assert!(accepted < 64, "the endpoint buffers without limit");
    }
    drop(stalled);
    drop(upload);
    assert_eq!(soon(client).await.unwrap().unwrap().status(), 502);
}

#[tokio::test]
async fn answers_without_a_body_stay_without() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, |request: Request<Incoming>| async move {
        let builder = Response::builder().header("set-cookie", "a=b; Path=/").header("connection", "x-hop");
        let builder = builder.header("x-hop", "1").header("keep-alive", "timeout=9");
        match request.uri().path() {
            "/204" => builder.status(204).body(empty()).unwrap(),
            "/304" => builder.status(304).header("etag", "\"x\"").body(empty()).unwrap(),
            _ => builder.header("content-length", "5").body(full("12345")).unwrap(),
        }
    });
    for (method, path, status, length) in [
        (Method::GET, "/204", 204, None),
        (Method::GET, "/304", 304, None),
        (Method::HEAD, "/", 200, Some("5")),
    ] {
        let response = send(&world, request(&world, path).method(method).body(empty()).unwrap()).await;
        assert_eq!(response.status(), status);
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("content-length"), length, "{path}");
        assert_eq!(header("set-cookie"), Some("a=b; Path=/"));
        assert_eq!(header("x-hop").or(header("keep-alive")), None);
        assert_eq!(text(response).await, "");
    }
}

#[tokio::test]
async fn who_is_answered_early_can_finish_sending_and_go_on() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, |_| async {
        Response::builder().status(413).body(full("no")).unwrap()
    });
    let mut sender = connect(&world, LABEL).await;
    // By the app, and by the endpoint itself.
    for (token, status) in [(world.token(), 413), ("banana".to_owned(), 403)] {
        let (mut upload, body) = fed();
        let request = Request::builder().method("POST").uri("/").header("host", host(LABEL));
        let request = request.header("x-aws-proxy-auth", token).body(body).unwrap();
        let answering = sender.send_request(request);
        upload.send(Ok(Frame::data(Bytes::from(vec![0; 1 << 16])))).await.unwrap();
        let response = soon(answering).await.unwrap();
        assert_eq!(response.status(), status);
        for _ in 0..100 {
            soon(upload.send(Ok(Frame::data(Bytes::from(vec![0; 1 << 16]))))).await.unwrap();
        }
        drop(upload);
        text(response).await;
        soon(sender.ready()).await.unwrap();
    }
}

#[tokio::test]
async fn who_waits_for_100_continue_is_refused_without() {
    let world = World::start().await;
    let config = std::sync::Arc::new(crate::client::tls_config(&world));
    let mut stream = crate::client::tls(&world, config, LABEL).await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
        host(LABEL)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    soon(stream.read_exact(&mut status)).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 403");
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, describe);
    let config = std::sync::Arc::new(crate::client::tls_config(&world));
    let mut stream = crate::client::tls(&world, config, LABEL).await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nX-aws-proxy-auth: {}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
        host(LABEL),
        world.token()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    soon(stream.read_exact(&mut interim)).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hi").await.unwrap();
    let mut status = [0; 15];
    soon(stream.read_exact(&mut status)).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");
}

/// Upgrades to a protocol that answers every line with itself.
pub(crate) async fn upgrade_app(mut request: Request<Incoming>) -> Response<TestBody> {
    if request.headers().get("upgrade").is_none_or(|protocol| protocol != "lines") {
        return describe(request).await;
    }
    assert_eq!(request.headers()["connection"], "upgrade");
    assert!(!request.headers().contains_key("x-aws-proxy-auth"));
    tokio::spawn(async move {
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
        let mut line = [0; 5];
        while stream.read_exact(&mut line).await.is_ok() {
            stream.write_all(&line).await.unwrap();
        }
    });
    let builder = Response::builder().status(101).header("upgrade", "lines").header("connection", "upgrade");
    builder.header("sec-websocket-protocol", "chosen").body(empty()).unwrap()
}

#[tokio::test]
async fn an_upgrade_becomes_a_raw_tunnel_until_the_microvm_is_suspended() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, upgrade_app);
    let asking = |connection: &str| {
        let builder = request(&world, "/").header("connection", connection).header("upgrade", "lines");
        builder.body(empty()).unwrap()
    };
    let mut response = send(&world, asking("keep-alive, Upgrade")).await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["upgrade"], "lines");
    assert_eq!(response.headers()["sec-websocket-protocol"], "chosen");
    let mut tunnel = TokioIo::new(soon(hyper::upgrade::on(&mut response)).await.unwrap());
    let before = world.app.traffic.load(Ordering::SeqCst);
    for line in [b"one..", b"two.."] {
        tunnel.write_all(line).await.unwrap();
        let mut back = [0; 5];
        soon(tunnel.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, line);
    }
    assert_eq!(world.app.traffic.load(Ordering::SeqCst) - before, 20);
    world.app.ended.cancel();
    assert!(soon(tunnel.read(&mut [0; 1])).await.map_or(true, |length| length == 0));
}

#[tokio::test]
async fn an_upgrade_that_the_app_declines_is_an_ordinary_answer() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, upgrade_app);
    let builder = request(&world, "/").header("connection", "upgrade").header("upgrade", "other");
    let response = send(&world, builder.body(empty()).unwrap()).await;
    assert_eq!(response.status(), 200);
    assert!(text(response).await.contains("upgrade: other"));
    let not_asked = get(&world, "/").await;
    assert!(!text(not_asked).await.contains("upgrade"));
}
