//! The memory of the app's processes, put together from the guest's.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use hearth_guest_protocol::{PageRun, Process, Region};

use crate::findings::Findings;
use crate::limit::Limit;
use crate::report::{Place, Search};
use crate::secrets::LONGEST_BYTES;

const PAGE_BYTES: u64 = 4096;
/// What is searched at once, in pages.
const PIECE_PAGES: u64 = 4096;

/// A snapshot's memory file.
#[derive(Debug)]
pub(crate) struct Memory {
    file: File,
    bytes: u64,
    /// Where the guest-physical address of a page is in the file.
    offset: fn(memory_bytes: u64, address: u64) -> Option<u64>,
}

impl Memory {
    pub(crate) fn open(file: File, offset: fn(u64, u64) -> Option<u64>) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes, offset })
    }

    /// Searches what each process has for itself.
    pub(crate) fn search(
        &self,
        processes: &[Process],
        limit: Limit,
        findings: &mut Findings,
        search: &mut Search,
    ) {
        for process in processes {
            for region in &process.regions {
                if !self.search_region(process, region, limit, findings, search) {
                    search.left_out.push("Time was over before all memory was searched.".to_owned());
                    return;
                }
            }
        }
    }

    /// Pages that follow each other in the process are searched together, however they lie in the
    /// guest. `false` when time was over before the end.
    fn search_region(
        &self,
        process: &Process,
        region: &Region,
        limit: Limit,
        findings: &mut Findings,
        search: &mut Search,
    ) -> bool {
        let place = || Place::Memory {
            pid: process.pid,
            command: process.command.clone(),
            region: region.name.clone(),
        };
        let (mut piece, mut next_page) = (Vec::new(), None);
        for part in region.pages.iter().flat_map(parts) {
            if limit.is_reached() {
                return false;
            }
            if next_page != Some(part.page) || piece.len() as u64 >= PIECE_PAGES * PAGE_BYTES {
                findings.search(&piece, place);
                let kept = if next_page == Some(part.page) { LONGEST_BYTES.min(piece.len()) } else { 0 };
                piece.drain(..piece.len() - kept);
            }
            if self.append(part, &mut piece).is_err() {
                // The guest says where its pages are, and what it says may be wrong.
                piece.clear();
                next_page = None;
                continue;
            }
            search.memory_bytes += u64::from(part.count) * PAGE_BYTES;
            next_page = Some(part.page + u64::from(part.count));
        }
        findings.search(&piece, place);
        true
    }

    fn append(&self, part: PageRun, piece: &mut Vec<u8>) -> io::Result<()> {
        let length = u64::from(part.count) * PAGE_BYTES;
        let start = part.frame.checked_mul(PAGE_BYTES).and_then(|address| (self.offset)(self.bytes, address));
        let start = start.filter(|start| start.checked_add(length).is_some_and(|end| end <= self.bytes));
        let start = start.ok_or(io::ErrorKind::InvalidInput)?;
        let filled = piece.len();
        piece.resize(filled + length as usize, 0);
        self.file.read_exact_at(&mut piece[filled..], start)
    }
}

/// A run in parts that are not longer than a piece.
fn parts(run: &PageRun) -> impl Iterator<Item = PageRun> + use<> {
    let run = *run;
    (0..u64::from(run.count)).step_by(PIECE_PAGES as usize).map(move |at| PageRun {
        page: run.page.saturating_add(at),
        frame: run.frame.saturating_add(at),
        count: (u64::from(run.count) - at).min(PIECE_PAGES) as u32,
    })
}
