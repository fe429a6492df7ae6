//! Groups: the leaf entries of a few pages side by side, found once and remembered.
//!
//! A stack is a handful of pages whose entries lie side by side in one table, and tables are kept. So where they lie can be
//! remembered with the stack, as one word, and whoever asks for dirty bits, or maps and unmaps the same pages again, walks no tables.
//!
//! ```text
//!   root ─> ... ─> leaf table   | ... | e0 | e1 | e2 | e3 | ... |
//!                                     ^ the group of four pages: this address, and four
//! ```
//!
//! What [`Mapper`]'s methods do to a run of pages, a group's do to its own; each is all or nothing, and needs no memory. Many pages at once are `fill`'s,
//! and pages that nobody uses any more `unused`'s.
//!
//! Contexts: any but NMI. No lock, no wait.

use core::fmt;
use core::marker::PhantomData;

use vmstack::{Pages, PhysAddr, VirtAddr};

use crate::attributes::Attributes;
use crate::entry::{Entry, Level};
use crate::error::MapError;
use crate::fill::fill_run;
use crate::format::Format;
use crate::mapper::Mapper;
use crate::memory::TableMemory;
use crate::run::Run;
use crate::table::{Slot, Table};

/// The leaf entries of pages side by side.
///
/// Having a `Group` means that its entries lie in one table of the lowest level, which lives as long as `'t`.
pub struct Group<'t, F: Format> {
    slots: &'t [Slot],
    format: PhantomData<F>,
}

impl<F: Format> Clone for Group<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Format> Copy for Group<'_, F> {}

impl<F: Format> fmt::Debug for Group<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.slots).finish()
    }
}

/// A table of the lowest level, found once for all groups in it.
///
/// Having one means that the table lives as long as `'t`.
pub struct LeafTable<'t, F: Format> {
    table: &'t Table,
    /// The first address that it translates.
    first: VirtAddr,
    format: PhantomData<F>,
}

impl<F: Format> fmt::Debug for LeafTable<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeafTable").field("first", &self.first).finish_non_exhaustive()
    }
}

impl<'t, F: Format> LeafTable<'t, F> {
    /// `table`, which translates the page at `at`.
    fn around(table: &'t Table, at: VirtAddr) -> Self {
        let first = at.wrapping_sub(F::index(at, Level::PAGE) * F::page_bytes());
        Self { table, first, format: PhantomData }
    }

    /// The entries of `pages`, if this table has all of them.
    #[must_use]
    pub fn group(&self, pages: Pages) -> Option<Group<'t, F>> {
        self.groups(pages, Table::ENTRIES * F::page_bytes()).next()
    }

    /// The entries of `first`, of as many pages `stride` bytes further up, and so on, as far as this table has them.
    pub fn groups(&self, first: Pages, stride: usize) -> impl Iterator<Item = Group<'t, F>> + use<'t, F> {
        let (from_first, count) = (first.start().get().wrapping_sub(self.first.get()), first.count());
        let (index, step) = (from_first / F::page_bytes(), stride / F::page_bytes());
        let are_pages = from_first.is_multiple_of(F::page_bytes()) && stride.is_multiple_of(F::page_bytes());
        let rest = if are_pages && count > 0 { self.table.slots(index, Table::ENTRIES) } else { &[] };
        rest.chunks(step.max(1)).map_while(move |slots| Some(Group::of(slots.get(..count)?)))
    }
}

impl<'a, F: Format, M: TableMemory> Mapper<'a, F, M> {
    /// The entries of `pages`, if there is a table that has all of them.
    #[must_use]
    pub fn group(&self, pages: Pages) -> Option<Group<'a, F>> {
        let at = Run::check::<F>(pages).ok()?.page::<F>(0)?;
        let table = self.table_for(at, Level::PAGE).ok()?;
        LeafTable::around(table, at).group(pages)
    }

    /// The table that has the entry of the page at `at`. It is made if it is missing.
    ///
    /// # Context
    ///
    /// Takes no lock; sleeps only if [`TableMemory::new_table`] does.
    ///
    /// # Errors
    ///
    /// Something else is in its place, there is no memory for it, or no page begins at `at`.
    pub fn make_leaf_table(&self, at: VirtAddr) -> Result<LeafTable<'a, F>, MapError> {
        Run::check::<F>(Pages::new(at, 1))?;
        Ok(LeafTable::around(self.make_table_for(at, Level::PAGE)?, at))
    }
}

impl<'t, F: Format> Group<'t, F> {
    /// The group whose entries are `slots`, which lie in a table of the lowest level.
    pub(crate) const fn of(slots: &'t [Slot]) -> Self {
        Self { slots, format: PhantomData }
    }

