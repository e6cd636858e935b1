//! Requests that wait for a microVM.

use std::sync::atomic::Ordering;

use futures::stream::{FuturesUnordered, StreamExt as _};
use hearth_node::Unreachable;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::client::{connect, connect_http2, describe, empty, request, request_http2, serve_app, soon, text};
use crate::fake::{LABEL, World, host};

/// As many as may wait for one microVM.
const WAITING_MAX: usize = 1024;

async fn until(world: &World, condition: impl Fn(&World) -> bool) {
    soon(async {
        while !condition(world) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Holds requests to `/0`, `/1` and so on, on one connection, which arrive in this order.
async fn hold(world: &World, count: usize) -> Vec<JoinHandle<hyper::Result<Response<Incoming>>>> {
    world.node.state.send_replace(None);
    let mut sender = connect_http2(world).await;
    let mut held = Vec::new();
    for index in 0..count {
        let request = request_http2(world, &format!("/{index}")).body(empty()).unwrap();
        held.push(tokio::spawn(sender.send_request(request)));
        until(world, |world| world.node.verified() > index).await;
    }
    until(world, |world| world.node.asked.load(Ordering::SeqCst) == 1).await;
    held
}

/// The targets of the next requests that reach the app, in the order of their connections.
async fn arrivals(listener: &TcpListener, count: usize) -> Vec<String> {
    let mut targets = Vec::new();
    for _ in 0..count {
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        let mut head = vec![0; 4096];
        let length = soon(stream.read(&mut head)).await.unwrap();
        targets.push(String::from_utf8_lossy(&head[..length]).split(' ').nth(1).unwrap().to_owned());
        let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
    }
    targets
}

#[tokio::test(flavor = "multi_thread")]
async fn they_share_one_resume_and_go_on_in_order_of_arrival() {
    let world = World::start().await;
    let listener = world.listen(8080).await;
    let held = hold(&world, 100).await;
    world.node.state.send_replace(Some(Ok(world.app.clone())));
    let expected: Vec<String> = (0..100).map(|index| format!("/{index}")).collect();
    assert_eq!(arrivals(&listener, 100).await, expected);
    assert_eq!(world.node.asked.load(Ordering::SeqCst), 1);
    for answer in held {
        assert_eq!(soon(answer).await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test]
async fn whoever_gives_up_does_so_for_itself_alone() {
    let world = World::on_this_thread().await;
    let listener = world.listen(8080).await;
    // Also the first, which woke it.
    let mut held = hold(&world, 6).await;
    for index in [4, 0] {
        held.remove(index).abort();
    }
    let seen = futures::poll!(std::pin::pin!(listener.accept()));
    assert!(seen.is_pending());
    // The resets are read before a request that comes after them on another connection is answered.
    for _ in 0..3 {
        let mut sender = connect(&world, LABEL).await;
        let refused = Request::builder().uri("/").header("host", host(LABEL)).body(empty()).unwrap();
        assert_eq!(soon(sender.send_request(refused)).await.unwrap().status(), 403);
    }
    world.node.state.send_replace(Some(Ok(world.app.clone())));
    assert_eq!(arrivals(&listener, 4).await, ["/1", "/2", "/3", "/5"]);
    assert_eq!(world.node.asked.load(Ordering::SeqCst), 1);
    for answer in held {
        assert_eq!(soon(answer).await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_failed_resume_fails_all_and_the_next_request_tries_again() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, describe);
    world.node.state.send_replace(None);
    let held: FuturesUnordered<_> = (0..10)
        .map(async |_| {
            let request = request(&world, "/").body(empty()).unwrap();
            connect(&world, LABEL).await.send_request(request).await.unwrap()
        })
        .collect();
    let failing = async {
        until(&world, |world| world.node.verified() == 10).await;
        world.node.state.send_replace(Some(Err(Unreachable::Failed)));
    };
    let (answers, ()) = soon(futures::future::join(held.collect::<Vec<_>>(), failing)).await;
    for answer in answers {
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.headers()["x-aws-proxy-error"], "MICROVM_CONNECT_FAILED");
        assert_eq!(text(answer).await, "");
    }
    assert_eq!(world.node.asked.load(Ordering::SeqCst), 1);
    world.node.state.send_replace(None);
    let mut sender = connect(&world, LABEL).await;
    let next = tokio::spawn(sender.send_request(request(&world, "/").body(empty()).unwrap()));
    until(&world, |world| world.node.asked.load(Ordering::SeqCst) == 2).await;
    world.node.state.send_replace(Some(Ok(world.app.clone())));
    assert_eq!(soon(next).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn the_queue_is_bounded_and_those_who_left_make_room() {
    let world = World::on_this_thread().await;
    serve_app(world.listen(8080).await, describe);
    world.node.state.send_replace(None);
    let mut held = Vec::new();
    let mut sender = connect_http2(&world).await;
    for index in 0..WAITING_MAX {
        // A client may have 128 streams on a connection.
        if index % 128 == 0 {
            sender = connect_http2(&world).await;
        }
        let request = request_http2(&world, "/").body(empty()).unwrap();
        held.push(tokio::spawn(sender.send_request(request)));
    }
    until(&world, |world| world.node.verified() == WAITING_MAX).await;
    let mut one_more = connect(&world, LABEL).await;
    let refused = soon(one_more.send_request(request(&world, "/").body(empty()).unwrap())).await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(refused.headers()["x-aws-proxy-error"], "TOO_MANY_REQUESTS");
    assert_eq!(text(refused).await, "Too many requests");
    for leaving in held.drain(..10) {
        leaving.abort();
    }
    // That they have left shows when the endpoint has read their resets.
    let admitted = soon(async {
        loop {
            let mut sender = connect(&world, LABEL).await;
            let asking = tokio::spawn(sender.send_request(request(&world, "/").body(empty()).unwrap()));
            let answer = tokio::time::timeout(std::time::Duration::from_millis(200), asking).await;
            match answer {
                Ok(answer) => assert_eq!(answer.unwrap().unwrap().status(), 429),
                Err(_) => break,
            }
        }
    });
    admitted.await;
    world.node.state.send_replace(Some(Ok(world.app.clone())));
    for answer in held {
        assert_eq!(soon(answer).await.unwrap().unwrap().status(), 200);
    }
}
