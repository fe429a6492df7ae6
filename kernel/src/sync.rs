//! The kernel's spin lock: interrupts off, owner known.
//!
//! Whoever holds it cannot be interrupted, so it may be taken in task and interrupt context alike; never in NMI or in the
//! fault path (INV-FAULT). The word says which CPU holds it: taking it twice on one CPU is a bug that is reported at once
//! instead of hanging.
//!
//! A task that overflowed while it holds one could not be killed. So the outermost lock checks at its door that the stack has
//! room for the section, and the overflow comes before anything is held ([`Section`]).
//!
//! [`TaskLock`] is for what a task works on for long: interrupts stay on, and whoever waits lets others run.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::arch::cpu::{self, InterruptsOff};
use crate::arch::percpu;

/// Having a `Section` means that, until it is dropped:
///
/// - interrupts are off on this CPU, and the task is not preempted;
/// - a fault on this CPU finds `preempt_count` raised, so nobody is killed for it;
/// - when the outermost one was entered, [`cpu::HEADROOM`] bytes of stack were there.
#[derive(Debug)]
pub(crate) struct Section {
    _interrupts: InterruptsOff,
}

impl Section {
    /// Enters a section, after the check at the door if it is the outermost.
    pub(crate) fn enter() -> Self {
        if percpu::this_cpu().preempt_count() == 0 {
            cpu::check_headroom();
        }
        let interrupts = InterruptsOff::new();
        percpu::preempt_disable();
        Self { _interrupts: interrupts }
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        percpu::preempt_enable();
    }
}

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
        let section = Section::enter();
        let me = percpu::cpu_number().index() as u32 + 1;
        loop {
            // Acquire: pairs with the Release of the last holder, so that its writes are seen.
            match self.holder.compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return SpinGuard { lock: self, _section: section },
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
    /// Left after the lock is released.
    _section: Section,
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
    }
}

/// A value that one task at a time may use, for as long as it likes.
///
/// A task that is killed while it holds one leaves it held: only what dies with the task may be behind it.
pub(crate) struct TaskLock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one task at a time, so it need only be `Send`.
unsafe impl<T: Send> Sync for TaskLock<T> {}

impl<T> TaskLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Takes the lock; while another task has it, others run.
    pub(crate) fn lock(&self) -> TaskGuard<'_, T> {
        // Acquire: pairs with the Release of the last holder.
        while self.held.swap(true, Ordering::Acquire) {
            crate::task::sched::yield_now();
        }
        TaskGuard { lock: self }
    }

    /// Takes the lock although a task that was killed may hold it.
    ///
    /// # Safety
    ///
    /// No task that is alive has or takes this lock any more.
    pub(crate) unsafe fn lock_of_the_dead(&self) -> TaskGuard<'_, T> {
        self.held.store(true, Ordering::Relaxed);
        TaskGuard { lock: self }
    }
}

impl<T> fmt::Debug for TaskLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskLock").field("held", &self.held).finish_non_exhaustive()
    }
}

/// The right to use what a [`TaskLock`] protects.
#[derive(Debug)]
pub(crate) struct TaskGuard<'a, T> {
    lock: &'a TaskLock<T>,
}

impl<T> Deref for TaskGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard proves that this task holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for TaskGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard proves that this task holds the lock, and it is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for TaskGuard<'_, T> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of the next holder.
        self.lock.held.store(false, Ordering::Release);
    }
}
