//! HTTP/2 that is about no request: a client's PING, which keeps the microVM awake, and floods of
//! PING, SETTINGS, PRIORITY, WINDOW_UPDATE or RST_STREAM.
//!
//! The library does what such frames ask for and tells nobody, so they are looked for here, below
//! it. A client earns them: by requests, by what it is sent, and a few by time. Whatever frames
//! there are, a connection takes turns with the others of its worker.

use std::io;
use std::pin::Pin;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How many may come before anything was earned.
const BURST: u64 = 1000;
/// How many may come per second on top of that.
const PER_SECOND: u64 = 10;
/// How many a request earns: it may be given a priority, granted room and reset.
const PER_REQUEST: u64 = 4;
/// How many a frame of DATA earns that the client was sent: it may be acknowledged for the stream
/// and for the connection.
const PER_DATA: u64 = 2;
/// The most that is kept of what was earned: the acknowledgements of a window of small frames.
const EARNED_MAX: u64 = 100_000;
/// Frames after which other connections have their turn.
const TURN: u64 = 512;
/// What a client sends first (RFC 9113, section 3.4), in bytes.
const PREFACE_LENGTH: usize = 24;
/// Head of a frame (section 4.1), in bytes.
const HEAD_LENGTH: usize = 9;
/// Types of frames that carry a request: DATA, HEADERS, CONTINUATION. They have
/// limits of their own.
const OF_REQUESTS: [u8; 3] = [0, 1, 9];
const DATA: u8 = 0;
const PING: u8 = 6;
const ACK: u8 = 1;
/// A PING with its head, in bytes (section 6.7).
pub(crate) const PING_BYTES: u64 = 17;
/// GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, section 6.8). Any stream may have been served.
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11];

/// A client's connection, which ends when more is said on it than there is to say.
#[derive(Debug)]
pub(crate) struct ControlFrames<S, P> {
    stream: S,
    /// To be called when a PING has come that is no answer to ours.
    pinged: P,
    budget: Budget,
    /// Frames that came in this turn.
    in_turn: u64,
    /// Of what the client is sent.
    sent: Frames,
    frames: Frames,
    /// No part of a frame is still to be written.
    flushed: bool,
}

impl<S, P> ControlFrames<S, P> {
    pub(crate) fn new(stream: S, requests: Weak<AtomicU64>, pinged: P) -> Self {
        let budget = Budget::new(requests);
        Self {
            stream,
            pinged,
            budget,
            in_turn: 0,
            sent: Frames::after(0),
            frames: Frames::after(PREFACE_LENGTH),
            flushed: true,
        }
    }

    fn sent(&mut self, bytes: &[u8]) {
        self.budget.earned += PER_DATA * self.sent.read(bytes).data;
    }
}

