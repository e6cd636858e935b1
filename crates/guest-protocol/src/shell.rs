//! A shell in the app's container: what to start, and the frames that pass to and from it.
//!
//! After the [`crate::Reply::Done`] to a [`crate::Request::Shell`] the connection carries
//! binary frames: one byte that says what it is, the length of the payload as a
//! big-endian `u16`, the payload.

use std::io;

use serde::{Deserialize, Serialize};

/// Bytes of a frame before its payload.
pub const SHELL_HEADER_BYTES: usize = 3;
/// Longest payload, in bytes.
pub const SHELL_PAYLOAD_BYTES: usize = u16::MAX as usize;

const INPUT: u8 = 0;
const RESIZE: u8 = 1;
const END_OF_INPUT: u8 = 2;
const OUTPUT: u8 = 0x80;
const EXITED: u8 = 0x81;

/// What to start as a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellSpec {
    /// Program and arguments; without a slash the first is looked up in the container's PATH. Empty
    /// for bash, or sh in an image that has no bash.
    pub argv: Vec<String>,
    /// What it reads from and writes to.
    pub terminal: Terminal,
}

/// Standard input and output of a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Terminal {
    /// A pseudo-terminal of its own, of size 0×0 until the first resize.
    Pty,
    /// Pipes; standard error goes where standard output does.
    Pipes,
}

/// A frame that the host sends to a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToShell<'a> {
    /// Bytes that were typed, at most [`SHELL_PAYLOAD_BYTES`].
    Input(&'a [u8]),
    /// The size of the window; without a terminal nothing happens.
    Resize {
        /// Characters in a line.
        columns: u16,
        /// Lines.
        rows: u16,
    },
    /// Nothing more will be typed. A terminal has no end of input: there nothing happens.
    EndOfInput,
}

/// A frame that the agent sends from a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromShell {
    /// Bytes that were printed.
    Output(Vec<u8>),
    /// The shell ended; the last frame.
    Exited {
        /// Exit code; 128 + signal number when a signal ended it.
        code: i32,
    },
}

/// The beginning of a frame to a shell, read as it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShellHeader {
    /// So many bytes that were typed follow.
    Input(usize),
    /// [`ToShell::Resize`]; its four bytes follow.
    Resize,
    /// [`ToShell::EndOfInput`].
    EndOfInput,
}

impl ToShell<'_> {
    /// The frame as bytes.
    ///
    /// # Panics
    /// When the input is longer than [`SHELL_PAYLOAD_BYTES`].
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Input(bytes) => frame(INPUT, bytes),
            Self::Resize { columns, rows } => {
                frame(RESIZE, &[columns.to_be_bytes(), rows.to_be_bytes()].concat())
            }
            Self::EndOfInput => frame(END_OF_INPUT, &[]),
        }
    }
}

impl ShellHeader {
    /// Reads a header.
    pub fn parse(header: [u8; SHELL_HEADER_BYTES]) -> io::Result<Self> {
        match (header[0], usize::from(u16::from_be_bytes([header[1], header[2]]))) {
            (INPUT, length) => Ok(Self::Input(length)),
            (RESIZE, 4) => Ok(Self::Resize),
            (END_OF_INPUT, 0) => Ok(Self::EndOfInput),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl FromShell {
    /// The header of a frame with so many bytes of output.
    ///
    /// # Panics
    /// When they are more than [`SHELL_PAYLOAD_BYTES`].
    pub fn output_header(length: usize) -> [u8; SHELL_HEADER_BYTES] {
        header(OUTPUT, length)
    }

    /// [`FromShell::Exited`] as bytes.
    pub fn exited_frame(code: i32) -> Vec<u8> {
        frame(EXITED, &code.to_be_bytes())
    }

    /// The first frame of `received` and its length; `None` when it has not arrived whole.
    pub fn parse(received: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let Some(&[kind, high, low]) = received.first_chunk::<SHELL_HEADER_BYTES>() else { return Ok(None) };
        let end = SHELL_HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
        let Some(payload) = received.get(SHELL_HEADER_BYTES..end) else { return Ok(None) };
        let frame = match kind {
            OUTPUT => Self::Output(payload.to_vec()),
            EXITED => {
                let code = payload.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
                Self::Exited { code: i32::from_be_bytes(code) }
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        Ok(Some((frame, end)))
    }
}

fn header(kind: u8, length: usize) -> [u8; SHELL_HEADER_BYTES] {
    let length = u16::try_from(length).expect("a payload is at most 65,535 bytes long");
    let [high, low] = length.to_be_bytes();
    [kind, high, low]
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&header(kind, payload.len()), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_to_a_shell_begin_with_what_they_are() {
        let begin = |frame: ToShell| ShellHeader::parse(*frame.encode().first_chunk().unwrap()).unwrap();
        assert_eq!(begin(ToShell::Input(b"ls\r")), ShellHeader::Input(3));
        assert_eq!(
            begin(ToShell::Input(&vec![0; SHELL_PAYLOAD_BYTES])),
            ShellHeader::Input(SHELL_PAYLOAD_BYTES)
        );
        assert_eq!(begin(ToShell::EndOfInput), ShellHeader::EndOfInput);
        let resize = ToShell::Resize { columns: 0x0102, rows: 0x0304 };
        assert_eq!(begin(resize), ShellHeader::Resize);
        assert_eq!(resize.encode()[SHELL_HEADER_BYTES..], [1, 2, 3, 4]);
        for wrong in [[9, 0, 0], [RESIZE, 0, 3], [END_OF_INPUT, 0, 1]] {
            assert_eq!(ShellHeader::parse(wrong).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn frames_from_a_shell_are_taken_one_by_one() {
        let mut received =
            [&FromShell::output_header(2)[..], b"hi", &FromShell::exited_frame(-3)[..6]].concat();
        assert_eq!(FromShell::parse(&received).unwrap(), Some((FromShell::Output(b"hi".into()), 5)));
        assert_eq!(FromShell::parse(&received[5..]).unwrap(), None);
        received.push(0xfd);
        let exited = Some((FromShell::Exited { code: -3 }, 7));
        assert_eq!(FromShell::parse(&received[5..]).unwrap(), exited);
        assert_eq!(FromShell::parse(&received[12..]).unwrap(), None);
        for wrong in [[7, 0, 0].as_slice(), &[EXITED, 0, 1, 0]] {
            assert!(FromShell::parse(wrong).is_err());
        }
    }
}
