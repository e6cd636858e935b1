//! Netlink messages of netfilter (Linux `include/uapi/linux/netfilter/nfnetlink.h`), as far as
//! running microVMs need them: changes of sets, and the packets that rules log.
//!
//! Rule sets themselves are written in nft's language and loaded by it, when a namespace is made.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

pub(crate) mod flow_log;
pub(crate) mod sets;

/// Length of `struct nlmsghdr` and of `struct nfgenmsg`.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;
/// Set in the type of an attribute that has attributes.
const NESTED: u16 = 0x8000;
/// Flags of requests (`linux/netlink.h`).
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
/// Type of the kernel's answers.
const NLMSG_ERROR: u16 = 2;

/// Opens a socket into the network namespace of the calling thread, in which it stays.
pub(crate) fn open() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let opened = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
    bind(opened.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(opened)
}

/// Messages that are sent together.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    count: u32,
}

impl Messages {
    /// Adds a message of this type to an address family and resource (`res_id`), with the
    /// attributes that `fill` adds. Its sequence number is how many there were before.
    pub(crate) fn push(
        &mut self,
        kind: u16,
        flags: u16,
        (family, resource): (u8, u16),
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.bytes.len();
        self.bytes.resize(start + 4, 0);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        fill(&mut Attributes(&mut self.bytes));
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.count += 1;
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Sends them as one datagram.
    pub(crate) fn send(&self, to: &OwnedFd) -> io::Result<()> {
        // A message that does not fit the socket's buffer is refused as a whole (EMSGSIZE).
        send(to.as_raw_fd(), &self.bytes, MsgFlags::empty())?;
        Ok(())
    }
}

/// Attributes of a message, or inside of another one.
#[derive(Debug)]
pub(crate) struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    /// One with these bytes.
    pub(crate) fn push(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// One with a text, which ends with a zero.
    pub(crate) fn push_text(&mut self, kind: u16, text: &str) {
        self.push(kind, &[text.as_bytes(), &[0]].concat());
    }

    /// One with attributes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend((kind | NESTED).to_ne_bytes());
        fill(&mut Attributes(self.0));
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// A message that was received: its type, and what follows the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// The messages of a datagram; what is not whole is left out.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(number(datagram, 0)?).ok()?;
        let message = datagram.get(..length).filter(|_| length >= HEADER)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        Some(Received { kind, sequence: number(message, 8)?, body: &message[HEADER..] })
    })
}

/// Types and values of attributes.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & !NESTED;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Receives one datagram. `WouldBlock` when there is none.
pub(crate) fn receive(from: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(from.as_raw_fd(), buffer, MsgFlags::empty())?)
}

/// The error that an answer of the kernel tells; `None` if it is an acknowledgement or something
/// else.
fn error_of(answer: &Received<'_>) -> Option<io::Error> {
    let code = number(answer.body, 0).filter(|_| answer.kind == NLMSG_ERROR)?.cast_signed();
    (code != 0).then(|| io::Error::from_raw_os_error(-code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut sent = Messages::default();
        sent.push(7, NLM_F_ACK, (2, 0x102), |attributes| {
            attributes.push_text(1, "name");
            attributes.nest(2, |inner| inner.push(3, &[1, 2, 3]));
        });
        sent.push(8, 0, (1, 0), |_| ());
        let read: Vec<_> = messages(&sent.bytes).collect();
        assert_eq!((read.len(), read[0].kind, read[1].kind, read[1].sequence), (2, 7, 8, 1));
        assert_eq!(read[0].body[..FAMILY_HEADER], [2, 0, 1, 2]);
        let found: Vec<_> = attributes(&read[0].body[FAMILY_HEADER..]).collect();
        assert_eq!(found[0], (1, &b"name\0"[..]));
        assert_eq!(attributes(found[1].1).collect::<Vec<_>>(), [(3, &[1, 2, 3][..])]);
    }

    #[test]
    fn what_is_not_whole_is_left_out() {
        for bytes in [&[][..], &[1], &[200, 0, 0, 0, 1, 1], &[4, 0, 0, 0], &[0; 40]] {
            assert_eq!(messages(bytes).next(), None, "{bytes:?}");
        }
        for bytes in [&[][..], &[9, 0, 1, 0], &[3, 0, 1, 0], &[0; 8]] {
            assert_eq!(attributes(bytes).next(), None, "{bytes:?}");
        }
    }
}
