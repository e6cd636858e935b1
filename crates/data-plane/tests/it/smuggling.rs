//! A corpus of malformed requests, as raw bytes: what reaches the app is exactly one well-formed request, or nothing.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

use crate::client::{soon, tls, tls_config};
use crate::fake::{LABEL, World, host};

/// What has to become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing reaches the app.
    Refused,
    /// One request reaches the app, with this target and body.
    Passed(&'static str, &'static str),
}
use Fate::{Passed, Refused};

/// An app that writes down what it is sent, connection by connection, and answers each request it understands.
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

/// Reads requests as strictly as RFC 9112 is written; targets and bodies.
fn parse_all(mut bytes: &[u8]) -> Result<Vec<(String, String)>, &'static str> {
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        let end = find(bytes, b"\r\n\r\n").ok_or("head incomplete")?;
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "head not ASCII")?;
        bytes = &bytes[end + 4..];
        let mut lines = head.split("\r\n");
        let request_line = lines.next().ok_or("no request line")?;
        let [method, target, "HTTP/1.1"] = request_line.split(' ').collect::<Vec<_>>()[..] else {
            return Err("request line malformed");
        };
        if !method.bytes().all(is_token)
            || !target.starts_with('/')
            || !target.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err("method or target malformed");
        }
        let (mut length, mut chunked, mut hosts) = (None, false, 0);
        for line in lines {
            let (name, value) = line.split_once(':').ok_or("field without colon")?;
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err("field name malformed");
            }
            let value = value.trim_matches([' ', '\t']);
            if value.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f) {
                return Err("field value malformed");
            }
            match &*name.to_ascii_lowercase() {
                "content-length" if length.is_some() => return Err("two lengths"),
                "content-length" => length = Some(value.parse::<usize>().map_err(|_| "length malformed")?),
                "transfer-encoding" if value == "chunked" && !chunked => chunked = true,
                "transfer-encoding" => return Err("transfer-encoding"),
                "host" if value == host(LABEL) => hosts += 1,
                "host" => return Err("another host"),
                "connection" | "keep-alive" | "proxy-connection" | "te" | "upgrade" => {
                    return Err("hop-by-hop field");
                }
                name if name.starts_with("x-aws-proxy-") => return Err("the endpoint's own field"),
                _ => {}
            }
        }
        if hosts != 1 || chunked && length.is_some() {
            return Err("no host, or framed twice");
        }
        let (body, rest) = if chunked { take_chunks(bytes)? } else { take(bytes, length.unwrap_or(0))? };
        requests.push((target.to_owned(), body));
        bytes = rest;
    }
    Ok(requests)
}

fn take(bytes: &[u8], length: usize) -> Result<(String, &[u8]), &'static str> {
    let (body, rest) = bytes.split_at_checked(length).ok_or("body incomplete")?;
    Ok((String::from_utf8_lossy(body).into_owned(), rest))
}

