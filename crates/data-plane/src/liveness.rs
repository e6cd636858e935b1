//! Clients that are gone, or take nothing of what is sent to them.
//!
//! The kernel tells them from those that are silent because nobody has anything to say, as no proxy
//! can: whoever is there acknowledges.

use std::io;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpListener;

/// Shortest time that the kernel takes for its probes.
const PROBE_MIN: Duration = Duration::from_secs(1);

/// Ends a connection that is accepted from now on when for `timeout` its client acknowledges
/// nothing, or has no room for what is to be sent (RFC 5482; Linux, tcp(7): `TCP_USER_TIMEOUT`).
/// A silent one is asked meanwhile whether it is there. Accepted sockets take these options over
/// from the listener's.
pub fn watch_clients(listener: &TcpListener, timeout: Duration) -> io::Result<()> {
    let milliseconds = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(listener, milliseconds)?;
    sockopt::set_tcp_keepidle(listener, (timeout / 2).max(PROBE_MIN))?;
    sockopt::set_tcp_keepintvl(listener, (timeout / 10).max(PROBE_MIN))?;
    sockopt::set_socket_keepalive(listener, true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn accepted_connections_are_watched() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        watch_clients(&listener, Duration::from_mins(5)).unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, _client) = tokio::join!(listener.accept(), connecting);
        let (accepted, _) = accepted.unwrap();
        assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), 300_000);
        assert_eq!(sockopt::tcp_keepidle(&accepted).unwrap(), Duration::from_secs(150));
        assert_eq!(sockopt::tcp_keepintvl(&accepted).unwrap(), Duration::from_secs(30));
        assert!(sockopt::socket_keepalive(&accepted).unwrap());
    }
}
