//! Who is served when there are more connections than places.

use std::sync::Arc;
use std::time::Duration;

use hearth_data_plane::DataPlaneConfig;
use http::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::client::{
    connect, connect_http2, describe, empty, get, request, request_http2, serve_app, soon, text, tls,
    tls_config,
};
use crate::fake::{CONFIG, ENDED, LABEL, NEIGHBOUR, World, host};

#[tokio::test]
async fn slow_connections_give_way_and_those_with_a_token_stay() {
    let world = World::configured(DataPlaneConfig { connections: 3, ..CONFIG }).await;
    serve_app(world.listen(8080).await, describe);
    let mut kept = connect(&world, LABEL).await;
    let ask = || request(&world, "/").body(empty()).unwrap();
    text(soon(kept.send_request(ask())).await.unwrap()).await;
    // They could stay for a minute, which is longer than this test waits.
    let without = || Request::builder().uri("/").header("host", host(LABEL)).body(empty()).unwrap();
    let mut refused = [connect(&world, LABEL).await, connect(&world, LABEL).await];
    for sender in &mut refused {
        text(soon(sender.send_request(without())).await.unwrap()).await;
    }
    // One: the server may not have seen yet that it is closed when another one comes, and then the
    // one that is kept is the idlest.
    assert_eq!(get(&world, "/").await.status(), 200);
    soon(async { while refused[0].ready().await.is_ok() {} }).await;
    assert_eq!(soon(kept.send_request(ask())).await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_upgraded_connection_keeps_its_place_and_counts_for_its_source() {
    let world = World::configured(DataPlaneConfig { connections_per_source: Some(1), ..CONFIG }).await;
    serve_app(world.listen(8080).await, |_| async {
        let head = http::Response::builder().status(101).header("connection", "upgrade");
        head.header("upgrade", "x").body(empty()).unwrap()
    });
    let mut sender = connect(&world, LABEL).await;
    let ask = request(&world, "/").header("connection", "upgrade").header("upgrade", "x");
    let mut response = soon(sender.send_request(ask.body(empty()).unwrap())).await.unwrap();
    assert_eq!(response.status(), 101);
    let tunnel = soon(hyper::upgrade::on(&mut response)).await.unwrap();
    let closed = async || {
        let mut second = TcpStream::connect(world.address).await.unwrap();
        // No TLS: an alert or nothing comes back if it was let in, and the end at once if not.
        second.write_all(b"no TLS\r\n\r\n").await.is_err()
            || soon(second.read(&mut [0; 64])).await.unwrap_or(0) == 0
    };
    for _ in 0..3 {
        assert!(closed().await);
    }
    drop(tunnel);
    soon(async { while closed().await {} }).await;
}

/// One token has a part of the places, however often it connects, and its idle connections
/// give way for others.
#[tokio::test]
async fn one_token_does_not_keep_others_out() {
    let config = DataPlaneConfig { connections: 6, connections_per_microvm: Some(4), ..CONFIG };
    let world = World::configured(config).await;
    serve_app(world.listen(8080).await, describe);
    let (token, listener) = world.neighbour().await;
    serve_app(listener, describe);
    let ask = || request(&world, "/").body(empty()).unwrap();
    let mut held = Vec::new();
    for number in 0..8 {
        let mut sender = connect(&world, LABEL).await;
        let response = soon(sender.send_request(ask())).await.unwrap();
        assert_eq!(response.status(), if number < 4 { 200 } else { 429 }, "{number}");
        text(response).await;
        held.push(sender);
    }
    for sender in &mut held[4..] {
        soon(async {
            while sender.ready().await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    // The neighbour needs more than is left.
    let mut others = Vec::new();
    for _ in 0..4 {
        let stream = tls(&world, Arc::new(tls_config(&world)), NEIGHBOUR).await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let ask =
            Request::builder().uri("/").header("host", host(NEIGHBOUR)).header("x-aws-proxy-auth", &token);
        let response = soon(sender.send_request(ask.body(empty()).unwrap())).await.unwrap();
        assert_eq!(response.status(), 200);
        text(response).await;
        others.push(sender);
    }
    let mut left = 0;
    for sender in &mut held[..4] {
        left += usize::from(sender.ready().await.is_ok());
    }
    // Two places were free, if those of the refused connections were given back already;
    // else one more gave way.
    assert!(
        (1..=2).contains(&left),
        "the longest idle ones give way, and no more than are needed: {left} are left"
    );
}

/// Whoever was never let in keeps no place: with a bad token, for a microVM that has
/// ended, over its limits.
#[tokio::test]
async fn a_connection_whose_first_request_is_refused_is_closed() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, describe);
    let gone = hearth_api::MicrovmId::new();
    world.node.ended.lock().unwrap().insert(gone.clone(), ENDED.to_owned());
    let of_gone = world.issue(&hearth_auth::Claims { microvm: gone, ..world.claims() });
    for (label, token, status) in [(LABEL, "x", 403), (ENDED, of_gone.as_str(), 502)] {
        let ask = || Request::builder().header("host", host(label)).header("x-aws-proxy-auth", token);
        let mut sender = connect(&world, label).await;
        let response = soon(sender.send_request(ask().uri("/").body(empty()).unwrap())).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["connection"]),
            (status, &"close".parse().unwrap())
        );
        text(response).await;
        soon(async {
            while sender.ready().await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let mut sender = connect_http2(&world).await;
    let uri = format!("https://{}/", host(LABEL));
    let ask = || Request::builder().version(http::Version::HTTP_2).uri(&uri).header("x-aws-proxy-auth", "x");
    // Over HTTP/2 it stays, for a browser that comes with its token next, and gives way to others.
    for _ in 0..2 {
        let response = soon(sender.send_request(ask().body(empty()).unwrap())).await.unwrap();
        assert_eq!(response.status(), 403);
        text(response).await;
        sender.ready().await.unwrap();
    }
    // One that was let in once stays, whatever comes later.
    let mut sender = connect(&world, LABEL).await;
    text(soon(sender.send_request(request(&world, "/").body(empty()).unwrap())).await.unwrap()).await;
    for _ in 0..2 {
        let bad = Request::builder().uri("/").header("host", host(LABEL)).body(empty()).unwrap();
        sender.ready().await.unwrap();
        let response = soon(sender.send_request(bad)).await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers().get("connection")), (403, None));
        text(response).await;
    }
}

#[tokio::test]
async fn a_refused_head_has_no_body_in_either_protocol() {
    let world = World::start().await;
    let ask =
        request_http2(&world, "/").method("HEAD").header("x-aws-proxy-port", "x").body(empty()).unwrap();
    let mut sender = connect_http2(&world).await;
    let over_http2 = soon(sender.send_request(ask)).await.unwrap();
    let ask = request(&world, "/").method("HEAD").header("x-aws-proxy-port", "x").body(empty()).unwrap();
    let over_http1 = soon(connect(&world, LABEL).await.send_request(ask)).await.unwrap();
    for response in [over_http2, over_http1] {
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-length"]),
            (400, &"11".parse().unwrap())
        );
        assert_eq!(text(response).await, "");
    }
}

/// A client that connects again and again has to wait for its handshakes, and is turned away in the
/// end.
#[tokio::test]
async fn handshakes_of_one_source_take_turns_and_others_do_not_wait() {
    let world =
        World::configured(DataPlaneConfig { handshakes_per_second_per_source: Some(1), ..CONFIG }).await;
    serve_app(world.listen(8080).await, describe);
    let from = async |source: [u8; 4]| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        socket.connect(world.address).await.unwrap()
    };
    let mut turned_away = 0;
    let mut waiting = Vec::new();
    for _ in 0..40 {
        let mut stream = from([127, 0, 0, 2]).await;
        match timeout(Duration::from_millis(50), stream.read(&mut [0; 64])).await {
            Ok(Ok(0) | Err(_)) => turned_away += 1,
            _ => waiting.push(stream),
        }
    }
    assert!((20..=34).contains(&turned_away), "{turned_away} of 40");
    assert_eq!(get(&world, "/").await.status(), 200);
    let ended = waiting.iter_mut().map(async |stream| {
        stream.write_all(b"no TLS\r\n\r\n").await.unwrap();
        while soon(stream.read(&mut [0; 64])).await.is_ok_and(|length| length > 0) {}
    });
    futures::future::join_all(ended).await;
}
