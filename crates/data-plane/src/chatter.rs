//! HTTP/2 that is about no request: a client's PING, which keeps the microVM awake, and floods of PING, SETTINGS or PRIORITY from
//! clients that take the answers.
//!
//! The library answers what such frames ask for and tells nobody, so they are looked for here, below it. They are counted as
//! long as no stream is open.

use std::io;
use std::pin::Pin;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How many may come before the next request.
const BURST: u64 = 1000;
/// How many may come per second on top of that.
const PER_SECOND_MAX: u64 = 10;
/// What a client sends first (RFC 9113, section 3.4), in bytes.
const PREFACE_LENGTH: usize = 24;
/// Head of a frame (section 4.1), in bytes.
const HEAD_LENGTH: usize = 9;
/// Types of frames that belong to a request, also one that is over: DATA, HEADERS, RST_STREAM, WINDOW_UPDATE, CONTINUATION.
const OF_REQUESTS: [u8; 5] = [0, 1, 3, 8, 9];
const PING: u8 = 6;
const ACK: u8 = 1;
/// A PING with its head, in bytes (section 6.7).
pub(crate) const PING_BYTES: u64 = 17;
/// GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, section 6.8). No stream is open, so none is in doubt.
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11];

/// A client's connection, which ends when more is said on it than there is to say.
#[derive(Debug)]
pub(crate) struct Chatter<S, P> {
    stream: S,
    /// To be called when a PING has come that is no answer to ours.
    pinged: P,
    /// Counts the requests; what is open holds a clone beside the one of the connection itself.
    requests: Weak<AtomicU64>,
    /// How many requests there had been when the counting began, and when that was.
    since: (u64, Instant),
    /// Frames that came meanwhile.
    counted: u64,
    frames: Frames,
    /// No part of a frame is still to be written.
    flushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: Fn()> Chatter<S, P> {
    pub(crate) fn new(stream: S, requests: Weak<AtomicU64>, pinged: P) -> Self {
        Self {
            stream,
            pinged,
            requests,
            since: (0, Instant::now()),
            counted: 0,
            frames: Frames::new(),
            flushed: true,
        }
    }

    /// Counts frames that belong to no request; whether they are too many.
    fn are_too_many(&mut self, frames: u64) -> bool {
        let is_open = self.requests.strong_count() > 1;
        let requests = self.requests.upgrade().map_or(0, |requests| requests.load(Ordering::Relaxed));
        if is_open || requests != self.since.0 {
            self.since = (requests, Instant::now());
            self.counted = 0;
            return false;
        }
        self.counted += frames;
        self.counted > BURST && self.counted > BURST + PER_SECOND_MAX * self.since.1.elapsed().as_secs()
    }

    /// Tells the client why, if that can be done at once.
    fn say_goodbye(&mut self, context: &mut Context<'_>) {
        if self.flushed
            && let Poll::Ready(Ok(_)) = Pin::new(&mut self.stream).poll_write(context, &GOAWAY)
        {
            let _ = Pin::new(&mut self.stream).poll_flush(context);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: Fn() + Unpin> AsyncRead for Chatter<S, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let Seen { of_no_request, pings } = self.frames.read(&buffer.filled()[before..]);
        if of_no_request > 0 && self.are_too_many(of_no_request) {
            self.say_goodbye(context);
            return Poll::Ready(Err(io::Error::other(
                "the client sends too many frames that are of no request",
            )));
        }
        if pings > 0 {
            (self.pinged)();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: Unpin> AsyncWrite for Chatter<S, P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.flushed = false;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.flushed = false;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Frames that began in some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    of_no_request: u64,
    /// Those among them that are a PING and no answer.
    pings: u64,
}

/// Where in a stream of frames its reader is.
#[derive(Debug)]
struct Frames {
    /// Bytes until the next head.
    skip: usize,
    head: [u8; HEAD_LENGTH],
    /// How much of the head was read.
    filled: usize,
}

impl Frames {
    fn new() -> Self {
        Self { skip: PREFACE_LENGTH, head: [0; HEAD_LENGTH], filled: 0 }
    }

    /// What begins in the next bytes.
    fn read(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        while self.skip < bytes.len() {
            bytes = &bytes[self.skip..];
            self.skip = 0;
            let taken = bytes.len().min(HEAD_LENGTH - self.filled);
            self.head[self.filled..][..taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled < HEAD_LENGTH {
                return seen;
            }
            self.filled = 0;
            let [high, middle, low, kind, flags, ..] = self.head;
            self.skip = u32::from_be_bytes([0, high, middle, low]) as usize;
            seen.of_no_request += u64::from(!OF_REQUESTS.contains(&kind));
            seen.pings += u64::from(kind == PING && flags & ACK == 0);
        }
        self.skip -= bytes.len();
        seen
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let mut bytes = vec![b'P'; PREFACE_LENGTH];
        for (kind, flags, length) in [
            (4, 1, 0),
            (1, 0, 300),
            (0, 1, 70_000),
            (6, 0, 8),
            (6, 1, 8),
            (8, 0, 4),
            (9, 4, 0),
            (2, 0, 5),
            (250, 0, 20),
            (3, 0, 4),
        ] {
            let length: [u8; 4] = u32::to_be_bytes(length);
            bytes.extend([&length[1..], &[kind, flags, 0, 0, 0, 1]].concat());
            // What looks like PINGs is none.
            bytes.resize(bytes.len() + u32::from_be_bytes(length) as usize, 6);
        }
        for step in [1, 2, 7, 9, 10, 17, 1000, bytes.len()] {
            let mut frames = Frames::new();
            let mut found = (0, 0);
            for Seen { of_no_request, pings } in bytes.chunks(step).map(|bytes| frames.read(bytes)) {
                found = (found.0 + of_no_request, found.1 + pings);
            }
            assert_eq!((found, frames.skip, frames.filled), ((5, 1), 0, 0), "{step}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_said_between_requests_is_bounded() {
        let requests = Arc::new(AtomicU64::new(0));
        let mut chatter = Chatter::new(tokio::io::empty(), Arc::downgrade(&requests), || {});
        assert!(!chatter.are_too_many(BURST));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(!chatter.are_too_many(10 * PER_SECOND_MAX));
        // A request begins anew, and while it is open nothing counts.
        let open = Arc::clone(&requests);
        requests.fetch_add(1, Ordering::Relaxed);
        assert!(!chatter.are_too_many(10 * BURST));
        drop(open);
        assert!(!chatter.are_too_many(BURST));
        assert!(chatter.are_too_many(1));
        requests.fetch_add(1, Ordering::Relaxed);
        assert!(!chatter.are_too_many(BURST + 1));
        assert!(!chatter.are_too_many(BURST));
        assert!(chatter.are_too_many(1));
    }
}
