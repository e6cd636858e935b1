//! Messages between the server and the process that fetches: lines of JSON over a Unix socket, with
//! descriptors beside them.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};

use crate::spec::{Failure, Resolved};

/// Longest message, in bytes.
pub(crate) const LONGEST: usize = 64 << 10;
/// Most connections that one fetch may ask the server for.
pub(crate) const MOST_DIALS: usize = 2048;

/// An address that the operator has named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OperatorAddress {
    /// The registry of the specification.
    Registry,
    /// The proxy of the specification.
    Proxy,
}

/// What the process that fetches says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromChild {
    /// It wants a connection to an address of the operator's; the answer is a
    /// [`FromParent::Connection`].
    Dial(OperatorAddress),
    /// The manifest is there; the answer is [`FromParent::Proceed`].
    Resolved(Resolved),
    /// The layout is there.
    Done,
    /// It gave up.
    Failed(Failure),
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromParent {
    /// A connection, as the descriptor beside this, or none.
    Connection,
    /// Fetch the blobs too.
    Proceed,
}

/// Sends one message; the socket is a `SOCK_SEQPACKET`, so that it arrives as a whole.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > LONGEST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let descriptors = descriptor.map(|descriptor| [descriptor.as_raw_fd()]);
    let rights = descriptors.as_ref().map(|descriptors| ControlMessage::ScmRights(descriptors));
    let rights = rights.as_slice();
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&text)], rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one message and the descriptor beside it.
pub(crate) fn receive<T: for<'a> Deserialize<'a>>(
    socket: BorrowedFd<'_>,
) -> io::Result<(T, Option<OwnedFd>)> {
    let mut text = vec![0; LONGEST];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 4]);
    let (length, truncated, descriptors) = {
        let mut parts = [IoSliceMut::new(&mut text)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        let mut descriptors = Vec::new();
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(rights) = message {
                descriptors.extend(rights.into_iter().map(owned));
            }
        }
        let cut = received.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
        (received.bytes, cut, descriptors)
    };
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if truncated || descriptors.len() > 1 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let message = serde_json::from_slice(&text[..length])?;
    Ok((message, descriptors.into_iter().next()))
}

#[expect(unsafe_code, reason = "descriptors of recvmsg(2) come as numbers")]
fn owned(descriptor: std::os::fd::RawFd) -> OwnedFd {
    // SAFETY: recvmsg has made this descriptor for us, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
