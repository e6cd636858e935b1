//! The error of this crate.

use std::io;
use std::path::PathBuf;

use crate::cidr::Ipv4Cidr;

/// What can go wrong, by step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The instance's name cannot be part of an nftables name.
    #[error("instance name {0:?} is not 1 to 32 of a-z, 0-9 and _")]
    InvalidInstance(String),
    /// `nft` is not installed or cannot be run.
    #[error("nft (package nftables) could not be run")]
    NftNotRun(#[source] io::Error),
    /// `nft` refused a rule set.
    #[error("nft refused the rules of {scope}: {output}")]
    NftRefused {
        /// Where the rules were to go.
        scope: &'static str,
        /// What `nft` printed.
        output: String,
    },
    /// A file under `/proc/sys` could not be written.
    #[error("could not set {}", path.display())]
    Sysctl {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A network namespace could not be made or opened.
    #[error("could not make a network namespace")]
    Namespace(#[source] io::Error),
    /// A TAP device could not be made.
    #[error("could not make the TAP device {name}")]
    Tap {
        /// Its name inside the namespace.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused what a policy needs.
    #[error("could not hold a network to its egress policy")]
    Policy(#[source] io::Error),
    /// A netlink socket could not be opened.
    #[error("could not open a netlink socket")]
    NetlinkSocket(#[source] io::Error),
    /// The kernel refused a netlink request.
    #[error("could not {step}")]
    Netlink {
        /// What was to be done.
        step: String,
        /// Why.
        source: rtnetlink::Error,
    },
    /// A network interface is missing.
    #[error("network interface {0} is gone")]
    NoInterface(String),
    /// The relay's sockets could not be opened.
    #[error("could not open the sockets of the DNS relay")]
    Resolver(#[source] io::Error),
    /// Every address pair of the range is taken.
    #[error("no unused address pair is left in {0}")]
    RangeExhausted(Ipv4Cidr),
    /// A thread of this crate could not be started or ended early.
    #[error("a network thread failed")]
    Thread(#[source] io::Error),
    /// [`crate::HostNet::shutdown`] has been called.
    #[error("the host network is shut down")]
    ShutDown,
}

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
