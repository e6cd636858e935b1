//! Apps that want TLS.

use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use crate::client::{
    TestBody, connect, connect_http2, describe, empty, full, get, request, request_http2, send, serve_app,
    soon, text, two_minutes_pass,
};
use crate::fake::{App, LABEL, World, host};
use crate::forwarding::upgrade_app;
use crate::secured_app::{EVERY_WAY, Seen, ToPlain, accept, serve_tls_app, server_config};

const HTTP1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";

fn post(world: &World) -> Request<TestBody> {
    request(world, "/").method("POST").body(full("body")).unwrap()
}

#[tokio::test]
async fn a_port_that_wants_tls_is_noticed_by_its_first_answer() {
    for to_plain in EVERY_WAY {
        for (protocols, version) in [
            (&[][..], "HTTP/1.1"),
            (&[HTTP1][..], "HTTP/1.1"),
            (&[HTTP1, H2][..], "HTTP/1.1"),
            (&[H2, HTTP1][..], "HTTP/2.0"),
            (&[H2][..], "HTTP/2.0"),
        ] {
            let world = World::start().await;
            let seen = serve_tls_app(world.listen(8080).await, protocols, to_plain, describe);
            for _ in 0..3 {
                let response = get(&world, "/a?b").await;
                assert_eq!(response.status(), 200, "{to_plain:?} {protocols:?}");
                let target = if version == "HTTP/2.0" {
                    format!("https://{}/a?b", host(LABEL))
                } else {
                    "/a?b".into()
                };
                let seen = text(response).await;
                assert!(seen.starts_with(&format!("GET {target} {version}\n")), "{to_plain:?}: {seen}");
            }
            // The first request, a probe, and a connection that is kept.
            assert_eq!(seen.plain_and_secured(), (1, 2), "{to_plain:?} {protocols:?}");
            assert_eq!(*seen.names.lock().unwrap(), [Some(host(LABEL)), Some(host(LABEL))]);
            assert_eq!(world.connects(), 3);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_sent_twice_gets_the_first_answer_and_the_next_one_works() {
    for to_plain in EVERY_WAY {
        let world = World::start().await;
        serve_tls_app(world.listen(8080).await, &[H2, HTTP1], to_plain, describe);
        let first = send(&world, post(&world)).await;
        match to_plain {
            ToPlain::BadRequest10 | ToPlain::BadRequest11 => {
                assert_eq!(first.status(), 400);
                assert_eq!(text(first).await, "no HTTPS\n");
            }
            _ => {
                assert_eq!(first.status(), 502, "{to_plain:?}");
                assert_eq!(first.headers()["x-aws-proxy-error"], "APP_CONNECT_FAILED");
            }
        }
        let second = send(&world, post(&world)).await;
        assert_eq!(second.status(), 200);
        assert!(text(second).await.ends_with("\nbody"));
    }
}

#[tokio::test]
async fn a_plain_app_s_own_400_stays_and_it_is_probed_once() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, |request: Request<Incoming>| async move {
        let builder = Response::builder().status(400);
        let is_last = request.uri().path() == "/close";
        let builder = if is_last { builder.header("connection", "close") } else { builder };
        builder.body(full("mine")).unwrap()
    });
    let ask = async |path| {
        let response = get(&world, path).await;
        assert_eq!(response.status(), 400);
        assert_eq!(text(response).await, "mine");
        world.connects()
    };
    assert_eq!(ask("/close").await, 2);
    assert_eq!(ask("/close").await, 3);
    assert_eq!(ask("/close").await, 4);
    // Who goes on with the connection cannot want TLS.
    serve_app(world.listen(9000).await, |_| async {
        Response::builder().status(400).body(full("mine")).unwrap()
    });
    let kept = request(&world, "/").header("x-aws-proxy-port", "9000").body(empty()).unwrap();
    assert_eq!(send(&world, kept).await.status(), 400);
    assert_eq!(world.connects(), 5);
}

#[tokio::test]
async fn an_app_that_has_answered_is_not_probed() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, |request: Request<Incoming>| async move {
        let status = if request.uri().path() == "/good" { 200 } else { 400 };
        Response::builder().status(status).header("connection", "close").body(empty()).unwrap()
    });
    assert_eq!(get(&world, "/good").await.status(), 200);
    assert_eq!(get(&world, "/bad").await.status(), 400);
    assert_eq!(world.connects(), 2);
}

#[tokio::test]
async fn an_app_that_closes_is_probed_once_and_a_port_without_one_never() {
    let world = World::start().await;
    let listener = world.listen(8080).await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 8192]).await;
        }
    });
    let ask = async |port| {
        let request = request(&world, "/").header("x-aws-proxy-port", port).body(empty()).unwrap();
        assert_eq!(send(&world, request).await.status(), 502);
        world.connects()
    };
    assert_eq!(ask("8080").await, 2);
    assert_eq!(ask("8080").await, 3);
    assert_eq!(ask("9").await, 4);
    assert_eq!(ask("9").await, 5);
}

#[tokio::test]
async fn an_app_that_is_silent_when_probed_delays_one_answer() {
    let world = World::start().await;
    let listener = world.listen(8080).await;
    let probed = Arc::new(tokio::sync::Notify::new());
    let noticed = Arc::clone(&probed);
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 8192];
            if stream.read(&mut request).await.unwrap() > 0 && request[0] == 0x16 {
                held.push(stream);
                noticed.notify_one();
                continue;
            }
            stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nmine").await.unwrap();
        }
    });
    let mut sender = connect(&world, LABEL).await;
    let asking = tokio::spawn(sender.send_request(request(&world, "/").body(empty()).unwrap()));
    soon(probed.notified()).await;
    two_minutes_pass().await;
    let response = soon(asking).await.unwrap().unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(text(response).await, "mine");
    assert_eq!(get(&world, "/").await.status(), 400);
    assert_eq!(world.connects(), 3);
}