    pub(crate) const fn slots(self) -> &'t [Slot] {
        self.slots
    }

    /// Whether nothing is in any of the entries.
    #[inline]
    pub(crate) fn is_absent(self) -> bool {
        self.slots.iter().fold(0, |all, slot| all | slot.raw()) == 0
    }

    /// Where the entries lie, as a word to remember.
    #[must_use]
    pub fn expose(self) -> usize {
        self.slots.as_ptr().expose_provenance()
    }

    /// The group of `count` pages whose entries lie where `word` says.
    ///
    /// # Safety
    ///
    /// [`expose`](Self::expose) said `word` of a group of at least `count` pages in this format, and the table lives.
    #[inline]
    #[must_use]
    pub unsafe fn from_exposed(word: usize, count: usize) -> Self {
        let first = core::ptr::with_exposed_provenance::<Slot>(word);
        // SAFETY: the entries are atomics in a table that lives, by the caller's word.
        Self { slots: unsafe { core::slice::from_raw_parts(first, count) }, format: PhantomData }
    }

    /// The frames of the pages that may have been written: at least those whose bit [`Mapper::dirty`] sets, as far as
    /// they are mapped.
    #[inline]
    pub fn written(self) -> impl Iterator<Item = PhysAddr> {
        // Where there is no quick answer, the exact one.
        let clean = |raw: u64| match F::SURELY_CLEAN {
            Some((bits, clean)) => raw & bits == clean,
            None => F::HAS_DIRTY && F::is_clean(raw),
        };
        self.slots.iter().map(Slot::raw).filter(move |&raw| !clean(raw)).filter_map(F::frame_at)
    }

    /// The frames of all pages that are mapped.
    #[inline]
    pub fn frames(self) -> impl Iterator<Item = PhysAddr> {
        self.slots.iter().map(Slot::raw).filter_map(F::frame_at)
    }

    /// Clears the dirty bits, as [`Mapper::clear_dirty`] does, and as much has to be flushed after it.
    pub fn clear_dirty(self) {
        let clean = |entry: Entry| match entry {
            Entry::Leaf { dirty: true, .. } => Some(entry.with_dirty(false)),
            _ => None,
        };
        self.slots.iter().for_each(|slot| slot.change::<F>(Level::PAGE, clean));
    }

    /// Maps the pages to `frames`, one each, in order. False if one of them is not free, or a frame does not fit: then nothing is
    /// mapped.
    ///
    /// # Safety
    ///
    /// As for [`Mapper::map`].
    #[must_use]
    pub unsafe fn map(self, attributes: Attributes, frames: &[PhysAddr]) -> bool {
        let fits = |&frame: &PhysAddr| F::can_hold(frame, Level::PAGE);
        if frames.len() != self.slots.len() || !self.slots.iter().all(Slot::is_zero) || !frames.iter().all(fits) {
            return false;
        }
        for (slot, &frame) in self.slots.iter().zip(frames) {
            slot.put::<F>(Entry::Leaf { frame, attributes, dirty: !F::HAS_DIRTY }, Level::PAGE);
        }
        true
    }

    /// Maps the pages to frames side by side, from `first` on. False if one of them is not free, or a frame does not fit: then nothing
    /// is mapped.
    ///
    /// # Safety
    ///
    /// As for [`Mapper::map`].
    #[inline]
    #[must_use]
    pub unsafe fn map_run(self, attributes: Attributes, first: PhysAddr) -> bool {
        let frame = |page: usize| first.wrapping_add((page * F::page_bytes()) as u64);
        let last = frame(self.slots.len().saturating_sub(1));
        let fit = F::can_hold(first, Level::PAGE) && F::can_hold(last, Level::PAGE);
        if !fit || !self.is_absent() {
            return false;
        }
        fill_run::<F>(self.slots, attributes, first);
        true
    }

    /// Takes the mapping of the pages away, if their frames lie side by side, and returns the first frame. None, and all are as they
    /// were, if they do not, or a page is not mapped.
    ///
    /// Each entry goes by one exchange. What is in TLBs stays there: the caller flushes, and keeps the frames until then.
    ///
    /// # Safety
    ///
    /// As for [`Mapper::park`].
    #[inline]
    #[must_use]
    pub unsafe fn take_run(self) -> Option<PhysAddr> {
        let raw = self.slots.first()?.raw();
        let first = F::frame_at(raw)?;
        let (step, recorded) = F::NEIGHBOURS?;
        let mut expected = raw;
        for slot in self.slots {
            if (slot.raw() ^ expected) & !recorded != 0 {
                return None;
            }
            expected = expected.wrapping_add(step);
        }
        self.slots.iter().for_each(|slot| _ = slot.swap_out());
        Some(first)
    }

    /// Parks the pages, as [`Mapper::park`] does. False if one of them is not mapped: then all are as they were.
    ///
    /// # Safety
    ///
    /// As for [`Mapper::park`].
    #[must_use]
    pub unsafe fn park(self) -> bool {
        if !self.slots.iter().all(|slot| F::frame_at(slot.raw()).is_some()) {
            return false;
        }
        self.slots.iter().for_each(|slot| slot.change_raw(F::park));
        true
    }

    /// Clears parked entries and gives their frames to `take`, as [`Mapper::take_parked`] does. False if a page is not parked:
    /// then all are as they were.
    ///
    /// # Safety
    ///
    /// As for [`Mapper::take_parked`].
    #[must_use]
    pub unsafe fn take_parked(self, mut take: impl FnMut(PhysAddr)) -> bool {
        if !self.slots.iter().all(|slot| F::parked_frame(slot.raw()).is_some()) {
            return false;
        }
        self.slots.iter().filter_map(|slot| F::parked_frame(slot.swap_out())).for_each(&mut take);
        true
    }
}
