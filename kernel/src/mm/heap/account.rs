//! What each task has of the heap, as far as that can be known.
//!
//! # Context
//!
//! The task itself; what it has is read in any context.

use core::sync::atomic::{AtomicIsize, Ordering, compiler_fence};

/// Bytes and objects of the heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Amount {
    pub(crate) bytes: usize,
    pub(crate) objects: usize,
}

/// What a task has allocated, less what it has freed, since it entered the kernel.
///
/// Not less than what its frames own, unless it freed what it found: where that is much it is done [beside](Self::beside) the account. And
/// what it has put where others find it is in the account too. So it is what a killed task *may* have taken with it.
#[derive(Debug)]
pub(crate) struct Account {
    bytes: AtomicIsize,
    objects: AtomicIsize,
    /// What was there when something was begun beside it, and zero again when that is over.
    before: [AtomicIsize; 2],
}

impl Account {
    pub(crate) const fn new() -> Self {
        Self { bytes: AtomicIsize::new(0), objects: AtomicIsize::new(0), before: [const { AtomicIsize::new(0) }; 2] }
    }

    /// Begins anew: the task owns nothing but by its struct. For the start of a system call.
    pub(crate) fn reset(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.objects.store(0, Ordering::Relaxed);
    }

    /// What the task may have in its frames. Any context.
    pub(crate) fn amount(&self) -> Amount {
        let positive = |count: &AtomicIsize| usize::try_from(count.load(Ordering::Relaxed)).unwrap_or(0);
        let [bytes, objects] = self.before.each_ref().map(positive);
        Amount { bytes: positive(&self.bytes) + bytes, objects: positive(&self.objects) + objects }
    }

    /// What was begun beside it is over, for the task was killed.
    pub(super) fn end(&self) {
        self.reset();
        self.before.iter().for_each(|before| before.store(0, Ordering::Relaxed));
    }

    /// Runs `work`, in which the task, whose account this is, frees what it found: its frames have no less for that. Not nested.
    pub(crate) fn beside<T>(&self, work: impl FnOnce() -> T) -> T {
        // What is counted twice for an instruction is counted; nothing is ever missing.
        for (before, now) in self.before.iter().zip([&self.bytes, &self.objects]) {
            before.store(now.load(Ordering::Relaxed), Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
            now.store(0, Ordering::Relaxed);
        }
        let result = work();
        for (before, now) in self.before.iter().zip([&self.bytes, &self.objects]) {
            let kept = now.load(Ordering::Relaxed).max(0) + before.load(Ordering::Relaxed);
            now.store(kept, Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
            before.store(0, Ordering::Relaxed);
        }
        result
    }

    pub(super) fn add(&self, bytes: isize, objects: isize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.objects.fetch_add(objects, Ordering::Relaxed);
    }
}
