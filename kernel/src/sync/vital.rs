//! Sections that may stop the machine: under the locks of the frame allocator and the run queue, and in the stack areas, which
//! change page tables.
//!
//! What they protect cannot be left half changed: every stack depends on it. So nobody is killed in them, and the outermost
//! checks at its door that the stack has [`cpu::HEADROOM`] bytes left: an overflow comes there, before anything is held.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

use super::AnyLock;
use super::raw::State;
use crate::arch::cpu::{self, InterruptsOff};
use crate::arch::percpu;

/// Having a `Section` means that, until it is dropped:
///
/// - interrupts are off on this CPU, and the task is not preempted;
/// - a fault on this CPU finds `vital` raised, so nobody is killed for it;
/// - when the outermost one was entered, [`cpu::HEADROOM`] bytes of stack were there, also if an ordinary lock was held.
#[derive(Debug)]
pub(crate) struct Section {
    /// Left last: what interrupts were at the door.
    _interrupts: InterruptsOff,
}

impl Section {
    /// Enters a section, after the check at the door if it is the outermost.
    pub(crate) fn enter() -> Self {
        // First of all: whether it is the outermost is a question about this CPU.
        let interrupts = InterruptsOff::new();
        cpu::check_headroom();
        percpu::preempt_disable();
        percpu::vital_enter();
        Self { _interrupts: interrupts }
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        percpu::vital_leave();
        percpu::preempt_enable();
    }
}

/// A value that the machine cannot do without: one CPU at a time may use it, and is not killed meanwhile.
pub(crate) struct VitalLock<T> {
    /// Zero, or the holder's CPU number plus one.
    holder: AtomicU32,
    name: &'static str,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one CPU at a time, so it need only be `Send`.
unsafe impl<T: Send> Sync for VitalLock<T> {}

impl<T> VitalLock<T> {
    pub(crate) const fn new(name: &'static str, value: T) -> Self {
        Self { holder: AtomicU32::new(0), name, value: UnsafeCell::new(value) }
    }

    /// Takes the lock, waiting for it with interrupts off.
    ///
    /// # Panics
    ///
    /// If this CPU holds it already.
    pub(crate) fn lock(&self) -> VitalGuard<'_, T> {
        let section = Section::enter();
        self.acquire();
        VitalGuard { inside: Inside { lock: self }, _section: section }
    }

    /// Takes the lock for somebody who is in a section, and needs none of its own.
    ///
    /// # Panics
    ///
    /// As [`lock`](Self::lock).
    ///
    /// # Safety
    ///
    /// This code is in a [`Section`], and stays there until the guard is dropped.
    #[inline]
    pub(crate) unsafe fn lock_inside(&self) -> Inside<'_, T> {
        debug_assert!(percpu::vital() != 0, "lock {} is taken outside a section", self.name);
        self.acquire();
        Inside { lock: self }
    }

    /// Waits for the lock, with interrupts off.
    #[inline]
    fn acquire(&self) {
        let me = percpu::cpu_number().index() as u32 + 1;
        // Acquire: pairs with the Release of the last holder, so that its writes are seen.
        while let Err(holder) = self.holder.compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed) {
            assert!(holder != me, "lock {} is taken twice on one CPU", self.name);
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
        percpu::vital_leave();
        percpu::preempt_enable();
    }
}

impl<T: Send> AnyLock for VitalLock<T> {
    fn state(&self) -> State {
        if self.holder.load(Ordering::Relaxed) == 0 { State::Free } else { State::Held }
    }

    /// There is none.
    fn clear_poison(&self) {}

    fn hold(&self, then: fn()) {
        let _guard = self.lock();
        then();
    }
}

impl<T> fmt::Debug for VitalLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VitalLock").field("name", &self.name).field("holder", &self.holder).finish_non_exhaustive()
    }
}

/// The right to use what a vital lock protects. Interrupts are off while it lives.
#[derive(Debug)]
pub(crate) struct VitalGuard<'a, T> {
    inside: Inside<'a, T>,
    /// Left after the lock is released.
    _section: Section,
}

/// The same, in somebody's section.
#[derive(Debug)]
pub(crate) struct Inside<'a, T> {
    lock: &'a VitalLock<T>,
}

impl<T> Deref for VitalGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inside
    }
}

impl<T> DerefMut for VitalGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inside
    }
}

impl<T> Deref for Inside<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard proves that this CPU holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Inside<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard proves that this CPU holds the lock, and it is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Inside<'_, T> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of the next holder.
        self.lock.holder.store(0, Ordering::Release);
    }
}
