//! What each task has of the heap, as far as that can be known.
//!
//! # Context
//!
//! The task itself; what it has is read in any context.

use core::sync::atomic::{AtomicIsize, Ordering};

/// Bytes and objects of the heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Amount {
    pub(crate) bytes: usize,
    pub(crate) objects: usize,
}

/// What a task has allocated, less what it has freed, since it entered the kernel.
///
/// Not less than what its frames own, unless it freed what it found; and what it has put where others find it is in the
/// account too. So it is what a killed task *may* have taken with it.
#[derive(Debug)]
pub(crate) struct Account {
    bytes: AtomicIsize,
    objects: AtomicIsize,
}

impl Account {
    pub(crate) const fn new() -> Self {
        Self { bytes: AtomicIsize::new(0), objects: AtomicIsize::new(0) }
    }

    /// Begins anew: the task owns nothing but by its struct. For the start of a system call.
    pub(crate) fn reset(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.objects.store(0, Ordering::Relaxed);
    }

    /// What the task may have in its frames. Any context.
    pub(crate) fn amount(&self) -> Amount {
        let positive = |count: &AtomicIsize| usize::try_from(count.load(Ordering::Relaxed)).unwrap_or(0);
        Amount { bytes: positive(&self.bytes), objects: positive(&self.objects) }
    }

    pub(super) fn add(&self, bytes: isize, objects: isize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.objects.fetch_add(objects, Ordering::Relaxed);
    }
}