fn take_chunks(mut bytes: &[u8]) -> Result<(String, &[u8]), &'static str> {
    let mut body = String::new();
    loop {
        let end = find(bytes, b"\r\n").ok_or("chunk incomplete")?;
        let size =
            std::str::from_utf8(&bytes[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let (chunk, rest) = take(&bytes[end + 2..], size.ok_or("chunk size malformed")?)?;
        bytes = rest.strip_prefix(b"\r\n").ok_or("chunk without end")?;
        if chunk.is_empty() {
            return Ok((body, bytes));
        }
        body += &chunk;
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Sends raw bytes over TLS, and reads until the endpoint closes the connection or has been silent for a moment.
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

/// `HOST` and `AUTH` stand for the good fields, each with its line end.
const HTTP1: &[(&str, &str, Fate)] = &[
    ("plain", "GET /a HTTP/1.1\r\nHOSTAUTH\r\n", Passed("/a", "")),
    ("length", "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: 3\r\n\r\nabc", Passed("/a", "abc")),
    (
        "chunks",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Passed("/a", "abc"),
    ),
    (
        "a GET with chunks",
        "GET /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Passed("/a", "abc"),
    ),
    // RFC 9112, section 6.1: the chunks count, the length is dropped, and nothing more is read from the connection.
    (
        "CL and TE",
        "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHOSTAUTH\r\n",
        Passed("/a", ""),
    ),
    (
        "TE and CL",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHOSTAUTH\r\n",
        Passed("/a", ""),
    ),
    (
        "TE not last chunked",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "TE below chunked",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "TE twice",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "TE twice in one",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "TE identity",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
        Refused,
    ),
    ("TE xchunked", "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Refused),
    ("TE quoted", "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", Refused),
    (
        "TE with a vertical tab",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "TE with a space before the colon",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    ("TE of HTTP/1.0", "POST /a HTTP/1.0\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
    (
        "TE in capitals",
        "POST /a HTTP/1.1\r\nHOSTAUTHTRANSFER-ENCODING: CHUNKED\r\n\r\n1\r\na\r\n0\r\n\r\n",
        Passed("/a", "a"),
    ),
    (
        "two lengths",
        "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        Refused,
    ),
    (
        "the same length twice",
        "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        Passed("/a", "abc"),
    ),
    ("a list of lengths", "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: 3, 3\r\n\r\nabc", Refused),
    ("a signed length", "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: +3\r\n\r\nabc", Refused),
    ("a negative length", "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: -1\r\n\r\n", Refused),
    ("a length in hex", "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: 0x3\r\n\r\nabc", Refused),
    ("an empty length", "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length:\r\n\r\n", Refused),
    (
        "a length beyond 64 bits",
        "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: 18446744073709551617\r\n\r\na",
        Refused,
    ),
    ("obs-fold", "GET /a HTTP/1.1\r\nHOSTAUTHX-Long: a\r\n b\r\n\r\n", Refused),
    (
        "obs-fold of TE",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    ("space before the first field", "GET /a HTTP/1.1\r\n HOSTAUTH\r\n", Refused),
    ("bare CR in a value", "GET /a HTTP/1.1\r\nHOSTAUTHX-A: a\rX-B: b\r\n\r\n", Refused),
    ("bare CR as line end", "GET /a HTTP/1.1\rHOSTAUTH\r\n", Refused),
    // RFC 9112, section 2.2 allows it; the app gets CR and LF.
    ("bare LF as line end", "GET /a HTTP/1.1\nHOSTAUTHX-A: a\nX-B: b\r\n\r\n", Passed("/a", "")),
    ("NUL in a value", "GET /a HTTP/1.1\r\nHOSTAUTHX-A: a\0b\r\n\r\n", Refused),
    ("NUL in a name", "GET /a HTTP/1.1\r\nHOSTAUTHX\0A: b\r\n\r\n", Refused),
    ("NUL in the target", "GET /a\0b HTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("a field without a name", "GET /a HTTP/1.1\r\nHOSTAUTH: x\r\n\r\n", Refused),
    ("a field without a colon", "GET /a HTTP/1.1\r\nHOSTAUTHX-A\r\n\r\n", Refused),
    ("a space in a name", "GET /a HTTP/1.1\r\nHOSTAUTHX A: b\r\n\r\n", Refused),
    ("three words in the request line", "GET /a /b HTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("a tab in the request line", "GET\t/a\tHTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("no version", "GET /a\r\nHOSTAUTH\r\n", Refused),
    ("another version", "GET /a HTTP/1.2\r\nHOSTAUTH\r\n", Refused),
    ("HTTP/2 in text", "GET /a HTTP/2.0\r\nHOSTAUTH\r\n", Refused),
    ("no slash", "GET a HTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("an asterisk", "GET * HTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("absolute form of another host", "GET https://elsewhere/a HTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("absolute form with a user", "GET https://u@SELF/a HTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("absolute form", "GET https://SELF/a?b HTTP/1.1\r\nHOSTAUTH\r\n", Passed("/a?b", "")),
    ("absolute form without a path", "GET https://SELF?b HTTP/1.1\r\nHOSTAUTH\r\n", Passed("/?b", "")),
    ("no host", "GET /a HTTP/1.1\r\nAUTH\r\n", Refused),
    ("two hosts", "GET /a HTTP/1.1\r\nHOSTHOSTAUTH\r\n", Refused),
    ("a host in one field and another", "GET /a HTTP/1.1\r\nHOSTHost: elsewhere\r\nAUTH\r\n", Refused),
    (
        "Connection names the framing",
        "POST /a HTTP/1.1\r\nHOSTAUTHConnection: content-length\r\nContent-Length: 3\r\n\r\nabc",
        Passed("/a", "abc"),
    ),
    ("Connection names Host", "GET /a HTTP/1.1\r\nHOSTAUTHConnection: host\r\n\r\n", Passed("/a", "")),
    (
        "Connection names the request id",
        "GET /a HTTP/1.1\r\nHOSTAUTHConnection: x-amzn-requestid\r\n\r\n",
        Passed("/a", ""),
    ),
    (
        "a chunk size that is none",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk size with a sign",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk size with 0x",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk size beyond 64 bits",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk longer than its size",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk line that ends in LF",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk extension with LF",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk that ends in LF",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk extension",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
        Passed("/a", "abc"),
    ),
    (
        "trailers",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 9\r\nHost: x\r\n\r\n",
        Passed("/a", "abc"),
    ),
    (
        "an upgrade that nobody asked for",
        "GET /a HTTP/1.1\r\nHOSTAUTHUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n",
        Passed("/a", ""),
    ),
    ("bytes before the request", "\0\0GET /a HTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refused),
];

#[tokio::test]
async fn http1_requests_reach_the_app_well_formed_or_not_at_all() {
    let world = World::start().await;
    let recorder = Recorder::default();
    recorder.serve(world.listen(8080).await);
    let (host_field, auth) =
        (format!("Host: {}\r\n", host(LABEL)), format!("X-aws-proxy-auth: {}\r\n", world.token()));
    for (name, template, fate) in HTTP1 {
        let bytes =
            template.replace("HOST", &host_field).replace("AUTH", &auth).replace("SELF", &host(LABEL));
        let (stream, answer) = raw(&world, b"http/1.1", bytes.as_bytes()).await;
        drop(stream);
        // What the endpoint reads of a broken body may have been forwarded; the app never sees a whole request then.
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
    let world = World::start().await;
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

/// A field as HPACK writes it without any table (RFC 7541, section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| match u8::try_from(text.len()).unwrap() {
        short @ 0..127 => vec![short],
        long => vec![127, long - 127],
    };
    [&[0][..], &length(name), name.as_bytes(), &length(value), value.as_bytes()].concat()
}

/// The token, which is longer than what [`field`] writes.
fn auth(token: &str) -> Vec<u8> {
    let rest = token.len() - 127;
    let length = [127, (rest % 128) as u8 | 128, (rest / 128) as u8];
    [&[0, 16][..], b"x-aws-proxy-auth", &length, token.as_bytes()].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Pseudo-header fields and fields; `SELF` stands for the endpoint's name. The body is `abc` if a length is given.
const HTTP2: &[(&str, &[(&str, &str)], Fate)] = &[
    (
        "plain",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "SELF"), (":path", "/a")],
        Passed("/a", ""),
    ),
    (
        "host only",
        &[(":method", "GET"), (":scheme", "https"), (":path", "/a"), ("host", "SELF")],
        Passed("/a", ""),
    ),
    (
        "a right length",
        &[
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "SELF"),
            (":path", "/a"),
            ("content-length", "3"),
        ],
        Passed("/a", "abc"),
    ),
    (
        "a short length",
        &[
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "SELF"),
            (":path", "/a"),
            ("content-length", "2"),
        ],
        Refused,
    ),
    (
        "a long length",
        &[
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "SELF"),
            (":path", "/a"),
            ("content-length", "4"),
        ],
        Refused,
    ),
    (
        "two lengths",
        &[
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "SELF"),
            (":path", "/a"),
            ("content-length", "3"),
            ("content-length", "4"),
        ],
        Refused,
    ),
    (
        "connection",
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "SELF"),
            (":path", "/a"),
            ("connection", "close"),
        ],
        Refused,
    ),
    (
        "transfer-encoding",
        &[
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "SELF"),
            (":path", "/a"),
            ("transfer-encoding", "chunked"),
        ],
        Refused,
    ),
    (
        "upgrade",
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "SELF"),
            (":path", "/a"),
            ("upgrade", "websocket"),
        ],
        Refused,
    ),
    (
        "te: gzip",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "SELF"), (":path", "/a"), ("te", "gzip")],
        Refused,
    ),
    (
        "capitals",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "SELF"), (":path", "/a"), ("X-A", "b")],
        Refused,
    ),
    (
        "CR LF in a value",
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "SELF"),
            (":path", "/a"),
            ("x-a", "b\r\nx-c: d"),
        ],
        Refused,
    ),
    (
        "NUL in a value",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "SELF"), (":path", "/a"), ("x-a", "b\0")],
        Refused,
    ),
    (
        "CR LF in a name",
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "SELF"),
            (":path", "/a"),
            ("x-a\r\nx", "b"),
        ],
        Refused,
    ),
    (
        "a colon in a name",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "SELF"), (":path", "/a"), ("x:a", "b")],
        Refused,
    ),
    (
        "CR LF in the path",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "SELF"), (":path", "/a HTTP/1.1\r\nx: y")],
        Refused,
    ),
    (
        "a space in the path",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "SELF"), (":path", "/a b")],
        Refused,
    ),
    (
        "CR LF in the method",
        &[
            (":method", "GET / HTTP/1.1\r\nx: y"),
            (":scheme", "https"),
            (":authority", "SELF"),
            (":path", "/a"),
        ],
        Refused,
    ),
    (
        "CR LF in the authority",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "SELF\r\nx: y"), (":path", "/a")],
        Refused,
    ),
    ("no method", &[(":scheme", "https"), (":authority", "SELF"), (":path", "/a")], Refused),
    ("no path", &[(":method", "GET"), (":scheme", "https"), (":authority", "SELF")], Refused),
    (
        "an empty path",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "SELF"), (":path", "")],
        Refused,
    ),
    (
        "no slash",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "SELF"), (":path", "a")],
        Refused,
    ),
    ("no scheme", &[(":method", "GET"), (":authority", "SELF"), (":path", "/a")], Refused),
    ("no authority", &[(":method", "GET"), (":scheme", "https"), (":path", "/a")], Refused),
    (
        "two paths",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "SELF"), (":path", "/a"), (":path", "/b")],
        Refused,
    ),
    (
        "a pseudo-header behind a field",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "SELF"), ("x-a", "b"), (":path", "/a")],
        Refused,
    ),
    (
        "an unknown pseudo-header",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "SELF"), (":path", "/a"), (":x", "y")],
        Refused,
    ),
    (
        "the status of an answer",
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "SELF"),
            (":path", "/a"),
            (":status", "200"),
        ],
        Refused,
    ),
    (
        "a protocol without CONNECT",
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "SELF"),
            (":path", "/a"),
            (":protocol", "websocket"),
        ],
        Refused,
    ),
    ("CONNECT", &[(":method", "CONNECT"), (":authority", "SELF")], Refused),
    (
        "another host",
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "SELF"),
            (":path", "/a"),
            ("host", "elsewhere"),
        ],
        Refused,
    ),
    (
        "another authority",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "elsewhere"), (":path", "/a")],
        Refused,
    ),
    (
        "a user",
        &[(":method", "GET"), (":scheme", "https"), (":authority", "u@SELF"), (":path", "/a")],
        Refused,
    ),
];

