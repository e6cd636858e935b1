//! HTTP/2 towards the client and towards the app.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt as _;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{
    TestBody, asked, connect_http2, describe, empty, fed, full, piece, request, request_http2, send,
    serve_app, serve_http2_app, soon, text,
};
use crate::fake::{LABEL, World, host};

async fn echo(request: Request<Incoming>) -> Response<TestBody> {
    Response::new(request.into_body().boxed())
}

/// Answers as gRPC servers do: what it is sent, then trailers.
async fn grpc_echo(request: Request<Incoming>) -> Response<TestBody> {
    assert_eq!(request.headers()["te"], "trailers");
    assert_eq!(request.headers()["grpc-timeout"], "5S");
    assert_eq!(request.uri().authority().unwrap().as_str(), host(LABEL));
    assert!(!request.headers().contains_key("host"));
    let (mut feed, body) = fed();
    tokio::spawn(async move {
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return };
            feed.send(Ok(frame)).await.unwrap();
        }
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from(0))]);
        feed.send(Ok(Frame::trailers(trailers))).await.unwrap();
    });
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

fn grpc(world: &World) -> http::request::Builder {
    let builder = request_http2(world, "/test.Echo/Both").method("POST").header("te", "trailers");
    builder.header("content-type", "application/grpc+proto").header("grpc-timeout", "5S")
}

#[tokio::test]
async fn requests_of_http2_reach_an_app_that_speaks_http1() {
    let world = World::start().await;
    serve_app(world.listen(5000).await, describe);
    let request = request_http2(&world, "/a%20b?c=d")
        .method("POST")
        .header("x-aws-proxy-port", "5000")
        .header("x-aws-proxy-else", "1")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .body(full("body"))
        .unwrap();
    let response = soon(connect_http2(&world).await.send_request(request)).await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
    let id = response.headers()["x-amzn-requestid"].to_str().unwrap().to_owned();
    let expected = [
        "POST /a%20b?c=d HTTP/1.1".to_owned(),
        "content-length: 4".to_owned(),
        "cookie: a=1; b=2".to_owned(),
        format!("host: {}", host(LABEL)),
        format!("x-amzn-requestid: {id}"),
        "body".to_owned(),
    ];
    assert_eq!(text(response).await, expected.join("\n"));
}

#[tokio::test]
async fn grpc_goes_by_http2_to_the_app_on_one_connection() {
    let world = World::start().await;
    let connections = serve_http2_app(world.listen(8080).await, grpc_echo);
    let sender = connect_http2(&world).await;
    let mut calls = Vec::new();
    for _ in 0..8 {
        let (mut feed, body) = fed();
        let mut sender = sender.clone();
        feed.send(Ok(Frame::data("first".into()))).await.unwrap();
        let request = grpc(&world).body(body).unwrap();
        let mut response = soon(sender.send_request(request)).await.unwrap();
        assert_eq!(piece(response.body_mut()).await, "first");
        calls.push((feed, response));
    }
    for (feed, response) in &mut calls {
        feed.send(Ok(Frame::data("second".into()))).await.unwrap();
        assert_eq!(piece(response.body_mut()).await, "second");
    }
    for (feed, mut response) in calls {
        drop(feed);
        let trailers = soon(response.body_mut().frame()).await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        assert!(soon(response.body_mut().frame()).await.is_none());
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn more_streams_than_one_connection_carries_go_on_another() {
    let world = World::start().await;
    let connections = serve_http2_app(world.listen(8080).await, echo);
    let clients = [connect_http2(&world).await, connect_http2(&world).await];
    let mut open = Vec::new();
    for index in 0..101 {
        let (mut feed, body) = fed();
        feed.send(Ok(Frame::data("x".into()))).await.unwrap();
        let request = request_http2(&world, "/").method("POST").header("x-aws-proxy-force-h2", "true");
        let mut sender = clients[index % 2].clone();
        let mut response = soon(sender.send_request(request.body(body).unwrap())).await.unwrap();
        assert_eq!(piece(response.body_mut()).await, "x");
        open.push((feed, response));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_client_can_ask_for_http2_to_the_app() {
    let world = World::start().await;
    serve_http2_app(world.listen(8080).await, describe);
    for force in ["true", "TRUE"] {
        let forced = request(&world, "/x?y").header("x-aws-proxy-force-h2", force).body(empty()).unwrap();
        let seen = text(send(&world, forced).await).await;
        assert!(seen.starts_with(&format!("GET http://{}/x?y HTTP/2.0\n", host(LABEL))), "{seen}");
        assert!(!seen.contains("x-aws-proxy"), "{seen}");
    }
    // An app of HTTP/2 only does not understand anything else, and one of HTTP/1.1 only does
    // not understand this.
    assert_eq!(send(&world, request(&world, "/").body(empty()).unwrap()).await.status(), 502);
    serve_app(world.listen(8080).await, describe);
    let other = request(&world, "/").header("x-aws-proxy-force-h2", "false").body(empty()).unwrap();
    assert_eq!(send(&world, other).await.status(), 200);
    let fresh = World::start().await;
    serve_app(fresh.listen(8080).await, describe);
    let forced = request(&fresh, "/").header("x-aws-proxy-force-h2", "true").body(empty()).unwrap();
    let refused = send(&fresh, forced).await;
    assert_eq!(refused.status(), 502);
    assert_eq!(refused.headers()["x-aws-proxy-error"], "APP_CONNECT_FAILED");
}

#[tokio::test]
async fn what_is_not_grpc_goes_by_http1() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, describe);
    for (content_type, te) in [("application/grpc-web+proto", "trailers"), ("application/json", "trailers")] {
        let request = request_http2(&world, "/").method("POST").header("te", te);
        let request = request.header("content-type", content_type).body(full("x")).unwrap();
        let response = soon(connect_http2(&world).await.send_request(request)).await.unwrap();
        assert!(text(response).await.starts_with("POST / HTTP/1.1"), "{content_type}");
    }
    let without_te = request_http2(&world, "/").method("POST").header("content-type", "application/grpc");
    let response = connect_http2(&world).await.send_request(without_te.body(full("x")).unwrap());
    assert!(text(soon(response).await.unwrap()).await.starts_with("POST / HTTP/1.1"));
}

#[tokio::test]
async fn an_app_that_answers_early_is_heard_and_the_connection_lives_on() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, |_| async {
        Response::builder().status(413).body(full("no")).unwrap()
    });
    let mut sender = connect_http2(&world).await;
    for _ in 0..2 {
        let (mut feed, body) = fed();
        feed.send(Ok(Frame::data(Bytes::from(vec![0; 1 << 16])))).await.unwrap();
        let request = request_http2(&world, "/").method("POST").body(body).unwrap();
        let response = soon(sender.send_request(request)).await.unwrap();
        assert_eq!(response.status(), 413);
        assert_eq!(text(response).await, "no");
        // The rest is not wanted: the stream is reset, and the feed ends.
        let chunk = Bytes::from(vec![0; 1 << 16]);
        soon(async { while feed.send(Ok(Frame::data(chunk.clone()))).await.is_ok() {} }).await;
    }
}

