//! What a guest can do that plays its agent: floods, forged frames, bytes of any kind.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{DuplexStream, duplex};
use tokio::task::{LocalSet, yield_now};

use super::exchange::Kind;
use super::*;
use crate::{BuildSpec, FromShell, OutputStream, SHELL_PAYLOAD_BYTES};

/// Replies that are read without a pause.
const AT_ONCE: u64 = 15_000;

/// The frame with this body.
fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

fn output(position: u64, data: &str) -> Vec<u8> {
    encode(&Reply::Output { position, stream: OutputStream::Stdout, data: data.to_owned() }).unwrap()
}

/// An agent that has said this and says no more, but stays.
async fn said(frames: &[u8]) -> (DuplexStream, DuplexStream) {
    let (host, mut agent) = duplex(frames.len() + 4096);
    agent.write_all(frames).await.unwrap();
    (host, agent)
}

/// The error of a request that was answered like this.
async fn error_of(request: &Request, frames: &[u8]) -> String {
    let (host, _agent) = said(frames).await;
    match ask(host, request).await.unwrap_err() {
        ClientError::Connection(error) => error.to_string(),
        ClientError::Agent(message) => panic!("{message}"),
    }
}

/// A frame of 4 MiB and then the shortest replies without end, as `M4.c` sends them.
fn flood_of_replies() -> Vec<u8> {
    let mut big = br#"{"reply":"done"}"#.to_vec();
    big.resize((4 << 20) - 16, b' ');
    [framed(&big), encode(&Reply::Done).unwrap().repeat(50_000)].concat()
}

/// So many pieces of output, as small as there are.
fn flood_of_output(pieces: u64) -> Vec<u8> {
    (0..pieces).flat_map(|position| output(position, "x")).collect()
}

fn build() -> Request {
    let text = String::new;
    let build = BuildSpec {
        builder_disk: text(),
        context_disk: text(),
        cache_disk: text(),
        out_disk: text(),
        store_disks: Vec::new(),
        ca_bundle: text(),
        dockerfile: text(),
        timeout_seconds: 1,
    };
    Request::Build { build }
}

/// Reads replies of two flooding guests on one thread beside a task that wants to get on, and
/// returns how many replies were read in the longest time that this task had to wait for its turn.
async fn longest_wait(request: Request, flood: Vec<u8>) -> usize {
    let (read, floods) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(2)));
    let tasks = LocalSet::new();
    for _ in 0..2 {
        let (host, agent) = said(&flood).await;
        let (read, floods, request) = (Rc::clone(&read), Rc::clone(&floods), request.clone());
        tasks.spawn_local(async move {
            let mut replies = Replies::request(host, &request).await.unwrap();
            drop(agent);
            while let Ok(Some(_)) = replies.next().await {
                read.set(read.get() + 1);
            }
            floods.set(floods.get() - 1);
        });
    }
    let other = async move {
        let mut longest = 0;
        while floods.get() > 0 {
            let before = read.get();
            yield_now().await;
            longest = longest.max(read.get() - before);
        }
        longest
    };
    tasks.run_until(other).await
}

