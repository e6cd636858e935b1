//! What a connection to the API waits for, how much it moves, and who uses it: noted without a lock
//! while it is served, looked at when there are too few places.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hearth_data_plane::source_of;
use hearth_identity::ConnectionUser;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Of one connection. Clones share it; one task writes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Bytes from and to the client.
    moved: AtomicU64,
    /// A body is wanted of which nothing has come.
    wants_body: AtomicBool,
    /// An answer has no room to be sent.
    is_untaken: AtomicBool,
    source: AtomicU64,
    user: ConnectionUser,
}

/// Who uses a connection: the account, or where that is not known the address of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    Account(u64),
    Source(u64),
}

impl Progress {
    /// A request begins that came from this address, behind all proxies.
    pub(crate) fn request(&self, source: IpAddr) {
        let number = match source_of(source) {
            // Networks of IPv6 that are in use do not begin with zeros.
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        self.0.source.store(number, Ordering::Relaxed);
        self.0.user.forget();
    }

    /// To be told of the account.
    pub(crate) fn user(&self) -> &ConnectionUser {
        &self.0.user
    }

    /// Of the address that the last request came from.
    pub(crate) fn source(&self) -> u64 {
        self.0.source.load(Ordering::Relaxed)
    }

    pub(crate) fn holder(&self) -> Holder {
        self.0
            .user
            .get()
            .map_or_else(|| Holder::Source(self.source()), |account| Holder::Account(account.get()))
    }

    /// Whether it is the client's turn: the server has asked for more than has come, or sent more
    /// than was taken.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.0.wants_body.load(Ordering::Relaxed) || self.is_untaken()
    }

    /// Whether there is no room for what is to be sent.
    pub(crate) fn is_untaken(&self) -> bool {
        self.0.is_untaken.load(Ordering::Relaxed)
    }

    /// Bytes from and to the client so far.
    pub(crate) fn moved(&self) -> u64 {
        self.0.moved.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, bytes: usize) {
        self.0.moved.store(self.moved() + bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn wants_body(&self, wants: bool) {
        self.0.wants_body.store(wants, Ordering::Relaxed);
    }

    fn set_untaken(&self, is_untaken: bool) {
        self.0.is_untaken.store(is_untaken, Ordering::Relaxed);
    }
}

/// A connection whose bytes are counted, and which fails when its client takes none for too long.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    progress: Progress,
    patience: Duration,
    /// Runs while there is no room for what is to be sent.
    untaken: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    /// `patience` is how long a client may leave no room for what is to be sent.
    pub(crate) fn new(stream: S, progress: Progress, patience: Duration) -> Self {
        Self { stream, progress, patience, untaken: None }
    }

    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.progress.set_untaken(written.is_pending());
        if let Poll::Ready(written) = written {
            self.untaken = None;
            return Poll::Ready(written.inspect(|bytes| self.progress.count(*bytes)));
        }
        let patience = self.patience;
        let untaken = self.untaken.get_or_insert_with(|| Box::pin(sleep(patience)));
        untaken.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.progress.count(buffer.filled().len() - before);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A request's body. It is noted when more of it is wanted than has come.
#[derive(Debug)]
pub(crate) struct Awaited<B> {
    pub(crate) body: B,
    pub(crate) progress: Progress,
}

impl<B: Body + Unpin> Body for Awaited<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.progress.wants_body(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Awaited<B> {
    fn drop(&mut self) {
        self.progress.wants_body(false);
    }
}
