//! Bodies on their way to `s3s`, which takes one that is not as it was signed for a
//! fault of the service.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::TryStreamExt as _;
use hearth_auth::sigv4::sha256_hex;
use hearth_identity::{Intake, SourceAddress, Unread};
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::time::{Instant, Sleep, sleep};

use super::chunks;

/// Bodies up to this length are read and checked here, longer ones as they are stored. The longest
/// document, a CompleteMultipartUpload of 10,000 parts with checksums, has some 3 MB.
const SMALL_BYTES: u64 = 4 << 20;
/// Longest document of an operation that has no limit of its own. So long ones are kept, for
/// operations whose document `s3s` does not know in full.
pub(super) const DOCUMENT_BYTES: usize = 128 << 10;

/// Longest pause between two pieces of a long body. It may take any time otherwise: 5 GB over a
/// slow line are fine.
const PAUSE: Duration = Duration::from_secs(30);

/// Why a body was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoiled {
    /// It ended before its `Content-Length`.
    Incomplete,
    /// It does not have the hash of `x-amz-content-sha256`.
    Mismatch,
    /// A signed chunk of it is longer than can be checked.
    LongChunk,
    /// A long signed chunk of it found no room.
    Busy,
    /// A long signed chunk of it came too slowly.
    Slow,
    /// Nothing of it came for [`PAUSE`].
    Stalled,
}

impl Spoiled {
    /// Status of S3's answer.
    pub(crate) fn status(self) -> StatusCode {
        if self == Self::Busy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST }
    }

    /// Body of S3's answer.
    pub(crate) fn to_xml(self) -> String {
        let (code, message) = match self {
            Self::Incomplete => ("IncompleteBody", "The body of the request ended early."),
            Self::Mismatch => (
                "XAmzContentSHA256Mismatch",
                "The body of the request does not have the hash that x-amz-content-sha256 gives.",
            ),
            Self::LongChunk => {
                ("InvalidRequest", "A signed chunk of the body is longer than 16 MiB; send shorter ones.")
            }
            Self::Busy => ("SlowDown", "Too much is being received; please try again later."),
            Self::Slow => ("RequestTimeout", "The body came too slowly and was cut off."),
            Self::Stalled => (
                "RequestTimeout",
                "Your socket connection to the server was not read from or written to within the timeout period. Idle \
                 connections will be closed.",
            ),
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        )
    }
}

impl From<Unread> for Spoiled {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Busy => Self::Busy,
            Unread::Slow => Self::Slow,
            Unread::Ended | Unread::TooLong(_) => Self::Incomplete,
        }
    }
}

/// Why a long body broke off while `s3s` read it, if it did.
#[derive(Debug, Clone, Default)]
pub(crate) struct BrokeOff(Arc<OnceLock<Spoiled>>);

impl BrokeOff {
    /// Notes why, and makes of it an error that `s3s` takes.
    fn noting(&self) -> impl Fn(Spoiled) -> std::io::Error + Send + 'static {
        let noted = self.clone();
        move |spoiled| {
            // Nothing comes after the first.
            let _ = noted.0.set(spoiled);
            std::io::Error::other("the body is spoiled")
        }
    }

    pub(crate) fn get(&self) -> Option<Spoiled> {
        self.0.get().copied()
    }
}

/// The body of a request that is a short document or an object, in the extensions of the request.
#[derive(Debug, Clone)]
pub(super) struct Document(pub(super) Bytes);