#[tokio::test]
async fn guests_that_flood_their_agents_connection_leave_the_thread_to_others() {
    let request = Request::Output { from: 0 };
    let longest = longest_wait(request.clone(), flood_of_output(AT_ONCE)).await;
    assert!((1..=512).contains(&longest), "{longest} replies were read in one turn");
    assert_eq!(longest_wait(request, flood_of_replies()).await, 0, "none of them is an answer");
    let longest = longest_wait(build(), flood_of_output(AT_ONCE)).await;
    assert!((1..=512).contains(&longest), "{longest} replies were read in one turn");
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_read_at_a_bounded_pace() {
    let (host, agent) = said(&flood_of_output(50_000)).await;
    let mut replies = Replies::request(host, &Request::Output { from: 0 }).await.unwrap();
    drop(agent);
    let start = tokio::time::Instant::now();
    while replies.next().await.unwrap().is_some() {}
    assert!(start.elapsed() > Duration::from_secs(1), "50,000 replies in {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_shell_that_floods_leaves_the_thread_to_others() {
    let flood = [encode(&Reply::Done).unwrap(), FromShell::output_header(0).repeat(100_000)].concat();
    let (host, agent) = said(&flood).await;
    let spec = crate::ShellSpec { argv: Vec::new(), terminal: crate::Terminal::Pty };
    let (_writer, mut reader) = open_shell(host, &spec).await.unwrap();
    drop(agent);
    let (read, over) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let tasks = LocalSet::new();
    let (counter, end) = (Rc::clone(&read), Rc::clone(&over));
    tasks.spawn_local(async move {
        while let Ok(Some(_)) = reader.next().await {
            counter.set(counter.get() + 1);
        }
        end.set(true);
    });
    let other = async move {
        while !over.get() {
            let before = read.get();
            yield_now().await;
            assert!(read.get() - before <= 512);
        }
        assert_eq!(read.get(), 100_000);
    };
    tasks.run_until(other).await;
}

#[tokio::test]
async fn what_is_no_answer_to_the_request_ends_the_exchange() {
    let done = encode(&Reply::Done).unwrap();
    let exited = encode(&Reply::Exited { code: 1 }).unwrap();
    let none = "the guest agent gave no answer to what it was asked";
    assert_eq!(error_of(&Request::WaitExit, &done).await, none);
    assert_eq!(error_of(&Request::Output { from: 0 }, &done).await, none);
    assert_eq!(error_of(&Request::PrepareSnapshot, &framed(b"{}")).await, none);
    assert_eq!(error_of(&Request::PrepareSnapshot, &framed(b"")).await, none);
    assert_eq!(error_of(&Request::PrepareSnapshot, &framed(br#" {"reply":"done"}        "#)).await, none);
    let twice = [exited.clone(), exited].concat();
    assert_eq!(error_of(&Request::WaitExit, &twice).await, "the guest agent said more than it was asked");
}

#[tokio::test]
async fn frames_are_no_longer_than_their_kind_allows() {
    for (request, kind) in [
        (Request::WaitExit, Kind::Exited),
        (Request::Hello, Kind::Hello),
        (Request::Output { from: 0 }, Kind::Output),
        (Request::PrepareSnapshot, Kind::Error),
        (build(), Kind::Output),
        (Request::Inspect { timeout_ms: 1 }, Kind::Error),
    ] {
        let length = u32::try_from(kind.limit() + 1).unwrap().to_be_bytes();
        let beginning = [&length[..], format!(r#"{{"reply":"{}","x":"#, kind.name()).as_bytes()].concat();
        // Only its beginning has come: the rest is not waited for.
        error_of(&request, &beginning).await;
    }
}

#[tokio::test]
async fn output_goes_on_only() {
    let request = Request::Output { from: 7 };
    for (position, data) in [(0, "x"), (6, "ab"), (u64::MAX, "a"), (i64::MAX as u64, "a")] {
        error_of(&request, &output(position, data)).await;
    }
    let (host, _agent) = said(&[output(9, "ab"), output(11, "c"), output(11, "d")].concat()).await;
    let mut replies = Replies::request(host, &request).await.unwrap();
    assert!(replies.next().await.unwrap().is_some());
    assert!(replies.next().await.unwrap().is_some());
    assert!(replies.next().await.is_err(), "what was said before");
}

#[tokio::test]
async fn a_large_answer_is_read_whole() {
    let oci_config = "\"".repeat(1 << 20);
    let built = Reply::Built { code: 0, oci_config, root_bytes: 1 };
    let (host, mut agent) = duplex(4096);
    let frames = [output(0, "x"), encode(&built).unwrap()].concat();
    let agent = tokio::spawn(async move {
        agent.write_all(&frames).await.unwrap();
        agent
    });
    let mut replies = Replies::request(host, &build()).await.unwrap();
    assert!(matches!(replies.next().await.unwrap(), Some(Reply::Output { .. })));
    assert_eq!(replies.next().await.unwrap(), Some(built));
    agent.await.unwrap();
}

/// Reads an answer of these bytes to each request until it ends.
async fn read_all(answer: &[u8]) {
    let requests = [
        Request::Hello,
        Request::WaitListening { timeout_ms: 1 },
        Request::WaitExit,
        Request::Output { from: 3 },
        Request::Hook { port: 1, path: String::new(), body: String::new(), timeout_ms: 1 },
        Request::Inspect { timeout_ms: 1 },
        build(),
    ];
    for request in requests {
        let stream = tokio::io::join(answer, tokio::io::sink());
        let mut replies = Replies::request(stream, &request).await.unwrap();
        while let Ok(Some(_)) = replies.next().await {}
        assert!(replies.received.waiting().len() <= answer.len());
    }
    let mut shell = answer;
    while let Ok(Some((frame, length))) = FromShell::parse(shell) {
        if let FromShell::Output(bytes) = frame {
            assert!(bytes.len() <= SHELL_PAYLOAD_BYTES);
        }
        shell = &shell[length..];
    }
}

#[test]
fn fuzz_agent_frames() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            read_all(bytes).await;
            // Bodies that the length, and the kind, let through.
            read_all(&framed(bytes)).await;
            for kind in Kind::ALL {
                let begun = [format!(r#"{{"reply":"{}","#, kind.name()).as_bytes(), bytes, b"}"].concat();
                read_all(&framed(&begun)).await;
            }
        });
    });
}
