//! Which pages of a process are its own, and where they are in the guest's memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use hearth_guest_protocol::PageRun;
use nix::libc;
use nix::request_code_readwrite;

/// Unit of everything here; the guest's kernels have no other.
pub(crate) const PAGE_BYTES: u64 = 4096;
/// Ranges that one look returns.
const RANGES: usize = 256;
/// Bytes of an entry of `/proc/PID/pagemap`, whose lowest 55 bits are the frame's number (the
/// kernel's `admin-guide/mm/pagemap.rst`).
const ENTRY_BYTES: u64 = 8;
const FRAME_BITS: u64 = (1 << 55) - 1;

/// `PAGEMAP_SCAN` and its structures, from the kernel's `linux/fs.h`. Unlike reading pagemap it
/// passes over what an app has reserved and never touched.
const PAGEMAP_SCAN: libc::Ioctl = request_code_readwrite!(b'f', 16, size_of::<ScanArgument>());
const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_ZERO: u64 = 1 << 5;

#[repr(C)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    ranges: u64,
    ranges_length: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Range {
    start: u64,
    end: u64,
    categories: u64,
}

/// The page table of a process.
#[derive(Debug)]
pub(crate) struct Pages(File);

impl Pages {
    pub(crate) fn open(number: u32) -> io::Result<Self> {
        File::open(format!("/proc/{number}/pagemap")).map(Self)
    }

    /// Pages between two addresses that are present and belong to no file: at most
    /// so many runs of them.
    pub(crate) fn private(&self, start: u64, end: u64, most: usize) -> io::Result<Vec<PageRun>> {
        let mut found: Vec<PageRun> = Vec::new();
        let mut from = start;
        while from < end {
            let (ranges, next) = self.scan(from, end)?;
            for range in ranges {
                for (frame, page) in self.frames(&range)?.into_iter().zip(range.start / PAGE_BYTES..) {
                    if !append(&mut found, page, frame, most) {
                        return Ok(found);
                    }
                }
            }
            if next <= from {
                break;
            }
            from = next;
        }
        Ok(found)
    }

    /// Ranges with the wanted pages, and where to go on.
    fn scan(&self, start: u64, end: u64) -> io::Result<(Vec<Range>, u64)> {
        let mut ranges = vec![Range::default(); RANGES];
        let mut argument = ScanArgument {
            size: size_of::<ScanArgument>() as u64,
            flags: 0,
            start,
            end,
            walk_end: 0,
            ranges: ranges.as_mut_ptr() as u64,
            ranges_length: RANGES as u64,
            max_pages: 0,
            category_inverted: IS_FILE | IS_ZERO,
            category_mask: IS_PRESENT | IS_FILE | IS_ZERO,
            category_anyof_mask: 0,
            return_mask: IS_PRESENT,
        };
        // SAFETY: the argument has the kernel's layout, and `ranges` has room for as many as it
        // says; both outlive the call.
        let count = unsafe { libc::ioctl(self.0.as_raw_fd(), PAGEMAP_SCAN, &raw mut argument) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        ranges.truncate(count);
        Ok((ranges, argument.walk_end))
    }

    fn frames(&self, range: &Range) -> io::Result<Vec<u64>> {
        let count = (range.end - range.start) / PAGE_BYTES;
        let mut entries = vec![0; (count * ENTRY_BYTES) as usize];
        self.0.read_exact_at(&mut entries, range.start / PAGE_BYTES * ENTRY_BYTES)?;
        let (entries, _) = entries.as_chunks::<{ ENTRY_BYTES as usize }>();
        Ok(entries.iter().map(|entry| u64::from_ne_bytes(*entry) & FRAME_BITS).collect())
    }
}

/// Appends a page to the last run if it follows there in both memories, else begins a run; `false`
/// when there may be no more.
fn append(runs: &mut Vec<PageRun>, page: u64, frame: u64, most: usize) -> bool {
    if let Some(run) = runs.last_mut() {
        let count = u64::from(run.count);
        if (run.page + count, run.frame + count) == (page, frame) {
            run.count += 1;
            return true;
        }
    }
    let room = runs.len() < most;
    if room {
        runs.push(PageRun { page, frame, count: 1 });
    }
    room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_follow_in_both_memories_are_one_run() {
        let mut runs = Vec::new();
        for (page, frame) in [(10, 7), (11, 8), (12, 3), (14, 4)] {
            assert!(append(&mut runs, page, frame, 3));
        }
        let run = |page, frame, count| PageRun { page, frame, count };
        assert_eq!(runs, [run(10, 7, 2), run(12, 3, 1), run(14, 4, 1)]);
        assert!(append(&mut runs, 15, 5, 3));
        assert!(!append(&mut runs, 17, 9, 3));
    }
}
