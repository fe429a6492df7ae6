//! A program's memory: what it has mapped, and the pages that are there of it.
//!
//! ```text
//!   Memory, in an `Arc`      shared by the threads of a process and by a child that was made by `vfork`
//!   | root, active CPUs |    words, without a lock
//!   | Inner, locked     |    mappings: ranges, rights, what they show     page tables: the pages that were used, and their frames
//! ```
//!
//! Mapping something only writes it down. A page comes when it is first used: by the program (`fault`), or by the kernel on its
//! behalf (`copy`). After a fork parent and child have the same frames, which neither may write to; who does gets a copy, and the last
//! one that has a frame keeps it (`fork`, `fault`).
//!
//! | file | what |
//! | --- | --- |
//! | `mapping`, `mappings`, `chunk`, `page_box` | what is mapped |
//! | `change` | map, unmap, protect, brk, advise |
//! | `remap` | remap: what moves |
//! | `fault` | pages come |
//! | `copy` | the kernel reads and writes |
//! | `fork` | a copy of all |
//! | `active` | which CPUs run on it, and making them forget |
//! | `place` | where a task keeps it |
//! | `maps` | as text |
//!
//! Each task keeps its own count in its struct ([`MemoryPlace`]), which nobody but the task itself changes: so a call of a program
//! reaches its memory without a lock and without a count in its frames.
//!
//! # When a task is killed in here
//!
//! The page tables can be walked at any instruction, each entry changes by one store, and an entry and the count of its frame change in one
//! section. What takes several sections is written down before it begins ([`Unfinished`]), and whoever locks the memory next
//! finishes it: a thread of the same process that is about to end, or a parent whose child was made by `vfork`.

use alloc::sync::Arc;

use vmstack::{PhysAddr, VirtAddr, VirtRange};

use super::heap;
use super::space::{AddressSpace, SpaceError};
use crate::arch::layout::PAGE_SIZE;
use crate::sync::{AnyLock, Mutex, MutexGuard, Section};
use mapping::Mapping;
use mappings::Mappings;

pub(crate) mod active;
mod change;
mod chunk;
mod copy;
mod fault;
mod fork;
mod mapping;
mod mappings;
mod maps;
mod page_box;
mod place;
mod remap;

pub(crate) use change::{Advice, MapRequest, Where};
pub(crate) use fault::{FaultAccess, UserFault};
pub(crate) use mapping::{Kind, Rights};
pub(crate) use place::MemoryPlace;

/// The end of the stack that a program starts with.
pub(crate) const STACK_TOP: VirtAddr = VirtAddr::new(0x7fff_ffff_f000);
/// The most that the stack can hold, in bytes. All of it is mapped, and comes when it is used.
pub(crate) const STACK_BYTES: usize = 8 << 20;
/// The end of where mappings go that ask for no place, with a gap under the stack.
const MAPPINGS_END: VirtAddr = VirtAddr::new(STACK_TOP.get() - STACK_BYTES - (1 << 20));
/// Where they begin: Linux's `mmap_min_addr`.
const MAPPINGS_START: VirtAddr = VirtAddr::new(0x1_0000);

/// What was begun, and takes more than one section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unfinished {
    Nothing,
    /// The pages of this range, which is not mapped any more, are given back.
    Release(VirtRange),
    /// The page at this address is out of sight while it gets another frame.
    Replace(VirtAddr),
    /// These pages are on their way to another place, and are to be where they were.
    Move(remap::Move),
    /// Entries say less than they did, and CPUs may remember what they said.
    Flush,
}

/// What is behind a memory's lock.
#[derive(Debug)]
struct Inner {
    space: AddressSpace,
    mappings: Mappings,
    /// Where the heap begins and ends, in bytes.
    heap: (VirtAddr, VirtAddr),
    unfinished: Unfinished,
}

/// A program's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    root: PhysAddr,
    active: active::Active,
    users: place::Users,
    inner: Mutex<Inner>,
}

impl Memory {
    /// A memory in which nothing is mapped.
    pub(crate) fn new() -> Result<Arc<Self>, SpaceError> {
        let space = AddressSpace::new()?;
        let (root, heap) = (space.root(), (VirtAddr::default(), VirtAddr::default()));
        let inner = Inner { space, mappings: Mappings::new(), heap, unfinished: Unfinished::Nothing };
        let (active, users) = (active::Active::new(), place::Users::none());
        let inner = Mutex::new("process-memory", inner);
        heap::try_arc(Self { root, active, users, inner }).map_err(|_| SpaceError::OutOfMemory)
    }

    /// The root of the page tables.
    pub(crate) const fn root(&self) -> PhysAddr {
        self.root
    }

    /// The lock.
    pub(crate) const fn any_lock(&self) -> &dyn AnyLock {
        &self.inner
    }

    /// What is inside, locked: also after a task was killed with it, and then what it had begun is finished first.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock_anyway();
        match inner.unfinished {
            Unfinished::Nothing => {}
            Unfinished::Release(range) => self.release(&mut inner, range),
            Unfinished::Replace(page) => self.put_back(&mut inner, page),
            Unfinished::Move(part) => self.move_back(&mut inner, part),
            Unfinished::Flush => self.flush_changed(&mut inner),
        }
        inner
    }

    /// Makes all CPUs forget what entries said that say less now.
    fn flush_changed(&self, inner: &mut Inner) {
        self.flush();
        inner.unfinished = Unfinished::Nothing;
    }

    /// The tasks that keep it.
    const fn users(&self) -> &place::Users {
        &self.users
    }

    /// Takes everything out. No CPU runs on it, and none of its users is left but the caller. Done a second time it goes on where the first
    /// was cut.
    fn clear(&self) {
        let mut inner = self.inner.lock_anyway();
        inner.space.clear();
        inner.mappings.clear();
    }

    /// Pages that are there, and bytes that are mapped.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.space.resident(super::space::lower_half()), inner.mappings.iter().map(Mapping::bytes).sum())
    }
}
