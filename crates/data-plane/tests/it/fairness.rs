//! One microVM's traffic, without any limit of its size, beside another's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use crate::client::{connect, describe, empty, fed, full, request, serve_app, soon, text, tls, tls_config};
use crate::fake::{NEIGHBOUR, World, host};

const FLOODS: usize = 100;
const REQUESTS: usize = 30;

/// An app whose answers never end.
async fn endless(_: Request<Incoming>) -> Response<crate::client::TestBody> {
    use futures::SinkExt as _;
    let (mut feed, body) = fed();
    tokio::spawn(async move {
        let chunk = bytes::Bytes::from(vec![7; 1 << 16]);
        while feed.send(Ok(hyper::body::Frame::data(chunk.clone()))).await.is_ok() {}
    });
    Response::new(body)
}

// The clients and apps take turns on one thread, as connections do at the endpoint: a shared
// scheduler serves what does not fit its queues a task at a time, and would hold the neighbour's
// client up for seconds.
#[tokio::test]
async fn a_flood_of_one_microvm_leaves_room_for_another_s_requests() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, endless);
    let (neighbour, listener) = world.neighbour().await;
    serve_app(listener, describe);
    let moved = Arc::<AtomicU64>::default();
    let mut flooding = Vec::new();
    for _ in 0..FLOODS {
        let mut sender = connect(&world, crate::fake::LABEL).await;
        let response = sender.send_request(request(&world, "/").body(empty()).unwrap());
        let mut body = soon(response).await.unwrap().into_body();
        let moved = Arc::clone(&moved);
        flooding.push(tokio::spawn(async move {
            while let Some(Ok(frame)) = body.frame().await {
                moved.fetch_add(frame.data_ref().map_or(0, bytes::Bytes::len) as u64, Ordering::Relaxed);
            }
            drop(sender);
        }));
    }
    let stream = tls(&world, Arc::new(tls_config(&world)), NEIGHBOUR).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let before = moved.load(Ordering::Relaxed);
    for _ in 0..REQUESTS {
        let ask = Request::builder().uri("/").header("host", host(NEIGHBOUR));
        let ask = ask.header("x-aws-proxy-auth", &neighbour).body(full("x")).unwrap();
        sender.ready().await.unwrap();
        let response = soon(sender.send_request(ask)).await.unwrap();
        assert_eq!(response.status(), 200);
        text(response).await;
    }
    let per_request = (moved.load(Ordering::Relaxed) - before) / REQUESTS as u64;
    println!("{per_request} bytes of the flood passed for each request of the neighbour");
    assert!(flooding.iter().all(|flood| !flood.is_finished()), "the flood went on all the time");
    assert!(per_request > 0);
    // A request is a few turns of the tasks that carry it, between each of which every flooding
    // connection has one: a few pieces of each, not the megabytes that its buffers could hold.
    assert!(per_request < FLOODS as u64 * (1 << 20), "{per_request}");
}
