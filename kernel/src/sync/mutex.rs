//! The mutex: for what a task works on for long. Interrupts stay on, and whoever waits lets others run.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};

use super::held::Holder;
use super::poison::{LockResult, PoisonError};
use super::raw::{Kind, RawLock, State};
use super::{AnyLock, current};

/// A value that one task at a time may use, for as long as it likes.
pub(crate) struct Mutex<T> {
    raw: RawLock,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one task at a time, so it need only be `Send`.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    pub(crate) const fn new(name: &'static str, value: T) -> Self {
        Self { raw: RawLock::new(name, Kind::Mutex), value: UnsafeCell::new(value) }
    }

    /// Takes the lock; while another task has it, others run.
    ///
    /// # Context
    ///
    /// Tasks. If the lock is not free: with preemption on.
    ///
    /// # Errors
    ///
    /// A holder was killed; the guard is in the error.
    ///
    /// # Panics
    ///
    /// If this task holds it already.
    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let me = current::holder();
        self.raw.lock_sleeping(&me);
        let guard = MutexGuard { lock: self, me };
        if self.raw.is_poisoned() { Err(PoisonError::new(guard)) } else { Ok(guard) }
    }

    /// Whether a holder was killed, and nobody has made it good again: of the moment.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.raw.is_poisoned()
    }

    /// The value, which nobody else can use.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Takes the lock although a holder was killed, and makes it good again: for a value that is whole at every instruction.
    pub(crate) fn lock_anyway(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(|poisoned| {
            self.raw.clear_poison();
            poisoned.into_inner()
        })
    }
}

impl<T: Send> AnyLock for Mutex<T> {
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

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").field("raw", &self.raw).finish_non_exhaustive()
    }
}

/// The right to use what a [`Mutex`] protects.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    lock: &'a Mutex<T>,
    me: Holder<'static>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard proves that this task holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard proves that this task holds the lock, and it is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.raw.unlock(&self.me);
    }
}
