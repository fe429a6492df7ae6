//! The mapper: a tree of tables, and the right to work in it.
//!
//! A [`Mapper`] is a root and a [`TableMemory`], nothing more. It is copied freely, holds no state and no lock, and is
//! made where it is needed. What it can do stands in the files of each step: `walk` (from an address to a slot), `map`,
//! `park`, `leaf` (read and change what is mapped), `visit` (sweeps), `tree` (the tables themselves).
//!
//! # Why methods that change a mapping are unsafe
//!
//! A page table gives and takes memory behind the compiler's back. Mapping can make a frame writable that is somebody
//! else's, unmapping takes memory away from under a reference: only the caller knows that neither happens. What the
//! caller never has to know is how tables are kept: that is this crate's part, on three conditions stated once, in
//! [`Mapper::new`].

use core::fmt;
use core::marker::PhantomData;

use vmstack::PhysAddr;

use crate::format::Format;
use crate::memory::TableMemory;
use crate::table::Table;

/// A tree of page tables in format `F`, reached through the memory `M`.
///
/// Having a `Mapper` means:
/// - its root is a table, and every table entry below leads to a table, that `M` knows and that is not freed while a
///   method runs;
/// - nothing but mappers changes entries in it, other than the hardware's accessed and dirty bits.
pub struct Mapper<'a, F, M> {
    root: PhysAddr,
    memory: &'a M,
    format: PhantomData<fn() -> F>,
}

impl<'a, F: Format, M: TableMemory> Mapper<'a, F, M> {
    /// The mapper of the tree whose root is the table at `root`.
    ///
    /// # Context
    ///
    /// Any, the fault path included.
    ///
    /// # Safety
    ///
    /// For as long as this mapper or a copy of it is used:
    ///
    /// 1. `root` is a table that `memory` gave out and did not take back, or one that it knows besides
    ///    ([`TableMemory::table`] is defined for it).
    /// 2. Every entry below it that reads as a [`Table`](crate::Entry::Table) in format `F` leads to such a table too.
    /// 3. Nothing else changes its entries, but for the hardware's accessed and dirty bits.
    #[must_use]
    pub const unsafe fn new(root: PhysAddr, memory: &'a M) -> Self {
        const { assert!(1 << F::INDEX_BITS == Table::ENTRIES, "this format has tables of another size") };
        Self { root, memory, format: PhantomData }
    }

    /// The physical address of the root table, for the register that holds it.
    #[must_use]
    pub const fn root(&self) -> PhysAddr {
        self.root
    }

    /// The memory that the tables are in.
    #[must_use]
    pub const fn memory(&self) -> &'a M {
        self.memory
    }

    /// The root table.
    pub(crate) fn root_table(self) -> &'a Table {
        self.follow(self.root)
    }

    /// The table at `at`: the root, or what a table entry of this tree says.
    pub(crate) fn follow(self, at: PhysAddr) -> &'a Table {
        // SAFETY: (1) `at` is the root or was read from a table entry of this tree, and those lead to tables of this
        // memory (`Mapper::new`, 1 and 2); (2) a table is freed by `free_tables` and by who called
        // `empty_detached`, who vouch that nobody walks it, and hold no reference to it.
        unsafe { self.memory.table(at) }
    }
}

impl<F, M> Clone for Mapper<'_, F, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F, M> Copy for Mapper<'_, F, M> {}

impl<F: Format, M> fmt::Debug for Mapper<'_, F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapper").field("format", &F::NAME).field("root", &self.root).finish_non_exhaustive()
    }
}
