//! A spin lock for what is short: a ticket lock, so that who comes first goes first.
//!
//! It is taken under a guard only: whoever holds it is neither interrupted nor moved, and lets go after a bounded number of
//! instructions. Never in NMIs, never on the fault path.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};

use crate::sync::{AtomicU32, Ordering};

/// A value that one CPU at a time works on.
pub(crate) struct Lock<T> {
    next: AtomicU32,
    serving: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by whoever holds the lock, one at a time, on whichever CPU.
unsafe impl<T: Send> Sync for Lock<T> {}

/// Having a `Locked` means having the lock.
pub(crate) struct Locked<'a, T>(&'a Lock<T>);

impl<T> Lock<T> {
    #[cfg(not(all(loom, test)))]
    pub(crate) const fn new(value: T) -> Self {
        Self { next: AtomicU32::new(0), serving: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    #[cfg(all(loom, test))]
    pub(crate) fn new(value: T) -> Self {
        Self { next: AtomicU32::new(0), serving: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    /// Waits for the lock. `_guard` is the platform's.
    pub(crate) fn lock<G>(&self, _guard: &G) -> Locked<'_, T> {
        // Relaxed: the number alone is taken.
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        // Acquire: pairs with the Release of who held the lock before.
        while self.serving.load(Ordering::Acquire) != ticket {
            pause();
        }
        Locked(self)
    }
}

#[cfg(not(all(loom, test)))]
fn pause() {
    core::hint::spin_loop();
}

#[cfg(all(loom, test))]
fn pause() {
    loom::thread::yield_now();
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held, and this borrows the proof.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, and this borrows the proof exclusively.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Locked<'_, T> {
    fn drop(&mut self) {
        // The holder alone writes this.
        let ticket = self.0.serving.load(Ordering::Relaxed);
        // Release: pairs with the Acquire of the next one.
        self.0.serving.store(ticket.wrapping_add(1), Ordering::Release);
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

/// Models of CPUs that want the lock at the same time, checked by loom in every order (`--cfg loom`).
#[cfg(all(loom, test))]
mod models;
