//! All tasks by number: looked up without a lock, in a reader section.
//!
//! ```text
//!   bucket 7 ──> task 4103 ──> task 7          the newest first
//!                 before ^ └── next
//! ```
//!
//! A task is in the table from its start until it is dead; both are steps that the scheduler takes under the run queue's lock, and
//! so is each change here. What is taken out still leads on, for readers who stand on it, and its struct waits for them: it is
//! freed after a grace period.
//!
//! # Context
//!
//! [`find`]: wherever a reader section may be. The changes: under the run queue's lock.

use core::cell::Cell;
use core::fmt;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

use super::Task;
use crate::sync::rcu::ReadGuard;

/// How many chains there are.
const BUCKETS: usize = 4096;

static TABLE: [AtomicPtr<Task>; BUCKETS] = [const { AtomicPtr::new(ptr::null_mut()) }; BUCKETS];

/// A task's place in the table.
pub(super) struct Place {
    next: AtomicPtr<Task>,
    /// What leads here: the bucket, or the `next` of the one before. Under the run queue's lock.
    before: Cell<*const AtomicPtr<Task>>,
}

impl Place {
    pub(super) const fn new() -> Self {
        Self { next: AtomicPtr::new(ptr::null_mut()), before: Cell::new(ptr::null()) }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.next).finish()
    }
}

fn bucket(id: usize) -> &'static AtomicPtr<Task> {
    &TABLE[id % BUCKETS]
}

/// Puts `task` in.
///
/// # Safety
///
/// The run queue's lock is held; the task is in no table, and is taken out before its struct goes.
pub(super) unsafe fn insert(task: NonNull<Task>) {
    // SAFETY: the caller's promise.
    let place = unsafe { &task.as_ref().place };
    // SAFETY: as above.
    let bucket = bucket(unsafe { task.as_ref() }.id);
    let next = bucket.load(Ordering::Relaxed);
    place.next.store(next, Ordering::Relaxed);
    place.before.set(bucket);
    // SAFETY: who is in the table is there.
    if let Some(next) = unsafe { next.as_ref() } {
        next.place.before.set(&raw const place.next);
    }
    // Release: pairs with the Acquire of readers; the struct was filled in before.
    bucket.store(task.as_ptr(), Ordering::Release);
}

/// Takes `task` out. Readers may stand on it still.
///
/// # Safety
///
/// The run queue's lock is held, and the task is in the table.
pub(super) unsafe fn remove(task: &Task) {
    let next = task.place.next.load(Ordering::Relaxed);
    let before = task.place.before.get();
    // SAFETY: a bucket, or the place of a task that is in the table.
    unsafe { &*before }.store(next, Ordering::Release);
    // SAFETY: who is in the table is there.
    if let Some(next) = unsafe { next.as_ref() } {
        next.place.before.set(before);
    }
}

/// Those on the chain of `bucket`.
fn chain<'a>(bucket: &'static AtomicPtr<Task>, _guard: &'a ReadGuard) -> impl Iterator<Item = &'a Task> {
    let mut link: &AtomicPtr<Task> = bucket;
    core::iter::from_fn(move || {
        // Acquire: pairs with the Release of whoever put it in.
        // SAFETY: null, or a task that was in the table in this section, so that its struct is there until the section ends.
        let task: &'a Task = unsafe { link.load(Ordering::Acquire).as_ref() }?;
        link = &task.place.next;
        Some(task)
    })
}

/// The task of this number, if there is one that is not dead.
pub(crate) fn find(id: usize, guard: &ReadGuard) -> Option<&Task> {
    chain(bucket(id), guard).find(|task| task.id == id)
}
