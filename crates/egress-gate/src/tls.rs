//! TLS: the server name of the first message, and then bytes in both directions.

use std::io;
use std::net::SocketAddrV4;

use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{Judge, Kind, PATIENCE, refuse};

/// Longest first message that is waited for. Clients with keys for hybrid exchanges send some two
/// thousand bytes.
const HELLO_BYTES: usize = 16 << 10;
/// A fatal alert `access_denied` (RFC 8446, 6): what clients say of it is clearer than of a reset.
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// What a client has said.
struct Hello {
    name: Option<String>,
    bytes: Vec<u8>,
}

pub(crate) async fn serve<J: Judge>(mut client: TcpStream, to: SocketAddrV4, judge: &J) -> io::Result<()> {
    let hello = timeout(PATIENCE, hello(&mut client)).await??;
    let is_allowed = judge.allows(Kind::Tls, hello.name.as_deref(), to);
    let Some(name) = hello.name.filter(|_| is_allowed) else {
        return refuse(client, &ACCESS_DENIED).await;
    };
    let Ok(Ok(mut server)) = timeout(PATIENCE, judge.connect(to)).await else {
        return refuse(client, &[]).await;
    };
    server.write_all(&hello.bytes).await?;
    tokio::select! {
        copied = copy_bidirectional(&mut client, &mut server) => copied.map(drop),
        () = judge.forbidden(Kind::Tls, &name, to) => refuse(client, &[]).await,
    }
}

/// Reads until the whole first message is there.
async fn hello(client: &mut TcpStream) -> io::Result<Hello> {
    let (mut acceptor, mut bytes) = (Acceptor::default(), Vec::new());
    let mut buffer = vec![0; 4096];
    loop {
        let length = client.read(&mut buffer).await?;
        bytes.extend(&buffer[..length]);
        if length == 0 || bytes.len() > HELLO_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut unread = &buffer[..length];
        while !unread.is_empty() {
            acceptor.read_tls(&mut unread)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                return Ok(Hello { name, bytes });
            }
            Ok(None) => {}
            // No TLS, or without what a server needs: nothing that could be let through by name.
            Err(_) => return Ok(Hello { name: None, bytes }),
        }
    }
}
