//! Bodies that stand still: by the app's choice for ever, by the client's for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_data_plane::DataPlaneConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::client::{soon, tls, tls_config};
use crate::fake::{CONFIG, LABEL, World, host};

const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);

async fn world() -> World {
    World::configured(DataPlaneConfig { client_timeout: Some(CLIENT_TIMEOUT), ..CONFIG }).await
}

/// A client that has sent a request, and the app's end of it, with its head read.
async fn asked(world: &World, fields: &str) -> (TlsStream<TcpStream>, TcpStream) {
    let listener = world.listen(8080).await;
    let mut client = tls(world, Arc::new(tls_config(world)), LABEL).await;
    let (host, token) = (host(LABEL), world.token());
    let head = format!("POST / HTTP/1.1\r\nhost: {host}\r\nx-aws-proxy-auth: {token}\r\n{fields}\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut app, _) = soon(listener.accept()).await.unwrap();
    assert!(soon(app.read(&mut [0; 4096])).await.unwrap() > 0);
    (client, app)
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_cut() {
    let world = world().await;
    let (client, mut app) = asked(&world, "content-length: 0\r\n").await;
    app.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let chunk = vec![7; 1 << 16];
    let endless = async { while app.write_all(&chunk).await.is_ok() {} };
    tokio::time::timeout(Duration::from_mins(1), endless).await.expect("the app was not let go");
    drop(client);
}

#[tokio::test]
async fn a_client_that_takes_a_little_now_and_then_stays() {
    let world = world().await;
    let (mut client, mut app) = asked(&world, "content-length: 0\r\n").await;
    app.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let writing = tokio::spawn(async move {
        let chunk = vec![7; 1 << 16];
        while app.write_all(&chunk).await.is_ok() {}
    });
    let began = Instant::now();
    let mut buffer = vec![0; 1 << 20];
    while began.elapsed() < CLIENT_TIMEOUT * 3 {
        soon(client.read_exact(&mut buffer)).await.unwrap();
        tokio::time::sleep(CLIENT_TIMEOUT / 10).await;
    }
    assert!(!writing.is_finished());
}

#[tokio::test]
async fn a_stream_on_which_nobody_has_anything_to_say_stays() {
    let world = world().await;
    let (mut client, mut app) = asked(&world, "transfer-encoding: chunked\r\n").await;
    tokio::time::sleep(CLIENT_TIMEOUT * 3).await;
    client.write_all(b"1\r\na\r\n0\r\n\r\n").await.unwrap();
    let mut body = Vec::new();
    while !body.ends_with(b"0\r\n\r\n") {
        assert!(soon(app.read_buf(&mut body)).await.unwrap() > 0);
    }
    app.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let mut status = [0; 12];
    soon(client.read_exact(&mut status)).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 204");
}
