//! What a guest must do first when it wakes from a snapshot: learn what time it is, and
//! become unlike its clones.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use nix::libc;
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::time::ClockId;
use nix::{request_code_none, request_code_write};

use crate::error::Error;
use crate::{connections, sockets};

/// Longest entropy that is taken, in bytes.
const MAX_ENTROPY_BYTES: usize = 64;

/// Requests of random(4), as the kernel's `linux/random.h` composes them.
const RNDADDENTROPY: libc::Ioctl = request_code_write!(b'R', 0x03, size_of::<[libc::c_int; 2]>());
const RNDRESEEDCRNG: libc::Ioctl = request_code_none!(b'R', 0x07);

/// `struct rand_pool_info` of random(4) with room for the entropy.
#[repr(C)]
struct RandPoolInfo {
    entropy_bits: libc::c_int,
    buffer_bytes: libc::c_int,
    buffer: [u8; MAX_ENTROPY_BYTES],
}

/// Opened at boot, to have less to do after a restore.
static RANDOM: OnceLock<File> = OnceLock::new();

/// Opens what [`restored`] needs.
pub(crate) fn prepare(app_network: &OwnedFd) -> Result<(), Error> {
    sockets::prepare(app_network).map_err(|source| Error::Network { step: "open sock_diag", source })?;
    let path = "/dev/urandom";
    let file =
        File::options().write(true).open(path).map_err(|source| Error::Read { path: path.into(), source })?;
    // Boot calls this once; a second call would find the same device open.
    let _ = RANDOM.set(file);
    Ok(())
}

/// Sets the clock, reseeds the kernel's random number generator and drops the connections of the
/// former life; without entropy, only the first.
pub(crate) fn restored(peer: &TcpStream, unix_nanos: u64, entropy: &str) -> Result<(), Error> {
    let now = TimeSpec::nanoseconds(unix_nanos as i64);
    ClockId::CLOCK_REALTIME.set_time(now).map_err(|errno| Error::Clock(errno.into()))?;
    if entropy.is_empty() {
        return Ok(());
    }
    reseed(entropy).map_err(Error::Entropy)?;
    connections::drop_all_but(peer);
    if let Err(error) = sockets::abort_outside() {
        // A kernel may lack tcp_diag. The connections are dead anyway; the app learns it later.
        eprintln!("hearth-agent: cannot end the connections of the former life: {error}");
    }
    Ok(())
}

fn reseed(entropy: &str) -> io::Result<()> {
    let random = RANDOM.get().ok_or(io::ErrorKind::NotFound)?;
    let mut info = RandPoolInfo { entropy_bits: 0, buffer_bytes: 0, buffer: [0; MAX_ENTROPY_BYTES] };
    let length = decode_hex(entropy, &mut info.buffer);
    info.entropy_bits = (length * 8) as libc::c_int;
    info.buffer_bytes = length as libc::c_int;
    // SAFETY: `info` has the layout of random(4) and outlives the call;
    // RNDRESEEDCRNG takes no argument.
    let results = unsafe {
        [
            libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const info),
            libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG),
        ]
    };
    if results.contains(&-1) { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Writes the bytes of a hexadecimal text to `bytes`, up to the first digit that is none, and
/// returns their number.
fn decode_hex(text: &str, bytes: &mut [u8]) -> usize {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let mut length = 0;
    for (pair, byte) in text.as_bytes().chunks_exact(2).zip(bytes) {
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { break };
        *byte = high << 4 | low;
        length += 1;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_hexadecimal() {
        let mut bytes = [0; 4];
        assert_eq!(decode_hex("00fF7a", &mut bytes), 3);
        assert_eq!(bytes, [0x00, 0xff, 0x7a, 0]);
        assert_eq!(decode_hex("12zz34", &mut bytes), 1);
        assert_eq!(decode_hex("1122334455", &mut bytes), 4);
    }
}
