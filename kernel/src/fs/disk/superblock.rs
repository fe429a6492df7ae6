//! What a superblock says before anybody acts on it.
//!
//! The file system's crate allocates by some of its words before it has read what they speak of, and an allocation that fails stops the
//! machine. So these are looked at first: an image that speaks of more than its device has is none.

/// Where the superblock is, in bytes, and how much of it is looked at.
pub(super) const PLACE: u64 = 1024;
pub(super) const BYTES: usize = 0x154;

/// How many groups a file system may have: some bytes of the heap are taken for each.
const MOST_GROUPS: u64 = 4096;
/// The largest blocks, 64 KiB, as the superblock says them: 1 KiB shifted by so much.
const LARGEST: u32 = 6;
/// Among the features that a driver must know: the journal has to be replayed, by a map of all that is in it.
const NEEDS_RECOVERY: u32 = 4;

/// Whether `superblock` can be true of a device of `bytes`.
pub(super) fn is_believable(superblock: &[u8; BYTES], bytes: u64) -> bool {
    let word = |at: usize| superblock[at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
    let (blocks, blocks_high, log_size, in_group, features) =
        (u64::from(word(0x04)), word(0x150), word(0x18), u64::from(word(0x20)), word(0x60));
    let size = if log_size <= LARGEST { 1024_u64 << log_size } else { return false };
    blocks_high == 0
        && blocks * size <= bytes
        && in_group > 0
        && blocks.div_ceil(in_group) <= MOST_GROUPS
        && features & NEEDS_RECOVERY == 0
}
