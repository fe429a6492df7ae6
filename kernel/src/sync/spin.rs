//! The spin lock: interrupts off while it is held, so task and interrupt context may share it.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};

use super::held::Holder;
use super::poison::{LockResult, PoisonError, leave_behind};
use super::raw::{Kind, RawLock, State};
use super::{AnyLock, current};
use crate::arch::cpu::InterruptsOff;
use crate::arch::percpu;

/// Having a `Still` means that, until it is dropped, interrupts are off on this CPU and the task is not preempted.
///
/// A task that overflows meanwhile is killed: whoever kills it sets both right.
#[derive(Debug)]
pub(crate) struct Still {
    _interrupts: InterruptsOff,
}

impl Still {
    pub(crate) fn new() -> Self {
        let interrupts = InterruptsOff::new();
        percpu::preempt_disable();
        Self { _interrupts: interrupts }
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        percpu::preempt_enable();
    }
}

/// A value that one CPU at a time may use.
pub(crate) struct SpinLock<T> {
    raw: RawLock,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one CPU at a time, so it need only be `Send`.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    pub(crate) const fn new(name: &'static str, value: T) -> Self {
        Self { raw: RawLock::new(name, Kind::Spin), value: UnsafeCell::new(value) }
    }

    /// Takes the lock, waiting for it with interrupts off.
    ///
    /// # Errors
    ///
    /// A holder was killed; the guard is in the error.
    ///
    /// # Panics
    ///
    /// If this code holds it already.
    pub(crate) fn lock(&self) -> LockResult<SpinGuard<'_, T>> {
        let still = Still::new();
        let me = current::holder();
        self.raw.lock_spinning(&me);
        let guard = SpinGuard { lock: self, me, _still: still };
        if self.raw.is_poisoned() { Err(PoisonError::new(guard)) } else { Ok(guard) }
    }

    /// Whether a holder was killed, and nobody has made it good again: of the moment.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.raw.is_poisoned()
    }

    /// Takes the lock although a holder was killed, and makes it good again: for a value that is whole at every instruction.
    pub(crate) fn lock_anyway(&self) -> SpinGuard<'_, T> {
        self.lock().unwrap_or_else(|poisoned| {
            self.raw.clear_poison();
            poisoned.into_inner()
        })
    }

    /// Takes the lock. If a holder was killed, its value is left behind for a `fresh` one, and the lock is good again.
    /// `fresh` may look at the old value, which can be anything that its words allow, to count what is lost with it.
    pub(crate) fn lock_or_reset(&self, fresh: impl FnOnce(&T) -> T) -> SpinGuard<'_, T> {
        self.lock().unwrap_or_else(|poisoned| {
            let mut guard = poisoned.into_inner();
            let fresh = fresh(&guard);
            leave_behind(&mut *guard, fresh);
            self.raw.clear_poison();
            guard
        })
    }
}

impl<T: Send> AnyLock for SpinLock<T> {
    fn state(&self) -> State {
        self.raw.state()
    }

    fn clear_poison(&self) {
        self.raw.clear_poison();
    }

    fn hold(&self, then: fn()) {
        let _guard = self.lock();
        then();
    }
}

impl<T> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpinLock").field("raw", &self.raw).finish_non_exhaustive()
    }
}

/// The right to use what a lock protects. Interrupts are off while it lives.
#[derive(Debug)]
pub(crate) struct SpinGuard<'a, T> {
    lock: &'a SpinLock<T>,
    me: Holder<'static>,
    /// Left after the lock is released.
    _still: Still,
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
        self.lock.raw.unlock(&self.me);
    }
}
