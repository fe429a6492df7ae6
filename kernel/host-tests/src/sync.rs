//! The kernel's sections, as the files that are tested here know them: nobody is killed on the host.

use std::sync::{self, MutexGuard, PoisonError};

/// The kernel's mutex: its name is for reports.
#[derive(Debug)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(_name: &'static str, value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    pub(crate) fn lock_anyway(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What crashes need of a lock.
pub(crate) trait AnyLock: Sync {}

impl<T: Send> AnyLock for Mutex<T> {}

#[derive(Debug)]
pub(crate) struct Section;

impl Section {
    pub(crate) fn enter() -> Self {
        Self
    }
}

impl Drop for Section {
    /// As the kernel's, a section ends where it is dropped.
    fn drop(&mut self) {}
}
