//! The kernel's spin lock: interrupts off, owner known.
//!
//! Whoever holds it cannot be interrupted, so it may be taken in task and interrupt context alike; never in NMI or in the
//! fault path (INV-FAULT). The word says which CPU holds it: taking it twice on one CPU is a bug that is reported at once
//! instead of hanging.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

use crate::arch::cpu::{self, InterruptsOff};
use crate::arch::percpu;

/// A value that one CPU at a time may use.
pub(crate) struct SpinLock<T> {
    /// Zero, or the holder's CPU number plus one.
    holder: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one CPU at a time, so it need only be `Send`.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { holder: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    /// Takes the lock, waiting for it with interrupts off.
    ///
    /// # Panics
    ///
    /// If this CPU holds it already.
    pub(crate) fn lock(&self) -> SpinGuard<'_, T> {
        let interrupts = InterruptsOff::new();
        // A fault from here on finds somebody who holds a lock: nobody can be killed then.
        percpu::preempt_disable();
        let me = percpu::cpu_number().index() as u32 + 1;
        loop {
            // Acquire: pairs with the Release of the last holder, so that its writes are seen.
            match self.holder.compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return SpinGuard { lock: self, _interrupts: interrupts },
                Err(holder) => assert!(holder != me, "a lock is taken twice on one CPU"),
            }
            cpu::relax();
        }
    }

    /// Releases the lock for a guard that was forgotten: the scheduler takes it in one task and releases it in the next.
    ///
    /// # Safety
    ///
    /// This CPU holds the lock, and its guard was forgotten. Interrupts stay off.
    pub(crate) unsafe fn force_unlock(&self) {
        self.holder.store(0, Ordering::Release);
        percpu::preempt_enable();
    }
}

impl<T> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpinLock").field("holder", &self.holder).finish_non_exhaustive()
    }
}

/// The right to use what a lock protects. Interrupts are off while it lives.
#[derive(Debug)]
pub(crate) struct SpinGuard<'a, T> {
    lock: &'a SpinLock<T>,
    /// Dropped after the lock is released.
    _interrupts: InterruptsOff,
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard proves that this CPU holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard proves that this CPU holds the lock, and it is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of the next holder.
        self.lock.holder.store(0, Ordering::Release);
        percpu::preempt_enable();
    }
}
