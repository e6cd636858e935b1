//! The host's side of the control channel, on any stream that reaches the agent's port.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

mod exchange;
#[cfg(test)]
mod hostile;
mod incoming;
mod pace;
mod shell;

pub use shell::{Shell, ShellReader, ShellWriter, open_shell};

use self::exchange::{Exchange, KIND_BYTES, unexpected};
use self::incoming::Incoming;
use self::pace::Pace;
use crate::codec::encode;
use crate::{FORWARD_CONNECTED, FORWARD_REFUSED, Reply, Request};

/// Bodies that are longer are parsed on a thread for blocking work.
const PARSED_HERE_BYTES: usize = 64 << 10;

/// Why a request got no usable reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection to the agent broke, or what came was no frame of this protocol.
    #[error("the connection to the guest agent failed")]
    Connection(#[from] io::Error),
    /// The agent could not do what it was asked to do; the text is its own sentence.
    #[error("{0}")]
    Agent(String),
}

/// Sends one request and returns its reply; [`Reply::Error`] comes back as [`ClientError::Agent`].
///
/// With `&mut stream` the connection can be used again: for the next question, or for a
/// [`ForwardStream`]. A peer that says more than was asked is no agent: that is an error, after
/// which the connection is of no use.
pub async fn ask<S>(stream: S, request: &Request) -> Result<Reply, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut replies = Replies::request(stream, request).await?;
    let reply = replies.next().await?;
    if !replies.received.is_empty() {
        return Err(unexpected("said more than it was asked").into());
    }
    reply.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