#[tokio::test]
async fn neither_side_can_make_the_endpoint_hold_a_body() {
    const CHUNK: usize = 1 << 16;
    let world = World::start().await;
    let listener = world.listen(8080).await;
    // Up: an app that does not read.
    let (mut feed, body) = fed();
    let mut sender = connect_http2(&world).await;
    let upload = request_http2(&world, "/").method("POST").body(body).unwrap();
    let uploading = tokio::spawn(sender.send_request(upload));
    let (_silent, _) = soon(listener.accept()).await.unwrap();
    let chunk = Bytes::from(vec![0; CHUNK]);
    let mut taken = 0;
    while let Ok(sent) =
        tokio::time::timeout(Duration::from_secs(1), feed.send(Ok(Frame::data(chunk.clone())))).await
    {
        sent.unwrap();
        taken += CHUNK;
        assert!(taken < 32 << 20, "the endpoint buffers without limit");
    }
    // Meanwhile, on the same connection, other requests go through.
    let other = tokio::spawn(sender.send_request(request_http2(&world, "/other").body(empty()).unwrap()));
    let mut app = asked(&listener).await;
    // Down: a client that does not read.
    app.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let response = soon(other).await.unwrap().unwrap();
    let mut given = 0;
    let chunk = vec![0; CHUNK];
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(1), app.write(&chunk)).await {
        given += written.unwrap();
        assert!(given < 32 << 20, "the endpoint buffers without limit");
    }
    drop(response);
    drop(feed);
    uploading.abort();
}

#[tokio::test]
async fn streams_are_reset_when_the_life_ends_and_the_connection_stays() {
    let world = World::start().await;
    let mut sender = connect_http2(&world).await;
    let listener = world.listen(8080).await;
    let asking = tokio::spawn(sender.send_request(request_http2(&world, "/").body(empty()).unwrap()));
    let mut app = asked(&listener).await;
    app.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
    let mut response = soon(asking).await.unwrap().unwrap();
    assert_eq!(piece(response.body_mut()).await, "half");
    serve_http2_app(world.listen(9000).await, grpc_echo);
    let (mut feed, body) = fed();
    feed.send(Ok(Frame::data("x".into()))).await.unwrap();
    let call = grpc(&world).header("x-aws-proxy-port", "9000").body(body).unwrap();
    let mut call = soon(sender.send_request(call)).await.unwrap();
    assert_eq!(piece(call.body_mut()).await, "x");
    world.node.state.send_replace(Some(Err(hearth_node::Unreachable::Terminated)));
    world.app.ended.cancel();
    assert!(soon(response.body_mut().frame()).await.unwrap().is_err());
    assert!(soon(call.body_mut().frame()).await.unwrap().is_err());
    let refused = soon(sender.send_request(request_http2(&world, "/").body(empty()).unwrap())).await.unwrap();
    assert_eq!(refused.status(), 502);
}

#[tokio::test]
async fn a_client_that_gives_up_a_stream_ends_it_at_the_app() {
    let world = World::start().await;
    let listener = world.listen(8080).await;
    let mut sender = connect_http2(&world).await;
    let asking = tokio::spawn(sender.send_request(request_http2(&world, "/").body(empty()).unwrap()));
    let mut app = asked(&listener).await;
    let mut buffer = vec![0; 4096];
    asking.abort();
    assert_eq!(soon(app.read(&mut buffer)).await.unwrap_or(0), 0);
}