#[tokio::test]
async fn http2_requests_reach_the_app_well_formed_or_not_at_all() {
    let world = World::start().await;
    let recorder = Recorder::default();
    recorder.serve(world.listen(8080).await);
    for (name, fields, fate) in HTTP2 {
        let self_name = host(LABEL);
        let encode = |(name, value): &(&str, &str)| field(name, &value.replace("SELF", &self_name));
        let mut block: Vec<u8> = fields.iter().flat_map(encode).collect();
        block.extend(auth(&world.token()));
        let has_body = fields.iter().any(|(name, _)| *name == "content-length");
        let flags = END_HEADERS | if has_body { 0 } else { END_STREAM };
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
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

#[tokio::test]
async fn the_corpus_parser_is_strict() {
    let good = format!("GET /a HTTP/1.1\r\nHost: {}\r\n", host(LABEL));
    assert_eq!(parse_all(format!("{good}\r\n").as_bytes()).unwrap().len(), 1);
    for bad in
        ["X:y\nz:\r\n", "Content-Length: 1\r\nContent-Length: 1\r\n", "Connection: close\r\n", "X y: z\r\n"]
    {
        assert!(parse_all(format!("{good}{bad}\r\n").as_bytes()).is_err(), "{bad:?}");
    }
    let both = format!("{good}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert!(parse_all(both.as_bytes()).is_err());
    assert!(soon(async { parse_all(&[good.as_bytes(), b"\0"].concat()) }).await.is_err());
}
