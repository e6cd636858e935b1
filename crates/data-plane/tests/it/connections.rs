//! Connections to the app and to the client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt as _;
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::client::{
    asked, connect, describe, empty, full, get, request, send, serve_app, soon, text, tls, tls_config,
};
use crate::fake::{App, LABEL, World};

#[tokio::test]
async fn connections_to_the_app_are_used_again_within_one_life_and_port() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, describe);
    serve_app(world.listen(9000).await, describe);
    let mut sender = connect(&world, LABEL).await;
    let mut ask = async |port: &str| {
        let request = request(&world, "/").header("x-aws-proxy-port", port).body(full("x")).unwrap();
        let response = soon(sender.send_request(request)).await.unwrap();
        assert_eq!(response.status(), 200);
        text(response).await;
    };
    // A connection is kept from the moment at which its answer has been read to the
    // end; poll until it was.
    soon(async {
        let mut last = 0;
        loop {
            ask("8080").await;
            if world.connects() == last {
                break;
            }
            last = world.connects();
        }
    })
    .await;
    let before = world.connects();
    ask("9000").await;
    assert_eq!(world.connects(), before + 1, "another port is another connection");
    world.node.state.send_replace(Some(Ok(App { generation: 2, ..world.app.clone() })));
    ask("8080").await;
    assert_eq!(world.connects(), before + 2, "another life is another connection");
}

/// An app that answers one request per connection and then closes it without having said
/// so. Counts requests.
fn one_shot(listener: TcpListener) -> Arc<AtomicUsize> {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let mut answered = false;
                // The second request is read, so that it counts as sent, and not answered.
                while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {
                    counter.fetch_add(1, Ordering::SeqCst);
                    if answered {
                        return;
                    }
                    answered = true;
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                }
            });
        }
    });
    requests
}

#[tokio::test]
async fn only_what_may_be_repeated_is_sent_again_when_a_kept_connection_turns_out_dead() {
    let world = World::start().await;
    let requests = one_shot(world.listen(8080).await);
    assert_eq!(get(&world, "/").await.status(), 200);
    // Sooner or later a connection is kept; the GET that uses it is answered all the
    // same, by another one.
    let mut sent = 1;
    while requests.load(Ordering::SeqCst) == sent {
        let response = get(&world, "/").await;
        assert_eq!(response.status(), 200);
        text(response).await;
        sent += 1;
    }
    assert_eq!(requests.load(Ordering::SeqCst), sent + 1, "one was sent twice");
    loop {
        let before = (requests.load(Ordering::SeqCst), world.connects());
        let response = send(&world, request(&world, "/").method("POST").body(empty()).unwrap()).await;
        assert_eq!(requests.load(Ordering::SeqCst), before.0 + 1, "a POST is never sent twice");
        if world.connects() == before.1 {
            assert_eq!(response.status(), 502);
            break;
        }
        assert_eq!(response.status(), 200);
        text(response).await;
    }
}

#[tokio::test]
async fn open_answers_are_cut_when_the_life_ends() {
    let world = World::start().await;
    let listener = world.listen(8080).await;
    let mut sender = connect(&world, LABEL).await;
    let answering = tokio::spawn(sender.send_request(request(&world, "/").body(empty()).unwrap()));
    let mut app = asked(&listener).await;
    app.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
    let mut response = soon(answering).await.unwrap().unwrap();
    assert_eq!(soon(response.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap(), "half");
    let mut other = connect(&world, LABEL).await;
    let waiting = tokio::spawn(other.send_request(request(&world, "/").body(empty()).unwrap()));
    // With the request: one that has not gone to the app yet would be held for the next life.
    let _silent = asked(&listener).await;
    world.app.ended.cancel();
    assert!(soon(response.body_mut().frame()).await.unwrap().is_err());
    let refused = soon(waiting).await.unwrap().unwrap();
    assert_eq!(refused.status(), 502);
    assert_eq!(refused.headers()["x-aws-proxy-error"], "MICROVM_CONNECT_FAILED");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_the_app_s_connection_along() {
    let world = World::start().await;
    let listener = world.listen(8080).await;
    let mut sender = connect(&world, LABEL).await;
    let asking = tokio::spawn(async move {
        sender.send_request(request(&world, "/").body(empty()).unwrap()).await.map(|_| world)
    });
    let mut app = asked(&listener).await;
    let mut buffer = vec![0; 4096];
    asking.abort();
    assert_eq!(soon(app.read(&mut buffer)).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn tls_sessions_are_resumed() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, describe);
    let config = Arc::new(tls_config(&world));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let mut stream = tls(&world, Arc::clone(&config), LABEL).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        // Tickets come behind the handshake, with the first bytes that the client reads.
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        soon(stream.read_to_end(&mut Vec::new())).await.unwrap();
        kinds.push(stream.get_ref().1.handshake_kind().unwrap());
    }
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
}
