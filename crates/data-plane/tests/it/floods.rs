//! Clients that use HTTP/2 against the endpoint: what they make it and the app do is bounded,
//! others are served meanwhile, and nothing of it stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::client::{TestBody, describe, full, get, serve_app, soon, text};
use crate::fake::{CONFIG, World};
use crate::raw_http2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, PRIORITY, RST_STREAM,
    RawHttp2, SETTINGS, WINDOW_UPDATE, block, field, frame, good_fields,
};

const CANCEL: [u8; 4] = 8_u32.to_be_bytes();
const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

/// An app that takes requests and never answers; how many connections there are to it, and were.
fn never_answers(listener: TcpListener) -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (open, seen) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let counts = (Arc::clone(&open), Arc::clone(&seen));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counts.0.fetch_add(1, Ordering::SeqCst);
            counts.1.fetch_add(1, Ordering::SeqCst);
            let open = Arc::clone(&counts.0);
            tokio::spawn(async move {
                // How it ends is the endpoint's business.
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (open, seen)
}

async fn eventually(what: &str, predicate: impl Fn() -> bool) {
    let wait = async {
        while !predicate() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{what}"));
}

/// A well-behaved client is answered.
async fn others_are_served(world: &World) {
    for _ in 0..3 {
        let answer = get_on(world, "9000").await;
        assert_eq!(answer.status(), 200);
        text(answer).await;
    }
}

async fn get_on(world: &World, port: &str) -> Response<hyper::body::Incoming> {
    let request = crate::client::request(world, "/").header("x-aws-proxy-port", port);
    crate::client::send(world, request.body(crate::client::empty()).unwrap()).await
}

#[tokio::test]
async fn resets_that_come_together_end_the_connection_before_the_app_sees_any() {
    let world = World::start().await;
    let (_, seen) = never_answers(world.listen(8080).await);
    let mut connection = RawHttp2::open(&world).await;
    let headers = block(&good_fields(&world, "GET", "/"));
    let pair = |stream| {
        let request = frame(HEADERS, END_STREAM | END_HEADERS, stream, &headers);
        [request, frame(RST_STREAM, 0, stream, &CANCEL)].concat()
    };
    let bytes: Vec<u8> = (0..2000).flat_map(|number| pair(2 * number + 1)).collect();
    connection.try_send(&bytes).await;
    assert_eq!(connection.closed().await, Some(ENHANCE_YOUR_CALM));
    let seen = seen.load(Ordering::SeqCst);
    assert!(seen <= 400, "the app was sent {seen} of 2000");
    serve_app(world.listen(9000).await, describe);
    others_are_served(&world).await;
}

#[tokio::test]
async fn resets_that_wait_for_the_app_are_bounded_as_well() {
    let world = World::start().await;
    let (open, seen) = never_answers(world.listen(8080).await);
    serve_app(world.listen(9000).await, describe);
    let mut connection = RawHttp2::open(&world).await;
    let headers = block(&good_fields(&world, "GET", "/"));
    // Requests are reset only when the app has got them, so that the library sees nothing wrong;
    // many at a time, so that also a slow machine resets more than 200 a second.
    let began = std::time::Instant::now();
    let mut stream = 1;
    while stream < 2 * 4000 {
        let before = seen.load(Ordering::SeqCst);
        let streams = (stream..).step_by(2).take(AT_A_TIME);
        let requests = streams.clone().map(|of| frame(HEADERS, END_STREAM | END_HEADERS, of, &headers));
        if !connection.try_send(&requests.collect::<Vec<_>>().concat()).await {
            break;
        }
        let got = async {
            while seen.load(Ordering::SeqCst) < before + AT_A_TIME {
                tokio::time::sleep(std::time::Duration::from_micros(200)).await;
            }
        };
        let resets: Vec<_> = streams.map(|of| frame(RST_STREAM, 0, of, &CANCEL)).collect();
        if tokio::time::timeout(std::time::Duration::from_secs(2), got).await.is_err()
            || !connection.try_send(&resets.concat()).await
        {
            break;
        }
        stream += 2 * AT_A_TIME as u32;
    }
    let seconds = began.elapsed().as_secs_f64();
    connection.closed().await;
    let seen = seen.load(Ordering::SeqCst);
    // 200 at once and 200 a second, and the two lots that were on their way.
    assert!(
        seen as f64 <= (210 + 2 * AT_A_TIME) as f64 + 200.0 * seconds,
        "the app was sent {seen} in {seconds} s"
    );
    assert!(stream < 2 * 4000, "the connection was not closed: {seen} in {seconds} s");
    eventually("the app's connections are closed", || open.load(Ordering::SeqCst) == 0).await;
    others_are_served(&world).await;
}

#[tokio::test]
async fn a_client_may_leave_a_page_with_all_its_streams() {
    let world = World::start().await;
    let (open, seen) = never_answers(world.listen(8080).await);
    serve_app(world.listen(9000).await, describe);
    let mut connection = RawHttp2::open(&world).await;
    let headers = block(&good_fields(&world, "GET", "/"));
    for number in 0..100 {
        connection.send(&frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &headers)).await;
    }
    eventually("all are with the app", || seen.load(Ordering::SeqCst) == 100).await;
    for number in 0..100 {
        connection.send(&frame(RST_STREAM, 0, 2 * number + 1, &CANCEL)).await;
    }
    eventually("none is with the app", || open.load(Ordering::SeqCst) == 0).await;
    let mut fields = good_fields(&world, "GET", "/");
    fields.push(("x-aws-proxy-port".to_owned(), "9000".to_owned()));
    connection.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1001, &block(&fields))).await;
    let answer = connection.next_of(&[HEADERS, RST_STREAM, GOAWAY]).await.unwrap();
    assert_eq!((answer.kind, answer.stream), (HEADERS, 1001));
}

