//! Lets a guest's connections through by the name that they ask for.
//!
//! An address may be that of many sites, so that a guest has got it for an allowed name does not
//! say that it asks for that one. Connections to such addresses are led here (`redirect` of
//! nftables), by the port either as TLS, whose server name is looked at (RFC 6066, 3), or as HTTP,
//! of which each request's host is (RFC 9112, 3.2). Whatever a guest sends before is bounded in
//! bytes and time.
//!
//! Reading order: [`Judge`], `tls`, `web`.

mod tls;
mod web;

use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::OriginalDst};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections of one guest at a time; more wait.
const CONNECTIONS: usize = 512;
/// How long a guest may take to say what it wants, and a server to take a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Decides about names and connects.
pub trait Judge: Send + Sync + 'static {
    /// Whether a connection to this address may ask for this name; decisions are logged. `None` is
    /// a connection that names none.
    fn allows(&self, kind: Kind, name: Option<&str>, to: SocketAddrV4) -> bool;

    /// Connects to where the guest wanted to.
    fn connect(&self, to: SocketAddrV4) -> impl Future<Output = io::Result<TcpStream>> + Send;

    /// Resolves when a connection that was allowed for this name is no longer.
    fn forbidden(&self, kind: Kind, name: &str, to: SocketAddrV4) -> impl Future<Output = ()> + Send;
}

/// What connections speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// TLS.
    Tls,
    /// HTTP/1.1.
    Http,
}

/// Serves the connections that are led to a listener, which is in the guest's network namespace,
/// until it is dropped; they end with it.
pub async fn serve<J: Judge>(kind: Kind, listener: TcpListener, judge: Arc<J>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors, most likely: do not spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let judge = Arc::clone(&judge);
        connections.spawn(async move {
            let _place = place;
            let served = match destination(&client) {
                Ok(to) if kind == Kind::Tls => tls::serve(client, to, &*judge).await,
                Ok(to) => web::serve(client, to, judge).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::debug!(%error, "a connection of a guest ended");
            }
        });
    }
}

/// Where the guest wanted to go.
fn destination(client: &TcpStream) -> io::Result<SocketAddrV4> {
    let original = getsockopt(client, OriginalDst)?;
    let (address, port) = (u32::from_be(original.sin_addr.s_addr), u16::from_be(original.sin_port));
    Ok(SocketAddrV4::new(address.into(), port))
}

/// Ends a connection with a reset (SO_LINGER of socket(7)), after saying this.
async fn refuse(mut client: TcpStream, last_words: &[u8]) -> io::Result<()> {
    client.write_all(last_words).await?;
    if last_words.is_empty() {
        client.set_zero_linger()?;
    }
    client.shutdown().await
}
