//! Apps that answer an upload without reading it, as servers do that refuse one (401, 413), and
//! close the connection: a reset follows the answer.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::client::{connect, connect_http2, full, request, request_http2, soon};
use crate::fake::{LABEL, World};

const TRIES: usize = 12;
const UPLOAD_BYTES: usize = 12_000_000;

/// Answers each request when its head has come, waits for a moment if at all, and closes.
fn refuse(listener: TcpListener, answer: &'static [u8], pause: Duration) {
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                // The client may have gone.
                let _ = stream.write_all(answer).await;
                tokio::time::sleep(pause).await;
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_an_upload_that_is_not_read_comes_whole() {
    for (answer, status, text) in [
        (&b"HTTP/1.0 401 Unauthorized\r\n\r\nno\n"[..], 401, "no\n"),
        (b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbig\n", 413, "big\n"),
        (
            b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nbig\r\n0\r\n\r\n",
            413,
            "big",
        ),
    ] {
        for pause in [Duration::ZERO, Duration::from_millis(3)] {
            let world = World::start().await;
            refuse(world.listen(8080).await, answer, pause);
            let upload = Bytes::from(vec![7; UPLOAD_BYTES]);
            for number in 0..TRIES {
                let response = if number % 2 == 0 {
                    let ask = request_http2(&world, "/").method("POST").body(full(upload.clone())).unwrap();
                    let mut sender = connect_http2(&world).await;
                    let answered = soon(sender.send_request(ask)).await;
                    (answered, Some(sender))
                } else {
                    let ask = request(&world, "/").method("POST").body(full(upload.clone())).unwrap();
                    let mut sender = connect(&world, LABEL).await;
                    (soon(sender.send_request(ask)).await, None)
                };
                let (response, _sender) = response;
                let response = response.unwrap_or_else(|error| panic!("{number}, {pause:?}: {error:?}"));
                assert_eq!(response.status(), status, "{number}, {pause:?}");
                let body = soon(response.into_body().collect()).await;
                let body = body.unwrap_or_else(|error| panic!("{number}, {pause:?}: {error:?}")).to_bytes();
                assert_eq!(body, text, "{number}, {pause:?}");
            }
        }
    }
}

/// An answer whose length is known and which breaks off is still a broken one.
#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let world = World::start().await;
    let answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 400\r\n\r\nbig";
    refuse(world.listen(8080).await, answer, Duration::ZERO);
    for _ in 0..3 {
        let ask = request_http2(&world, "/").method("POST").body(full(vec![7; UPLOAD_BYTES])).unwrap();
        let mut sender = connect_http2(&world).await;
        let response = soon(sender.send_request(ask)).await.unwrap();
        assert!(soon(response.into_body().collect()).await.is_err());
    }
}

#[tokio::test]
async fn lengths_that_are_the_same_are_one_and_others_are_no_answer() {
    for (fields, expected) in [
        ("Content-Length: 2\r\nContent-Length: 2", Some("2")),
        ("Content-Length: 2, 2", Some("2")),
        ("Content-Length: 2\r\nContent-Length: 3", None),
        ("Content-Length: 2, 3", None),
    ] {
        let world = World::start().await;
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nok").leak();
        refuse(world.listen(8080).await, answer.as_bytes(), Duration::from_millis(20));
        for is_http2 in [true, false] {
            let (response, _sender) = if is_http2 {
                let mut sender = connect_http2(&world).await;
                let ask = request_http2(&world, "/").body(full("")).unwrap();
                (soon(sender.send_request(ask)).await.unwrap(), Some(sender))
            } else {
                let ask = request(&world, "/").body(full("")).unwrap();
                (soon(connect(&world, LABEL).await.send_request(ask)).await.unwrap(), None)
            };
            let lengths: Vec<_> = response.headers().get_all("content-length").iter().cloned().collect();
            match expected {
                Some(length) => {
                    assert_eq!(
                        (response.status().as_u16(), &lengths[..]),
                        (200, &[length.parse().unwrap()][..])
                    );
                    assert_eq!(soon(response.into_body().collect()).await.unwrap().to_bytes(), "ok");
                }
                None => assert_eq!(response.status(), 502, "{fields}"),
            }
        }
    }
}
