//! Where a task keeps the memory that it runs on.

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::Memory;
use crate::sync::Section;

/// How many places keep a memory.
#[derive(Debug)]
pub(crate) struct Users(AtomicUsize);

impl Users {
    pub(super) const fn none() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Counts one more.
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one less, unless it is the last. Says whether it is.
    fn remove(&self) -> bool {
        let one_less = |users: usize| users.checked_sub(1).filter(|&left| left != 0);
        // AcqRel: what the others did comes before what the last one takes apart.
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).is_err()
    }
}

/// Where a task keeps the memory that it runs on.
///
/// The value belongs to the task itself, and to whoever makes the task before it runs. Each place is a *user* of its memory, and is counted
/// there: the last user takes everything out, piece by piece.
pub(crate) struct MemoryPlace(UnsafeCell<Option<Arc<Memory>>>);

// SAFETY: see the type; `get` and `replace` are unsafe for that reason.
unsafe impl Sync for MemoryPlace {}

impl MemoryPlace {
    pub(crate) fn new(memory: Option<Arc<Memory>>) -> Self {
        if let Some(memory) = &memory {
            memory.users().add();
        }
        Self(UnsafeCell::new(memory))
    }

    /// What is there.
    ///
    /// # Safety
    ///
    /// The caller is the task itself, or the scheduler while it switches to the task or from it, and no `replace` comes before the
    /// reference's last use.
    pub(crate) unsafe fn get(&self) -> Option<&Arc<Memory>> {
        // SAFETY: the caller's promise.
        unsafe { &*self.0.get() }.as_ref()
    }

    /// Puts `memory` there, and gives up what was.
    ///
    /// # Safety
    ///
    /// As for [`give_up`](Self::give_up).
    pub(crate) unsafe fn put(&self, memory: Arc<Memory>, _in: &Section) {
        memory.users().add();
        // SAFETY: the caller's promise.
        unsafe { *self.0.get() = Some(memory) };
    }

    /// Gives up what is there. May be done again by a task that was killed in the middle of it.
    ///
    /// # Safety
    ///
    /// The caller is the task itself, has no reference from [`get`](Self::get), and this CPU does not run on the memory.
    pub(crate) unsafe fn give_up(&self) {
        // SAFETY: the caller's promise.
        let Some(memory) = (unsafe { self.get() }) else { return };
        let section = Section::enter();
        if memory.users().remove() {
            drop(section);
            memory.clear();
        } else {
            // SAFETY: the caller's promise; the reference above is not used any more.
            unsafe { *self.0.get() = None };
            return;
        }
        // What is left is the root: it goes at once, or not at all.
        let _section = Section::enter();
        // SAFETY: as above.
        unsafe { *self.0.get() = None };
    }
}

impl Drop for MemoryPlace {
    /// Of a task that never ran, or that could not give its memory up.
    fn drop(&mut self) {
        if let Some(memory) = self.0.get_mut() {
            let _last = memory.users().remove();
        }
    }
}

impl fmt::Debug for MemoryPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPlace").finish_non_exhaustive()
    }
}
