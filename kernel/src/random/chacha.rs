//! ChaCha20, RFC 8439: a key and a number make 64 bytes that nobody can tell from random ones who does not have the key.
//!
//! Written here, for the crates that have it choose vector registers at run time, by what the CPU has; those are the programs'. On the
//! host it is compared with the RFC's example.

/// Bytes of a block.
pub(super) const BLOCK: usize = 64;

const ROUNDS: usize = 20;
/// The four words before the key: `expand 32-byte k`.
const CONSTANT: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Changes four words by each other.
fn quarter(words: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
    for (first, second, third, bits) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        words[first] = words[first].wrapping_add(words[second]);
        words[third] = (words[third] ^ words[first]).rotate_left(bits);
    }
}

/// The four columns, and then the four diagonals.
const QUARTERS: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];

/// The block of `key` with number `number`: the RFC's counter, and its nonce.
pub(super) fn block(key: &[u32; 8], number: [u32; 4]) -> [u8; BLOCK] {
    let mut start = [0; 16];
    start[..4].copy_from_slice(&CONSTANT);
    start[4..12].copy_from_slice(key);
    start[12..].copy_from_slice(&number);
    let mut words = start;
    for _ in 0..ROUNDS / 2 {
        QUARTERS.into_iter().for_each(|quarter_of| quarter(&mut words, quarter_of));
    }
    let mut bytes = [0; BLOCK];
    for (place, (word, before)) in bytes.chunks_exact_mut(4).zip(words.into_iter().zip(start)) {
        place.copy_from_slice(&word.wrapping_add(before).to_le_bytes());
    }
    bytes
}