/// The replies to a request that streams them ([`Request::Output`], [`Request::Build`]).
///
/// Only what answers the request is read, in frames of bounded length and at a bounded pace, and
/// the task gives way to others while it reads. Whatever else comes is an error.
#[derive(Debug)]
pub struct Replies<S> {
    stream: S,
    exchange: Exchange,
    /// Bytes of a frame that has not arrived whole; kept here so that
    /// [`Replies::next`] can be cancelled.
    received: Incoming,
    pace: Pace,
    /// Where the next piece of output begins at the earliest.
    position: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Replies<S> {
    /// Sends the request.
    pub async fn request(mut stream: S, request: &Request) -> Result<Self, ClientError> {
        stream.write_all(&encode(request)?).await?;
        stream.flush().await?;
        let position = if let Request::Output { from } = request { *from } else { 0 };
        let (exchange, received, pace) = (Exchange::of(request), Incoming::default(), Pace::new());
        Ok(Self { stream, exchange, received, pace, position })
    }

    /// The next reply, or `None` when the agent closed the connection after a whole frame.
    /// Cancel-safe, but for replies of more than 64 KiB, after which no other comes.
    pub async fn next(&mut self) -> Result<Option<Reply>, ClientError> {
        // Frames that are in the buffer already are read without waiting for anything else.
        tokio::task::coop::consume_budget().await;
        self.pace.wait().await;
        loop {
            let wanted = match self.frame()? {
                Frame::Whole(end) => return self.parse(end).await.map(Some),
                Frame::Wants(wanted) => wanted,
            };
            if self.received.read(&mut self.stream, wanted).await? == 0 {
                if self.received.is_empty() {
                    return Ok(None);
                }
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// Looks at the first frame that was received.
    fn frame(&self) -> io::Result<Frame> {
        let waiting = self.received.waiting();
        let Some(prefix) = waiting.first_chunk::<4>() else { return Ok(Frame::Wants(4)) };
        let (length, body) = (u32::from_be_bytes(*prefix) as usize, &waiting[4..]);
        self.exchange.check(length, body)?;
        Ok(match body.len() {
            there if there >= length => Frame::Whole(4 + length),
            there if there < KIND_BYTES => Frame::Wants(4 + length.min(KIND_BYTES)),
            _ => Frame::Wants(4 + length),
        })
    }

    /// Takes a frame, which ends at `end`.
    async fn parse(&mut self, end: usize) -> Result<Reply, ClientError> {
        self.pace.count(end);
        let body = &self.received.waiting()[4..end];
        let parsed = if body.len() > PARSED_HERE_BYTES {
            let body = body.to_vec();
            let parse = move || serde_json::from_slice(&body);
            tokio::task::spawn_blocking(parse).await.map_err(io::Error::other)?
        } else {
            serde_json::from_slice(body)
        };
        self.received.take(end);
        match parsed.map_err(io::Error::from)? {
            Reply::Error { message } => Err(ClientError::Agent(message)),
            reply => {
                self.follow(&reply)?;
                Ok(reply)
            }
        }
    }

    /// Output goes on only: whoever counts its bytes can rely on their sum.
    fn follow(&mut self, reply: &Reply) -> io::Result<()> {
        let Reply::Output { position, data, .. } = reply else { return Ok(()) };
        let end = position.checked_add(data.len() as u64).filter(|&end| i64::try_from(end).is_ok());
        match end {
            Some(end) if *position >= self.position => self.position = end,
            _ => {
                return Err(unexpected(&format!(
                    "sent output of position {position} after {}",
                    self.position
                )));
            }
        }
        Ok(())
    }
}

/// A frame in the buffer.
enum Frame {
    /// It ends there.
    Whole(usize),
    /// So many bytes, from its beginning, are needed to know more.
    Wants(usize),
}

/// A connection to a TCP port of the app.
///
/// Through the agent, the request leaves together with the first bytes that are written, or as soon
/// as something is read or flushed; no round trip is spent on it. When nobody listens on the port,
/// the first read fails with [`io::ErrorKind::ConnectionRefused`].
#[derive(Debug)]
pub struct ForwardStream<S> {
    stream: S,
    /// The part of the request's frame that has not been sent.
    unsent: Vec<u8>,
    connected: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ForwardStream<S> {
    /// Makes `stream`, a fresh connection to the agent, a connection to `port` of the app.
    ///
    /// # Panics
    /// Never: the frame of a port number is short.
    pub fn new(stream: S, port: u16) -> Self {
        let unsent = encode(&Request::Forward { port }).expect("a port number fits into a frame");
        Self { stream, unsent, connected: false }
    }

    /// A connection that has reached the app by itself, without the agent.
    pub fn connected(stream: S) -> Self {
        Self { stream, unsent: Vec::new(), connected: true }
    }

    fn poll_send_request(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ForwardStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.connected || buffer.remaining() == 0 {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        ready!(self.poll_send_request(context))?;
        let start = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        match buffer.filled().get(start) {
            Some(&FORWARD_CONNECTED) => {}
            Some(&FORWARD_REFUSED) => return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
            Some(_) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
        self.connected = true;
        // The app's bytes move to where the status was.
        let end = buffer.filled().len();
        buffer.filled_mut().copy_within(start + 1..end, start);
        buffer.set_filled(end - 1);
        if end - 1 > start {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ForwardStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.unsent.is_empty() {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        let this = &mut *self;
        let slices = [io::IoSlice::new(&this.unsent), io::IoSlice::new(bytes)];
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(context, &slices))?;
        let of_request = written.min(this.unsent.len());
        this.unsent.drain(..of_request);
        if written > of_request {
            return Poll::Ready(Ok(written - of_request));
        }
        ready!(this.poll_send_request(context))?;
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_request(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_request(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OutputStream;
    use crate::codec::{frame_length, read_frame};
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

    /// Reads one request as the agent does.
    async fn receive(agent: &mut DuplexStream) -> Request {
        let mut frame = vec![0; 4];
        agent.read_exact(&mut frame).await.unwrap();
        let length = frame_length(frame[..4].try_into().unwrap()).unwrap();
        frame.resize(4 + length, 0);
        agent.read_exact(&mut frame[4..]).await.unwrap();
        read_frame(&mut frame.as_slice()).unwrap()
    }

    #[tokio::test]
    async fn a_question_gets_its_answer_or_the_agents_sentence() {
        let (host, mut agent) = duplex(64);
        let answers = tokio::spawn(async move {
            assert_eq!(receive(&mut agent).await, Request::WaitExit);
            agent.write_all(&encode(&Reply::Exited { code: 3 }).unwrap()).await.unwrap();
        });
        assert_eq!(ask(host, &Request::WaitExit).await.unwrap(), Reply::Exited { code: 3 });
        answers.await.unwrap();

        let (host, mut agent) = duplex(1024);
        let error = Reply::Error { message: "no such disk".into() };
        agent.write_all(&encode(&error).unwrap()).await.unwrap();
        assert_eq!(ask(host, &Request::Hello).await.unwrap_err().to_string(), "no such disk");
    }

    #[tokio::test]
    async fn streamed_replies_end_with_the_connection() {
        let (host, mut agent) = duplex(1024);
        let mut replies = Replies::request(host, &Request::Output { from: 5 }).await.unwrap();
        let line = |position| Reply::Output { position, stream: OutputStream::Stderr, data: "é\n".into() };
        let frames = [encode(&line(5)).unwrap(), encode(&line(8)).unwrap()].concat();
        agent.write_all(&frames).await.unwrap();
        drop(agent);
        assert_eq!(replies.next().await.unwrap(), Some(line(5)));
        assert_eq!(replies.next().await.unwrap(), Some(line(8)));
        assert_eq!(replies.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_frame_that_is_cut_off_is_an_error() {
        let (host, mut agent) = duplex(1024);
        let frame = encode(&Reply::Done).unwrap();
        agent.write_all(&frame[..frame.len() - 1]).await.unwrap();
        drop(agent);
        assert!(matches!(ask(host, &Request::Hello).await, Err(ClientError::Connection(_))));
    }

    #[tokio::test]
    async fn a_forwarded_connection_begins_with_its_first_bytes() {
        // Smaller than the frame, so that writing takes several attempts.
        let (host, mut agent) = duplex(16);
        let agent = tokio::spawn(async move {
            assert_eq!(receive(&mut agent).await, Request::Forward { port: 8080 });
            let mut request = [0; 5];
            agent.read_exact(&mut request).await.unwrap();
            assert_eq!(&request, b"GET /");
            agent.write_all(&[FORWARD_CONNECTED]).await.unwrap();
            agent.write_all(b"answer").await.unwrap();
        });
        let mut app = ForwardStream::new(host, 8080);
        app.write_all(b"GET /").await.unwrap();
        let mut answer = String::new();
        app.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        agent.await.unwrap();
    }

    #[tokio::test]
    async fn reading_sends_the_request_too_and_status_and_bytes_may_come_together() {
        let (host, mut agent) = duplex(64);
        let agent = tokio::spawn(async move {
            assert_eq!(receive(&mut agent).await, Request::Forward { port: 1 });
            agent.write_all(&[&[FORWARD_CONNECTED], b"220 ready".as_slice()].concat()).await.unwrap();
        });
        let mut banner = [0; 9];
        ForwardStream::new(host, 1).read_exact(&mut banner).await.unwrap();
        assert_eq!(&banner, b"220 ready");
        agent.await.unwrap();
    }

    #[tokio::test]
    async fn a_refused_port_is_an_error_of_the_first_read() {
        let (host, mut agent) = duplex(64);
        agent.write_all(&[FORWARD_REFUSED]).await.unwrap();
        let error = ForwardStream::new(host, 1).read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let (host, agent) = duplex(64);
        drop(agent);
        assert!(ForwardStream::new(host, 1).read(&mut [0; 8]).await.is_err());
    }
}
