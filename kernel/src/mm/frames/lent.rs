//! Frames that are mapped a second time, at addresses of the vmalloc's, by whoever has them: each once at a time.
//!
//! A bit for each frame up to the last one that is memory; registers of devices that lie between have one, too. What lies above has none, and may be
//! mapped as often as one likes.
//!
//! # Context
//!
//! Any: no lock.

use core::slice;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use vmstack::PhysAddr;

use super::number;

/// The bits, and how many words they are.
static LENT: (AtomicPtr<AtomicU64>, AtomicUsize) = (AtomicPtr::new(core::ptr::null_mut()), AtomicUsize::new(0));

/// Keeps the bits in `table` from here on.
pub(super) fn init(table: &'static mut [u64]) {
    table.fill(0);
    LENT.0.store(table.as_mut_ptr().cast(), Ordering::Relaxed);
    LENT.1.store(table.len(), Ordering::Release);
}

fn words() -> &'static [AtomicU64] {
    let (words, length) = (LENT.0.load(Ordering::Relaxed), LENT.1.load(Ordering::Acquire));
    if length == 0 {
        return &[];
    }
    // SAFETY: `init` stored a table of that many words, which is used through atomics alone from then on, and never freed.
    unsafe { slice::from_raw_parts(words, length) }
}

fn bit_of(frame: PhysAddr) -> (Option<&'static AtomicU64>, u64) {
    let number = number(frame);
    (words().get(number / 64), 1 << (number % 64))
}

/// Notes that `frame` is lent. False if it is already.
pub(crate) fn lend(frame: PhysAddr) -> bool {
    let (word, bit) = bit_of(frame);
    // Relaxed, here and below: it orders nothing, whoever lends a frame has it.
    word.is_none_or(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
}

/// Notes that `frame` is not lent any more.
pub(crate) fn unlend(frame: PhysAddr) {
    if let (Some(word), bit) = bit_of(frame) {
        word.fetch_and(!bit, Ordering::Relaxed);
    }
}

/// How many frames are lent, found by looking at every bit (INV-COUNT).
pub(crate) fn recount_lent() -> usize {
    words().iter().map(|word| word.load(Ordering::Relaxed).count_ones() as usize).sum()
}
