//! The checksum of a sparse file: of a base's memory, and of disks.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::{damaged, file_error};
use crate::error::Result;

/// Unit of the digest: large enough for BLAKE3 to use all of the CPU's lanes, small
/// enough to skip holes.
const BLOCK_BYTES: u64 = 1024 * 1024;

/// Checksum of a sparse file: BLAKE3 over the number (64 bits, little-endian) and the BLAKE3 of
/// each block of 1 MiB that is not all zero. It depends on the content only, not on where a
/// file system keeps holes.
pub fn sparse_digest(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(|source| file_error("open", path, source))?;
    let size = file.metadata().map_err(|source| file_error("stat", path, source))?.len();
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BLOCK_BYTES as usize];
    let mut offset = 0;
    while let Some(data) = next_data(&file, path, offset)? {
        let block = data / BLOCK_BYTES;
        let start = block * BLOCK_BYTES;
        let bytes = &mut buffer[..BLOCK_BYTES.min(size - start) as usize];
        file.read_exact_at(bytes, start).map_err(|source| file_error("read", path, source))?;
        if !is_zero(bytes) {
            hasher.update(&block.to_le_bytes());
            hasher.update(blake3::hash(bytes).as_bytes());
        }
        offset = start + BLOCK_BYTES;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Whether all bytes are zero. Compares in blocks, which is several times as fast as byte by byte.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    static ZEROES: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROES.len()).all(|block| *block == ZEROES[..block.len()])
}

/// Refuses a file that does not have this length and [`sparse_digest`].
pub(super) fn check_content(path: &Path, bytes: u64, blake3: &str) -> Result<()> {
    let found = std::fs::metadata(path).map_err(|source| file_error("open", path, source))?.len();
    if found != bytes {
        return Err(damaged(path, format!("it has {found} bytes instead of {bytes}")));
    }
    if sparse_digest(path)? != blake3 {
        return Err(damaged(path, "its checksum is not the one in the manifest"));
    }
    Ok(())
}

/// Position of the first byte at or after `offset` that is not in a hole.
fn next_data(file: &File, path: &Path, offset: u64) -> Result<Option<u64>> {
    seek(file, SeekFrom::Data(offset)).map_err(|error| file_error("seek", path, error))
}

/// Seeks data or a hole; `None` where the file has no more of it (lseek(2)).
pub(super) fn seek(file: &File, position: SeekFrom) -> std::io::Result<Option<u64>> {
    match rustix::fs::seek(file, position) {
        Ok(position) => Ok(Some(position)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_depends_on_content_and_place_but_not_on_holes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::options().create_new(true).read(true).write(true).open(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"kernel", 3 << 20).unwrap();
        file.write_all_at(b"app", (40 << 20) + 17).unwrap();
        let digest = sparse_digest(&path).unwrap();

        file.write_all_at(&[0; 4096], 20 << 20).unwrap();
        assert_eq!(sparse_digest(&path).unwrap(), digest, "zeroes written into a hole");
        file.write_all_at(b"b", (40 << 20) + 17).unwrap();
        assert_ne!(sparse_digest(&path).unwrap(), digest, "another byte");
        file.write_all_at(b"a", (40 << 20) + 17).unwrap();
        assert_eq!(sparse_digest(&path).unwrap(), digest);
    }
}
