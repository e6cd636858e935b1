//! Where a request came from, and who uses the connection that it came over.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hearth_api::AccountId;
use http::request::Parts;

/// Where a request came from; the server puts it into the request's extensions.
#[derive(Debug, Clone)]
pub struct SourceAddress {
    /// Address of the client.
    pub address: IpAddr,
    /// Whether it came over TLS, to a proxy of ours.
    pub secure: bool,
    /// Of the connection that it came over.
    pub user: ConnectionUser,
}

/// The account that uses a connection at present, as far as it is known: for the server, which
/// shares out connections. A number that is written without a lock; clones share it.
#[derive(Debug, Clone, Default)]
pub struct ConnectionUser(Arc<AtomicU64>);

impl ConnectionUser {
    /// A request begins, of nobody knows whom.
    pub fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The signature of the request was verified: it is of this account. To be told of requests
    /// that may last.
    pub fn set(&self, account: &AccountId) {
        let number = account.as_str().parse::<u64>().map_or(0, |number| number + 1);
        self.0.store(number, Ordering::Relaxed);
    }

    /// A number that stands for the account.
    pub fn get(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.0.load(Ordering::Relaxed))
    }
}

impl SourceAddress {
    /// A client that came without TLS.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address: address.ip(), secure: false, user: ConnectionUser::default() }
    }

    /// The address without its port of who sent a request, where the server has noted it.
    pub fn of(parts: &Parts) -> Option<IpAddr> {
        parts.extensions.get::<Self>().map(Self::ip)
    }

    /// The address without its port.
    pub fn ip(&self) -> IpAddr {
        self.address
    }
}
