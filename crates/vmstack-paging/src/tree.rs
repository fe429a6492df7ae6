//! The tables themselves: top-level entries that all address spaces share, and tables that are freed at last.
//!
//! ```text
//!   root of one address space        root of another
//!   ┌──────┬─────────────────┐       ┌──────┬─────────────────┐
//!   │ user │  kernel half    │       │ user │  kernel half    │
//!   └──────┴──┬───────────┬──┘       └──────┴──┬───────────┬──┘
//!             └───────────┼────────────────────┘           │
//!                         └────────────> the same tables <─┘
//! ```
//!
//! A stack area must be mapped in every address space before anything runs on it (INV-MAPPED). Address spaces share
//! their kernel half by having the same top-level entries; so it is enough that the area's top-level entries exist
//! before the first address space is made from them, and never change again. `ensure_top_level` makes them,
//! `share_top_level` copies them; all that is mapped below later appears in every address space by itself.

use vmstack::{PhysAddr, VirtAddr, VirtRange};

use crate::entry::{Entry, Level};
use crate::error::MapError;
use crate::format::Format;
use crate::mapper::Mapper;
use crate::memory::TableMemory;
use crate::run::Span;
use crate::table::Table;

impl<F: Format, M: TableMemory> Mapper<'_, F, M> {
    /// Makes the top-level entries of `range` exist, each with a table (INV-MAPPED).
    ///
    /// # Context
    ///
    /// Takes no lock; sleeps only if [`TableMemory::new_table`] does.
    ///
    /// # Errors
    ///
    /// Something else is there, there is no memory for a table, or the range is none that this root translates. Tables
    /// that were made are kept.
    pub fn ensure_top_level(&self, range: VirtRange) -> Result<(), MapError> {
        let below = F::top().down().unwrap_or(Level::PAGE);
        self.top_level(range)?.try_for_each(|at| self.make_table_for(at, below).map(|_| ()))
    }

    /// Copies the top-level entries of `range` from this tree to `other`, so that both share what is and will be below.
    ///
    /// Entries that are absent here are left as they are there.
    ///
    /// # Context
    ///
    /// Any but NMI. Takes no lock, needs no memory.
    ///
    /// # Errors
    ///
    /// `other` has something else in one of them, or the range is none that these roots translate. Entries before it
    /// are copied.
    ///
    /// # Safety
    ///
    /// 1. The tables below these entries outlive the other tree: they are never freed through either of them.
    /// 2. Whoever runs in the other address space may use the memory that is mapped below, now and later.
    pub unsafe fn share_top_level(&self, other: &Mapper<'_, F, M>, range: VirtRange) -> Result<(), MapError> {
        self.top_level(range)?.try_for_each(|at| {
            let index = F::index(at, F::top());
            let entry = self.root_table().slot(index).read::<F>(F::top());
            match entry {
                Entry::Absent => Ok(()),
                _ => other.share_entry(index, entry).map_err(|found| MapError::instead_of_leaf(found, at)),
            }
        })
    }

    /// Puts `entry` into the root, if it is not there already. Else says what is.
    fn share_entry(&self, index: usize, entry: Entry) -> Result<(), Entry> {
        match self.root_table().slot(index).fill::<F>(entry, F::top()) {
            Err(found) if found.with_dirty(true) != entry.with_dirty(true) => Err(found),
            _ => Ok(()),
        }
    }

    /// Frees every table below the root that `range` goes through and in which nothing is left. Returns how many.
    ///
    /// For the user half of a dead address space, after [`unmap_with`](Self::unmap_with). A table in which something is
    /// left, a parked page for instance, is kept, so that nothing is lost.
    ///
    /// # Context
    ///
    /// Any but NMI. Takes no lock, needs no memory (INV-FREE).
    ///
    /// # Safety
    ///
    /// 1. Every table that the range goes through was made by a mapper of this tree, and no other tree shares it.
    /// 2. No CPU walks them: the root is loaded nowhere, and every CPU that had it loaded has flushed since, its
    ///    paging-structure caches included.
    /// 3. No other method runs on this range at the same time, [`translate`](Self::translate) included.
    #[must_use = "a recount of table memory is held against it"]
    pub unsafe fn free_tables(&self, range: VirtRange) -> usize {
        let halves = Span::translated::<F>(range);
        halves.map(|span| self.free_below(self.root_table(), F::top(), span)).sum()
    }

    /// Frees the tables below `table`, which is of `level`, that stand for addresses in `span` and are empty.
    fn free_below(self, table: &Table, level: Level, span: Span) -> usize {
        let mut freed = 0;
        for index in table.used(F::index(span.first(), level), F::index(span.last(), level)) {
            let slot = table.slot(index);
            let (Entry::Table { at }, Some(down)) = (slot.read::<F>(level), level.down()) else { continue };
            let below = self.follow(at);
            if down > Level::PAGE
                && !below.is_empty()
                && let Some(part) = span.part::<F>(level, index)
            {
                freed += self.free_below(below, down, part);
            }
            if below.is_empty() {
                slot.take::<F>(level);
                self.free_unlinked(at);
                freed += 1;
            }
        }
        freed
    }

    /// Frees a table whose entry was just taken out of the tree.
    pub(crate) fn free_unlinked(&self, table: PhysAddr) {
        // SAFETY: (1) a mapper made it, so it came from `new_table`, and no other tree has an entry for it
        // (`free_tables`, 1); (2) its own entry is gone; (3) no CPU walks it and no other method does (`free_tables`,
        // 2 and 3), and this sweep left it before it visited its entry.
        unsafe { self.memory().free_table(table) }
    }

    /// The first address that each top-level entry of `range` stands for in it.
    fn top_level(&self, range: VirtRange) -> Result<impl Iterator<Item = VirtAddr>, MapError> {
        let span = Span::of(range);
        if span.is_some_and(|span| !span.fits_one_half::<F>()) {
            return Err(MapError::NotCanonical { at: range.start() });
        }
        let parts = span.into_iter().flat_map(|span| span.parts::<F>(F::top()));
        Ok(parts.map(Span::first))
    }
}
