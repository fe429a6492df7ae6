//! Which buffers of one size are taken: a bit for each, set by whoever takes it.
//!
//! Contexts: task, interrupt and NMI: one locked instruction, no lock.

use crate::sync::{AtomicU64, Ordering};

/// Words of bits.
const WORDS: usize = 16;
/// The most buffers of one size.
pub(super) const MOST: usize = WORDS * BITS;
const BITS: usize = u64::BITS as usize;

/// A bit for each buffer. Those that there are not stay taken for ever.
#[derive(Debug)]
pub(super) struct Taken([AtomicU64; WORDS]);

impl Taken {
    /// All of them: there are none yet.
    #[cfg(not(all(loom, test)))]
    pub(super) const fn new() -> Self {
        Self([const { AtomicU64::new(u64::MAX) }; WORDS])
    }

    /// Says that there are `count` of them, all free. Before anybody takes one.
    pub(super) fn free_first(&self, count: usize) {
        for (word, bits) in self.0.iter().enumerate() {
            let here = count.saturating_sub(word * BITS).min(BITS);
            // Release: whoever takes one sees where they lie.
            bits.store(u64::MAX.checked_shl(here as u32).unwrap_or(0), Ordering::Release);
        }
    }

    /// Takes one, if one is free.
    #[inline]
    pub(super) fn take(&self) -> Option<usize> {
        take_bit(&self.0[0]).or_else(|| self.take_behind())
    }

    /// Takes one that is not among the first.
    #[cold]
    fn take_behind(&self) -> Option<usize> {
        let mut words = self.0.iter().enumerate().skip(1);
        words.find_map(|(word, bits)| Some(word * BITS + take_bit(bits)?))
    }

    /// Gives number `index` back. For whoever has it.
    pub(super) fn give(&self, index: usize) {
        if let Some(bits) = self.0.get(index / BITS) {
            // Release: what its last user did with the buffer comes before what the next one does.
            bits.fetch_and(!(1 << (index % BITS)), Ordering::Release);
        }
    }

    pub(super) fn is_taken(&self, index: usize) -> bool {
        self.0.get(index / BITS).is_some_and(|bits| bits.load(Ordering::Relaxed) >> (index % BITS) & 1 == 1)
    }

    /// How many of the first `count` are taken, by counting.
    pub(super) fn count(&self, count: usize) -> usize {
        let set: u32 = self.0.iter().map(|bits| bits.load(Ordering::Relaxed).count_ones()).sum();
        (set as usize).saturating_sub(MOST - count)
    }
}

/// Sets a bit that was clear. None if all are set.
#[inline]
fn take_bit(bits: &AtomicU64) -> Option<usize> {
    loop {
        let free = (!bits.load(Ordering::Relaxed)).trailing_zeros();
        if free == u64::BITS {
            return None;
        }
        // Acquire: pairs with the Release of `give`, and of `free_first`.
        if bits.fetch_or(1 << free, Ordering::Acquire) & (1 << free) == 0 {
            return Some(free as usize);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{MOST, Taken};

    #[test]
    fn each_is_taken_once_and_again_when_it_was_given_back() {
        for count in [0, 1, 63, 64, 65, 300, MOST] {
            let taken = Taken::new();
            taken.free_first(count);
            assert_eq!(taken.count(count), 0);
            let all: Vec<usize> = core::iter::from_fn(|| taken.take()).collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
            assert_eq!(taken.count(count), count);
            for index in all.iter().copied().step_by(7) {
                taken.give(index);
                assert!(!taken.is_taken(index));
                assert_eq!((taken.take(), taken.take()), (Some(index), None));
            }
        }
    }
}

/// Models of several CPUs that take and give, checked by loom in every order (`--cfg loom`).
#[cfg(all(loom, test))]
mod models;
