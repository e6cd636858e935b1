//! The guest's RAM inside a running VMM process: where it is mapped, which pages are
//! private, and access to them.
//!
//! RAM is a private mapping of the base snapshot's `memory` file. A page that the guest (or we)
//! wrote is an anonymous copy; all others are still the file's. The kernel tells which is which.

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use hearth_pagemap::Wanted;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

/// Entries of a pagemap that are read at once.
const ENTRIES: usize = 32 * 1024;

/// Guest RAM of one process.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    pid: Pid,
    page_size: u64,
    mappings: Vec<Mapping>,
}

/// One piece of the RAM; the kernel may have split the mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mapping {
    address: u64,
    length: u64,
    file_offset: u64,
}

impl GuestMemory {
    /// Finds the mapping of `memory_file` in the process; it must cover `size` bytes.
    pub(crate) fn find(pid: u32, memory_file: &File, size: u64) -> io::Result<Self> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let mappings = parse_maps(&maps, memory_file.metadata()?.ino());
        let covered = mappings.iter().fold(0_u64, |sum, mapping| sum.saturating_add(mapping.length));
        let outside = mappings.iter().any(|mapping| {
            mapping.file_offset.checked_add(mapping.length).is_none_or(|mapped_end| mapped_end > size)
        });
        if covered != size || outside {
            return Err(io::Error::other(format!("{covered} of {size} bytes of guest RAM are mapped")));
        }
        let page_size = rustix::param::page_size() as u64;
        Ok(Self { pid: Pid::from_raw(pid as i32), page_size, mappings })
    }

    /// Process id of the VMM.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Bytes per page.
    pub(crate) fn page_size(&self) -> usize {
        self.page_size as usize
    }

    /// Numbers of the pages that are private to the process, rising.
    pub(crate) fn private_pages(&self) -> io::Result<Vec<u64>> {
        let pagemap = File::open(format!("/proc/{}/pagemap", self.pid))?;
        let mut pages = Vec::new();
        for mapping in &self.mappings {
            let end = mapping.address + mapping.length;
            let ranges = match scan(&pagemap, mapping.address..end) {
                Err(error) if hearth_pagemap::is_unknown(&error) => {
                    read(&pagemap, mapping.address..end, self.page_size)
                }
                scanned => scanned,
            }?;
            for range in ranges {
                let first = (range.start - mapping.address + mapping.file_offset) / self.page_size;
                pages.extend(first..first + (range.end - range.start) / self.page_size);
            }
        }
        Ok(pages)
    }

    /// Reads whole pages into `buffer`, which is as long as they are.
    pub(crate) fn read_pages(&self, pages: &[u64], buffer: &mut [u8]) -> io::Result<()> {
        let remote = self.remote(pages)?;
        let length = process_vm_readv(self.pid, &mut [IoSliceMut::new(buffer)], &remote)?;
        if length == pages.len() * self.page_size() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Writes whole pages from `buffer`.
    pub(crate) fn write_pages(&self, pages: &[u64], buffer: &[u8]) -> io::Result<()> {
        let remote = self.remote(pages)?;
        let length = process_vm_writev(self.pid, &[IoSlice::new(buffer)], &remote)?;
        if length == buffer.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Addresses of the pages; neighbours become one piece.
    fn remote(&self, pages: &[u64]) -> io::Result<Vec<RemoteIoVec>> {
        let mut pieces: Vec<RemoteIoVec> = Vec::with_capacity(pages.len());
        for &page in pages {
            let base = self.address_of(page)? as usize;
            match pieces.last_mut() {
                Some(last) if last.base + last.len == base => last.len += self.page_size(),
                _ => pieces.push(RemoteIoVec { base, len: self.page_size() }),
            }
        }
        Ok(pieces)
    }

    fn address_of(&self, page: u64) -> io::Result<u64> {
        let offset = page * self.page_size;
        self.mappings
            .iter()
            .find(|mapping| (mapping.file_offset..mapping.file_offset + mapping.length).contains(&offset))
            .map(|mapping| mapping.address + offset - mapping.file_offset)
            .ok_or_else(|| io::Error::other(format!("page {page} lies outside of the guest's RAM")))
    }
}

/// Mappings of the file with this inode. The device number is no help: some file systems
/// show another one here.
fn parse_maps(maps: &str, inode: u64) -> Vec<Mapping> {
    let parse = |line: &str| -> Option<Mapping> {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let offset = fields.nth(1)?;
        if fields.nth(1)?.parse::<u64>().ok()? != inode {
            return None;
        }
        let hex = |digits| u64::from_str_radix(digits, 16).ok();
        let address = hex(start)?;
        Some(Mapping { address, length: hex(end)? - address, file_offset: hex(offset)? })
    };
    maps.lines().filter_map(parse).collect()
}

/// Address ranges of private pages, by `PAGEMAP_SCAN`.
fn scan(pagemap: &File, addresses: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut start = addresses.start;
    while start < addresses.end {
        let (found, next) = hearth_pagemap::scan(pagemap, start..addresses.end, Wanted::PresentOrSwapped)?;
        ranges.extend(found);
        start = next;
    }
    Ok(ranges)
}

/// Address ranges of private pages, by reading `/proc/PID/pagemap`.
fn read(pagemap: &File, addresses: Range<u64>, page_size: u64) -> io::Result<Vec<Range<u64>>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut buffer = vec![0; 8 * ENTRIES];
    let mut address = addresses.start;
    while address < addresses.end {
        let entries = ENTRIES.min(((addresses.end - address) / page_size) as usize);
        for entry in hearth_pagemap::read(pagemap, address, page_size, &mut buffer[..8 * entries])? {
            if entry.is_private() {
                match ranges.last_mut() {
                    Some(last) if last.end == address => last.end += page_size,
                    _ => ranges.push(address..address + page_size),
                }
            }
            address += page_size;
        }
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    #![expect(unsafe_code, reason = "a mapping to look at")]

    use std::os::unix::fs::FileExt as _;

    use rustix::mm::{MapFlags, ProtFlags};

    use super::*;

    const PAGES: usize = 64;

    /// A private mapping of a file in this process, which plays the VMM.
    struct PrivateMapping {
        file: File,
        address: *mut u8,
        page_size: usize,
    }

    impl PrivateMapping {
        fn new() -> Self {
            let page_size = rustix::param::page_size();
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&vec![7; PAGES * page_size], 0).unwrap();
            let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
            // SAFETY: a new mapping at an address that the kernel chooses.
            let address =
                unsafe { rustix::mm::mmap(std::ptr::null_mut(), PAGES * page_size, access, flags, &file, 0) };
            Self { file, address: address.unwrap().cast(), page_size }
        }

        fn memory(&self) -> GuestMemory {
            GuestMemory::find(std::process::id(), &self.file, (PAGES * self.page_size) as u64).unwrap()
        }

        fn addresses(&self) -> Range<u64> {
            self.address as u64..self.address as u64 + (PAGES * self.page_size) as u64
        }
    }

    #[test]
    fn written_pages_are_private_and_read_ones_are_not() {
        let mapping = PrivateMapping::new();
        let memory = mapping.memory();
        let mut buffer = vec![0; 2 * mapping.page_size];
        memory.read_pages(&[10, 40], &mut buffer).unwrap();
        assert!(buffer.iter().all(|byte| *byte == 7));
        assert_eq!(memory.private_pages().unwrap(), [0; 0]);

        memory.write_pages(&[3, 4, 63], &vec![9; 3 * mapping.page_size]).unwrap();
        assert_eq!(memory.private_pages().unwrap(), [3, 4, 63]);
        memory.read_pages(&[63, 5], &mut buffer).unwrap();
        assert_eq!((buffer[0], buffer[mapping.page_size]), (9, 7));
        let mut in_file = [0];
        mapping.file.read_exact_at(&mut in_file, 3 * mapping.page_size as u64).unwrap();
        assert_eq!(in_file, [7], "the file stays as it was");
    }

    #[test]
    fn both_ways_to_find_private_pages_agree() {
        let mapping = PrivateMapping::new();
        mapping.memory().write_pages(&[0, 8, 9, 62], &vec![9; 4 * mapping.page_size]).unwrap();
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let read = read(&pagemap, mapping.addresses(), mapping.page_size as u64).unwrap();
        assert_eq!(read.len(), 3, "neighbours are one range");
        match scan(&pagemap, mapping.addresses()) {
            Err(error) if hearth_pagemap::is_unknown(&error) => {
                eprintln!("skipped: this kernel has no PAGEMAP_SCAN");
            }
            scanned => assert_eq!(scanned.unwrap(), read),
        }
    }

    #[test]
    fn pages_outside_and_mappings_of_another_size_are_errors() {
        let mapping = PrivateMapping::new();
        let mut buffer = vec![0; mapping.page_size];
        mapping.memory().read_pages(&[PAGES as u64], &mut buffer).unwrap_err();
        GuestMemory::find(std::process::id(), &mapping.file, 1).unwrap_err();
    }

    #[test]
    fn maps_are_told_apart_by_inode() {
        let maps = "7f0000000000-7f0000200000 rw-p 00100000 fe:00 1234   /memory (deleted)\n\
            7f0000200000-7f0000300000 rw-p 00000000 fe:00 12345 /other\n\
            7ffd00000000-7ffd00001000 rw-p 00000000 00:00 0 [stack]\n";
        let expected = Mapping { address: 0x7f00_0000_0000, length: 0x20_0000, file_offset: 0x10_0000 };
        assert_eq!(parse_maps(maps, 1234), [expected]);
    }
}
