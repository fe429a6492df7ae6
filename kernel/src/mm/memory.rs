//! A program's memory: an address space, and where things lie in it.
//!
//! Shared, in an `Arc`, by the threads of a process and by a child that was made by `vfork`. Each task keeps its own count in its
//! struct ([`MemoryPlace`]), which nobody but the task itself changes: so a call of a program reaches its memory without a lock and
//! without a count in its frames. What changes the memory is locked inside.
//!
//! A task that is killed in the middle of a change leaves nothing half-made that matters: each entry of the page tables changes
//! by one store, so they can be walked at any instruction, and the layout is three words that are good in any mixture.

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::fmt;

use vmstack::{PhysAddr, VirtAddr};

use super::space::{AddressSpace, SpaceError};
use crate::sync::{AnyLock, Mutex, MutexGuard, Section};
use crate::task::kept::{self, Kept};

/// Where a process's heap begins and ends, and where the next mapping goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) heap_start: VirtAddr,
    pub(crate) heap_end: VirtAddr,
    pub(crate) next_mapping: VirtAddr,
}

/// What is behind a memory's lock.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) space: AddressSpace,
    pub(crate) layout: Layout,
}

/// A program's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    root: PhysAddr,
    inner: Mutex<Inner>,
}

impl Memory {
    /// What `space` and `layout` say.
    pub(crate) fn new(space: AddressSpace, layout: Layout) -> Arc<Self> {
        Arc::new(Self { root: space.root(), inner: Mutex::new("process-memory", Inner { space, layout }) })
    }

    /// The root of the page tables.
    pub(crate) const fn root(&self) -> PhysAddr {
        self.root
    }

    /// What is inside, locked: also after a task was killed with it (see the top of the file).
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock_anyway()
    }

    /// The lock.
    pub(crate) const fn any_lock(&self) -> &dyn AnyLock {
        &self.inner
    }

    /// A copy, for a forked child: kept, so that nothing of it is lost if the parent is killed while it copies.
    pub(crate) fn fork(&self) -> Result<Kept<Arc<Self>>, SpaceError> {
        let from = self.lock();
        // The root is the allocator's or the child's: nobody is killed in between.
        let section = Section::enter();
        let child = kept::keep(&"memory", Self::new(AddressSpace::new()?, from.layout));
        drop(section);
        from.space.copy_to(&mut child.lock().space)?;
        Ok(child)
    }

    /// Copies user memory at `addr` into `bytes`.
    pub(crate) fn read(&self, addr: usize, bytes: &mut [u8]) -> Result<(), SpaceError> {
        self.lock().space.read(VirtAddr::new(addr), bytes)
    }

    /// Copies `bytes` to user memory at `addr`.
    pub(crate) fn write(&self, addr: usize, bytes: &[u8]) -> Result<(), SpaceError> {
        self.lock().space.write(VirtAddr::new(addr), bytes)
    }

    /// Takes everything out. What is taken out is out of the tables first, so that doing it a second time goes on where the first was
    /// cut. No CPU runs on it.
    fn clear(&self) {
        self.lock().space.clear();
    }
}

/// Where a task keeps the memory that it runs on.
///
/// The value belongs to the task itself, and to whoever makes the task before it runs.
pub(crate) struct MemoryPlace(UnsafeCell<Option<Arc<Memory>>>);

// SAFETY: see the type; `get` and `replace` are unsafe for that reason.
unsafe impl Sync for MemoryPlace {}

impl MemoryPlace {
    pub(crate) const fn new(memory: Option<Arc<Memory>>) -> Self {
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

    /// Puts `memory` there and returns what was.
    ///
    /// # Safety
    ///
    /// The caller is the task itself, has no reference from [`get`](Self::get), and makes this CPU run on the new memory's tables
    /// before the old one is dropped.
    pub(crate) unsafe fn replace(&self, memory: Option<Arc<Memory>>) -> Option<Arc<Memory>> {
        // SAFETY: the caller's promise.
        core::mem::replace(unsafe { &mut *self.0.get() }, memory)
    }

    /// Gives up what is there. May be done again by a task that was killed in the middle of it.
    ///
    /// # Safety
    ///
    /// As for [`replace`](Self::replace); the CPU runs on the kernel's own tables already.
    pub(crate) unsafe fn give_up(&self) {
        // SAFETY: the caller's promise.
        let Some(memory) = (unsafe { self.get() }) else { return };
        if Arc::strong_count(memory) == 1 {
            memory.clear();
        }
        // What is left is the root: it goes at once, or not at all.
        let _section = Section::enter();
        // SAFETY: the caller's promise; the reference above is not used any more.
        drop(unsafe { self.replace(None) });
    }
}

impl fmt::Debug for MemoryPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPlace").finish_non_exhaustive()
    }
}
