//! The end of the data plane.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::client::{asked, connect, empty, request, soon, text};
use crate::fake::{LABEL, World};

#[tokio::test]
async fn requests_under_way_finish_and_idle_connections_do_not_hold_up() {
    let world = World::start().await;
    let listener = world.listen(8080).await;
    let idle = connect(&world, LABEL).await;
    let mut busy = connect(&world, LABEL).await;
    let answering = tokio::spawn(busy.send_request(request(&world, "/").body(empty()).unwrap()));
    let mut app = asked(&listener).await;
    let address = world.address;
    let shutdown = tokio::spawn(world.plane.shutdown(Duration::from_secs(15)));
    soon(async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    app.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.unwrap();
    let response = soon(answering).await.unwrap().unwrap();
    assert_eq!(text(response).await, "done");
    soon(shutdown).await.unwrap();
    soon(async {
        while !idle.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_left_after_the_grace_time_is_cut() {
    let world = World::start().await;
    let listener = world.listen(8080).await;
    let mut busy = connect(&world, LABEL).await;
    let answering = tokio::spawn(busy.send_request(request(&world, "/").body(empty()).unwrap()));
    let (_silent, _) = soon(listener.accept()).await.unwrap();
    let started = Instant::now();
    soon(world.plane.shutdown(Duration::from_millis(200))).await;
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert!(soon(answering).await.unwrap().is_err());
}
