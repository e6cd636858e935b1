//! The app's TCP sockets. Connections to other hosts, and those of the endpoint, are ended after a
//! restore: the other side has given them up, or they belong to the microVM that the snapshot was
//! taken of. Reads and writes on them fail with ECONNABORTED.
//!
//! The kernel lists and ends them by sock_diag(7) (its `linux/inet_diag.h`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::libc;
use nix::sys::socket::{MsgFlags, SockProtocol, recv, send};

use crate::endpoint_path::MARK;
use crate::{netlink, network};

/// `TCPDIAG_GETSOCK` of `linux/inet_diag.h` and `SOCK_DESTROY` of `linux/sock_diag.h`.
const GET_TCP: u16 = 18;
const DESTROY: u16 = 21;
/// `TCP_LISTEN` (the kernel's `tcp_states.h`).
const LISTEN: u8 = 10;
/// Bit sets of states: of what is or may become a connection (all but `TIME_WAIT`, `CLOSE` and
/// `LISTEN`), and listening.
const CONNECTED: u32 = 0xfff & !(1 | 1 << 6 | 1 << 7 | LISTENING);
const LISTENING: u32 = 1 << LISTEN;
/// `struct nlmsghdr`; `struct inet_diag_msg`: up to its socket id, that id, up to the inode,
/// and the whole of it.
const HEADER_BYTES: usize = 16;
const MESSAGE_PREFIX_BYTES: usize = 4;
const ID_BYTES: usize = 48;
const INODE_OFFSET: usize = 68;
const MESSAGE_BYTES: usize = 72;
/// `INET_DIAG_MARK`, an attribute behind it; the kernel tells it to whoever may
/// administer the network.
const MARK_ATTRIBUTE: u16 = 15;
const BUFFER_BYTES: usize = 32 << 10;

/// Opened at boot, in the app's network namespace.
static DIAG: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// A TCP socket as the kernel names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tcp {
    family: u8,
    state: u8,
    id: [u8; ID_BYTES],
    mark: u32,
    /// Of the socket's file: `socket:[INODE]` is where links of `/proc/PID/fd` lead.
    pub(crate) inode: u32,
}

/// Opens what [`abort_outside`] needs.
pub(crate) fn prepare(app_network: &OwnedFd) -> io::Result<()> {
    let diag = network::in_namespace(app_network, || netlink::open(SockProtocol::NetlinkSockDiag))??;
    *DIAG.lock().unwrap_or_else(PoisonError::into_inner) = Some(diag);
    Ok(())
}

/// Ends every connection whose other end is outside of the guest.
pub(crate) fn abort_outside() -> io::Result<()> {
    let diag = DIAG.lock().unwrap_or_else(PoisonError::into_inner);
    let diag = diag.as_ref().ok_or(io::ErrorKind::NotConnected)?;
    for socket in
        dump(diag, CONNECTED)?.iter().filter(|socket| socket.is_outbound() || socket.is_of_endpoint())
    {
        destroy(diag, socket)?;
    }
    Ok(())
}

/// Every socket that listens or is connected.
pub(crate) fn all() -> io::Result<Vec<Tcp>> {
    let diag = DIAG.lock().unwrap_or_else(PoisonError::into_inner);
    let diag = diag.as_ref().ok_or(io::ErrorKind::NotConnected)?;
    dump(diag, CONNECTED | LISTENING)
}

