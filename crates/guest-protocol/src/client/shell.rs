//! The host's side of a shell.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::incoming::Incoming;
use super::{ClientError, Replies};
use crate::{FromShell, Reply, Request, SHELL_HEADER_BYTES, SHELL_PAYLOAD_BYTES, ShellSpec, ToShell};

/// Starts a shell on `stream`, a connection to the agent that is used up by it; the
/// two directions of it.
pub async fn open_shell<S>(stream: S, spec: &ShellSpec) -> Result<Shell<S>, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut replies = Replies::request(stream, &Request::Shell { shell: spec.clone() }).await?;
    match replies.next().await? {
        Some(Reply::Done) => {
            let (read, write) = tokio::io::split(replies.stream);
            // The shell may have printed something already.
            Ok((ShellWriter { stream: write }, ShellReader { stream: read, received: replies.received }))
        }
        Some(_) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
        None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

/// The two directions of a shell.
pub type Shell<S> = (ShellWriter<S>, ShellReader<S>);

/// What is typed to a shell.
#[derive(Debug)]
pub struct ShellWriter<S> {
    stream: WriteHalf<S>,
}

/// What a shell prints.
#[derive(Debug)]
pub struct ShellReader<S> {
    stream: ReadHalf<S>,
    /// Bytes of a frame that has not arrived whole.
    received: Incoming,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ShellWriter<S> {
    /// Sends a frame; waits while the shell takes no more.
    pub async fn send(&mut self, frame: ToShell<'_>) -> io::Result<()> {
        self.stream.write_all(&frame.encode()).await?;
        self.stream.flush().await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ShellReader<S> {
    /// The next frame; `None` when the connection broke before the shell's end. Cancel-safe.
    pub async fn next(&mut self) -> io::Result<Option<FromShell>> {
        // Frames that are in the buffer already are read without waiting for anything else.
        tokio::task::coop::consume_budget().await;
        loop {
            if let Some((frame, length)) = FromShell::parse(self.received.waiting())? {
                self.received.take(length);
                return Ok(Some(frame));
            }
            let longest = SHELL_HEADER_BYTES + SHELL_PAYLOAD_BYTES;
            if self.received.read(&mut self.stream, longest).await? == 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Terminal;
    use crate::codec::encode;
    use tokio::io::duplex;

    const SPEC: ShellSpec = ShellSpec { argv: Vec::new(), terminal: Terminal::Pty };

    #[tokio::test]
    async fn what_comes_right_behind_the_reply_is_kept() {
        let (host, mut agent) = duplex(1024);
        let frames = [
            encode(&Reply::Done).unwrap(),
            FromShell::output_header(2).to_vec(),
            b"$ ".to_vec(),
            FromShell::exited_frame(7),
        ];
        agent.write_all(&frames.concat()).await.unwrap();
        let (mut writer, mut reader) = open_shell(host, &SPEC).await.unwrap();
        assert_eq!(reader.next().await.unwrap(), Some(FromShell::Output(b"$ ".to_vec())));
        assert_eq!(reader.next().await.unwrap(), Some(FromShell::Exited { code: 7 }));
        writer.send(ToShell::Input(b"x")).await.unwrap();
        drop(agent);
        assert_eq!(reader.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_shell_that_cannot_be_started_says_why() {
        let (host, mut agent) = duplex(1024);
        let error = Reply::Error { message: "the image has neither bash nor sh".into() };
        agent.write_all(&encode(&error).unwrap()).await.unwrap();
        let error = open_shell(host, &SPEC).await.unwrap_err();
        assert_eq!(error.to_string(), "the image has neither bash nor sh");
        let (host, agent) = duplex(1024);
        drop(agent);
        assert!(matches!(open_shell(host, &SPEC).await, Err(ClientError::Connection(_))));
    }
}
