//! The one door through which this crate reaches memory.
//!
//! Tables are named by physical address, and only the kernel knows at which virtual address it can read them: through
//! its direct map, at identity while it boots, in a `Vec` in a test. [`TableMemory`] says so, and hands out and takes
//! back the tables themselves.

use vmstack::PhysAddr;

use crate::table::Table;

/// Memory for page tables.
///
/// # Implementation safety
///
/// 1. [`table`](Self::table) returns, for the physical address of a table, the very memory that the hardware walks at
///    that address. It stays valid, and nothing but [`Table`]'s atomics accesses it, until
///    [`free_table`](Self::free_table) is called with that address.
/// 2. A table from [`new_table`](Self::new_table) belongs to the caller: it lies at a multiple of its size, has a
///    physical address that the format can hold, reads as zero, and is not given out again before it is freed.
/// 3. No method unwinds once the memory is part of a tree that a CPU walks.
pub unsafe trait TableMemory {
    /// The table at `at`.
    ///
    /// # Context
    ///
    /// Any, the fault path included: takes no lock, touches only memory that cannot fault (INV-FAULT).
    ///
    /// # Safety
    ///
    /// `at` came from [`new_table`](Self::new_table) or is the root that a [`Mapper`](crate::Mapper) was made with,
    /// and it was not freed, nor is while the reference lives.
    unsafe fn table(&self, at: PhysAddr) -> &Table;

    /// A new table, which reads as zero, or `None` if there is no memory for one.
    ///
    /// # Context
    ///
    /// That of the [`Mapper`](crate::Mapper) method which needs a table. If it sleeps, they do.
    fn new_table(&self) -> Option<PhysAddr>;

    /// Takes a table back.
    ///
    /// # Context
    ///
    /// That of the [`Mapper`](crate::Mapper) method which frees it. Does not fail.
    ///
    /// # Safety
    ///
    /// `at` came from [`new_table`](Self::new_table), and neither an entry, nor a CPU's paging-structure cache, nor a
    /// reference leads to it any more.
    unsafe fn free_table(&self, at: PhysAddr);
}
