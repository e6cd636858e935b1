//! Netlink messages, and the requests that set up the guest's networks (rtnetlink(7)).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use hearth_guest_protocol::HOST_MAC;
use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// Both networks are a /30.
const PREFIX_LENGTH: u8 = 30;
/// Of the kernel's `linux/fib_rules.h`: `FR_ACT_TO_TBL`, `FRA_IIFNAME`,
/// `FRA_PRIORITY`, `FRA_FWMARK`.
const TO_TABLE: u8 = 1;
const RULE_INTERFACE: u16 = 3;
const RULE_PRIORITY: u16 = 6;
const RULE_MARK: u16 = 10;

/// A route netlink socket in the namespace of the thread that opened it.
pub(crate) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { socket: open(SockProtocol::NetlinkRoute)? })
    }

    pub(crate) fn set_up(&mut self, index: u32) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        self.request(libc::RTM_NEWLINK, 0, &link_header(index, up), &[])
    }

    /// Moves an interface to another namespace, where it gets this name.
    pub(crate) fn move_to(&mut self, index: u32, namespace: &OwnedFd, name: &str) -> io::Result<()> {
        let attributes = [
            (libc::IFLA_NET_NS_FD, namespace.as_raw_fd().to_ne_bytes().to_vec()),
            (libc::IFLA_IFNAME, text(name)),
        ];
        self.request(libc::RTM_NEWLINK, 0, &link_header(index, 0), &attributes)
    }

    /// Gives the interface its address, brings it up and enters the host's MAC address.
    pub(crate) fn configure(&mut self, index: u32, guest: [u8; 4], host: [u8; 4]) -> io::Result<()> {
        let family = libc::AF_INET as u8;
        let mut header = vec![family, PREFIX_LENGTH, 0, libc::RT_SCOPE_UNIVERSE];
        header.extend(index.to_ne_bytes());
        let address = [(libc::IFA_LOCAL, guest.to_vec()), (libc::IFA_ADDRESS, guest.to_vec())];
        self.request(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &header, &address)?;
        self.set_up(index)?;
        let mut header = vec![family, 0, 0, 0];
        header.extend(index.to_ne_bytes());
        header.extend(libc::NUD_PERMANENT.to_ne_bytes());
        header.extend([0, 0]);
        let neighbour = [(libc::NDA_DST, host.to_vec()), (libc::NDA_LLADDR, HOST_MAC.to_vec())];
        self.request(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &header, &neighbour)
    }

    /// Adds the default route of one of the first 255 routing tables.
    pub(crate) fn add_default_route(&mut self, table: u8, gateway: [u8; 4]) -> io::Result<()> {
        let family = libc::AF_INET as u8;
        let scope = libc::RT_SCOPE_UNIVERSE;
        let header = [family, 0, 0, 0, table, libc::RTPROT_BOOT, scope, libc::RTN_UNICAST, 0, 0, 0, 0];
        self.request(
            libc::RTM_NEWROUTE,
            libc::NLM_F_CREATE,
            &header,
            &[(libc::RTA_GATEWAY, gateway.to_vec())],
        )
    }

    /// Adds a rule of policy routing that leads to a routing table; lower preferences come first.
    /// With a mark, it is for packets that are made in this namespace and bear that mark.
    pub(crate) fn add_rule(&mut self, preference: u32, mark: Option<u32>, table: u8) -> io::Result<()> {
        let mut attributes = vec![(RULE_PRIORITY, preference.to_ne_bytes().to_vec())];
        if let Some(mark) = mark {
            attributes.push((RULE_MARK, mark.to_ne_bytes().to_vec()));
            attributes.push((RULE_INTERFACE, text("lo")));
        }
        self.request(
            libc::RTM_NEWRULE,
            libc::NLM_F_CREATE | libc::NLM_F_EXCL,
            &rule_header(table),
            &attributes,
        )
    }

    /// Removes a rule that leads to a routing table.
    pub(crate) fn delete_rule(&mut self, preference: u32, table: u8) -> io::Result<()> {
        let preference = (RULE_PRIORITY, preference.to_ne_bytes().to_vec());
        self.request(libc::RTM_DELRULE, 0, &rule_header(table), &[preference])
    }

    /// Sends one message and waits for its acknowledgement.
    fn request(
        &mut self,
        kind: u16,
        flags: libc::c_int,
        header: &[u8],
        attributes: &[(u16, Vec<u8>)],
    ) -> io::Result<()> {
        let mut body = header.to_vec();
        for (number, value) in attributes {
            body.extend(attribute(*number, value));
        }
        exchange(&self.socket, &message(kind, libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags, &body))
    }
}

/// A netlink socket in the namespace of the calling thread.
pub(crate) fn open(protocol: SockProtocol) -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?)
}

/// Sends what is answered by one acknowledgement, and waits for that.
pub(crate) fn exchange(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    send(socket.as_raw_fd(), message, MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    acknowledgement(&answer[..length])
}

/// Puts a `struct nlmsghdr` in front.
pub(crate) fn message(kind: u16, flags: libc::c_int, body: &[u8]) -> Vec<u8> {
    let mut message = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// A `struct nlattr` with its value, padded for the next one.
pub(crate) fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = (4 + value.len() as u16).to_ne_bytes().to_vec();
    attribute.extend(number.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// As the kernel wants text: with a zero at its end.
pub(crate) fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// Reads `struct nlmsgerr`: zero or a negative error number behind the 16 bytes of header.
pub(crate) fn acknowledgement(answer: &[u8]) -> io::Result<()> {
    let number = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match number {
        Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(-number)),
        None => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    }
}

/// `struct ifinfomsg` with one flag to be set.
fn link_header(index: u32, flags: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    header.extend(index.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    header
}

/// `struct fib_rule_hdr` of the kernel's `linux/fib_rules.h`.
fn rule_header(table: u8) -> [u8; 12] {
    [libc::AF_INET as u8, 0, 0, 0, table, 0, 0, TO_TABLE, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_carries_the_error_number() {
        let mut answer = [0; 36];
        assert!(acknowledgement(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        assert_eq!(acknowledgement(&answer).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(acknowledgement(&answer[..10]).is_err());
    }

    #[test]
    fn attributes_are_padded_but_say_their_own_length() {
        assert_eq!(
            attribute(3, &text("lo")),
            [[7_u16, 3].map(u16::to_ne_bytes).concat(), b"lo\0\0".to_vec()].concat()
        );
        assert_eq!(message(16, 1, &[9; 4])[..4], 20_u32.to_ne_bytes());
    }
}