/// Requests that are under way at a time before they are reset.
const AT_A_TIME: usize = 50;

/// What a flood consists of, and how it must end: with this code, or not at all.
struct Flood {
    name: &'static str,
    begin: Vec<u8>,
    unit: Vec<u8>,
    count: usize,
    ends_with: Option<u32>,
}

fn floods(world: &World) -> Vec<Flood> {
    let post = block(&good_fields(world, "POST", "/"));
    let open = frame(HEADERS, END_HEADERS, 1, &post);
    let (settings, ping) = (frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]), frame(PING, 0, 0, &[7; 8]));
    let (priority, unknown) = (frame(PRIORITY, 0, 3, &[0, 0, 0, 5, 9]), frame(200, 255, 1, &[7; 100]));
    let room = |stream| frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 1]);
    let reset_again = frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    let reset = [open.clone(), reset_again.clone()].concat();
    let flood = |name, begin: &[u8], unit, count, ends_with| Flood {
        name,
        begin: begin.to_vec(),
        unit,
        count,
        ends_with,
    };
    vec![
        flood(
            "CONTINUATION",
            &frame(HEADERS, END_STREAM, 1, &post),
            frame(CONTINUATION, 0, 1, &[]),
            20_000,
            Some(ENHANCE_YOUR_CALM),
        ),
        flood(
            "CONTINUATION with fields",
            &frame(HEADERS, END_STREAM, 1, &post),
            frame(CONTINUATION, 0, 1, &field("x-a", &"b".repeat(16_000))),
            500,
            Some(ENHANCE_YOUR_CALM),
        ),
        flood("empty DATA", &open, frame(DATA, 0, 1, &[]), 20_000, Some(ENHANCE_YOUR_CALM)),
        flood("window update of nothing", &[], frame(WINDOW_UPDATE, 0, 0, &[0; 4]), 10, Some(PROTOCOL_ERROR)),
        flood("SETTINGS", &[], settings.clone(), 20_000, Some(ENHANCE_YOUR_CALM)),
        flood("PING", &[], ping.clone(), 20_000, Some(ENHANCE_YOUR_CALM)),
        flood("acknowledged PING", &[], frame(PING, ACK, 0, &[7; 8]), 20_000, Some(ENHANCE_YOUR_CALM)),
        flood("PRIORITY", &[], priority.clone(), 20_000, Some(ENHANCE_YOUR_CALM)),
        flood("unknown frames", &[], unknown.clone(), 20_000, Some(ENHANCE_YOUR_CALM)),
        flood("some SETTINGS", &[], settings.clone(), 900, None),
        flood("some PING", &[], ping.clone(), 900, None),
        flood("some PING during a request", &open, ping.clone(), 900, None),
        flood("SETTINGS during a request", &open, settings, 20_000, Some(ENHANCE_YOUR_CALM)),
        flood("PING during a request", &open, ping, 20_000, Some(ENHANCE_YOUR_CALM)),
        flood("PRIORITY during a request", &open, priority, 20_000, Some(ENHANCE_YOUR_CALM)),
        flood("unknown frames during a request", &open, unknown, 20_000, Some(ENHANCE_YOUR_CALM)),
        flood("WINDOW_UPDATE", &[], room(0), 20_000, Some(ENHANCE_YOUR_CALM)),
        flood("WINDOW_UPDATE of a stream", &open, room(1), 20_000, Some(ENHANCE_YOUR_CALM)),
        flood("RST_STREAM of one that is over", &reset, reset_again, 20_000, Some(ENHANCE_YOUR_CALM)),
    ]
}

