//! A corpus of malformed requests, as raw bytes: what reaches the app is exactly one well-formed
//! request, or nothing.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

use crate::client::{tls, tls_config};
use crate::fake::{LABEL, World, host};
use crate::raw_http2::{DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, field, frame};
use corpus::Fate::{Passed, Refused};
use corpus::{HTTP1, HTTP2};
use parser::{find, parse_all};

mod corpus;
mod parser;

/// An app that writes down what it is sent, connection by connection, and answers each
/// request it understands.
#[derive(Clone, Default)]
struct Recorder {
    connections: Arc<Mutex<Vec<Recording>>>,
}

type Recording = Arc<Mutex<Vec<u8>>>;

impl Recorder {
    fn serve(&self, listener: TcpListener) {
        let connections = Arc::clone(&self.connections);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let recording = Recording::default();
                connections.lock().unwrap().push(Arc::clone(&recording));
                tokio::spawn(record(stream, recording));
            }
        });
    }

    /// What was received since the last time, of each connection.
    fn take(&self) -> Vec<Vec<u8>> {
        let connections = self.connections.lock().unwrap();
        connections.iter().map(|recording| std::mem::take(&mut *recording.lock().unwrap())).collect()
    }

    /// The same, which must be well-formed.
    fn take_requests(&self) -> Vec<(String, String)> {
        let received = self.take();
        let requests = received.iter().map(|bytes| {
            parse_all(bytes).unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(bytes)))
        });
        requests.flatten().collect()
    }
}

async fn record(mut stream: TcpStream, recording: Recording) {
    let mut buffer = vec![0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let complete = {
            let mut recording = recording.lock().unwrap();
            recording.extend_from_slice(&buffer[..length]);
            parse_all(&recording).is_ok()
        };
        if complete && stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}

/// Sends raw bytes over TLS, and reads until the endpoint closes the connection or has been
/// silent for a moment.
async fn raw(world: &World, protocol: &[u8], bytes: &[u8]) -> (TlsStream<TcpStream>, Vec<u8>) {
    let mut config = tls_config(world);
    config.alpn_protocols = vec![protocol.to_vec()];
    let mut stream = tls(world, Arc::new(config), LABEL).await;
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = vec![0; 4096];
    let quiet = std::time::Duration::from_millis(400);
    while let Ok(Ok(length @ 1..)) = tokio::time::timeout(quiet, stream.read(&mut buffer)).await {
        answer.extend_from_slice(&buffer[..length]);
    }
    (stream, answer)
}

#[tokio::test]
async fn http1_requests_reach_the_app_well_formed_or_not_at_all() {
    let world = World::on_this_thread().await;
    let recorder = Recorder::default();
    recorder.serve(world.listen(8080).await);
    let (host_field, auth) =
        (format!("Host: {}\r\n", host(LABEL)), format!("X-aws-proxy-auth: {}\r\n", world.token()));
    for (name, template, fate) in HTTP1 {
        let bytes =
            template.replace("HOST", &host_field).replace("AUTH", &auth).replace("SELF", &host(LABEL));
        let (stream, answer) = raw(&world, b"http/1.1", bytes.as_bytes()).await;
        drop(stream);
        // What the endpoint reads of a broken body may have been forwarded; the app never sees
        // a whole request then.
        let status = answer.get(..12).map(String::from_utf8_lossy);
        let status = status.as_deref().unwrap_or("");
        match fate {
            Refused => {
                assert_ne!(status, "HTTP/1.1 200", "{name}");
                let received = recorder.take();
                for bytes in received {
                    assert!(parse_all(&bytes).is_err() || bytes.is_empty(), "{name}: the app took {bytes:?}");
                }
            }
            Passed(target, body) => {
                assert_eq!(status, "HTTP/1.1 200", "{name}");
                assert_eq!(recorder.take_requests(), [((*target).to_owned(), (*body).to_owned())], "{name}");
                assert_eq!(find(&answer[12..], b"HTTP/1.1"), None, "{name}: there was more than one answer");
            }
        }
    }
}

#[tokio::test]
async fn pipelined_requests_are_each_judged() {
    let world = World::on_this_thread().await;
    let recorder = Recorder::default();
    recorder.serve(world.listen(8080).await);
    let good = format!("Host: {}\r\nX-aws-proxy-auth: {}\r\n\r\n", host(LABEL), world.token());
    let without = format!("Host: {}\r\n\r\n", host(LABEL));
    let bytes = format!("GET /1 HTTP/1.1\r\n{good}GET /2 HTTP/1.1\r\n{without}GET /3 HTTP/1.1\r\n{good}");
    let (_stream, answer) = raw(&world, b"http/1.1", bytes.as_bytes()).await;
    let statuses: Vec<String> = String::from_utf8_lossy(&answer)
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| answer[..3].to_owned())
        .collect();
    assert_eq!(statuses, ["200", "403", "200"]);
    assert_eq!(
        recorder.take_requests(),
        [("/1".to_owned(), String::new()), ("/3".to_owned(), String::new())]
    );
}

#[tokio::test]
async fn http2_requests_reach_the_app_well_formed_or_not_at_all() {
    let world = World::on_this_thread().await;
    let recorder = Recorder::default();
    recorder.serve(world.listen(8080).await);
    for (name, fields, fate) in HTTP2 {
        let self_name = host(LABEL);
        let fields = fields.all();
        let encode = |(name, value): &(&str, &str)| field(name, &value.replace("SELF", &self_name));
        let mut block: Vec<u8> = fields.iter().flat_map(encode).collect();
        block.extend(field("x-aws-proxy-auth", &world.token()));
        let has_body = fields.iter().any(|(name, _)| *name == "content-length");
        let flags = END_HEADERS | if has_body { 0 } else { END_STREAM };
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        bytes.extend(frame(HEADERS, flags, 1, &block));
        if has_body {
            bytes.extend(frame(DATA, END_STREAM, 1, b"abc"));
        }
        let (stream, _) = raw(&world, b"h2", &bytes).await;
        drop(stream);
        let received = recorder.take();
        let whole: Vec<_> = received.iter().filter_map(|bytes| parse_all(bytes).ok()).flatten().collect();
        match fate {
            Refused => assert_eq!(whole, [], "{name}"),
            Passed(target, body) => {
                assert_eq!(whole, [((*target).to_owned(), (*body).to_owned())], "{name}");
            }
        }
    }
}
