//! Bodies of requests, read in memory before their signature can be checked: no more of them, and
//! no longer, than can be spared for strangers.
//!
//! What the headers say about key, date and scope is checked first, so that only who knows a key
//! that is in force gets this far. Long bodies have a budget, for all together and for each
//! source; slow ones are cut.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hearth_api::{Error, ErrorKind};
use hearth_rate::Bucket;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::caller::Caller;
use crate::identities::Identities;
use crate::source::SourceAddress;

/// Bodies up to this length need no budget: there are as many as connections.
const SMALL_BYTES: usize = 16 << 10;
/// Unit of the budget.
const UNIT: usize = 1 << 10;
/// Bytes of long bodies that are read at the same time.
const BUDGET_BYTES: usize = 64 << 20;
/// The part of them that one source may have.
const SOURCE_BYTES: usize = BUDGET_BYTES / 4;
/// How long a long body waits for its part of the budget.
const BUDGET_PATIENCE: Duration = Duration::from_secs(10);
/// Longest pause between two pieces of a body.
const PAUSE: Duration = Duration::from_secs(10);
/// Time that every body has, besides the time that [`BYTES_PER_SECOND`] takes.
const GRACE: Duration = Duration::from_secs(20);
/// Slowest body.
const BYTES_PER_SECOND: usize = 32 << 10;
/// How long the rest of a refused request's body is read and dropped, so that the client
/// gets to see the refusal.
const DRAIN: Duration = Duration::from_secs(2);
/// Bytes of refused bodies that are dropped for one source in a second.
const DROPPED_BYTES_PER_SECOND: u64 = 8 << 20;
/// Bytes of them that are dropped at once: ten parts of an SDK that has the wrong key are fewer.
const DROPPED_AT_ONCE: u64 = 128 << 20;
/// Sources that are remembered before those that read nothing are forgotten.
const SOURCES: usize = 1024;

/// The budget of bodies that are being read.
#[derive(Debug)]
pub struct Intake {
    all: Arc<Semaphore>,
    sources: Mutex<HashMap<IpAddr, Arc<Source>>>,
}

/// What one source has of the budget, and of the trouble that is taken for those who are refused.
#[derive(Debug)]
struct Source {
    share: Arc<Semaphore>,
    /// Bytes that may be dropped.
    dropped: Bucket,
}

impl Source {
    fn new() -> Self {
        let share = Arc::new(Semaphore::new(SOURCE_BYTES / UNIT));
        Self { share, dropped: Bucket::with_burst(DROPPED_BYTES_PER_SECOND, DROPPED_AT_ONCE) }
    }
}

impl Default for Intake {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(BUDGET_BYTES / UNIT)), sources: Mutex::default() }
    }
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// The budget is used up.
    Busy,
    /// It came too slowly.
    Slow,
    /// It ended early.
    Ended,
    /// It has more than this many bytes.
    TooLong(usize),
}

impl From<Unread> for Error {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Busy => {
                let message = "Too many long requests are being received; please try again later.";
                Self::new(ErrorKind::Throttling, message)
            }
            Unread::Slow => Self::validation("The body of the request came too slowly and was cut off."),
            Unread::Ended => Self::validation("The body of the request ended early."),
            Unread::TooLong(maximum) => {
                Self::validation(format!("The body of the request must not be longer than {maximum} bytes."))
            }
        }
    }
}

/// A part of the budget; given back when dropped.
#[derive(Debug, Default)]
pub struct Share {
    _parts: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Intake {
    /// A part for a body of at most `bytes`.
    async fn share(&self, source: Option<IpAddr>, bytes: usize) -> Result<Share, Unread> {
        if bytes <= SMALL_BYTES {
            return Ok(Share::default());
        }
        let units = u32::try_from(bytes.div_ceil(UNIT).min(SOURCE_BYTES / UNIT)).unwrap_or(u32::MAX);
        let of_source = self.of_source(source).share.clone();
        let acquire = async {
            let source = of_source.acquire_many_owned(units).await.ok()?;
            Some((source, self.all.clone().acquire_many_owned(units).await.ok()?))
        };
        let parts = timeout(BUDGET_PATIENCE, acquire).await.ok().flatten().ok_or(Unread::Busy)?;
        Ok(Share { _parts: Some(parts) })
    }

    /// A part for `bytes` that are kept in memory on their way, and until when they must have come.
    /// `None` when there is none to be had.
    pub async fn long(&self, source: Option<IpAddr>, bytes: usize) -> Option<(Share, Instant)> {
        let share = self.share(source, bytes).await.ok()?;
        let seconds = (bytes / BYTES_PER_SECOND) as u64;
        Some((share, Instant::now() + GRACE + Duration::from_secs(seconds)))
    }

    fn of_source(&self, source: Option<IpAddr>) -> Arc<Source> {
        let source = source.unwrap_or(IpAddr::from([0, 0, 0, 0])).to_canonical();
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES {
            sources.retain(|_, source| Arc::strong_count(source) > 1 || Arc::strong_count(&source.share) > 1);
        }
        sources.entry(source).or_insert_with(|| Arc::new(Source::new())).clone()
    }

    /// Reads a whole body of at most `maximum` bytes.
    pub async fn read<B>(&self, parts: &Parts, body: B, maximum: usize) -> Result<(Bytes, Share), Unread>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let announced = announced(parts);
        if announced.is_some_and(|length| length > maximum as u64) {
            self.drain(parts, body).await;
            return Err(Unread::TooLong(maximum));
        }
        let expected = announced.map_or(maximum, |length| length as usize);
        if expected == 0 || body.is_end_stream() {
            return Ok((Bytes::new(), Share::default()));
        }
        let share = self.share(SourceAddress::of(parts), expected).await?;
        Ok((collect(body, maximum).await?, share))
    }