#[tokio::test]
async fn first_requests_that_come_together_share_one_probe() {
    const REQUESTS: usize = 20;
    let world = World::start().await;
    let seen = serve_tls_app(world.listen(8080).await, &[H2], ToPlain::Close, describe);
    let sender = connect_http2(&world).await;
    let requests = (0..REQUESTS).map(|_| {
        let mut sender = sender.clone();
        let request = request_http2(&world, "/").body(empty()).unwrap();
        async move { soon(sender.send_request(request)).await.unwrap().status() }
    });
    assert!(futures::future::join_all(requests).await.iter().all(|status| *status == 200));
    let (plain, secured) = seen.plain_and_secured();
    assert!(plain <= REQUESTS && secured == 2, "{plain} {secured}");
}

#[tokio::test]
async fn an_upgrade_goes_by_http1_with_tls() {
    for (protocols, to_plain) in [(&[HTTP1][..], ToPlain::Close), (&[H2, HTTP1][..], ToPlain::BadRequest10)] {
        let world = World::start().await;
        serve_tls_app(world.listen(8080).await, protocols, to_plain, upgrade_app);
        for _ in 0..2 {
            let asking = request(&world, "/").header("connection", "upgrade").header("upgrade", "lines");
            let mut response = send(&world, asking.body(empty()).unwrap()).await;
            assert_eq!(response.status(), 101);
            let mut tunnel = TokioIo::new(soon(hyper::upgrade::on(&mut response)).await.unwrap());
            for line in [b"one..", b"two.."] {
                tunnel.write_all(line).await.unwrap();
                let mut back = [0; 5];
                soon(tunnel.read_exact(&mut back)).await.unwrap();
                assert_eq!(&back, line);
            }
        }
    }
}

#[tokio::test]
async fn http2_is_spoken_with_tls_where_it_is_asked_for() {
    let forced = |world: &World, path| {
        request(world, path).header("x-aws-proxy-force-h2", "true").body(empty()).unwrap()
    };
    for protocols in [&[HTTP1, H2][..], &[H2][..]] {
        let world = World::start().await;
        let seen = serve_tls_app(world.listen(8080).await, protocols, ToPlain::Close, describe);
        for _ in 0..2 {
            let answer = text(send(&world, forced(&world, "/")).await).await;
            assert!(answer.contains(" HTTP/2.0\n"), "{answer}");
        }
        assert_eq!(seen.plain_and_secured(), (1, 2));
    }
    // An app that cannot is not taken for one without TLS.
    let world = World::start().await;
    let seen = serve_tls_app(world.listen(8080).await, &[HTTP1], ToPlain::Close, describe);
    assert_eq!(send(&world, forced(&world, "/")).await.status(), 502);
    assert_eq!(get(&world, "/").await.status(), 200);
    assert_eq!(seen.plain_and_secured(), (1, 2));
}

#[tokio::test]
async fn grpc_reaches_an_app_with_tls() {
    let world = World::start().await;
    serve_tls_app(world.listen(8080).await, &[H2], ToPlain::Alert, describe);
    let mut sender = connect_http2(&world).await;
    let mut call = || {
        let builder = request_http2(&world, "/test.Echo/Unary").method("POST").header("te", "trailers");
        sender.send_request(builder.header("content-type", "application/grpc").body(full("x")).unwrap())
    };
    assert_eq!(soon(call()).await.unwrap().status(), 502);
    let answer = text(soon(call()).await.unwrap()).await;
    assert!(answer.starts_with("POST https://") && answer.contains("\nte: trailers\n"), "{answer}");
}

/// The same microVM, resumed.
fn next_life(world: &World) -> App {
    let next = App { generation: world.app.generation + 1, ..world.app.clone() };
    world.node.state.send_replace(Some(Ok(next.clone())));
    next
}

#[tokio::test]
async fn a_port_with_tls_has_it_after_a_resume() {
    let world = World::start().await;
    let seen = serve_tls_app(world.listen(8080).await, &[HTTP1], ToPlain::Close, describe);
    assert_eq!(get(&world, "/").await.status(), 200);
    next_life(&world);
    assert_eq!(send(&world, post(&world)).await.status(), 200);
    assert_eq!(seen.plain_and_secured(), (1, 3));
    // An app that has given it up is reached all the same, and so is one that takes it up again.
    for life in 0..2 {
        next_life(&world);
        serve_app(world.listen(8080).await, describe);
        assert_eq!(send(&world, post(&world)).await.status(), 200, "{life}");
        next_life(&world);
        serve_tls_app(world.listen(8080).await, &[HTTP1], ToPlain::Reset, describe);
        assert_eq!(get(&world, "/").await.status(), 200, "{life}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_the_connection_needs_no_word_of_tls() {
    let world = World::start().await;
    let listener = world.listen(8080).await;
    let tls = TlsAcceptor::from(server_config(&[]));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Some(mut stream) = accept(stream, &tls, ToPlain::Reset, &Seen::default()).await else {
                continue;
            };
            let mut request = vec![0; 65536];
            if stream.read(&mut request).await.unwrap_or(0) > 0 {
                stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nwhole").await.unwrap();
                stream.flush().await.unwrap();
            }
            // Closed below TLS.
        }
    });
    for _ in 0..2 {
        let response = get(&world, "/").await;
        assert_eq!(response.status(), 200);
        assert_eq!(soon(response.into_body().collect()).await.unwrap().to_bytes(), "whole");
    }
}
