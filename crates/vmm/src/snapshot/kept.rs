//! A copy of a disk for as long as a guest has not shown that it runs on: it writes to its disk
//! before anybody can know whether it does, and its memory snapshot only fits the disk as it was.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::SeekFrom;

use super::digest::seek;
use super::file_error;
use crate::error::Result;

/// Copies with more data than this, in bytes, are not synced: a guest that is to run waits for it.
const SYNCED_MAX: u64 = 64 << 20;

/// Copies a disk, which nobody may write to meanwhile. The copy appears when it is whole, and
/// synced unless that would take seconds. It shares its blocks with the original where the
/// file system can do that (XFS, Btrfs); elsewhere only what the file has besides holes is
/// copied, within the kernel.
pub fn copy_disk(from: &Path, to: &Path) -> Result<()> {
    let aside = to.with_extension("new");
    let source = File::open(from).map_err(|error| file_error("open", from, error))?;
    let made = copy(&source, &aside).and_then(|()| fs::rename(&aside, to));
    made.map_err(|error| {
        // Half a copy is of no use; what counts is why there is none.
        let _ = fs::remove_file(&aside);
        file_error("copy the disk to", to, error)
    })
}

fn copy(source: &File, to: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let options = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).to_owned();
    let copy = options.open(to)?;
    if rustix::fs::ioctl_ficlone(&copy, source).is_ok() {
        return copy.sync_all();
    }
    let length = source.metadata()?.len();
    copy.set_len(length)?;
    let (mut end, mut copied) = (0, 0);
    while let Some(start) = seek(source, SeekFrom::Data(end))? {
        end = seek(source, SeekFrom::Hole(start))?.unwrap_or(length);
        copy_range(source, &copy, start, end)?;
        copied += end - start;
    }
    if copied <= SYNCED_MAX { copy.sync_all() } else { Ok(()) }
}

fn copy_range(source: &File, copy: &File, start: u64, end: u64) -> std::io::Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let rest = usize::try_from(end - read_at).unwrap_or(usize::MAX);
        let copied =
            rustix::fs::copy_file_range(source, Some(&mut read_at), copy, Some(&mut write_at), rest)?;
        if copied == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    #[test]
    fn a_copy_has_the_content_and_the_holes_of_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let (disk, copied) = (directory.path().join("disk.qcow2"), directory.path().join("disk.kept"));
        let file = File::create(&disk).unwrap();
        file.set_len(1 << 30).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(&vec![7; 300_000], 500 << 20).unwrap();
        copy_disk(&disk, &copied).unwrap();
        let digest = |path| super::super::sparse_digest(path).unwrap();
        assert_eq!(digest(&copied), digest(&disk));
        assert_eq!(fs::metadata(&copied).unwrap().len(), 1 << 30);
        assert!(fs::metadata(&copied).unwrap().blocks() * 512 < 8 << 20, "holes stay holes");

        // What is written to the disk afterwards does not reach the copy, and a
        // second copy replaces it.
        let before = digest(&copied);
        file.write_all_at(b"after", 0).unwrap();
        assert_eq!(digest(&copied), before);
        copy_disk(&disk, &copied).unwrap();
        assert_eq!(digest(&copied), digest(&disk));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left beside it");
    }

    #[test]
    fn a_copy_that_cannot_be_made_leaves_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let copied = directory.path().join("disk.kept");
        fs::write(&copied, b"before").unwrap();
        copy_disk(&directory.path().join("missing"), &copied).unwrap_err();
        assert_eq!(fs::read(&copied).unwrap(), b"before");
    }
}