#[tokio::test]
async fn floods_of_frames_end_or_are_answered_and_others_are_served() {
    let world = World::start().await;
    let (open, seen) = never_answers(world.listen(8080).await);
    serve_app(world.listen(9000).await, describe);
    for Flood { name, begin, unit, count, ends_with } in floods(&world) {
        let mut connection = RawHttp2::open(&world).await;
        let before = seen.load(Ordering::SeqCst);
        connection.send(&begin).await;
        let bytes = unit.repeat(count);
        if !begin.is_empty() && ends_with.is_none() {
            // The library reads on as long as there is something to read, and only then
            // hands over the request.
            eventually("the request is with the app", || seen.load(Ordering::SeqCst) > before).await;
        }
        if let Some(code) = ends_with {
            connection.try_send(&bytes).await;
            assert_eq!(connection.closed().await, Some(code), "{name}");
        } else {
            let mut writer = connection.drain();
            let flooding = tokio::spawn(async move { writer.write_all(&bytes).await.map(|()| writer) });
            others_are_served(&world).await;
            let flooded = soon(flooding).await.unwrap();
            let mut writer = flooded.unwrap_or_else(|error| panic!("{name}: {error}"));
            soon(writer.shutdown()).await.unwrap();
        }
        eventually(name, || open.load(Ordering::SeqCst) == 0).await;
    }
    // CONTINUATION never makes a request; and that a client goes away says nothing about the app.
    assert!(seen.load(Ordering::SeqCst) <= 8, "only the open uploads reached the app");
}

#[tokio::test]
async fn a_client_that_does_not_read_answers_to_its_frames_is_not_read_either() {
    let world = World::start().await;
    let (_, seen) = never_answers(world.listen(8080).await);
    serve_app(world.listen(9000).await, describe);
    let upload = frame(HEADERS, END_HEADERS, 1, &block(&good_fields(&world, "POST", "/")));
    for unit in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        let mut connection = RawHttp2::open(&world).await;
        let before = seen.load(Ordering::SeqCst);
        connection.send(&upload).await;
        eventually("the upload is with the app", || seen.load(Ordering::SeqCst) > before).await;
        let bytes = unit.repeat(1000);
        let mut taken = 0;
        let quiet = std::time::Duration::from_secs(1);
        // It is cut, or nothing more is taken of it.
        while let Ok(Ok(())) = tokio::time::timeout(quiet, connection.writer.write_all(&bytes)).await {
            taken += bytes.len();
            assert!(taken < 64 << 20, "what was to be answered is kept without limit");
        }
        others_are_served(&world).await;
    }
}

#[tokio::test]
async fn a_header_bomb_is_refused_and_its_connection_ends() {
    let world = World::start().await;
    let (_, seen) = never_answers(world.listen(8080).await);
    // One field of 4,000 bytes goes into the table (RFC 7541, section 6.2.1); each byte of
    // the rest repeats it.
    let mut bomb = block(&good_fields(&world, "GET", "/"));
    let filling = field("x-a", &"b".repeat(4000));
    bomb.extend([&[0x40], &filling[1..], &[0xbe; 12_000]].concat());
    let mut connection = RawHttp2::open(&world).await;
    connection.try_send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb)).await;
    let answer = connection.next_of(&[HEADERS, RST_STREAM, GOAWAY]).await;
    assert!(
        answer.as_ref().is_none_or(|answer| answer.kind != HEADERS || answer.payload.starts_with(&[0x48])),
        "{answer:?}"
    );
    assert_eq!(seen.load(Ordering::SeqCst), 0);
    // A table size beyond what was allowed is an error of compression.
    let mut connection = RawHttp2::open(&world).await;
    let huge = [0x3f, 0xe1, 0xff, 0xff, 0xff, 0x03];
    connection.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &huge)).await;
    assert_eq!(connection.closed().await, Some(PROTOCOL_ERROR), "RFC 9113 would have COMPRESSION_ERROR");
}

#[tokio::test]
async fn tiny_windows_hold_back_the_app_and_nothing_else() {
    const STREAMS: u32 = 100;
    let world = World::configured(CONFIG).await;
    // Every answer has a MiB, of which the client takes one byte.
    serve_app(world.listen(8080).await, |_| async { Response::<TestBody>::new(full(vec![7; 1 << 20])) });
    serve_app(world.listen(9000).await, describe);
    let mut connection = RawHttp2::silent(&world).await;
    let one_byte = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]);
    connection.send(&[PREFACE, &one_byte].concat()).await;
    let headers = block(&good_fields(&world, "GET", "/"));
    for number in 0..STREAMS {
        connection.send(&frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &headers)).await;
    }
    let mut streams = 0;
    while streams < STREAMS {
        let data = connection.next_of(&[DATA, RST_STREAM, GOAWAY]).await.unwrap();
        assert_eq!((data.kind, data.payload.len()), (DATA, 1));
        streams += 1;
    }
    others_are_served(&world).await;
    let went = world.app.traffic.load(Ordering::SeqCst);
    assert!(
        went < u64::from(STREAMS) << 19,
        "{went} bytes were taken from the app for clients that take none"
    );
    drop(connection);
    assert_eq!(get(&world, "/").await.status(), 200);
}