    /// Reads and drops what is left of a body, for a moment: an answer that is sent while the
    /// client still writes is lost when the connection is closed with bytes unread. Not for those
    /// who keep sending what is refused.
    pub async fn drain<B>(&self, parts: &Parts, mut body: B)
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let source = self.of_source(SourceAddress::of(parts));
        let rest = async {
            while !source.dropped.is_empty()
                && let Some(Ok(frame)) = body.frame().await
            {
                source.dropped.debit(frame.data_ref().map_or(0, Bytes::len) as u64);
            }
        };
        // A client that is still sending then has had its chance.
        let _ = timeout(DRAIN, rest).await;
    }
}

async fn collect<B>(mut body: B, maximum: usize) -> Result<Bytes, Unread>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let began = Instant::now();
    let mut all = BytesMut::new();
    let mut first = Bytes::new();
    loop {
        let earned = Duration::from_secs((all.len() / BYTES_PER_SECOND) as u64);
        let end = (Instant::now() + PAUSE).min(began + GRACE + earned);
        let piece = match timeout_at(end, body.frame()).await.map_err(|_| Unread::Slow)? {
            None => break,
            Some(Err(_)) => return Err(Unread::Ended),
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        if all.len() + first.len() + piece.len() > maximum {
            return Err(Unread::TooLong(maximum));
        }
        // Most bodies come in one piece, which needs no copy.
        if all.is_empty() && first.is_empty() {
            first = piece;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&piece);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Length of the body by its header.
fn announced(parts: &Parts) -> Option<u64> {
    parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Identities {
    /// Reads a request's body and verifies that a known key signed it for `service`. Nothing of the
    /// body is kept before key, date and scope in the headers have been checked.
    pub async fn receive<B>(
        &self,
        parts: &Parts,
        body: B,
        service: &str,
        maximum: usize,
    ) -> Result<(Caller, Bytes), Error>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        if !body.is_end_stream()
            && let Err(denial) = self.check_head(parts, service, jiff::Timestamp::now())
        {
            self.intake.drain(parts, body).await;
            return Err(denial.into());
        }
        let (body, _share) = self.intake.read(parts, body, maximum).await?;
        let caller = self.authenticate(parts, &body, service, jiff::Timestamp::now())?;
        Ok((caller, body))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn parts(length: Option<usize>) -> Parts {
        let mut request = http::Request::builder();
        if let Some(length) = length {
            request = request.header(CONTENT_LENGTH, length);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts.extensions.insert(SourceAddress::plain(([192, 0, 2, 1], 1).into()));
        parts
    }

    /// A body that sends a piece every `pause`, without end.
    fn trickle(
        piece: usize,
        pause: Duration,
    ) -> impl http_body::Body<Data = Bytes, Error = std::convert::Infallible> + Unpin {
        let pieces = futures::stream::unfold((), move |()| async move {
            tokio::time::sleep(pause).await;
            Some((Ok(http_body::Frame::data(Bytes::from(vec![b'x'; piece]))), ()))
        });
        StreamBody::new(Box::pin(pieces))
    }

    #[tokio::test(start_paused = true)]
    async fn slow_and_silent_bodies_are_cut() {
        let intake = Intake::default();
        for (piece, pause, most) in [(1, 9, 21), (1, 60, 11), (8 << 10, 1, 40)] {
            let began = Instant::now();
            let body = trickle(piece, Duration::from_secs(pause));
            let cut = Error::from(intake.read(&parts(None), body, 8 << 20).await.unwrap_err());
            assert!(cut.message.contains("too slowly"), "{cut}");
            assert!(began.elapsed() < Duration::from_secs(most), "{piece} bytes each {pause} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_refused_by_its_announced_length_and_by_what_comes() {
        let intake = Intake::default();
        let body = || Full::new(Bytes::from(vec![0; 100]));
        assert_eq!(intake.read(&parts(None), body(), 100).await.unwrap().0.len(), 100);
        for length in [Some(101), None] {
            let refused = Error::from(intake.read(&parts(length), body(), 99).await.unwrap_err());
            assert!(refused.message.contains("not be longer than 99 bytes"), "{refused}");
        }
    }

    /// The kind: strangers have a budget.
    #[tokio::test(start_paused = true)]
    async fn long_bodies_wait_for_their_part_and_no_source_has_all() {
        let intake = Arc::new(Intake::default());
        let all = BUDGET_BYTES / UNIT;
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(intake.share(Some(IpAddr::from([192, 0, 2, 1])), 8 << 20).await.unwrap());
        }
        let busy = intake.share(Some(IpAddr::from([192, 0, 2, 1])), 8 << 20).await.unwrap_err();
        assert_eq!(Error::from(busy).kind, ErrorKind::Throttling);
        assert_eq!(intake.all.available_permits(), all * 3 / 4, "others have the rest");
        intake.share(Some(IpAddr::from([192, 0, 2, 2])), 8 << 20).await.unwrap();
        intake.share(Some(IpAddr::from([192, 0, 2, 1])), 4 << 10).await.unwrap();
        held.clear();
        intake.share(Some(IpAddr::from([192, 0, 2, 1])), 8 << 20).await.unwrap();
    }

    /// The kind: what strangers send costs no more than they may cost.
    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_read_to_its_end_for_a_while_only() {
        let intake = Intake::default();
        let left = async |bytes: usize| {
            let mut body = Full::new(Bytes::from(vec![0; bytes]));
            intake.drain(&parts(Some(bytes)), &mut body).await;
            http_body::Body::is_end_stream(&body)
        };
        for _ in 0..16 {
            assert!(left(8 << 20).await);
        }
        assert!(!left(8 << 20).await, "it has had its share");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(left(8 << 20).await);
        assert!(!left(1).await);
    }
}
