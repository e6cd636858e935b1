//! Reports the bytes between the endpoint and the app.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hearth_node::Life;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::limits::{AppPermit, Usage};

/// A connection to an app that reports every byte in either direction as traffic.
///
/// When the app takes no more, what is written is thrown away instead of being an error: the app
/// may have answered before the request was complete, and the answer is still to be read. That
/// there is none shows there.
#[derive(Debug)]
pub(crate) struct Counted<L: Life> {
    stream: L::Stream,
    running: L,
    usage: Arc<Usage>,
    takes_more: bool,
    /// The right to be one of the connections that there may be.
    _permit: AppPermit,
    reading: Rest,
    writing: Rest,
}

/// The time before which a direction moves nothing, as the microVM has had more than its share.
#[derive(Debug, Default)]
struct Rest(Option<Pin<Box<Sleep>>>);

impl Rest {
    fn take(&mut self, duration: Duration) {
        if !duration.is_zero() {
            self.0 = Some(Box::pin(sleep(duration)));
        }
    }

    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(rest) = &mut self.0 {
            ready!(rest.as_mut().poll(context));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

impl<L: Life> Counted<L> {
    pub(crate) fn new(stream: L::Stream, running: L, usage: Arc<Usage>, permit: AppPermit) -> Self {
        Self {
            stream,
            running,
            usage,
            takes_more: true,

            _permit: permit,
            reading: Rest::default(),
            writing: Rest::default(),
        }
    }

    /// Counts bytes; how long their direction must rest.
    fn count(&self, bytes: u64) -> Duration {
        self.running.traffic(bytes);
        self.usage.bytes(bytes)
    }

    /// How much of `length` bytes was written or thrown away.
    fn written(&mut self, written: io::Result<usize>, length: usize) -> usize {
        match written {
            Ok(written) => {
                let rest = self.count(written as u64);
                self.writing.take(rest);
                written
            }
            Err(error) => {
                tracing::debug!(%error, "the app takes no more");
                self.takes_more = false;
                length
            }
        }
    }
}

impl<L: Life> AsyncRead for Counted<L> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.reading.poll_over(context));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        let rest = self.count(read as u64);
        self.reading.take(rest);
        Poll::Ready(Ok(()))
    }
}

impl<L: Life> AsyncWrite for Counted<L> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.takes_more {
            ready!(self.writing.poll_over(context));
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
            return Poll::Ready(Ok(self.written(written, bytes.len())));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.takes_more {
            ready!(self.writing.poll_over(context));
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
            return Poll::Ready(Ok(self.written(written, length)));
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.takes_more {
            return Poll::Ready(Ok(()));
        }
        let done = ready!(Pin::new(&mut self.stream).poll_flush(context));
        self.takes_more &= done.is_ok();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = ready!(Pin::new(&mut self.stream).poll_shutdown(context));
        Poll::Ready(if self.takes_more { done } else { Ok(()) })
    }
}
