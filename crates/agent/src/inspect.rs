//! Looks at the app's processes, their memory and their sockets before a snapshot. What is found
//! there is read on the host; the guest, which may be emulated, only says where it is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use hearth_guest_protocol::{Inspection, Process, Region, Socket};

use crate::pages::{self, PAGE_BYTES};
use crate::sockets;

/// Runs of pages in one answer: at some 40 bytes of JSON each they stay below the longest frame.
const MOST_RUNS: usize = 60_000;
/// Names of mapped files in one answer.
const MOST_MAPPED: usize = 2_000;

/// What is there, or as much of it as can be had in time.
pub(crate) fn inspect(timeout_ms: u64) -> Inspection {
    let deadline = Instant::now() + Duration::from_millis(timeout_ms);
    let mut inspection = Inspection { complete: true, ..Inspection::default() };
    let mut owners = BTreeMap::new();
    let mut room = Room { deadline, runs: MOST_RUNS, mapped: MOST_MAPPED };
    for number in app_processes() {
        // It may end while it is looked at.
        let Ok(process) = process(number, &mut room) else { continue };
        for inode in open_sockets(number) {
            owners.entry(inode).or_insert(process.pid);
        }
        inspection.processes.push(process);
    }
    inspection.processes.sort_by_key(|process| process.pid);
    match sockets::all() {
        Ok(all) => {
            let owner = |inode| owners.get(&inode).copied();
            for socket in &all {
                let found = |address: std::net::SocketAddr| Socket {
                    address: address.to_string(),
                    pid: owner(socket.inode),
                };
                if socket.is_listening() {
                    inspection.listening.push(found(socket.local()));
                } else if socket.is_outbound() {
                    inspection.outbound.push(found(socket.remote()));
                }
            }
        }
        Err(_) => inspection.complete = false,
    }
    inspection.complete &= !room.is_exhausted();
    inspection
}

/// How much more may be said.
struct Room {
    deadline: Instant,
    runs: usize,
    mapped: usize,
}

impl Room {
    fn is_exhausted(&self) -> bool {
        self.runs == 0 || self.mapped == 0 || Instant::now() >= self.deadline
    }
}

/// Processes outside the agent's own PID namespace: the app's, and those of containers in it.
fn app_processes() -> Vec<u32> {
    let own = fs::read_link("/proc/self/ns/pid").ok();
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|number: &u32| fs::read_link(format!("/proc/{number}/ns/pid")).ok() != own).collect()
}

fn process(number: u32, room: &mut Room) -> io::Result<Process> {
    let status = fs::read_to_string(format!("/proc/{number}/status"))?;
    let command = fs::read(format!("/proc/{number}/cmdline"))?;
    let mut process = Process {
        pid: last_number(&status, "NSpid:").unwrap_or(number),
        uid: second_number(&status, "Uid:").unwrap_or_default(),
        command: program(&command),
        mapped: Vec::new(),
        regions: Vec::new(),
    };
    let maps = fs::read_to_string(format!("/proc/{number}/maps"))?;
    let pages = pages::Pages::open(number)?;
    for (start, end, name) in maps.lines().filter_map(mapping) {
        if room.is_exhausted() {
            break;
        }
        if name.starts_with('/') && process.mapped.last().is_none_or(|last| last != name) {
            process.mapped.push(name.to_owned());
            room.mapped -= 1;
        }
        let found = pages.private(start, end, room.runs)?;
        room.runs -= found.len();
        if !found.is_empty() {
            process.regions.push(Region { name: name.to_owned(), pages: found });
        }
    }
    Ok(process)
}

/// Start, end and name of a line of `/proc/PID/maps`; the kernel's own mappings are left out.
fn mapping(line: &str) -> Option<(u64, u64, &str)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    // Permissions, offset, device, inode; a name may contain blanks.
    let name = line.splitn(6, ' ').nth(5).unwrap_or_default().trim_start();
    let ours = start % PAGE_BYTES == 0 && !name.starts_with("[v");
    ours.then_some((start, end, name))
}

/// The first argument without directories.
fn program(command_line: &[u8]) -> String {
    let first = command_line.split(|byte| *byte == 0).next().unwrap_or_default();
    // Some programs write a title with blanks there.
    let first = first.split(|byte| *byte == b' ').next().unwrap_or_default();
    let name = first.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

fn numbers<'a>(status: &'a str, name: &str) -> impl Iterator<Item = u32> + use<'a> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_ascii_whitespace().filter_map(|number| number.parse().ok())
}

fn last_number(status: &str, name: &str) -> Option<u32> {
    numbers(status, name).last()
}

fn second_number(status: &str, name: &str) -> Option<u32> {
    numbers(status, name).nth(1)
}

/// Inodes of the sockets that a process has open.
fn open_sockets(number: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{number}/fd")).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode =
        |link: std::path::PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    links.filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        let heap = "5581e7a5d000-5581e7a7e000 rw-p 00000000 00:00 0                          [heap]";
        assert_eq!(mapping(heap), Some((0x5581_e7a5_d000, 0x5581_e7a7_e000, "[heap]")));
        let file = "7f00-8000 r-xp 00000000 fe:00 12345                      /srv/a file";
        assert_eq!(mapping(file), None, "not on a page");
        let file = "7f000-80000 r-xp 00000000 fe:00 12345                      /srv/a file";
        assert_eq!(mapping(file), Some((0x7f000, 0x80000, "/srv/a file")));
        assert_eq!(mapping("7f000-80000 rw-p 00000000 00:00 0 "), Some((0x7f000, 0x80000, "")));
        assert_eq!(mapping("7ffc1000-7ffc2000 r-xp 00000000 00:00 0    [vdso]"), None);
        let status = "Name:\tperl\nUid:\t0\t33\t0\t0\nNSpid:\t812\t7\n";
        assert_eq!((last_number(status, "NSpid:"), second_number(status, "Uid:")), (Some(7), Some(33)));
    }

    #[test]
    fn a_command_is_named_without_its_arguments() {
        assert_eq!(program(b"/usr/bin/perl\0app.pl\0--token=x\0"), "perl");
        assert_eq!(program(b"nginx: master process /usr/sbin/nginx -g\0"), "nginx:");
        assert_eq!(program(b""), "");
    }

    /// The test's own process, which is none of an app.
    #[test]
    fn memory_and_files_of_a_process_are_found() {
        let mut room =
            Room { deadline: Instant::now() + Duration::from_mins(1), runs: MOST_RUNS, mapped: MOST_MAPPED };
        let own = match process(std::process::id(), &mut room) {
            Ok(own) => own,
            // Guests have a newer kernel than some hosts.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOTTY) => {
                return eprintln!("skipped: this kernel has no PAGEMAP_SCAN (Linux 6.7)");
            }
            Err(error) => panic!("{error}"),
        };
        assert!(own.mapped.iter().any(|file| file.contains("libc.so")), "{:?}", own.mapped);
        assert!(own.command.starts_with("hearth_agent-"), "{}", own.command);
        assert!(!room.is_exhausted());
        let mut none = Room { deadline: Instant::now(), runs: MOST_RUNS, mapped: MOST_MAPPED };
        assert!(process(std::process::id(), &mut none).unwrap().regions.is_empty());
        assert!(none.is_exhausted());
    }
}
