//! Connections into a guest that is none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Open(TcpStream),
    /// To the agent.
    Agent(DuplexStream),
    /// To a port on which nobody listens, which shows on the first read.
    Refused,
    /// Closed by the other side.
    Dead,
}

impl Stream {
    fn open(&mut self) -> Option<Pin<&mut (dyn AsyncWrite + Unpin)>> {
        match self {
            Self::Open(stream) => Some(Pin::new(stream)),
            Self::Agent(stream) => Some(Pin::new(stream)),
            Self::Refused | Self::Dead => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Open(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Agent(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Refused => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
            Self::Dead => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.open() {
            Some(stream) => stream.poll_write(cx, bytes),
            None => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open().map_or(Poll::Ready(Ok(())), |stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open().map_or(Poll::Ready(Ok(())), |stream| stream.poll_shutdown(cx))
    }
}
