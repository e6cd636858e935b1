//! Limits of a confined process.

use std::io;
use std::time::Duration;

use rustix::process::Resource;
use serde::{Deserialize, Serialize};

use crate::privileges::limit;

/// What a child may take.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory beyond the program itself. Counted as address space, and where cgroups
    /// allow, as memory used.
    pub memory_bytes: u64,
    /// Seconds of CPU time.
    pub cpu_seconds: u64,
    /// Wall-clock time.
    pub time: Duration,
    /// Length of a file that it writes, in bytes.
    pub written_bytes: u64,
    /// Bytes of the answer.
    pub answer_bytes: usize,
}

/// Descriptors that a child may have open, beside those that it is handed.
const DESCRIPTORS: u64 = 64;

impl Limits {
    /// Puts this process under the limits that the kernel enforces. `processes` is how
    /// many the user may have.
    pub(crate) fn enforce(&self, processes: u64) -> io::Result<()> {
        let address_space = address_space_bytes()?.saturating_add(self.memory_bytes);
        limit([
            (Resource::As, address_space),
            (Resource::Cpu, self.cpu_seconds),
            (Resource::Fsize, self.written_bytes),
            (Resource::Nofile, DESCRIPTORS),
            (Resource::Nproc, processes),
            (Resource::Core, 0),
            (Resource::Memlock, 0),
            (Resource::Msgqueue, 0),
        ])
    }
}

/// What this process has mapped already: the program, in the first place (proc_pid_statm(5)).
fn address_space_bytes() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm
        .split_whitespace()
        .next()
        .and_then(|pages| pages.parse().ok())
        .ok_or_else(|| io::Error::other("/proc/self/statm has no number"))?;
    Ok(pages * rustix::param::page_size() as u64)
}
