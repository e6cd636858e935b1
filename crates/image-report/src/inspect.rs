//! Puts a report together.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use hearth_guest_protocol::{Inspection, Process, Socket};

use crate::disk::Disk;
use crate::findings::Findings;
use crate::limit::Limit;
use crate::memory::Memory;
use crate::report::{Place, ProcessReport, Report, Search, SocketReport};

/// Beginnings of the names of files that bring random number generators of their own: cryptographic
/// libraries and interpreters.
const GENERATORS: [&str; 12] = [
    "libcrypto.so",
    "libgcrypt.so",
    "libgnutls.so",
    "libnss3.so",
    "libsodium.so",
    "libpython",
    "python3",
    "node",
    "libjvm.so",
    "libruby",
    "perl",
    "libperl.so",
];

/// What a report is made of.
#[derive(Debug)]
pub struct Sources<'a> {
    /// What the guest said of itself right before the snapshot.
    pub inspection: &'a Inspection,
    /// The app's environment.
    pub environment: &'a BTreeMap<String, String>,
    /// Root disk: a file with an ext4 file system.
    pub disk: &'a File,
    /// Memory of the guest.
    pub memory: &'a File,
    /// Offset of a guest-physical address in the memory file.
    pub memory_offset: fn(memory_bytes: u64, address: u64) -> Option<u64>,
    /// How long to search; what is left then is left out, and the report says so.
    pub time: Duration,
}

/// Reads and searches everything; blocks.
pub fn inspect(sources: &Sources<'_>) -> Report {
    let began = Instant::now();
    let limit = Limit::at(began + sources.time);
    let (mut findings, mut search) = (Findings::default(), Search::default());
    for (name, value) in sources.environment {
        // As the process itself has it: some secrets are only known by their names.
        let place = || Place::Environment { name: name.clone() };
        findings.search(format!("{name}={value}").as_bytes(), place);
    }
    let memory = sources.memory.try_clone().and_then(|file| Memory::open(file, sources.memory_offset));
    match &memory {
        Ok(memory) => memory.search(&sources.inspection.processes, limit, &mut findings, &mut search),
        Err(error) => search.left_out.push(format!("The memory could not be read: {error}.")),
    }
    let disk = sources.disk.try_clone().and_then(|file| Disk::open(file, limit));
    match &disk {
        Ok(disk) => disk.search(&mut findings, &mut search),
        Err(error) => search.left_out.push(format!("The root disk could not be read: {error}.")),
    }
    if !sources.inspection.complete {
        search.left_out.push("The guest could not tell of all processes and memory.".to_owned());
    }
    if findings.overflowed {
        search.left_out.push("There are more findings than are listed.".to_owned());
    }
    search.milliseconds = began.elapsed().as_millis() as u64;
    let disk = disk.ok();
    let user =
        |uid: u32| disk.as_ref().and_then(|disk| disk.user_name(uid)).unwrap_or_else(|| uid.to_string());
    let sockets = |sockets: &[Socket]| sockets.iter().map(socket_report).collect();
    Report {
        memory_size_in_bytes: sources.memory.metadata().map_or(0, |file| file.len()),
        disk_allocated_in_bytes: allocated_bytes(sources.disk),
        processes: sources
            .inspection
            .processes
            .iter()
            .map(|process| process_report(process, &user))
            .collect(),
        listening: sockets(&sources.inspection.listening),
        outbound_connections: sockets(&sources.inspection.outbound),
        findings: findings.into_list(),
        search,
    }
}

fn process_report(process: &Process, user: &impl Fn(u32) -> String) -> ProcessReport {
    let names = process.mapped.iter().filter_map(|path| path.rsplit('/').next());
    let known = names.filter(|name| GENERATORS.iter().any(|start| name.starts_with(start)));
    let mut own_random_numbers: Vec<String> = known.map(str::to_owned).collect();
    own_random_numbers.sort();
    own_random_numbers.dedup();
    ProcessReport {
        pid: process.pid,
        user: user(process.uid),
        command: process.command.clone(),
        own_random_numbers,
    }
}

fn socket_report(socket: &Socket) -> SocketReport {
    SocketReport { address: socket.address.clone(), pid: socket.pid }
}

/// Bytes that a sparse file occupies (stat(2): blocks of 512 bytes).
fn allocated_bytes(file: &File) -> u64 {
    file.metadata().map_or(0, |file| file.blocks() * 512)
}

#[cfg(test)]
mod tests;
