//! Which pages of a process are its own, as the kernel tells it: by the `PAGEMAP_SCAN` ioctl since
//! Linux 6.7, and by the entries of `/proc/PID/pagemap` (Documentation/admin-guide/mm/pagemap.rst).
//!
//! A page is private that belongs to no file: the copy that was made when somebody wrote to it.
//!
//! Invariant: nothing here reads or writes the pages themselves.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use nix::libc;

/// Ranges that one call of [`scan`] returns at the most.
const RANGES: usize = 2048;
/// Bytes of an entry of a pagemap.
const ENTRY_BYTES: u64 = size_of::<u64>() as u64;

const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;
const IS_ZERO: u64 = 1 << 5;

/// `struct page_region` of `<linux/fs.h>`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg` of `<linux/fs.h>`.
#[repr(C)]
#[derive(Default)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

nix::ioctl_readwrite! {
    /// `PAGEMAP_SCAN` of `<linux/fs.h>`.
    pagemap_scan, b'f', 16, ScanArgument
}

/// Which private pages are looked for. Those that hold nothing but zeros and were never written
/// are never meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Those in memory.
    Present,
    /// Those in memory or swapped out.
    PresentOrSwapped,
}

/// Ranges of private pages among these addresses, and the address up to which was looked: there may
/// be more behind it. `pagemap` is `/proc/PID/pagemap`.
pub fn scan(pagemap: &File, addresses: Range<u64>, wanted: Wanted) -> io::Result<(Vec<Range<u64>>, u64)> {
    let mut regions = vec![PageRegion::default(); RANGES];
    let mut argument = ScanArgument {
        size: size_of::<ScanArgument>() as u64,
        start: addresses.start,
        end: addresses.end,
        vec: regions.as_mut_ptr() as u64,
        vec_len: regions.len() as u64,
        category_inverted: IS_FILE | IS_ZERO,
        category_mask: IS_FILE | IS_ZERO,
        category_anyof_mask: match wanted {
            Wanted::Present => IS_PRESENT,
            Wanted::PresentOrSwapped => IS_PRESENT | IS_SWAPPED,
        },
        ..ScanArgument::default()
    };
    // SAFETY: the argument has the kernel's layout, and there are as many regions as it says; both
    // live and are writable during the call.
    let count = unsafe { pagemap_scan(pagemap.as_raw_fd(), &raw mut argument) }?;
    let ranges = regions[..count as usize].iter().map(|region| region.start..region.end).collect();
    Ok((ranges, argument.walk_end))
}

/// Whether an error of [`scan`] means that this kernel does not know the ioctl.
pub fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL))
}

/// What `/proc/PID/pagemap` says of one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    /// Whether the page is in memory or swapped out, and belongs to no file.
    pub fn is_private(self) -> bool {
        // Bits 63 (present), 62 (swapped) and 61 (of a file, or shared).
        self.0 >> 62 != 0 && self.0 >> 61 & 1 == 0
    }

    /// Number of the page's frame, if it is in memory and the reader may know (CAP_SYS_ADMIN).
    pub fn frame(self) -> u64 {
        self.0 & ((1 << 55) - 1)
    }
}

/// Reads the entries of the pages from this address on, as many as fit in `buffer`, 8 bytes each.
pub fn read<'buffer>(
    pagemap: &File,
    address: u64,
    page_bytes: u64,
    buffer: &'buffer mut [u8],
) -> io::Result<impl Iterator<Item = Entry> + use<'buffer>> {
    pagemap.read_exact_at(buffer, address / page_bytes * ENTRY_BYTES)?;
    Ok(buffer.as_chunks().0.iter().map(|entry| Entry(u64::from_ne_bytes(*entry))))
}

#[cfg(test)]
mod tests {
    use rustix::mm::{MapFlags, ProtFlags};

    use super::*;

    const PAGES: usize = 64;
    const WRITTEN: [usize; 4] = [0, 8, 9, 62];

    /// A private mapping of a file of sevens in this process.
    fn mapping(page_bytes: usize) -> *mut u8 {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![7; PAGES * page_bytes], 0).unwrap();
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let address =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), PAGES * page_bytes, access, flags, &file, 0) };
        address.unwrap().cast()
    }

    #[test]
    fn both_ways_find_the_pages_that_were_written_and_no_others() {
        let page_bytes = rustix::param::page_size();
        let memory = mapping(page_bytes);
        for page in 0..PAGES {
            // SAFETY: the address is in the mapping, which nobody else knows.
            unsafe {
                let byte = memory.add(page * page_bytes);
                if WRITTEN.contains(&page) {
                    byte.write_volatile(9);
                } else {
                    byte.read_volatile();
                }
            }
        }
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let start = memory as u64;
        let mut buffer = vec![0; PAGES * ENTRY_BYTES as usize];
        let entries = read(&pagemap, start, page_bytes as u64, &mut buffer).unwrap();
        let private: Vec<usize> =
            entries.enumerate().filter(|(_, entry)| entry.is_private()).map(|(page, _)| page).collect();
        assert_eq!(private, WRITTEN);

        let end = start + (PAGES * page_bytes) as u64;
        for wanted in [Wanted::Present, Wanted::PresentOrSwapped] {
            let (ranges, looked) = match scan(&pagemap, start..end, wanted) {
                Err(error) if is_unknown(&error) => return eprintln!("skipped: Linux before 6.7"),
                scanned => scanned.unwrap(),
            };
            let page = |address: u64| (address - start) as usize / page_bytes;
            let ranges: Vec<_> = ranges.iter().map(|range| page(range.start)..page(range.end)).collect();
            assert_eq!(ranges, [0..1, 8..10, 62..63], "neighbours are one range");
            assert_eq!(looked, end);
        }
    }
}
