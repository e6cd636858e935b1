//! Connections that are looked into, judged by their name.

use std::io;
use std::net::SocketAddrV4;

use hearth_egress_gate::{Judge, Kind as Gated};
use hearth_egress_policy::{Way, domain};
use tokio::net::{TcpSocket, TcpStream};

use super::{Attempt, Guard, Kind, Pin};

fn way(kind: Gated) -> Way {
    match kind {
        Gated::Tls => Way::Tls,
        Gated::Http => Way::Http,
    }
}

impl Judge for Guard {
    /// Only for a name for which the guest has got this address.
    fn allows(&self, kind: Gated, name: Option<&str>, to: SocketAddrV4) -> bool {
        let normalised = name.and_then(domain::normalised);
        let (rule, is_pinned) = {
            let (state, way) = (self.state(), way(kind));
            let pin = Pin { address: *to.ip(), way, port: to.port() };
            let rule = normalised.as_deref().and_then(|name| state.policy.rule_of_name(name, way, to.port()));
            (rule, normalised.as_deref().is_some_and(|name| state.pins.is_of(pin, name)))
        };
        let allowed = rule.is_some() && is_pinned;
        let why = match (name, rule) {
            (None, _) => Some("the connection names no host"),
            (_, Some(_)) if !is_pinned => Some("the address is not one that was found for the name"),
            _ => None,
        };
        let name = normalised.or_else(|| name.map(|name| name.chars().take(256).collect()));
        let attempt = Attempt { kind: Kind::TCP, name, address: Some(*to.ip()), port: to.port(), allowed };
        self.decisions.add(attempt, rule.filter(|_| allowed), why);
        allowed
    }

    async fn connect(&self, to: SocketAddrV4) -> io::Result<TcpStream> {
        let namespace = self.outside.namespace.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let socket = TcpSocket::from_std_stream(self.outside.opener.tcp_socket(namespace).await?);
        socket.set_nodelay(true)?;
        socket.set_keepalive(true)?;
        socket.connect(to.into()).await
    }

    async fn forbidden(&self, kind: Gated, name: &str, to: SocketAddrV4) {
        let mut changed = self.changed.subscribe();
        let name = domain::normalised(name);
        loop {
            let rule =
                name.as_deref().and_then(|name| self.state().policy.rule_of_name(name, way(kind), to.port()));
            if rule.is_none() || changed.changed().await.is_err() {
                return;
            }
        }
    }
}
