//! The error of a lock whose holder was killed, as in `std::sync`.

use core::fmt;
use core::mem;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A guard, or one with the warning that what it protects may be cut in the middle of a change.
pub(crate) type LockResult<Guard> = Result<Guard, PoisonError<Guard>>;

/// A holder of the lock was killed. The lock is held all the same, and the guard is in here.
pub(crate) struct PoisonError<Guard>(Guard);

impl<Guard> PoisonError<Guard> {
    pub(super) const fn new(guard: Guard) -> Self {
        Self(guard)
    }

    /// The guard, for who knows what the value may have become.
    pub(crate) fn into_inner(self) -> Guard {
        self.0
    }
}

impl<Guard> fmt::Debug for PoisonError<Guard> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a holder of the lock was killed")
    }
}

static LEFT: AtomicUsize = AtomicUsize::new(0);

/// How many values were left behind because the holder of their lock was killed.
pub(crate) fn values_left() -> usize {
    LEFT.load(Ordering::Relaxed)
}

/// Puts `fresh` in the place of a value that cannot be trusted, which is never looked at again: what it owned is lost.
pub(super) fn leave_behind<T>(place: &mut T, fresh: T) {
    LEFT.fetch_add(1, Ordering::Relaxed);
    mem::forget(mem::replace(place, fresh));
}