fn dump(diag: &OwnedFd, states: u32) -> io::Result<Vec<Tcp>> {
    send(diag.as_raw_fd(), &dump_request(states), MsgFlags::empty())?;
    let (mut buffer, mut found) = (vec![0; BUFFER_BYTES], Vec::new());
    loop {
        let length = recv(diag.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if read_dump(&buffer[..length], &mut found)? {
            return Ok(found);
        }
    }
}

fn destroy(diag: &OwnedFd, socket: &Tcp) -> io::Result<()> {
    match netlink::exchange(diag, &destroy_request(socket)) {
        // The app has closed it meanwhile.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// `struct inet_diag_req`, the older form: one walk through the kernel's tables gives the
/// sockets of both families.
fn dump_request(states: u32) -> Vec<u8> {
    let mut body = vec![0; 4 + ID_BYTES];
    body.extend(states.to_ne_bytes());
    body.extend([0; 4]);
    netlink::message(GET_TCP, libc::NLM_F_REQUEST | libc::NLM_F_DUMP, &body)
}

/// `struct inet_diag_req_v2`.
fn destroy_request(socket: &Tcp) -> Vec<u8> {
    let mut body = vec![socket.family, libc::IPPROTO_TCP as u8, 0, 0];
    body.extend(CONNECTED.to_ne_bytes());
    body.extend(socket.id);
    netlink::message(DESTROY, libc::NLM_F_REQUEST | libc::NLM_F_ACK, &body)
}

/// Takes the sockets out of a part of a dump; whether it was the last part.
fn read_dump(mut part: &[u8], found: &mut Vec<Tcp>) -> io::Result<bool> {
    while let Some(prefix) = part.first_chunk::<4>() {
        let length = u32::from_ne_bytes(*prefix) as usize;
        let kind = part.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
        let body = part.get(HEADER_BYTES..length).ok_or(io::ErrorKind::InvalidData)?;
        match kind.map(i32::from) {
            Some(libc::NLMSG_DONE) => return Ok(true),
            Some(libc::NLMSG_ERROR) => return netlink::acknowledgement(part).map(|()| true),
            _ => found.extend(Tcp::read(body)),
        }
        part = part.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

impl Tcp {
    /// From a `struct inet_diag_msg`.
    fn read(message: &[u8]) -> Option<Self> {
        let id = message.get(MESSAGE_PREFIX_BYTES..)?.first_chunk::<ID_BYTES>()?;
        let inode = message.get(INODE_OFFSET..)?.first_chunk().copied().map(u32::from_ne_bytes)?;
        let mark = mark(message.get(MESSAGE_BYTES..).unwrap_or_default()).unwrap_or_default();
        Some(Self { family: *message.first()?, state: *message.get(1)?, id: *id, mark, inode })
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.state == LISTEN
    }

    /// Whether its other end is another host's. What goes to loopback, or from an address to
    /// itself, stays inside.
    pub(crate) fn is_outbound(&self) -> bool {
        let (from, to) = (self.local().ip(), self.remote().ip());
        !self.is_listening() && !to.is_loopback() && from != to
    }

    /// Whether the endpoint made it, past the agent.
    fn is_of_endpoint(&self) -> bool {
        !self.is_listening() && self.mark == MARK
    }

    pub(crate) fn local(&self) -> SocketAddr {
        SocketAddr::new(self.address(4), u16::from_be_bytes([self.id[0], self.id[1]]))
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.address(20), u16::from_be_bytes([self.id[2], self.id[3]]))
    }

    /// The address that begins at this byte of `struct inet_diag_sockid`.
    fn address(&self, start: usize) -> IpAddr {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.id[start..start + 16]);
        if i32::from(self.family) == libc::AF_INET {
            return Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into();
        }
        let address = Ipv6Addr::from(bytes);
        address.to_ipv4_mapped().map_or(address.into(), IpAddr::from)
    }
}

/// The mark, among attributes.
fn mark(mut attributes: &[u8]) -> Option<u32> {
    while let Some(&[length_low, length_high, number_low, number_high]) = attributes.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([length_low, length_high]));
        if u16::from_ne_bytes([number_low, number_high]) == MARK_ATTRIBUTE {
            return attributes.get(4..length)?.first_chunk().copied().map(u32::from_ne_bytes);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(family: i32, from: &[u8], to: &[u8]) -> Tcp {
        let mut id = [0; ID_BYTES];
        id[4..4 + from.len()].copy_from_slice(from);
        id[20..20 + to.len()].copy_from_slice(to);
        Tcp { family: family as u8, state: 1, id, mark: 0, inode: 0 }
    }

    #[test]
    fn what_stays_inside_the_guest_is_kept() {
        let v4 = |from, to| connection(libc::AF_INET, from, to).is_outbound();
        assert!(!v4(&[127, 0, 0, 1], &[127, 0, 0, 1]));
        assert!(!v4(&[192, 168, 241, 2], &[192, 168, 241, 2]));
        assert!(v4(&[192, 168, 241, 2], &[203, 0, 113, 2]));
        let v6 = |from: &str, to: &str| {
            let bytes = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
            connection(libc::AF_INET6, &bytes(from), &bytes(to)).is_outbound()
        };
        assert!(!v6("::1", "::1"));
        assert!(!v6("::ffff:127.0.0.1", "::ffff:127.0.0.1"));
        assert!(v6("::ffff:192.168.241.2", "::ffff:203.0.113.2"));
        let local = connection(libc::AF_INET, &[127, 0, 0, 1], &[127, 0, 0, 1]);
        assert!(!local.is_of_endpoint() && Tcp { mark: MARK, ..local }.is_of_endpoint());
    }

    #[test]
    fn the_mark_is_among_the_attributes() {
        let other = netlink::attribute(8, &[1]);
        let ours = netlink::attribute(MARK_ATTRIBUTE, &MARK.to_ne_bytes());
        assert_eq!(mark(&[other.clone(), ours].concat()), Some(MARK));
        assert_eq!(mark(&other), None);
        assert_eq!(mark(&[0; 4]), None);
    }

    #[test]
    fn a_dump_is_read_to_its_end() {
        let message = |kind: i32, body: &[u8]| {
            let mut message = ((HEADER_BYTES + body.len()) as u32).to_ne_bytes().to_vec();
            message.extend((kind as u16).to_ne_bytes());
            message.extend([0; 10]);
            message.extend(body);
            message
        };
        let (mut body, mut found) = (vec![0; 72], Vec::new());
        body[0] = libc::AF_INET as u8;
        let socket = message(GET_TCP.into(), &body);
        assert!(!read_dump(&[socket.clone(), socket.clone()].concat(), &mut found).unwrap());
        assert!(read_dump(&message(libc::NLMSG_DONE, &[0; 4]), &mut found).unwrap());
        assert_eq!(found.len(), 2);
        let refused = message(libc::NLMSG_ERROR, &(-libc::ENOENT).to_ne_bytes());
        assert_eq!(read_dump(&refused, &mut found).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert!(read_dump(&socket[..40], &mut found).is_err());
    }

    /// Without the rights to end a connection of this machine, it is at least found and told apart.
    #[test]
    fn the_kernel_lists_connections() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let diag = netlink::open(SockProtocol::NetlinkSockDiag);
        let found = dump(&diag.unwrap(), CONNECTED | LISTENING);
        let found = match found {
            Ok(found) => found,
            // A kernel without tcp_diag.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return,
            Err(error) => panic!("{error}"),
        };
        let find = |address| found.iter().find(|socket| socket.local() == address).unwrap();
        let ours = find(client.local_addr().unwrap());
        assert_eq!(ours.remote(), listener.local_addr().unwrap());
        assert!(!ours.is_listening() && !ours.is_outbound());
        assert!(find(listener.local_addr().unwrap()).is_listening());
    }
}
