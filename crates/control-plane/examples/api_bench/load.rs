//! The client: keep-alive connections that send one request after the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_auth::sigv4::{Scope, SignedRequest, sign};
use rand::RngExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::REGION;

/// What came of one round.
pub(crate) struct Round {
    /// Answers per second.
    pub(crate) rate: f64,
    /// Microseconds from the first byte sent to the last received, ascending.
    pub(crate) times_us: Vec<f64>,
}

impl Round {
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = (self.times_us.len() as f64 * share).ceil() as usize;
        self.times_us[rank.clamp(1, self.times_us.len()) - 1]
    }
}

/// Requests with real signatures for some of these targets.
pub(crate) fn sign_all(targets: &[String], address: SocketAddr, count: usize) -> Arc<Vec<Vec<u8>>> {
    let mut random = rand::rng();
    let pick = |_| request(&targets[random.random_range(0..targets.len())], address);
    Arc::new((0..count).map(pick).collect())
}

fn request(target: &str, address: SocketAddr) -> Vec<u8> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let host = address.to_string();
    let headers = [("host", host.as_bytes())];
    let request = SignedRequest { method: "GET", path, query, headers: &headers, body: b"" };
    let scope = Scope { access_key: "AKID", secret: "secret", region: REGION, service: "lambda" };
    let mut text = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n");
    for (name, value) in sign(&request, &scope, jiff::Timestamp::now()) {
        text.extend([name, ": ", &value, "\r\n"]);
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Sends these requests over and over on several connections.
pub(crate) async fn run(
    address: SocketAddr,
    requests: Arc<Vec<Vec<u8>>>,
    connections: usize,
    duration: Duration,
) -> Round {
    let begin = Instant::now();
    let clients: Vec<_> = (0..connections)
        .map(|number| tokio::spawn(client(address, requests.clone(), number * 97, begin + duration)))
        .collect();
    let mut times_us = Vec::new();
    for client in clients {
        times_us.extend(client.await.unwrap());
    }
    let rate = times_us.len() as f64 / begin.elapsed().as_secs_f64();
    times_us.sort_by(f64::total_cmp);
    Round { rate, times_us }
}

async fn client(address: SocketAddr, requests: Arc<Vec<Vec<u8>>>, first: usize, end: Instant) -> Vec<f64> {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.set_nodelay(true).unwrap();
    let (mut times_us, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    for request in requests.iter().cycle().skip(first) {
        let begin = Instant::now();
        if begin >= end {
            break;
        }
        connection.write_all(request).await.unwrap();
        read_answer(&mut connection, &mut buffer).await;
        times_us.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    times_us
}

/// Reads to the end of one answer, which must be a good one.
async fn read_answer(connection: &mut TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    loop {
        let count = connection.read(&mut buffer[filled..]).await.unwrap();
        assert!(count > 0, "the server closed the connection");
        filled += count;
        let received = &buffer[..filled];
        let Some(head) = received.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        assert!(received.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(received));
        if filled == head + 4 + content_length(&received[..head]) {
            return;
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    let text = std::str::from_utf8(head).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    line.expect("answers say how long they are").parse().unwrap()
}
