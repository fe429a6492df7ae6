//! Reading and changing what is mapped: translation, dirty bits, access.
//!
//! [`Mapper::translate`] is the fault path's: it loads one entry a level and nothing else. The others work on batches.
//!
//! # Dirty bits
//!
//! The processor sets the dirty bit of an entry when it writes through a TLB entry that has not seen it set. Clear it
//! in the table without flushing, and a TLB that has it set lets the next write pass unrecorded (Intel SDM volume 3,
//! 4.8: software must invalidate). So `clear_dirty` is only the first half of taking dirty bits back: the second is a
//! shootdown, before anything is written through the mapping.

use vmstack::{Pages, PhysAddr, VirtAddr};

use crate::attributes::Access;
use crate::entry::{Entry, Leaf, Level};
use crate::error::LeafError;
use crate::format::Format;
use crate::mapper::Mapper;
use crate::memory::TableMemory;
use crate::run::Run;
use crate::table::{Slot, Table};

impl<F: Format, M: TableMemory> Mapper<'_, F, M> {
    /// The physical address that `addr` translates to and the leaf that says so, or `None` where nothing is mapped
    /// (parked and foreign entries included) or `addr` is not canonical.
    ///
    /// # Context
    ///
    /// Any, the fault path included: one load a level, no lock (INV-FAULT).
    #[must_use]
    // Whoever wants the frame alone does not pay for the rest of the leaf.
    #[inline(always)]
    pub fn translate(&self, addr: VirtAddr) -> Option<(PhysAddr, Leaf)> {
        if !F::is_canonical(addr) {
            return None;
        }
        let leaf = |entry: Entry, level: Level| {
            let at = VirtAddr::new(addr.get() & !(F::entry_bytes(level) - 1));
            entry.leaf(at, level).map(|leaf| (leaf.phys(addr), leaf))
        };
        match self.table_for(addr, Level::PAGE) {
            // Apart, for here the compiler knows the level.
            Ok(table) => leaf(table.slot(F::index(addr, Level::PAGE)).read::<F>(Level::PAGE), Level::PAGE),
            Err((entry, level)) => leaf(entry, level),
        }
    }

    /// Which of the first 128 pages of `pages` may have been written: bit *i* stands for page *i*.
    ///
    /// A clear bit is a promise: the page is mapped, and was not written since it was mapped or its dirty bit was last
    /// taken back. A set one promises nothing: a page that is not mapped by a leaf of its own has it set, and where
    /// the format has no dirty bit, all pages have. Bits past the number of pages are clear.
    ///
    /// # Context
    ///
    /// Any, the fault path included: takes no lock.
    #[must_use]
    pub fn dirty(&self, pages: Pages) -> u128 {
        let run = Run::check::<F>(pages).ok().filter(|_| F::HAS_DIRTY);
        // As most stacks lie.
        if let Some(slots) = run.and_then(|run| self.slots_together(run)) {
            return u128::from(dirty_among::<F>(slots));
        }
        let all = match pages.count() {
            0 => 0,
            count => u128::MAX >> 128_usize.saturating_sub(count),
        };
        run.map_or(all, |run| all & !self.clean(run.first(128)))
    }

    /// The slots of `run`, if it has 64 pages at most, all of them in one table.
    #[inline]
    fn slots_together(&self, run: Run) -> Option<&[Slot]> {
        let at = run.page::<F>(0)?;
        let index = F::index(at, Level::PAGE);
        if run.count() > 64 || index + run.count() > Table::ENTRIES {
            return None;
        }
        let table = self.table_for(at, Level::PAGE).ok()?;
        Some(table.slots(index, run.count()))
    }

    /// Which pages of `run`, of at most 128 pages, are mapped and not written.
    fn clean(&self, run: Run) -> u128 {
        let mut clean = 0;
        let mut page = 0;
        while let Some(at) = run.page::<F>(page) {
            let index = F::index(at, Level::PAGE);
            let here = (Table::ENTRIES - index).min(run.count() - page);
            if let Ok(table) = self.table_for(at, Level::PAGE) {
                clean |= clean_in::<F>(table, index, here) << page;
            }
            page += here;
        }
        clean
    }

    /// Clears the dirty bits of those `pages` that are mapped, each by atomic read-modify-write.
    ///
    /// Does nothing where the format has no dirty bit. Until every CPU has flushed `pages`, a write may pass
    /// unrecorded: see the dirty bits in this file's essay.
    ///
    /// # Context
    ///
    /// Any but NMI. Takes no lock, needs no memory.
    ///
    /// # Errors
    ///
    /// Only if `pages` is no run of pages that the format translates.
    pub fn clear_dirty(&self, pages: Pages) -> Result<(), LeafError> {
        let run = Run::check::<F>(pages)?;
        for (_, slot) in self.slots(run).flatten() {
            slot.change::<F>(Level::PAGE, clean_entry);
        }
        Ok(())
    }

    /// Changes the access of `pages`, which are all mapped. All or nothing. Dirty bits stay as they are.
    ///
    /// Only the access: the other attributes of a live mapping cannot be changed on every architecture without
    /// unmapping it first (Arm's break-before-make). What is in TLBs stays there: a right that was taken away is gone
    /// once the caller has flushed `pages` on every CPU.
    ///
    /// # Context
    ///
    /// Any but NMI. Takes no lock, needs no memory.
    ///
    /// # Errors
    ///
    /// A page is not mapped by a leaf of its own. Then all are as they were.
    ///
    /// # Safety
    ///
    /// 1. Nobody uses the memory in a way that `access` forbids, and whoever may use it so may use the frames so.
    /// 2. The pages are the caller's, and no other mapper works on them at the same time.
    pub unsafe fn protect(&self, pages: Pages, access: Access) -> Result<(), LeafError> {
        let run = Run::check::<F>(pages)?;
        self.expect_leaves(run)?;
        for (_, slot) in self.slots(run).flatten() {
            slot.change::<F>(Level::PAGE, |entry| protect_entry(entry, access));
        }
        Ok(())
    }
}

/// The pages in `count` slots of `table` from `index` that nobody has written through, by bit.
fn clean_in<F: Format>(table: &Table, index: usize, count: usize) -> u128 {
    let is_clean = |page: usize| F::is_clean(table.slot(index + page).raw());
    // From the last one down: each bit takes a shift by one, and not by a number that is not known before.
    (0..count).rev().fold(0, |clean, page| clean << 1 | u128::from(is_clean(page)))
}

/// Which of `slots`, which are 64 at most, are something else than leaves that nobody has written through, by bit.
fn dirty_among<F: Format>(slots: &[Slot]) -> u64 {
    slots.iter().rev().fold(0, |dirty, slot| dirty << 1 | u64::from(!F::is_clean(slot.raw())))
}

/// What a leaf becomes when its dirty bit is taken back. Other entries, and leaves that are clean already, stay.
const fn clean_entry(entry: Entry) -> Option<Entry> {
    match entry {
        Entry::Leaf { dirty: true, .. } => Some(entry.with_dirty(false)),
        _ => None,
    }
}

/// What a leaf becomes under another access. Other entries stay.
const fn protect_entry(entry: Entry, access: Access) -> Option<Entry> {
    match entry {
        Entry::Leaf { frame, attributes, dirty } => {
            Some(Entry::Leaf { frame, attributes: attributes.with_access(access), dirty })
        }
        _ => None,
    }
}
