//! Superblocks that cannot be true: each word that the file system's crate acts on before it has read the rest.

#[path = "../../../src/fs/disk/superblock.rs"]
mod superblock;

use superblock::{BYTES, PLACE, is_believable};

/// A device of 2 MiB.
const DEVICE: u64 = 2 << 20;

/// A superblock of 2,048 blocks of 1 KiB in one group, but for `changes`: words, and where they are.
fn with(changes: &[(usize, u32)]) -> [u8; BYTES] {
    let mut block = [0; BYTES];
    for &(at, word) in [(0x04, 2048), (0x18, 0), (0x20, 8192), (0x60, 0x2c2)].iter().chain(changes) {
        block[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    block
}

#[test]
fn what_fits_its_device_is_believed() {
    assert_eq!(PLACE, 1024);
    assert!(is_believable(&with(&[]), DEVICE));
    assert!(is_believable(&with(&[(0x18, 6), (0x04, 32)]), DEVICE));
    assert!(is_believable(&with(&[(0x20, 1), (0x04, 1024)]), DEVICE));
}

#[test]
fn what_does_not_is_none() {
    for changes in [
        &[(0x04, 2049)][..],
        &[(0x04, u32::MAX)],
        &[(0x04, u32::MAX), (0x18, 6)],
        // The upper half of the number of blocks.
        &[(0x150, 1)],
        &[(0x18, 1)],
        &[(0x18, 7), (0x04, 1)],
        &[(0x18, u32::MAX), (0x04, 1)],
        // No blocks, and too few, in a group.
        &[(0x20, 0)],
        // A journal that has to be replayed.
        &[(0x60, 0x2c6)],
    ] {
        assert!(!is_believable(&with(changes), DEVICE), "{changes:x?}");
    }
    assert!(!is_believable(&with(&[(0x20, 1), (0x04, 4097)]), u64::MAX), "a group for each of 4,097 blocks");
    assert!(!is_believable(&with(&[]), DEVICE - 1) && !is_believable(&[0; BYTES], DEVICE));
}
