//! Changes of nftables' sets (Linux `include/uapi/linux/netfilter/nf_tables.h`), in one
//! transaction each.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBufForce;

use super::{Attributes, Messages, NLM_F_ACK, error_of, messages, open, receive};

/// Subsystem, and types of its messages.
const NFTABLES: u16 = 10 << 8;
const NEW_ELEMENTS: u16 = NFTABLES | 0x0c;
const DELETE_ELEMENTS: u16 = NFTABLES | 0x0e;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NLM_F_CREATE`.
const CREATE: u16 = 0x400;
/// `NFPROTO_INET` and, for the ends of a batch, `AF_UNSPEC` with the subsystem as resource.
const INET: (u8, u16) = (1, 0);
const BATCH: (u8, u16) = (0, 10);
/// Attributes of messages: table, set, elements.
const TABLE: u16 = 1;
const SET: u16 = 2;
const ELEMENTS: u16 = 3;
/// Attributes of elements, and of the values in them.
const LIST_ELEMENT: u16 = 1;
const KEY: u16 = 1;
const DATA: u16 = 2;
const KEY_END: u16 = 10;
const VALUE: u16 = 1;
/// Elements of one message at most: the length of an attribute has 16 bits.
const ELEMENTS_MAX: usize = 500;

/// Buffer for sending: ten thousand elements of some sixty bytes, and the kernel's own use.
const SEND_BYTES: usize = 2 << 20;

/// An element of a set or map. Numbers in keys are in network order, fields of concatenations
/// filled up to four bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Element {
    /// The key, or the first one of a range.
    pub(crate) key: Vec<u8>,
    /// The last key of a range.
    pub(crate) end: Option<Vec<u8>>,
    /// What a map has for it.
    pub(crate) data: Option<Vec<u8>>,
}

impl Element {
    /// A single key.
    pub(crate) fn key(key: Vec<u8>) -> Self {
        Self { key, end: None, data: None }
    }
}

/// Changes of the sets of a table of the family `inet`: all of them are made, or none.
#[derive(Debug)]
pub(crate) struct Transaction {
    table: &'static str,
    messages: Messages,
}

impl Transaction {
    pub(crate) fn of(table: &'static str) -> Self {
        let mut messages = Messages::default();
        messages.push(BATCH_BEGIN, 0, BATCH, |_| ());
        Self { table, messages }
    }

    /// Empties a set.
    pub(crate) fn flush(&mut self, set: &str) {
        let table = self.table;
        self.messages.push(DELETE_ELEMENTS, NLM_F_ACK, INET, |attributes| {
            attributes.push_text(TABLE, table);
            attributes.push_text(SET, set);
        });
    }

    /// Adds elements; those that are there already stay.
    pub(crate) fn add(&mut self, set: &str, elements: &[Element]) {
        self.change(NEW_ELEMENTS, CREATE, set, elements);
    }

    /// Removes elements, which must be there.
    pub(crate) fn remove(&mut self, set: &str, elements: &[Element]) {
        self.change(DELETE_ELEMENTS, 0, set, elements);
    }

    fn change(&mut self, kind: u16, flags: u16, set: &str, elements: &[Element]) {
        let table = self.table;
        for some in elements.chunks(ELEMENTS_MAX) {
            self.messages.push(kind, NLM_F_ACK | flags, INET, |attributes| {
                attributes.push_text(TABLE, table);
                attributes.push_text(SET, set);
                attributes.nest(ELEMENTS, |list| some.iter().for_each(|element| write(list, element)));
            });
        }
    }

    /// Makes the changes. The kernel has made them, or refused them, when this returns.
    pub(crate) fn commit(mut self, socket: &Socket) -> io::Result<()> {
        let answers = self.messages.count() - 1;
        self.messages.push(BATCH_END, 0, BATCH, |_| ());
        self.messages.send(&socket.0)?;
        let mut buffer = vec![0; 16 << 10];
        let mut left = answers;
        let mut outcome = Ok(());
        while left > 0 {
            // The kernel has answered when send(2) returns; after an error perhaps not all.
            let length = match receive(&socket.0, &mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && outcome.is_err() => break,
                length => length?,
            };
            for answer in messages(&buffer[..length]) {
                left = left.saturating_sub(1);
                if let Some(error) = error_of(&answer) {
                    outcome = outcome.and(Err(error));
                }
            }
        }
        outcome
    }
}

fn write(list: &mut Attributes<'_>, element: &Element) {
    list.nest(LIST_ELEMENT, |attributes| {
        attributes.nest(KEY, |key| key.push(VALUE, &element.key));
        if let Some(end) = &element.end {
            attributes.nest(KEY_END, |key| key.push(VALUE, end));
        }
        if let Some(data) = &element.data {
            attributes.nest(DATA, |value| value.push(VALUE, data));
        }
    });
}

/// A socket into the network namespace whose sets are changed.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Opens one into the namespace of the calling thread, in which it stays.
    pub(crate) fn open() -> io::Result<Self> {
        let opened = open()?;
        // A policy's transaction is one datagram.
        setsockopt(&opened, SndBufForce, &SEND_BYTES)?;
        Ok(Self(opened))
    }
}
