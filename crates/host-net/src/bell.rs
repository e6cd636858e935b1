//! Rings when something of the host's network has changed (netlink(7), multicast groups).

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::error::{Error, Result};

/// `NFNLGRP_NFTABLES` of `<linux/netfilter/nfnetlink.h>`, as a bit.
const NFTABLES: u32 = 1 << 6;
/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV4_ROUTE` of `<linux/rtnetlink.h>`.
const LINKS: u32 = 0x1 | 0x10 | 0x40;

/// A subscription to messages of the kernel. What they say is not looked at: that
/// there was one is enough.
#[derive(Debug)]
pub(crate) struct Bell(OwnedFd);

impl Bell {
    /// Of changes to nftables, in the calling thread's network namespace.
    pub(crate) fn of_nftables() -> Result<Self> {
        Self::open(SockProtocol::NetlinkNetFilter, NFTABLES)
    }

    /// Of changes to links, IPv4 addresses and routes, in the calling thread's network namespace.
    pub(crate) fn of_links() -> Result<Self> {
        Self::open(SockProtocol::NetlinkRoute, LINKS)
    }

    fn open(protocol: SockProtocol, groups: u32) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let opened = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).and_then(|bell| {
            bind(bell.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
            Ok(bell)
        });
        opened.map(Self).map_err(|errno| Error::NetlinkSocket(errno.into()))
    }

    /// Whether it has rung since it was asked last.
    pub(crate) fn has_rung(&self) -> bool {
        let mut rung = false;
        let mut message = [0; 512];
        loop {
            match recv(self.0.as_raw_fd(), &mut message, MsgFlags::empty()) {
                Err(Errno::EAGAIN) => return rung,
                // ENOBUFS: more has happened than there was room for.
                Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => rung = true,
                // Nothing that is known of; then every look counts.
                Err(_) => return true,
            }
        }
    }
}
