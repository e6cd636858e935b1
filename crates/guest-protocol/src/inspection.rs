//! What the agent sees of the app before its snapshot is taken.

use serde::{Deserialize, Serialize};

/// Answer to [`Request::Inspect`](crate::Request::Inspect).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// The app's processes, in the order of their numbers.
    pub processes: Vec<Process>,
    /// TCP sockets that listen.
    pub listening: Vec<Socket>,
    /// TCP connections that do not stay inside the guest.
    pub outbound: Vec<Socket>,
    /// Whether all of it is there; if not, time or room for an answer was over.
    pub complete: bool,
}

/// A process of the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Number, as the app sees it.
    pub pid: u32,
    /// Effective user id.
    pub uid: u32,
    /// First argument, without directories: further ones may be secret.
    pub command: String,
    /// Files that it has mapped.
    pub mapped: Vec<String>,
    /// Memory of its own.
    pub regions: Vec<Region>,
}

/// A range of a process's memory (a line of `/proc/PID/maps`, proc(5)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// `[heap]`, `[stack]`, the file that it was mapped from, or nothing.
    pub name: String,
    /// Pages that belong to this process alone or to those that it was forked from, in the
    /// order of their addresses.
    pub pages: Vec<PageRun>,
}

/// Pages that follow each other both in the process's and in the guest's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRun {
    /// Number of the first page in the process: its address divided by 4096.
    pub page: u64,
    /// Number of the first page in the guest's physical memory.
    pub frame: u64,
    /// How many.
    pub count: u32,
}

/// A TCP socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// `ADDRESS:PORT`: its own if it listens, else the other end's.
    pub address: String,
    /// A process that has it open.
    pub pid: Option<u32>,
}
