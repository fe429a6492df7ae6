//! The read-write lock: many readers, or one writer. A writer that waits is before readers that come after it.
//!
//! Readers are as robust as writers: each stands in a slot of the lock by its number. One that is killed leaves no poison, for
//! it could not write.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};

use super::held::Holder;
use super::poison::{LockResult, PoisonError};
use super::raw::{Kind, RawLock, State};
use super::{AnyLock, current};

/// A value that many tasks may read, or one may write.
pub(crate) struct RwLock<T> {
    raw: RawLock,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one writer, from whatever task, or to several readers at once.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    pub(crate) const fn new(name: &'static str, value: T) -> Self {
        Self { raw: RawLock::new(name, Kind::ReadWrite), value: UnsafeCell::new(value) }
    }

    /// Takes the lock for reading; while a task writes, or there are too many readers, others run.
    ///
    /// # Context
    ///
    /// Tasks. If the lock is not free: with preemption on.
    ///
    /// # Errors
    ///
    /// A writer was killed; the guard is in the error.
    ///
    /// # Panics
    ///
    /// If this task holds it already.
    pub(crate) fn read(&self) -> LockResult<ReadGuard<'_, T>> {
        let me = current::holder();
        self.raw.share(&me);
        let guard = ReadGuard { lock: self, me };
        if self.raw.is_poisoned() { Err(PoisonError::new(guard)) } else { Ok(guard) }
    }

    /// Takes the lock for writing; while other tasks read or write, others run.
    ///
    /// # Context
    ///
    /// As for [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// A writer was killed; the guard is in the error.
    ///
    /// # Panics
    ///
    /// If this task holds it already.
    pub(crate) fn write(&self) -> LockResult<WriteGuard<'_, T>> {
        let me = current::holder();
        self.raw.lock_sleeping(&me);
        let guard = WriteGuard { lock: self, me };
        if self.raw.is_poisoned() { Err(PoisonError::new(guard)) } else { Ok(guard) }
    }
}

impl<T: Send + Sync> AnyLock for RwLock<T> {
    fn state(&self) -> State {
        self.raw.state()
    }

    fn clear_poison(&self) {
        self.raw.clear_poison();
    }

    fn hold(&self, then: fn()) {
        let _guard = self.write();
        then();
    }

    fn hold_shared(&self, then: fn()) {
        let _guard = self.read();
        then();
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLock").field("raw", &self.raw).finish_non_exhaustive()
    }
}

/// The right to read what a [`RwLock`] protects.
#[derive(Debug)]
pub(crate) struct ReadGuard<'a, T> {
    lock: &'a RwLock<T>,
    me: Holder<'static>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard proves that this task is among the readers, so nobody writes.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.raw.unshare(&self.me);
    }
}

/// The right to write what a [`RwLock`] protects.
#[derive(Debug)]
pub(crate) struct WriteGuard<'a, T> {
    lock: &'a RwLock<T>,
    me: Holder<'static>,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard proves that this task holds the lock alone.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard proves that this task holds the lock alone, and it is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.raw.unlock(&self.me);
    }
}
