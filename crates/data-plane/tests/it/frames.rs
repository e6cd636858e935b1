//! What RFC 9113 says of frames and streams, case by case, against the endpoint.

use std::sync::atomic::Ordering;

use crate::client::{describe, serve_app};
use crate::fake::World;
use crate::raw_http2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, PRIORITY, PUSH_PROMISE,
    RST_STREAM, RawHttp2, SETTINGS, WINDOW_UPDATE, block, field, frame, good_fields,
};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 32;

/// What becomes of what a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The connection ends with one of these codes (RFC 9113, section 5.4.1). The first is the
    /// RFC's; the library has PROTOCOL_ERROR for some others.
    Connection(&'static [u32]),
    /// A stream, or the connection, which the RFC allows for any error of a stream (section 5.4.2),
    /// ends with one of these codes.
    Stream(&'static [u32]),
    /// It goes on: a PING behind it is answered.
    GoesOn,
    /// Stream 1 is answered.
    Answered,
}
use Fate::{Answered, Connection, GoesOn, Stream};

struct Case {
    /// Section of RFC 9113, and what is done.
    name: &'static str,
    bytes: Vec<u8>,
    fate: Fate,
}

fn setting(identifier: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&identifier.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

fn update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// The cases, in the order of the RFC.
#[allow(clippy::too_many_lines, reason = "it is a table")]
fn cases(world: &World) -> Vec<Case> {
    let get = block(&good_fields(world, "GET", "/"));
    let post = block(&good_fields(world, "POST", "/"));
    let whole = |stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, &get);
    let open = |stream| frame(HEADERS, END_HEADERS, stream, &post);
    let case = |name, bytes: &[&[u8]], fate| Case { name, bytes: bytes.concat(), fate };
    let big = vec![0; 16_385];
    let padded = |padding: u8, rest: &[u8]| [&[padding][..], rest].concat();
    vec![
        case(
            "4.2 DATA longer than SETTINGS_MAX_FRAME_SIZE",
            &[&open(1), &frame(DATA, 0, 1, &big)],
            Connection(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "4.2 HEADERS longer than SETTINGS_MAX_FRAME_SIZE",
            &[&frame(HEADERS, END_HEADERS, 1, &big)],
            Connection(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "4.2 the longest frame there may be",
            &[&open(1), &frame(DATA, END_STREAM, 1, &big[1..])],
            Answered,
        ),
        case(
            "4.3 a block that is no HPACK",
            &[&frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0x80])],
            Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ),
        case(
            "4.3 an index beyond the tables",
            &[&frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff, 0x7f])],
            Connection(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ),
        case(
            "5.1 DATA on an idle stream",
            &[&frame(DATA, END_STREAM, 1, b"a")],
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.1 RST_STREAM on an idle stream",
            &[&frame(RST_STREAM, 0, 1, &[0; 4])],
            Connection(&[PROTOCOL_ERROR]),
        ),
        case("5.1 WINDOW_UPDATE on an idle stream", &[&update(1, 1)], Connection(&[PROTOCOL_ERROR])),
        case(
            "5.1 CONTINUATION on an idle stream",
            &[&frame(CONTINUATION, END_HEADERS, 1, &get)],
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.1 DATA on a half-closed stream",
            &[&whole(1), &frame(DATA, END_STREAM, 1, b"a")],
            Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        case(
            "5.1 HEADERS on a half-closed stream",
            &[&whole(1), &whole(1)],
            Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        case(
            "5.1 CONTINUATION behind a block that is over",
            &[&whole(1), &frame(CONTINUATION, END_HEADERS, 1, &field("x", "y"))],
            Connection(&[PROTOCOL_ERROR]),
        ),
        case("5.1 PRIORITY on an idle stream", &[&frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 9])], GoesOn),
        case("5.1.1 an even stream", &[&whole(2)], Connection(&[PROTOCOL_ERROR])),
        case(
            "5.1.1 a stream with a lower number than before",
            &[&whole(5), &whole(3)],
            Connection(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        ),
        case("5.5 a frame of an unknown kind", &[&frame(99, 0xff, 1, b"anything")], GoesOn),
        case(
            "5.5 an unknown kind within a block",
            &[
                &frame(HEADERS, END_STREAM, 1, &get),
                &frame(99, 0, 1, b"a"),
                &frame(CONTINUATION, END_HEADERS, 1, &[]),
            ],
            Connection(&[PROTOCOL_ERROR]),
        ),
        case("6.1 DATA on stream 0", &[&frame(DATA, 0, 0, b"a")], Connection(&[PROTOCOL_ERROR])),
        case(
            "6.1 DATA with more padding than payload",
            &[&open(1), &frame(DATA, PADDED | END_STREAM, 1, &padded(6, b"abcd"))],
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.1 DATA with padding",
            &[&open(1), &frame(DATA, PADDED | END_STREAM, 1, &padded(2, b"abcd"))],
            Answered,
        ),
        case("6.2 HEADERS on stream 0", &[&whole(0)], Connection(&[PROTOCOL_ERROR])),
        case(
            "6.2 HEADERS with more padding than payload",
            &[&frame(HEADERS, PADDED | END_STREAM | END_HEADERS, 1, &[200, 0x82])],
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.2 HEADERS with padding and priority",
            &[&frame(
                HEADERS,
                PADDED | WITH_PRIORITY | END_STREAM | END_HEADERS,
                1,
                &[&padded(2, &[0, 0, 0, 0, 9])[..], &get, &[0, 0]].concat(),
            )],
            Answered,
        ),
        case(
            "6.2 another stream's frame within a block",
            &[&frame(HEADERS, END_STREAM, 1, &get), &whole(3)],
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.2 a block of several frames",
            &[
                &frame(HEADERS, END_STREAM, 1, &get[..9]),
                &frame(CONTINUATION, 0, 1, &[]),
                &frame(CONTINUATION, END_HEADERS, 1, &get[9..]),
            ],
            Answered,
        ),
        case(
            "6.3 PRIORITY on stream 0",
            &[&frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 9])],
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.3 PRIORITY of another length",
            &[&open(1), &frame(PRIORITY, 0, 1, &[0; 4])],
            Stream(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ),
        case(
            "6.4 RST_STREAM on stream 0",
            &[&frame(RST_STREAM, 0, 0, &[0; 4])],
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.4 RST_STREAM of another length",
            &[&open(1), &frame(RST_STREAM, 0, 1, &[0; 3])],
            Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ),
        case("6.5 SETTINGS on a stream", &[&frame(SETTINGS, 0, 1, &[])], Connection(&[PROTOCOL_ERROR])),
        case(
            "6.5 an acknowledgement of SETTINGS with a payload",
            &[&frame(SETTINGS, ACK, 0, &[0])],
            Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ),
        case(
            "6.5 SETTINGS of another length",
            &[&frame(SETTINGS, 0, 0, &[0; 5])],
            Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ),
        case("6.5.2 SETTINGS_ENABLE_PUSH of 2", &[&setting(2, 2)], Connection(&[PROTOCOL_ERROR])),
        case(
            "6.5.2 SETTINGS_INITIAL_WINDOW_SIZE of 2^31",
            &[&setting(4, 1 << 31)],
            Connection(&[FLOW_CONTROL_ERROR, PROTOCOL_ERROR]),
        ),
        case(
            "6.5.2 SETTINGS_MAX_FRAME_SIZE of 16,383",
            &[&setting(5, 16_383)],
            Connection(&[PROTOCOL_ERROR]),
        ),
        case("6.5.2 SETTINGS_MAX_FRAME_SIZE of 2^24", &[&setting(5, 1 << 24)], Connection(&[PROTOCOL_ERROR])),
        case("6.5.2 an unknown setting", &[&setting(0x0aff, 7)], GoesOn),
        case(
            "6.6 PUSH_PROMISE of a client",
            &[&open(1), &frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &get].concat())],
            Connection(&[PROTOCOL_ERROR]),
        ),
        case("6.7 PING on a stream", &[&frame(PING, 0, 1, &[0; 8])], Connection(&[PROTOCOL_ERROR])),
        case(
            "6.7 PING of another length",
            &[&frame(PING, 0, 0, &[0; 6])],
            Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ),
        case("6.7 an acknowledgement that nobody asked for", &[&frame(PING, ACK, 0, &[9; 8])], GoesOn),
        case("6.8 GOAWAY on a stream", &[&frame(GOAWAY, 0, 1, &[0; 8])], Connection(&[PROTOCOL_ERROR])),
        case("6.9 WINDOW_UPDATE of 0 for the connection", &[&update(0, 0)], Connection(&[PROTOCOL_ERROR])),
        case("6.9 WINDOW_UPDATE of 0 for a stream", &[&open(1), &update(1, 0)], Stream(&[PROTOCOL_ERROR])),
        case(
            "6.9 WINDOW_UPDATE of another length",
            &[&frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
            Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ),
        case(
            "6.9.1 the connection's window beyond 2^31",
            &[&update(0, 0x7fff_ffff), &update(0, 0x7fff_ffff)],
            Connection(&[FLOW_CONTROL_ERROR]),
        ),
        case(
            "6.9.1 a stream's window beyond 2^31",
            &[&open(1), &update(1, 0x7fff_ffff), &update(1, 0x7fff_ffff)],
            Stream(&[FLOW_CONTROL_ERROR]),
        ),
        case(
            "6.9.2 streams' windows beyond 2^31 by a setting",
            &[&open(1), &update(1, 0x7fff_0000), &setting(4, 0x7fff_ffff)],
            Connection(&[FLOW_CONTROL_ERROR]),
        ),
        case(
            "6.10 CONTINUATION on stream 0",
            &[&frame(HEADERS, END_STREAM, 1, &get), &frame(CONTINUATION, END_HEADERS, 0, &[])],
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.10 CONTINUATION behind DATA",
            &[&open(1), &frame(DATA, 0, 1, b"a"), &frame(CONTINUATION, END_HEADERS, 1, &[])],
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "8.1 trailers that do not end the stream",
            &[&open(1), &frame(HEADERS, END_HEADERS, 1, &field("x", "y"))],
            Stream(&[PROTOCOL_ERROR]),
        ),
        // The library drops it, and the app sees nothing of it.
        case(
            "8.1 trailers with a pseudo-header field",
            &[&open(1), &frame(HEADERS, END_STREAM | END_HEADERS, 1, &field(":path", "/"))],
            Answered,
        ),
        case(
            "8.1 trailers",
            &[
                &open(1),
                &frame(DATA, 0, 1, b"a"),
                &frame(HEADERS, END_STREAM | END_HEADERS, 1, &field("x", "y")),
            ],
            Answered,
        ),
    ]
}

