//! Bodies in chunks (`aws-chunked`; Amazon S3 API reference, "Signature calculations:
//! transferring payload in multiple chunks"), made fit for `s3s`, which keeps a chunk in
//! memory until it is whole.
//!
//! Clients send anything from 64 KiB to a whole object in one chunk. What is not signed is cut into
//! small ones. A signed one can only be checked as a whole: it may have [`SIGNED_BYTES_MAX`], and a
//! long one takes a share of the intake's budget.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use hearth_identity::{Intake, Share};
use tokio::time::{Instant, timeout_at};

use super::body::Spoiled;

/// Longest chunk that is handed on, unless it is signed, in bytes.
const PIECE_BYTES: u64 = 64 << 10;
/// Longest signed chunk, in bytes: the part size of the command line is half of it.
const SIGNED_BYTES_MAX: u64 = 16 << 20;
/// A line that is longer is no head of a chunk, in bytes; `s3s` refuses it.
const HEAD_BYTES_MAX: usize = 1024;

/// What is read next.
#[derive(Debug)]
enum State {
    /// The head of a chunk, of which this much was read.
    Head(BytesMut),
    /// So many bytes of a chunk, handed on in pieces if `cut`.
    Data { left: u64, cut: bool },
    /// So many bytes of the line's end after it.
    End(usize),
    /// Trailers, or what `s3s` is going to refuse.
    Rest,
}

/// Reads chunks and writes them anew.
#[derive(Debug)]
struct Chunks {
    state: State,
    written: VecDeque<Bytes>,
}

/// A signed chunk begins that has so many bytes.
#[derive(Debug, PartialEq, Eq)]
struct Long(u64);

impl Chunks {
    fn new() -> Self {
        Self { state: State::Head(BytesMut::new()), written: VecDeque::new() }
    }

    /// Takes what comes next, up to the head of a long signed chunk at most; the
    /// rest is left in `bytes`.
    fn read(&mut self, bytes: &mut Bytes) -> Option<Long> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Head(_) => {
                    if let Some(long) = self.read_head(bytes) {
                        return Some(long);
                    }
                }
                State::Data { left, cut } => {
                    let taken = (*left).min(bytes.len() as u64);
                    let taken = if *cut { taken.min(PIECE_BYTES) } else { taken };
                    let data = bytes.split_to(taken as usize);
                    *left -= taken;
                    let (is_over, cut) = (*left == 0, *cut);
                    if cut {
                        self.written.push_back(format!("{taken:x}\r\n").into());
                    }
                    self.written.push_back(data);
                    if cut && !is_over {
                        self.written.push_back(Bytes::from_static(b"\r\n"));
                    }
                    if is_over {
                        self.state = State::End(2);
                    }
                }
                State::End(left) => {
                    let end = bytes.split_to((*left).min(bytes.len()));
                    *left -= end.len();
                    if *left == 0 {
                        self.state = State::Head(BytesMut::new());
                    }
                    self.written.push_back(end);
                }
                State::Rest => self.written.push_back(std::mem::take(bytes)),
            }
        }
        None
    }

    fn read_head(&mut self, bytes: &mut Bytes) -> Option<Long> {
        let State::Head(head) = &mut self.state else { return None };
        let end = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        head.extend_from_slice(&bytes.split_to(end));
        let is_whole = head.ends_with(b"\n");
        if !is_whole && head.len() <= HEAD_BYTES_MAX {
            return None;
        }
        let head = std::mem::take(head).freeze();
        let size = size(&head).filter(|_| is_whole);
        let is_signed = head.contains(&b';');
        self.state = match size {
            Some(size) if size > 0 => State::Data { left: size, cut: !is_signed },
            _ => State::Rest,
        };
        if !matches!(self.state, State::Data { cut: true, .. }) {
            self.written.push_back(head);
        }
        size.filter(|size| is_signed && *size > PIECE_BYTES).map(Long)
    }
}

/// The size that a chunk's head begins with.
fn size(head: &[u8]) -> Option<u64> {
    let digits = head.split(|byte| matches!(byte, b';' | b'\r')).next()?;
    // More digits than `s3s` reads would be another number there.
    (digits.len() <= 8).then(|| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())?
}

/// What is done with one body.
struct Reading<S> {
    body: S,
    unread: Bytes,
    chunks: Chunks,
    intake: Arc<Intake>,
    source: Option<IpAddr>,
    /// Held as long as a long chunk is on its way, which has until then.
    share: Option<(Share, Instant)>,
}

/// Hands on the body in chunks of bounded size.
pub(super) fn bounded(
    body: impl Stream<Item = Result<Bytes, Spoiled>> + Send + Unpin + 'static,
    intake: Arc<Intake>,
    source: Option<IpAddr>,
) -> impl Stream<Item = Result<Bytes, Spoiled>> + Send {
    let reading = Reading { body, unread: Bytes::new(), chunks: Chunks::new(), intake, source, share: None };
    futures::stream::try_unfold(reading, |mut reading| async move {
        Ok(reading.next().await?.map(|bytes| (bytes, reading)))
    })
}