impl<S: AsyncWrite + Unpin, P> ControlFrames<S, P> {
    /// Tells the client why, if that can be done at once.
    fn say_goodbye(&mut self, context: &mut Context<'_>) {
        if self.flushed
            && let Poll::Ready(Ok(_)) = Pin::new(&mut self.stream).poll_write(context, &GOAWAY)
        {
            let _ = Pin::new(&mut self.stream).poll_flush(context);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: Fn() + Unpin> AsyncRead for ControlFrames<S, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.in_turn >= TURN {
            self.in_turn = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) else {
            self.in_turn = 0;
            return Poll::Pending;
        };
        read?;
        let Seen { frames, of_no_request, pings, .. } = self.frames.read(&buffer.filled()[before..]);
        self.in_turn += frames;
        if of_no_request > 0 && !self.budget.take(of_no_request) {
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

impl<S: AsyncRead + AsyncWrite + Unpin, P: Unpin> AsyncWrite for ControlFrames<S, P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.flushed = false;
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.sent(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.flushed = false;
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        let mut left = written;
        for slice in slices {
            let taken = left.min(slice.len());
            self.sent(&slice[..taken]);
            left -= taken;
        }
        Poll::Ready(Ok(written))
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

/// What a client may say that is about no request.
#[derive(Debug)]
struct Budget {
    /// Counts the requests.
    requests: Weak<AtomicU64>,
    /// How many there were, and when, as of `left`.
    as_of: (u64, Instant),
    left: u64,
    /// What was earned since by what the client was sent.
    earned: u64,
}

impl Budget {
    fn new(requests: Weak<AtomicU64>) -> Self {
        Self { requests, as_of: (0, Instant::now()), left: BURST, earned: 0 }
    }

    /// Takes `frames` off; whether there were as many.
    fn take(&mut self, frames: u64) -> bool {
        let requests = self.requests.upgrade().map_or(0, |requests| requests.load(Ordering::Relaxed));
        let seconds = self.as_of.1.elapsed().as_secs();
        let by_requests = PER_REQUEST * (requests - self.as_of.0);
        let earned = by_requests + PER_SECOND * seconds + std::mem::take(&mut self.earned);
        self.as_of = (requests, self.as_of.1 + Duration::from_secs(seconds));
        self.left = (self.left + earned).min(EARNED_MAX);
        let left = self.left.checked_sub(frames);
        self.left = left.unwrap_or_default();
        left.is_some()
    }
}

/// Frames that began in some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    frames: u64,
    data: u64,
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
    /// Frames that begin `skip` bytes from here.
    fn after(skip: usize) -> Self {
        Self { skip, head: [0; HEAD_LENGTH], filled: 0 }
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
            seen.frames += 1;
            seen.data += u64::from(kind == DATA);
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
            let mut frames = Frames::after(PREFACE_LENGTH);
            let mut found = (0, 0, 0);
            for seen in bytes.chunks(step).map(|bytes| frames.read(bytes)) {
                found = (found.0 + seen.frames, found.1 + seen.of_no_request, found.2 + seen.pings);
            }
            assert_eq!((found, frames.skip, frames.filled), ((10, 7, 1), 0, 0), "{step}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_said_beside_requests_is_bounded() {
        let requests = Arc::new(AtomicU64::new(0));
        let mut budget = Budget::new(Arc::downgrade(&requests));
        assert!(budget.take(BURST));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(budget.take(10 * PER_SECOND));
        // A stream that stays open lifts no limit.
        let _open = Arc::clone(&requests);
        assert!(!budget.take(1));
        requests.fetch_add(3, Ordering::Relaxed);
        assert!(budget.take(3 * PER_REQUEST));
        assert!(!budget.take(1));
        // The acknowledgements of many small frames.
        for _ in 0..1000 {
            budget.earned += PER_DATA;
            assert!(budget.take(2));
        }
        budget.earned += u64::MAX / 2;
        assert!(budget.take(EARNED_MAX));
        assert!(!budget.take(1));
    }

    #[tokio::test]
    async fn what_is_sent_may_be_acknowledged() {
        use tokio::io::AsyncWriteExt as _;
        let requests = Arc::new(AtomicU64::new(0));
        let mut stream = ControlFrames::new(tokio::io::empty(), Arc::downgrade(&requests), || {});
        stream.write_all(&[0, 0, 1, DATA, 0, 0, 0, 0, 1, 0].repeat(50)).await.unwrap();
        let slices = [&[0, 0, 1, DATA, 0, 0, 0, 0, 1][..], &[7][..], &[0, 0, 0, 4, 1, 0, 0, 0, 0]];
        let written = stream.write_vectored(&slices.map(io::IoSlice::new)).await.unwrap();
        assert!(written > 0);
        assert_eq!(stream.budget.earned, 51 * PER_DATA, "the answer to SETTINGS earns nothing");
    }

    #[tokio::test]
    async fn many_frames_are_read_in_turns() {
        use tokio::io::AsyncReadExt as _;
        let requests = Arc::new(AtomicU64::new(1_000_000));
        let mut flood = vec![b'P'; PREFACE_LENGTH];
        flood.extend([0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1].repeat(20 * TURN as usize));
        let mut stream = ControlFrames::new(std::io::Cursor::new(flood), Arc::downgrade(&requests), || {});
        let turns = Arc::new(AtomicU64::new(0));
        let other = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move {
                loop {
                    turns.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut buffer = vec![0; 4096];
        while stream.read(&mut buffer).await.unwrap() > 0 {}
        assert!(turns.load(Ordering::Relaxed) >= 10, "{turns:?}");
        other.abort();
    }
}
