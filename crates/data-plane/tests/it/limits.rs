//! What one microVM may take of the endpoint. The fake one has two vCPUs.

use std::time::{Duration, Instant};

use hearth_data_plane::MicrovmLimits;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{connect, describe, empty, full, get, request, serve_app, soon};
use crate::fake::{LABEL, World};

fn assert_too_many<B>(response: &Response<B>) {
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(response.headers()["x-aws-proxy-error"], "TOO_MANY_REQUESTS");
}

#[tokio::test]
async fn connections_are_limited_until_one_is_closed() {
    let world = World::limited(MicrovmLimits { connections: Some(1), ..MicrovmLimits::NONE }).await;
    serve_app(world.listen(8080).await, describe);
    let (mut first, mut second) = (connect(&world, LABEL).await, connect(&world, LABEL).await);
    for number in 0..3 {
        let sender = if number == 1 { &mut second } else { &mut first };
        let response = soon(sender.send_request(request(&world, "/").body(empty()).unwrap())).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.unwrap();
    }
    // A connection whose first request was refused is closed.
    let mut third = connect(&world, LABEL).await;
    let ask = || request(&world, "/").body(empty()).unwrap();
    let refused = soon(third.send_request(ask())).await.unwrap();
    assert_too_many(&refused);
    assert_eq!(refused.headers()["connection"], "close");
    drop(refused);
    soon(async {
        while third.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(first);
    let freed = async {
        loop {
            let mut third = connect(&world, LABEL).await;
            let response: Response<Incoming> = third.send_request(ask()).await.unwrap();
            let status = response.status();
            response.into_body().collect().await.unwrap();
            if status == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(freed).await;
}

#[tokio::test]
async fn an_upgraded_connection_counts_until_it_is_closed() {
    let world = World::limited(MicrovmLimits { connections: Some(1), ..MicrovmLimits::NONE }).await;
    serve_app(world.listen(8080).await, |mut request: Request<Incoming>| async move {
        if !request.headers().contains_key("upgrade") {
            return describe(request).await;
        }
        tokio::spawn(async move {
            let mut stream = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
            let mut byte = [0];
            while stream.read_exact(&mut byte).await.is_ok() {
                stream.write_all(&byte).await.unwrap();
            }
        });
        let builder =
            Response::builder().status(101).header("connection", "upgrade").header("upgrade", "echo");
        builder.body(empty()).unwrap()
    });
    let mut tunnels = Vec::new();
    for _ in 0..2 {
        let mut sender = connect(&world, LABEL).await;
        let ask = request(&world, "/").header("connection", "upgrade").header("upgrade", "echo");
        let mut response = soon(sender.send_request(ask.body(empty()).unwrap())).await.unwrap();
        assert_eq!(response.status(), 101);
        let mut tunnel = TokioIo::new(soon(hyper::upgrade::on(&mut response)).await.unwrap());
        tunnel.write_all(b"x").await.unwrap();
        assert_eq!(soon(tunnel.read_u8()).await.unwrap(), b'x');
        tunnels.push(tunnel);
    }
    assert_too_many(&get(&world, "/").await);
    tunnels.pop();
    let freed = async { while get(&world, "/").await.status() != 200 {} };
    soon(freed).await;
}

#[tokio::test]
async fn requests_are_limited_by_the_second() {
    let world = World::limited(MicrovmLimits { requests_per_second: Some(3), ..MicrovmLimits::NONE }).await;
    serve_app(world.listen(8080).await, describe);
    let began = Instant::now();
    let (mut answered, mut refused) = (0, 0);
    while refused < 3 {
        let response = get(&world, "/").await;
        if response.status() == 200 {
            answered += 1;
        } else {
            assert_too_many(&response);
            refused += 1;
        }
    }
    // Six at once and six more for each second that the loop took.
    assert!(answered >= 6, "{answered}");
    assert!(f64::from(answered) <= 7.0 + 6.0 * began.elapsed().as_secs_f64(), "{answered}");
    let again = async { while get(&world, "/").await.status() != 200 {} };
    soon(again).await;
}

#[tokio::test]
async fn bytes_are_held_back() {
    let world =
        World::limited(MicrovmLimits { bytes_per_second: Some(100_000), ..MicrovmLimits::NONE }).await;
    serve_app(world.listen(8080).await, |request| async move {
        Response::new(full(vec![7; request.into_body().collect().await.unwrap().to_bytes().len()]))
    });
    let began = Instant::now();
    let body = request(&world, "/").method("POST").body(full(vec![7; 200_000])).unwrap();
    let mut sender = connect(&world, LABEL).await;
    let response = soon(sender.send_request(body)).await.unwrap();
    let answer = soon(response.into_body().collect()).await.unwrap().to_bytes();
    assert_eq!(answer.len(), 200_000);
    // 400,000 bytes at 200,000 a second, of which one second's worth is free; what was read
    // last is not waited for.
    assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
}