/// Makes a body for `s3s`: a small one is read and checked first.
pub(crate) async fn prepare(
    parts: &mut Parts,
    body: Body,
    intake: &Arc<Intake>,
) -> Result<(s3s::Body, BrokeOff), Spoiled> {
    let broke_off = BrokeOff::default();
    let length =
        parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length <= SMALL_BYTES) {
        let bytes = intake.read(parts, body, SMALL_BYTES as usize).await?.0;
        return match signed_hash(parts) {
            Some(hash) if hash != sha256_hex(&bytes) => Err(Spoiled::Mismatch),
            _ => {
                if bytes.len() <= DOCUMENT_BYTES {
                    parts.extensions.insert(Document(bytes.clone()));
                }
                Ok((s3s::Body::from(bytes), broke_off))
            }
        };
    }
    let note = broke_off.noting();
    let body = Moving::new(body);
    if is_in_chunks(parts) {
        let source = SourceAddress::of(parts);
        let pieces = chunks::bounded(body.into_data_stream(), Arc::clone(intake), source);
        let body = StreamBody::new(pieces.map_err(note).map_ok(Frame::data));
        return Ok((s3s::Body::http_body_unsync(body), broke_off));
    }
    Ok((s3s::Body::http_body_unsync(body.map_err(note)), broke_off))
}

/// A body whose pieces must come within [`PAUSE`] of one another.
struct Moving<B> {
    body: B,
    /// Runs while a piece is waited for.
    pause: Pin<Box<Sleep>>,
    is_waiting: bool,
    /// Nothing comes after an error.
    is_over: bool,
}

impl<B> Moving<B> {
    fn new(body: B) -> Self {
        Self { body, pause: Box::pin(sleep(PAUSE)), is_waiting: false, is_over: false }
    }
}

impl<B: http_body::Body + Unpin> http_body::Body for Moving<B> {
    type Data = B::Data;
    type Error = Spoiled;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Spoiled>>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.is_waiting = false;
            this.is_over = matches!(frame, Some(Err(_)));
            return Poll::Ready(frame.map(|frame| frame.map_err(|_| Spoiled::Incomplete)));
        }
        if !std::mem::replace(&mut this.is_waiting, true) {
            this.pause.as_mut().reset(Instant::now() + PAUSE);
        }
        std::task::ready!(this.pause.as_mut().poll(context));
        this.is_over = true;
        Poll::Ready(Some(Err(Spoiled::Stalled)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn is_in_chunks(parts: &Parts) -> bool {
    let hash = parts.headers.get("x-amz-content-sha256");
    hash.is_some_and(|hash| hash.as_bytes().starts_with(b"STREAMING-"))
}

/// In place of a body that was thrown away: it cannot be taken for an empty one.
pub(crate) fn thrown_away() -> (s3s::Body, BrokeOff) {
    let broke_off = BrokeOff::default();
    let pieces = futures::stream::iter([Err::<Frame<Bytes>, _>(Spoiled::Incomplete)]);
    (s3s::Body::http_body_unsync(StreamBody::new(pieces.map_err(broke_off.noting()))), broke_off)
}

/// In place of a body that is left where it is.
pub(crate) fn unread() -> (s3s::Body, BrokeOff) {
    (s3s::Body::empty(), BrokeOff::default())
}

/// The hash of the whole body that was signed; the header may also say that there is none,
/// or one of each chunk.
fn signed_hash(parts: &Parts) -> Option<&str> {
    const HEX_DIGITS: usize = 64;
    let value = parts.headers.get("x-amz-content-sha256")?.to_str().ok()?;
    (value.len() == HEX_DIGITS && value.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(value)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use http_body_util::BodyDataStream;

    use super::*;

    /// The kind: an upload without a deadline. Its pieces may come slowly, as long as they come.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_is_cut_and_a_slow_one_is_not() {
        for hash in ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"] {
            let pieces = futures::stream::unfold(0, |number: u32| async move {
                let pause = if number < 200 { PAUSE * 9 / 10 } else { Duration::MAX };
                sleep(pause).await;
                let piece = if number == 0 { "100000\r\n" } else { "x" };
                Some((Ok::<_, std::io::Error>(piece), number + 1))
            });
            let request = http::Request::builder().header("x-amz-content-sha256", hash);
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            let body = Body::from_stream(Box::pin(pieces));
            let (body, broke_off) = prepare(&mut parts, body, &Arc::default()).await.unwrap();
            let came: Vec<_> = BodyDataStream::new(body).take(1000).collect().await;
            assert!(came.len() > 200 && came.last().unwrap().is_err(), "{came:?}");
            assert_eq!(broke_off.get(), Some(Spoiled::Stalled), "{hash}");
        }
    }
}
