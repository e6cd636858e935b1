//! Packets that rules log (`log group`; Linux `include/uapi/linux/netfilter/nfnetlink_log.h`): the
//! first one of each flow, or of each attempt.
#![allow(unsafe_code)]

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{FAMILY_HEADER, Messages, NLM_F_ACK, attributes, error_of, messages, open, receive};
use crate::guard::{TCP, UDP};

/// Subsystem, and types of its messages.
const LOG: u16 = 4 << 8;
const PACKET: u16 = LOG;
const CONFIGURE: u16 = LOG | 1;
/// Attributes of configurations: a command, and what of packets is wanted.
const COMMAND: u16 = 1;
const MODE: u16 = 2;
/// After how long packets are sent on, in hundredths of a second.
const TIMEOUT: u16 = 4;
const TIMEOUT_HUNDREDTHS: u32 = 10;
/// `NFULNL_CFG_CMD_BIND`, and `NFULNL_COPY_PACKET`.
const BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
/// Attributes of packets.
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;
/// Bytes of a packet that are wanted: the longest IPv4 header, and the ports behind it.
const PACKET_BYTES: u32 = 64;

/// A packet of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logged {
    /// What the rule says of it.
    pub(crate) prefix: String,
    /// Number of the protocol.
    pub(crate) protocol: u8,
    /// Where it goes.
    pub(crate) address: Ipv4Addr,
    /// The port there; 0 of protocols without.
    pub(crate) port: u16,
}

/// Receives the packets of one group of a network namespace.
#[derive(Debug)]
pub(crate) struct FlowLog(AsyncFd<OwnedFd>);

/// Opens a socket for a group of the calling thread's network namespace.
pub(crate) fn open_group(group: u16) -> io::Result<OwnedFd> {
    let opened = open()?;
    let mut configuration = Messages::default();
    // `AF_UNSPEC`, with the group as resource.
    configuration.push(CONFIGURE, NLM_F_ACK, (0, group), |attributes| attributes.push(COMMAND, &[BIND]));
    configuration.push(CONFIGURE, NLM_F_ACK, (0, group), |attributes| {
        let [a, b, c, d] = PACKET_BYTES.to_be_bytes();
        attributes.push(MODE, &[a, b, c, d, COPY_PACKET, 0]);
        attributes.push(TIMEOUT, &TIMEOUT_HUNDREDTHS.to_be_bytes());
    });
    configuration.send(&opened)?;
    let mut buffer = vec![0; 4096];
    let mut answered = 0;
    while answered < configuration.count() {
        let length = receive(&opened, &mut buffer)?;
        for answer in messages(&buffer[..length]).filter(|answer| answer.kind != PACKET) {
            error_of(&answer).map_or(Ok(()), Err)?;
            answered += 1;
        }
    }
    Ok(opened)
}

impl FlowLog {
    /// Watches a socket of [`open_group`].
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` keeps the same descriptor open as long as it lives.
        let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self(watched))
    }

    /// The next packets; `None` when some were lost, as nobody read them in time.
    pub(crate) async fn next(&self, buffer: &mut [u8]) -> io::Result<Option<Vec<Logged>>> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|socket| receive(socket.get_ref(), buffer)) {
                Ok(Ok(length)) => return Ok(Some(messages(&buffer[..length]).filter_map(logged).collect())),
                Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => return Ok(None),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

fn logged(message: super::Received<'_>) -> Option<Logged> {
    if message.kind != PACKET {
        return None;
    }
    let (mut prefix, mut packet) = (None, None);
    for (kind, value) in attributes(message.body.get(FAMILY_HEADER..)?) {
        match kind {
            PREFIX => prefix = Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()),
            PAYLOAD => packet = Some(value),
            _ => {}
        }
    }
    let (protocol, address, port) = destination(packet?)?;
    Some(Logged { prefix: prefix?, protocol, address, port })
}

/// Protocol, address and port that a packet goes to (RFC 791, 3.1; RFC 9293, 3.1; RFC 768).
fn destination(packet: &[u8]) -> Option<(u8, Ipv4Addr, u16)> {
    let head = packet.get(..20).filter(|head| head[0] >> 4 == 4)?;
    let address = Ipv4Addr::new(head[16], head[17], head[18], head[19]);
    let port = match head[9] {
        TCP | UDP => {
            let at = usize::from(head[0] & 0x0f) * 4 + 2;
            let port = packet.get(at..at + 2)?;
            u16::from_be_bytes([port[0], port[1]])
        }
        _ => 0,
    };
    Some((head[9], address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_destination_of_a_packet_is_read_from_its_headers() {
        let mut packet = vec![0; 28];
        packet[0] = 0x45;
        packet[9] = TCP;
        packet[16..20].copy_from_slice(&[192, 0, 2, 1]);
        packet[22..24].copy_from_slice(&443_u16.to_be_bytes());
        let address = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(destination(&packet), Some((TCP, address, 443)));
        packet[9] = 1;
        assert_eq!(destination(&packet), Some((1, address, 0)));
        packet[9] = UDP;
        packet[0] = 0x4f;
        assert_eq!(destination(&packet), None, "the ports are behind what there is");
        packet[0] = 0x65;
        assert_eq!(destination(&packet), None, "not IPv4");
        assert_eq!(destination(&[0x45; 10]), None);
    }
}
