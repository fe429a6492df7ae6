//! Random bytes, for `getrandom`, `/dev/random` and what a new program is given.
//!
//! ```text
//!   RDRAND ──┐
//!   counter ─┼─ xor ─> key ──ChaCha20──> bytes
//!   pool ────┘                 └──> the pool of the next key
//! ```
//!
//! They are worth what the CPU's generator is, which QEMU's and KVM's guests have from their host. *Without RDRAND they can be guessed*
//! by who knows about when the machine was started: then only the time-stamp counter makes a difference, and there is no other source.
//! Nothing is estimated, nothing is kept over a boot, and nothing ever waits.
//!
//! # Context
//!
//! Tasks. There is no lock: a pool that two change at once is another one than either meant, and as good.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use x86_64::instructions::random::RdRand;

use crate::arch::cpu;

mod chacha;

/// Words of the pool, and of a key.
const WORDS: usize = 8;
/// How often the CPU is asked before it is taken to have nothing: Intel's advice.
const TRIES: usize = 10;

static POOL: [AtomicU32; WORDS] = [const { AtomicU32::new(0) }; WORDS];
/// Streams that were begun: no two have the same number.
static STREAMS: AtomicU64 = AtomicU64::new(0);

/// Random bytes without an end.
#[derive(Debug)]
pub(crate) struct Stream {
    key: [u32; WORDS],
    stream: u64,
    block: u64,
}

impl Stream {
    /// One that nobody else has.
    pub(crate) fn new() -> Self {
        let key = key();
        let mut stream = Self { key, stream: STREAMS.fetch_add(1, Relaxed), block: 0 };
        // Who learns the pool later does not learn this key.
        let next = stream.next();
        for (word, bytes) in POOL.iter().zip(next.chunks_exact(4)) {
            word.store(bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)), Relaxed);
        }
        stream
    }

    fn next(&mut self) -> [u8; chacha::BLOCK] {
        let halves = |word: u64| [word as u32, (word >> 32) as u32];
        let ([low, high], [first, second]) = (halves(self.block), halves(self.stream));
        self.block += 1;
        chacha::block(&self.key, [low, high, first, second])
    }

    /// Fills `bytes`.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for place in bytes.chunks_mut(chacha::BLOCK) {
            let block = self.next();
            place.copy_from_slice(&block[..place.len()]);
        }
    }
}

/// A key of all that there is.
fn key() -> [u32; WORDS] {
    let generator = RdRand::new();
    let mut counter = cpu::cycles();
    core::array::from_fn(|index| {
        let random = generator.and_then(|generator| (0..TRIES).find_map(|_| generator.get_u64())).unwrap_or(0);
        counter = counter.rotate_left(32);
        POOL[index].load(Relaxed) ^ (random ^ random >> 32 ^ counter) as u32
    })
}