impl<S: Stream<Item = Result<Bytes, Spoiled>> + Unpin> Reading<S> {
    async fn next(&mut self) -> Result<Option<Bytes>, Spoiled> {
        loop {
            if let Some(written) = self.chunks.written.pop_front() {
                return Ok(Some(written));
            }
            if self.unread.is_empty() {
                let Some(bytes) = self.receive().await? else { return Ok(None) };
                self.unread = bytes;
            }
            // What `s3s` asks for more of it has made use of: a chunk that was long is
            // over with the next head.
            if let Some(Long(bytes)) = self.chunks.read(&mut self.unread) {
                if bytes > SIGNED_BYTES_MAX {
                    return Err(Spoiled::LongChunk);
                }
                self.share = None;
                self.share = Some(self.intake.long(self.source, bytes as usize).await.ok_or(Spoiled::Busy)?);
            } else if !matches!(self.chunks.state, State::Data { .. }) {
                self.share = None;
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Spoiled> {
        let next = match &self.share {
            Some((_, until)) => timeout_at(*until, self.body.next()).await.map_err(|_| Spoiled::Slow)?,
            None => self.body.next().await,
        };
        next.transpose()
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    /// What comes of a body that arrives in steps of this many bytes.
    async fn handed_on(body: &[u8], step: usize) -> Result<Vec<u8>, Spoiled> {
        let pieces: Vec<_> =
            body.chunks(step).map(|piece| Ok::<_, Spoiled>(Bytes::copy_from_slice(piece))).collect();
        let pieces = bounded(futures::stream::iter(pieces), Arc::new(Intake::default()), None);
        let written: Vec<Bytes> = pieces.try_collect().await?;
        Ok(written.concat())
    }

    /// Sizes of the chunks, and their data.
    fn parse(mut body: &[u8]) -> (Vec<usize>, Vec<u8>) {
        let (mut sizes, mut data) = (Vec::new(), Vec::new());
        loop {
            let end = body.windows(2).position(|pair| pair == b"\r\n").unwrap();
            let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
            if size == 0 {
                return (sizes, data);
            }
            sizes.push(size);
            data.extend(&body[end + 2..][..size]);
            assert_eq!(&body[end + 2 + size..][..2], b"\r\n");
            body = &body[end + 4 + size..];
        }
    }

    #[tokio::test]
    async fn a_chunk_as_long_as_the_object_is_cut() {
        let data: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
        let mut body = format!("{:X}\r\n", data.len()).into_bytes();
        body.extend(&data);
        body.extend(b"\r\n5\r\nabcde\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n");
        for step in [7, 4096, 1 << 20] {
            let written = handed_on(&body, step).await.unwrap();
            assert!(written.ends_with(b"\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"));
            let (sizes, read) = parse(&written);
            assert!(sizes.iter().all(|size| *size as u64 <= PIECE_BYTES), "{sizes:?}");
            assert_eq!(read, [&data[..], b"abcde"].concat());
        }
    }

    #[tokio::test]
    async fn signed_chunks_stay_as_they_are_and_have_a_limit() {
        let head = |size: u64| format!("{size:x};chunk-signature={}\r\n", "a".repeat(64)).into_bytes();
        let mut body = head(200_000);
        body.extend(vec![7; 200_000]);
        body.extend(b"\r\n");
        body.extend(head(0));
        body.extend(b"\r\n");
        for step in [7, 1000, 1 << 20] {
            assert_eq!(handed_on(&body, step).await.unwrap(), body);
        }
        let too_long = [head(SIGNED_BYTES_MAX + 1), vec![7; 1000]].concat();
        assert_eq!(handed_on(&too_long, 100).await, Err(Spoiled::LongChunk));
    }

    #[tokio::test]
    async fn what_is_no_chunk_is_left_to_be_refused() {
        for body in [&b"ffffffffffffffff\r\nabc"[..], b"x\r\nabc", b"\r\n\r\n", &[b'0'; 5000], b"", b"12"] {
            let written = handed_on(body, 10).await.unwrap();
            assert!(body.starts_with(&written), "{written:?}");
            assert!(written.len() == body.len() || body == b"12");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn long_chunks_share_a_budget_and_are_cut_when_they_come_slowly() {
        let intake = Arc::new(Intake::default());
        let head = format!("{SIGNED_BYTES_MAX:x};chunk-signature={}\r\n", "a".repeat(64));
        let start = || {
            let head = Ok::<_, Spoiled>(Bytes::from(head.clone()));
            let body = futures::stream::iter([head]).chain(futures::stream::pending());
            Box::pin(bounded(body, intake.clone(), None))
        };
        let (mut first, mut second) = (start(), start());
        assert!(first.next().await.unwrap().is_ok());
        let (first, second) = tokio::join!(first.next(), second.next());
        assert_eq!((first, second), (Some(Err(Spoiled::Slow)), Some(Err(Spoiled::Busy))));
    }
}
