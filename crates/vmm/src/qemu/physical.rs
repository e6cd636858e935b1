//! Where the guest's physical memory lies in its memory file.

use super::Architecture;

const GIB: u64 = 1 << 30;
/// `q35` moves what does not fit below its devices above 4 GiB: all but 2 GiB of a RAM of 2.75 GiB
/// or more (QEMU's `pc_q35_init`).
const Q35_MOST_BELOW: u64 = 0xb000_0000;
const Q35_BELOW: u64 = 2 * GIB;
const Q35_ABOVE: u64 = 4 * GIB;
/// `virt` has its RAM in one piece from here on (QEMU's `base_memmap`, `VIRT_MEM`).
const VIRT_START: u64 = GIB;

/// Offset in a memory file of `memory_bytes` of what a guest sees at a physical address; `None`
/// where it has no RAM.
pub fn memory_offset(memory_bytes: u64, address: u64) -> Option<u64> {
    offset(Architecture::HOST, memory_bytes, address)
}

fn offset(architecture: Architecture, memory_bytes: u64, address: u64) -> Option<u64> {
    let offset = match architecture {
        Architecture::Aarch64 => address.checked_sub(VIRT_START)?,
        Architecture::X86_64 if memory_bytes < Q35_MOST_BELOW || address < Q35_BELOW => address,
        Architecture::X86_64 => Q35_BELOW.checked_add(address.checked_sub(Q35_ABOVE)?)?,
    };
    (offset < memory_bytes).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_memories_are_in_two_pieces() {
        let x86 = |gib, address| offset(Architecture::X86_64, gib * GIB, address);
        assert_eq!(x86(2, 0x1000), Some(0x1000));
        assert_eq!(x86(2, 2 * GIB), None);
        assert_eq!(x86(8, 2 * GIB - 1), Some(2 * GIB - 1));
        assert_eq!(x86(8, 2 * GIB), None);
        assert_eq!(x86(8, 4 * GIB + 5), Some(2 * GIB + 5));
        assert_eq!(x86(8, 10 * GIB), None);
        assert_eq!(x86(8, u64::MAX), None);
        assert_eq!(offset(Architecture::Aarch64, GIB, GIB + 7), Some(7));
        assert_eq!(offset(Architecture::Aarch64, GIB, 7), None);
    }
}
