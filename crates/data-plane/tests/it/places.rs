//! Who is served when there are more connections than places.

use hearth_data_plane::DataPlaneConfig;
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{connect, describe, empty, get, request, serve_app, soon, text};
use crate::fake::{CONFIG, LABEL, World, host};

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
    for _ in 0..3 {
        assert_eq!(get(&world, "/").await.status(), 200);
    }
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
