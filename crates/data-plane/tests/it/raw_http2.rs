//! HTTP/2 as frames (RFC 9113) whose every byte the test decides.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::client::{soon, tls, tls_config};
use crate::fake::{LABEL, World, host};

/// What a client says first (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame of any kind.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field as HPACK writes it without any table (RFC 7541, section 6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &length(name), name.as_bytes(), &length(value), value.as_bytes()].concat()
}

/// A length with a prefix of seven bits (RFC 7541, section 5.1).
fn length(text: &str) -> Vec<u8> {
    if text.len() < 127 {
        return vec![text.len() as u8];
    }
    let (mut bytes, mut rest) = (vec![127], text.len() - 127);
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

/// The fields of a good request.
pub(crate) fn good_fields(world: &World, method: &str, path: &str) -> Vec<(String, String)> {
    let authority = host(LABEL);
    [
        (":method", method),
        (":scheme", "https"),
        (":authority", &authority),
        (":path", path),
        ("x-aws-proxy-auth", &world.token()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// Fields as one block.
pub(crate) fn block(fields: &[(String, String)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// What came from the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM and GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A connection to the endpoint.
pub(crate) struct RawHttp2 {
    reader: ReadHalf<TlsStream<TcpStream>>,
    pub(crate) writer: WriteHalf<TlsStream<TcpStream>>,
}

impl RawHttp2 {
    /// A connection on which nothing was said.
    pub(crate) async fn silent(world: &World) -> Self {
        let mut config = tls_config(world);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (reader, writer) = split(tls(world, Arc::new(config), LABEL).await);
        Self { reader, writer }
    }

    /// A connection whose preface and empty settings were sent.
    pub(crate) async fn open(world: &World) -> Self {
        let mut connection = Self::silent(world).await;
        connection.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        connection
    }

    /// Sends bytes, which must be taken.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        soon(self.writer.write_all(bytes)).await.unwrap();
    }

    /// Sends bytes to an endpoint that may have closed the connection; whether it had not.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        soon(self.writer.write_all(bytes)).await.is_ok()
    }

    /// The next frame; `None` when the connection was closed.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        soon(self.reader.read_exact(&mut head)).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        soon(self.reader.read_exact(&mut payload)).await.ok()?;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of one of these kinds; `None` when the connection was closed before.
    pub(crate) async fn next_of(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if kinds.contains(&frame.kind) {
                return Some(frame);
            }
        }
    }

    /// Reads until the connection is closed; the code of the last GOAWAY.
    pub(crate) async fn closed(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next_of(&[GOAWAY]).await {
            code = Some(frame.code());
        }
        code
    }

    /// Reads until the connection is closed, for however long.
    pub(crate) async fn ended(&mut self) {
        while self.reader.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {}
    }

    /// Reads and throws away until the connection is closed.
    pub(crate) fn drain(self) -> WriteHalf<TlsStream<TcpStream>> {
        let Self { mut reader, writer } = self;
        tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            while reader.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
        });
        writer
    }
}
