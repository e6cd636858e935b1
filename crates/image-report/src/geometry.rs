//! What a root disk's superblock claims, looked at before anything is made by its numbers.
//!
//! Form: the kernel's documentation of ext4, "Super Block".

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use ext4_view::Ext4Read;

/// Where the superblock is, and how long.
const SUPERBLOCK: (u64, usize) = (1024, 1024);
const MAGIC: u16 = 0xef53;
/// Blocks are at most this large: 2^16 bytes, the largest that mke2fs makes.
const MOST_BLOCK_BITS: u32 = 16;
/// Fewest blocks of a group that mke2fs makes. With fewer, a small disk has millions of groups.
const FEWEST_BLOCKS_PER_GROUP: u32 = 256;

/// A disk of so many bytes.
#[derive(Debug)]
pub(crate) struct Bounded {
    file: File,
    pub(crate) bytes: u64,
}

impl Bounded {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }

    /// Refuses a superblock that claims what no such disk can have.
    pub(crate) fn check(&self) -> io::Result<()> {
        let mut superblock = [0; SUPERBLOCK.1];
        self.file.read_exact_at(&mut superblock, SUPERBLOCK.0)?;
        let u16_at = |at: usize| u16::from_le_bytes([superblock[at], superblock[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, format!("its {what}")));
        if u16_at(0x38) != MAGIC {
            return wrong("superblock is not one of ext4");
        }
        let block_bits = u32_at(0x18).saturating_add(10);
        if block_bits > MOST_BLOCK_BITS {
            return wrong("blocks are too large");
        }
        // s_blocks_count_lo; the high half counts with the 64bit feature only, and must be
        // zero for disks of ours.
        let blocks = u64::from(u32_at(0x4)) | u64::from(u32_at(0x150)) << 32;
        if blocks > self.bytes >> block_bits {
            return wrong("superblock claims more blocks than the disk has");
        }
        if u32_at(0x20) < FEWEST_BLOCKS_PER_GROUP || u32_at(0x28) == 0 {
            return wrong("block groups are too small");
        }
        if u16_at(0x58) < 128 || u64::from(u16_at(0x58)) > 1 << block_bits {
            return wrong("inodes have no size that inodes can have");
        }
        Ok(())
    }
}

impl Ext4Read for Bounded {
    fn read(
        &mut self,
        start: u64,
        buffer: &mut [u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        Ok(self.file.read_exact_at(buffer, start)?)
    }
}
