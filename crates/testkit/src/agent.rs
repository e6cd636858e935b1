//! The agent's side of a control channel, for agents inside the test's process.

use std::io;

use async_trait::async_trait;
use hearth_guest_protocol::{Reply, Request, codec};
use hearth_vmm::{GuestChannel, GuestStream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// No agent: nothing listens.
#[derive(Debug, Clone, Copy)]
pub struct NoAgent;

#[async_trait]
impl GuestChannel for NoAgent {
    async fn connect(&self) -> io::Result<Box<dyn GuestStream>> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

/// The host's next request; `None` when it has hung up.
pub async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await.ok()?;
    let mut body = vec![0; codec::frame_length(prefix).unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    Some(serde_json::from_slice(&body).unwrap())
}

/// Sends a reply; an error means that the host has hung up.
pub async fn say(stream: &mut (impl AsyncWrite + Unpin), reply: &Reply) -> io::Result<()> {
    stream.write_all(&codec::encode(reply).unwrap()).await
}
