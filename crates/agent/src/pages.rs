//! Which pages of a process are its own, and where they are in the guest's memory.

use std::fs::File;
use std::io;
use std::ops::Range;

use hearth_guest_protocol::PageRun;
use hearth_pagemap::Wanted;

/// Unit of everything here; the guest's kernels have no other.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// The page table of a process.
#[derive(Debug)]
pub(crate) struct Pages(File);

impl Pages {
    pub(crate) fn open(number: u32) -> io::Result<Self> {
        File::open(format!("/proc/{number}/pagemap")).map(Self)
    }

    /// Pages between two addresses that are present and belong to no file, in at most `most` runs.
    pub(crate) fn private(&self, start: u64, end: u64, most: usize) -> io::Result<Vec<PageRun>> {
        let mut found: Vec<PageRun> = Vec::new();
        let mut from = start;
        while from < end {
            // This passes over what an app has reserved and never touched; the entries tell all.
            let (ranges, next) = hearth_pagemap::scan(&self.0, from..end, Wanted::Present)?;
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

    /// Frames of the pages in a range.
    fn frames(&self, range: &Range<u64>) -> io::Result<Vec<u64>> {
        let mut entries = vec![0; 8 * ((range.end - range.start) / PAGE_BYTES) as usize];
        let entries = hearth_pagemap::read(&self.0, range.start, PAGE_BYTES, &mut entries)?;
        Ok(entries.map(hearth_pagemap::Entry::frame).collect())
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
