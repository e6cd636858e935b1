//! What a guest may say in answer to each request: which replies, and how long each may be.
//!
//! A guest with all rights can replace its agent, so the host believes nothing of what it reads. A
//! frame begins with the name of its kind ([`Reply`](crate::Reply) is tagged, and serde writes the
//! tag first), so that a frame which is too long, or no answer to this request, is refused before
//! the rest of it is read.

use std::io;

use crate::Request;

/// What every frame begins with, up to the name of its kind.
const TAG: &[u8] = br#"{"reply":""#;
/// Bytes of a frame's body that tell its kind: [`TAG`], the longest name and a quotation mark.
pub(super) const KIND_BYTES: usize = 21;

/// Kinds of [`Reply`](crate::Reply), as far as limits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Hello,
    Done,
    Error,
    Listening,
    Exited,
    TimedOut,
    Output,
    Hook,
    Inspection,
    Built,
}

impl Kind {
    #[cfg(test)]
    pub(super) const ALL: [Self; 10] = [
        Self::Hello,
        Self::Done,
        Self::Error,
        Self::Listening,
        Self::Exited,
        Self::TimedOut,
        Self::Output,
        Self::Hook,
        Self::Inspection,
        Self::Built,
    ];

    /// As it stands in the frame.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Done => "done",
            Self::Error => "error",
            Self::Listening => "listening",
            Self::Exited => "exited",
            Self::TimedOut => "timed_out",
            Self::Output => "output",
            Self::Hook => "hook",
            Self::Inspection => "inspection",
            Self::Built => "built",
        }
    }

    /// Bytes that the body of such a frame may have. Pieces of output have 4 KiB in every
    /// agent, which JSON makes six times as long at worst; an error is a sentence, with the
    /// name of a file in it perhaps.
    pub(super) fn limit(self) -> usize {
        match self {
            Self::Done | Self::Exited | Self::TimedOut | Self::Hook => 256,
            // With MAX_LISTENING ports of five digits.
            Self::Hello | Self::Listening => 4 << 10,
            Self::Error => 16 << 10,
            Self::Output => 32 << 10,
            Self::Inspection | Self::Built => crate::codec::MAX_FRAME_BYTES,
        }
    }
}

/// The answers to one request.
#[derive(Debug)]
pub(super) struct Exchange {
    answers: &'static [Kind],
}

impl Exchange {
    /// Of a request; [`Kind::Error`] is an answer to each.
    pub(super) fn of(request: &Request) -> Self {
        let answers: &'static [Kind] = match request {
            Request::Hello => &[Kind::Hello],
            Request::Restored { .. }
            | Request::StartApp { .. }
            | Request::Shell { .. }
            | Request::PrepareSnapshot
            | Request::PowerOff => &[Kind::Done],
            // Answered by one raw byte.
            Request::Forward { .. } => &[],
            Request::WaitListening { .. } => &[Kind::Listening, Kind::Exited, Kind::TimedOut],
            Request::WaitExit => &[Kind::Exited],
            Request::Output { .. } => &[Kind::Output],
            Request::Hook { .. } => &[Kind::Hook],
            Request::Build { .. } => &[Kind::Output, Kind::Built],
            Request::Inspect { .. } => &[Kind::Inspection],
        };
        Self { answers }
    }

    /// Checks the length of a frame's body, and its kind as soon as `beginning`, which is what has
    /// arrived of the body, is long enough to tell.
    pub(super) fn check(&self, length: usize, beginning: &[u8]) -> io::Result<()> {
        let longest = self.answers.iter().map(|kind| kind.limit()).max().unwrap_or(0);
        if length > longest.max(Kind::Error.limit()) {
            return Err(unexpected(&format!("announced {length} bytes where {longest} are the most")));
        }
        let head = &beginning[..beginning.len().min(length)];
        if head.len() < length.min(KIND_BYTES) {
            return Ok(());
        }
        let named = head.strip_prefix(TAG);
        let kind = self.answers.iter().copied().chain([Kind::Error]).find(|kind| {
            let name = kind.name().as_bytes();
            named.is_some_and(|named| named.starts_with(name) && named.get(name.len()) == Some(&b'"'))
        });
        match kind {
            None => Err(unexpected("gave no answer to what it was asked")),
            Some(kind) if length > kind.limit() => {
                Err(unexpected(&format!("sent {length} bytes as an answer of the kind {:?}", kind.name())))
            }
            Some(_) => Ok(()),
        }
    }
}

/// What the guest did, as an error.
pub(super) fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the guest agent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AppState, Hello, HookResult, Inspection, OutputStream, Reply};

    static KINDS: [Kind; Kind::ALL.len()] = Kind::ALL;

    /// A reply of each kind.
    fn replies() -> [Reply; Kind::ALL.len()] {
        [
            Reply::Hello(Hello { protocol: 1, kernel: "6.1".into(), app: AppState::Exited(1) }),
            Reply::Done,
            Reply::Error { message: "no".into() },
            Reply::Listening { port: 80, ports: vec![u16::MAX; crate::MAX_LISTENING] },
            Reply::Exited { code: -1 },
            Reply::TimedOut,
            Reply::Output { position: 1, stream: OutputStream::Stdout, data: "x".into() },
            Reply::Hook(HookResult::Status { code: 200 }),
            Reply::Inspection(Inspection::default()),
            Reply::Built { code: 0, oci_config: String::new(), root_bytes: 1 },
        ]
    }

    #[test]
    fn each_kind_is_known_by_its_first_bytes() {
        for (kind, reply) in Kind::ALL.into_iter().zip(replies()) {
            let body = serde_json::to_vec(&reply).unwrap();
            for asked in Kind::ALL {
                let exchange = Exchange { answers: std::slice::from_ref(&KINDS[asked as usize]) };
                let fits = exchange.check(body.len(), &body).is_ok();
                assert_eq!(fits, asked == kind || kind == Kind::Error, "{reply:?} to {asked:?}");
            }
            assert!(TAG.len() + kind.name().len() < KIND_BYTES, "{kind:?}");
        }
    }

    #[test]
    fn the_longest_piece_of_output_fits() {
        let data = "\u{1}".repeat(4096 + 3);
        let longest = Reply::Output { position: u64::MAX, stream: OutputStream::Stdout, data };
        assert!(serde_json::to_vec(&longest).unwrap().len() <= Kind::Output.limit());
    }

    #[test]
    fn what_is_too_long_is_refused_by_its_announcement_or_its_first_bytes() {
        let asked = Exchange::of(&Request::WaitExit);
        assert!(asked.check(4 << 20, b"").is_err());
        assert!(asked.check(10_000, b"").is_ok(), "it may become an error");
        assert!(asked.check(10_000, br#"{"reply":"exited","code":"#).is_err());
        assert!(asked.check(10_000, br#"{"reply":"error","message"#).is_ok());
        assert!(asked.check(16, br#"{"reply":"done"}"#).is_err());
        assert!(asked.check(2, b"{}").is_err());
        assert!(asked.check(0, b"").is_err());
    }
}