/// What became of it, in the words of what was expected; else the code that came.
async fn fate(connection: &mut RawHttp2, expected: Fate) -> Result<Fate, u32> {
    loop {
        let Some(frame) = connection.next().await else { return Ok(Connection(&[])) };
        match (frame.kind, expected) {
            (GOAWAY, Connection(codes)) if codes.contains(&frame.code()) => return Ok(expected),
            (RST_STREAM | GOAWAY, Stream(codes)) if codes.contains(&frame.code()) => return Ok(expected),
            // The connection is closed in order behind it.
            (GOAWAY, _) | (RST_STREAM, Answered | Connection(_) | GoesOn) if frame.code() == 0 => {}
            (RST_STREAM | GOAWAY, _) => return Err(frame.code()),
            (PING, GoesOn) if frame.flags == ACK && frame.payload == [1; 8] => return Ok(expected),
            (PING, _) if frame.flags == ACK && frame.payload == [1; 8] => return Ok(GoesOn),
            (HEADERS, Answered) if frame.stream == 1 && frame.payload[0] == 0x88 => return Ok(expected),
            _ => {}
        }
    }
}

#[tokio::test]
async fn frames_are_judged_as_rfc_9113_says() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, describe);
    let mut wrong = Vec::new();
    for Case { name, bytes, fate: expected } in cases(&world) {
        let mut connection = RawHttp2::open(&world).await;
        let ping = if expected == GoesOn { frame(PING, 0, 0, &[1; 8]) } else { Vec::new() };
        connection.try_send(&[bytes, ping].concat()).await;
        let limit = std::time::Duration::from_secs(3);
        match tokio::time::timeout(limit, fate(&mut connection, expected)).await {
            Ok(Ok(seen)) if seen == expected => {}
            seen => wrong.push(format!("{name}: {expected:?}, but {seen:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(world.node.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_ping_is_traffic_once_a_request_was_let_in_and_wakes_nothing() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, describe);
    let traffic = || world.app.traffic.load(Ordering::SeqCst);
    let mut connection = RawHttp2::open(&world).await;
    let ping = async |connection: &mut RawHttp2| {
        connection.send(&frame(PING, 0, 0, &[1; 8])).await;
        while connection.next_of(&[PING]).await.unwrap().payload != [1; 8] {}
    };
    ping(&mut connection).await;
    assert_eq!(traffic(), 0);
    let get = block(&good_fields(&world, "GET", "/"));
    connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get)).await;
    while connection.next_of(&[DATA]).await.unwrap().flags & END_STREAM == 0 {}
    let before = traffic();
    ping(&mut connection).await;
    assert_eq!(traffic(), before + 17);
    world.node.state.send_replace(None);
    ping(&mut connection).await;
    assert_eq!(traffic(), before + 17);
    assert_eq!(world.node.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_preface_that_is_none_ends_the_connection() {
    let world = World::start().await;
    let mut connection = RawHttp2::silent(&world).await;
    connection.try_send(&PREFACE.to_ascii_lowercase()).await;
    // RFC 9113, section 3.4: a GOAWAY may be left out.
    assert!(matches!(connection.closed().await, None | Some(PROTOCOL_ERROR)));
}

#[tokio::test]
async fn a_client_that_says_nothing_or_not_enough_is_cut() {
    let world = World::on_this_thread().await;
    let mut silent = RawHttp2::silent(&world).await;
    // What it does not say is that it has got the PING of an orderly end.
    let mut idle = RawHttp2::open(&world).await;
    assert_eq!(idle.next().await.unwrap().kind, SETTINGS);
    // From here on the clock jumps to the next timer whenever nothing else is to be done.
    tokio::time::pause();
    for connection in [&mut silent, &mut idle] {
        let mut ended = std::pin::pin!(connection.ended());
        // On a loaded machine the kernel may need longer for the last bytes than the
        // clock for its jumps.
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while tokio::time::timeout(std::time::Duration::from_mins(10), &mut ended).await.is_err() {
            assert!(std::time::Instant::now() < give_up, "it is held for ever");
        }
    }
}
