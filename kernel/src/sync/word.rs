//! A word of the locks' protocol.
//!
//! It is a type of its own so that the host's tests can put another in its place, which stops the world after any access.

use core::sync::atomic::{AtomicU64, Ordering, compiler_fence};

/// A word that several CPUs access, in one order that all of them agree on.
#[derive(Debug)]
pub(crate) struct Word(AtomicU64);

impl Word {
    pub(crate) const fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    pub(crate) fn load(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn store(&self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }

    pub(crate) fn swap(&self, value: u64) -> u64 {
        self.0.swap(value, Ordering::SeqCst)
    }

    /// Replaces `old` by `new`; false if it was something else.
    pub(crate) fn replace(&self, old: u64, new: u64) -> bool {
        self.0.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Stores a word that nobody reads but this CPU's fault path: in the program's order, without a locked instruction.
    pub(crate) fn store_own(&self, value: u64) {
        compiler_fence(Ordering::SeqCst);
        self.0.store(value, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
    }
}
