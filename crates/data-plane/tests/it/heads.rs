//! How large the head of a request may be.

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use std::sync::Arc;

use crate::client::{describe, serve_app, soon, tls, tls_config};
use crate::fake::{LABEL, World, host};
use crate::raw_http2::{
    CONTINUATION, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, RawHttp2, block, frame,
    good_fields,
};

const BYTES_MAX: usize = 64 * 1024;
const FIELDS_MAX: usize = 100;

/// Status and `x-aws-proxy-error` of the answer to these bytes, on a connection of its own.
async fn answer_http1(world: &World, head: &str) -> (u16, Option<String>) {
    let mut stream = tls(world, Arc::new(tls_config(world)), LABEL).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 4096];
        let length = soon(stream.read(&mut buffer)).await.unwrap();
        assert!(length > 0, "closed without an answer");
        answer.extend_from_slice(&buffer[..length]);
    }
    let answer = String::from_utf8_lossy(&answer);
    let code = answer.lines().find_map(|line| line.strip_prefix("x-aws-proxy-error: "));
    (answer[9..12].parse().unwrap(), code.map(str::to_owned))
}

/// A head with so many fields, of so many bytes if that many are needed.
fn head_http1(world: &World, fields: usize, bytes: usize) -> String {
    let auth = world.token();
    let mut head = format!(
        "GET /a HTTP/1.1\r\nhost: {}\r\nx-aws-proxy-auth: {auth}\r\nconnection: close\r\n",
        host(LABEL)
    );
    for number in 4..fields {
        head.extend(["x-", &number.to_string(), ": y\r\n"]);
    }
    let filling = bytes.saturating_sub(head.len() + "x-0: \r\n\r\n".len()).max(1);
    head + "x-0: " + &"z".repeat(filling) + "\r\n\r\n"
}

#[tokio::test]
async fn heads_of_http1_are_limited() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, describe);
    for (fields, status) in [(FIELDS_MAX - 1, 200), (FIELDS_MAX, 200), (FIELDS_MAX + 1, 431)] {
        assert_eq!(answer_http1(&world, &head_http1(&world, fields, 0)).await, (status, None), "{fields}");
    }
    for (bytes, status) in [(BYTES_MAX - 1, 200), (BYTES_MAX, 200), (BYTES_MAX + 1, 431)] {
        let head = head_http1(&world, 5, bytes);
        assert_eq!(head.len(), bytes);
        assert_eq!(answer_http1(&world, &head).await, (status, None), "{bytes}");
    }
    // The request line counts as well; a target has a limit of its own in the library.
    let target = head_http1(&world, 4, 0).replacen("/a", &"/a".repeat(BYTES_MAX / 2), 1);
    assert!(matches!(answer_http1(&world, &target).await, (414 | 431, None)));
    // What never ends is refused as soon as it is too much.
    let endless = head_http1(&world, 4, BYTES_MAX).trim_end().to_owned() + "zzzz";
    assert_eq!(endless.len(), BYTES_MAX);
    assert_eq!(answer_http1(&world, &endless).await, (431, None));
}

/// What a block of fields is answered with: a status, else what ended stream or connection.
async fn answer_http2(world: &World, fields: &[(String, String)]) -> Result<StatusCode, Frame> {
    let mut connection = RawHttp2::open(world).await;
    let block = block(fields);
    let mut pieces = block.chunks(16_384);
    let first = pieces.next().unwrap();
    let ends = |last: bool| if last { END_HEADERS } else { 0 };
    let mut bytes = frame(HEADERS, END_STREAM | ends(pieces.len() == 0), 1, first);
    while let Some(piece) = pieces.next() {
        bytes.extend(frame(CONTINUATION, ends(pieces.len() == 0), 1, piece));
    }
    connection.send(&bytes).await;
    let answer = loop {
        let next =
            connection.next_of(&[HEADERS, RST_STREAM, GOAWAY]).await.expect("closed without an answer");
        // An orderly end (NO_ERROR) may be told before the answer that is the last.
        if next.kind != GOAWAY || next.payload[4..8] != [0; 4] {
            break next;
        }
    };
    if answer.kind != HEADERS {
        return Err(answer);
    }
    // `:status` comes first: an entry of the static table, or its name with Huffman's 431 (RFC
    // 7541, appendices A and B).
    let status = match &answer.payload[..] {
        [0x88, ..] => 200,
        [0x48, 0x83, 0x69, 0x90, 0xff, ..] => 431,
        other => panic!("status in {:x?}", &other[..8.min(other.len())]),
    };
    Ok(StatusCode::from_u16(status).unwrap())
}

#[tokio::test]
async fn heads_of_http2_are_limited() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, describe);
    // Five of the list are the request's own; pseudo-header fields do not count as fields.
    let with = |more: Vec<(String, String)>| [good_fields(&world, "GET", "/a"), more].concat();
    for (fields, status) in [(FIELDS_MAX - 1, 200), (FIELDS_MAX, 200), (FIELDS_MAX + 1, 431)] {
        let more = (1..fields).map(|number| (format!("x-{number}"), "y".to_owned())).collect();
        assert_eq!(answer_http2(&world, &with(more)).await.unwrap(), status, "{fields}");
    }
    let cookies = (0..300).map(|number| ("cookie".to_owned(), format!("c{number}=d"))).collect();
    assert_eq!(answer_http2(&world, &with(cookies)).await.unwrap(), 200, "cookies are one field");
    let counted = |fields: &[(String, String)]| -> usize {
        fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
    };
    // The library refuses a list that is as long as it is allowed to be.
    for (bytes, status) in [(BYTES_MAX - 2, 200), (BYTES_MAX - 1, 200), (BYTES_MAX, 431)] {
        let empty = with(vec![("x-0".to_owned(), String::new())]);
        let filling = "z".repeat(bytes - counted(&empty));
        let fields = with(vec![("x-0".to_owned(), filling)]);
        assert_eq!(counted(&fields), bytes);
        assert_eq!(answer_http2(&world, &fields).await.unwrap(), status, "{bytes}");
    }
}
