//! Whole leaf tables at a time: what a fork, an exit and a change of rights do with a user's memory.
//!
//! A user's memory is large and has holes. So these methods take any range of pages, go down once for each leaf table
//! that is there, and run over its entries; where there is no table, they cost nothing. They do to each entry what the
//! methods of `park` and `leaf` do to a run of pages that are all there, and pass over what is not theirs.
//!
//! How long a sweep takes is the caller's to choose: [`Mapper::first_leaf_table`] says where the next table is, and the
//! caller cuts what it sweeps at once to its measure.
//!
//! Large pages are passed over: a user's memory has none.

use core::ops::ControlFlow;

use vmstack::{Pages, PhysAddr, VirtAddr, VirtRange};

use crate::attributes::{Access, Attributes};
use crate::entry::{Entry, Leaf, Level};
use crate::error::{LeafError, MapError};
use crate::format::Format;
use crate::mapper::Mapper;
use crate::memory::TableMemory;
use crate::run::{Run, Span};
use crate::table::{Slot, Table};

impl<'a, F: Format, M: TableMemory> Mapper<'a, F, M> {
    /// The first part of `range` that lies in one leaf table which is there, or `None` if no leaf table is.
    ///
    /// # Context
    ///
    /// Any. Takes no lock.
    #[must_use]
    pub fn first_leaf_table(&self, range: VirtRange) -> Option<VirtRange> {
        let part = Span::translated::<F>(range).find_map(|span| self.first_part(self.root_table(), F::top(), span))?;
        VirtRange::new(part.first(), part.last().distance(part.first()) + 1)
    }

    /// The first part of `span` whose addresses have a leaf table below `table`, which is of `level`.
    fn first_part(self, table: &'a Table, level: Level, span: Span) -> Option<Span> {
        span.parts::<F>(level).find_map(|part| match table.slot(F::index(part.first(), level)).read::<F>(level) {
            Entry::Table { at } => match level.down()? {
                Level::PAGE => Some(part),
                down => self.first_part(self.follow(at), down, part),
            },
            _ => None,
        })
    }

    /// Takes the mapping of every leaf in `range` away and keeps its frame and dirty bit in its entry. Returns how many
    /// there were. As [`park`](Self::park), but for whatever is there.
    ///
    /// # Context
    ///
    /// Any but NMI. Takes no lock, needs no memory (INV-FREE).
    ///
    /// # Safety
    ///
    /// As [`park`](Self::park).
    #[must_use = "parked pages have to be flushed and taken"]
    pub unsafe fn park_leaves(&self, range: VirtRange) -> usize {
        let mut parked = 0;
        self.sweep(range, |_, slot| {
            if matches!(slot.read::<F>(Level::PAGE), Entry::Leaf { .. }) {
                slot.change::<F>(Level::PAGE, Entry::parked);
                parked += 1;
            }
        });
        parked
    }

    /// Clears every leaf and every parked entry in `range` and gives their frames to `take`, lowest address first.
    ///
    /// # Context
    ///
    /// Any but NMI, and that of `take`. Takes no lock, needs no memory (INV-FREE).
    ///
    /// # Safety
    ///
    /// 1. Nobody uses the memory in `range` any more.
    /// 2. The range is the caller's, and no other mapper works in it at the same time.
    /// 3. No frame that `take` is given is used again before every CPU that could hold a translation of it has flushed
    ///    (INV-FRAME): of pages that were parked, before this call.
    pub unsafe fn take_frames(&self, range: VirtRange, mut take: impl FnMut(PhysAddr)) {
        self.sweep(range, |_, slot| {
            if matches!(slot.read::<F>(Level::PAGE), Entry::Leaf { .. } | Entry::Parked { .. })
                && let Entry::Leaf { frame, .. } | Entry::Parked { frame, .. } = slot.take::<F>(Level::PAGE)
            {
                take(frame);
            }
        });
    }

    /// Makes leaves with `attributes` of those entries of `pages` that are parked.
    ///
    /// # Context
    ///
    /// Any but NMI. Takes no lock, needs no memory.
    ///
    /// # Errors
    ///
    /// `pages` is no run of pages that the format translates.
    ///
    /// # Safety
    ///
    /// As [`map`](Self::map).
    pub unsafe fn unpark(&self, pages: Pages, attributes: Attributes) -> Result<(), LeafError> {
        let run = Run::check::<F>(pages)?;
        for (_, slot) in self.slots(run).flatten() {
            slot.publish::<F>(attributes, Level::PAGE);
        }
        Ok(())
    }

    /// Gives each leaf in `range` the attributes that `choose` says. Dirty bits stay as they are.
    ///
    /// What is in TLBs stays there: a right that was taken away is gone once the caller has flushed the range.
    ///
    /// # Context
    ///
    /// Any but NMI, and that of `choose`. Takes no lock, needs no memory.
    ///
    /// # Safety
    ///
    /// As [`protect`](Self::protect). Of attributes other than the access, only those change that the architecture
    /// lets a live mapping change.
    pub unsafe fn protect_leaves(&self, range: VirtRange, mut choose: impl FnMut(Leaf) -> Attributes) {
        self.sweep(range, |at, slot| {
            if let Some(leaf) = slot.read::<F>(Level::PAGE).leaf(at, Level::PAGE) {
                let attributes = choose(leaf);
                slot.change::<F>(Level::PAGE, |entry| entry.with_attributes(attributes));
            }
        });
    }

    /// Maps every leaf in `range` in `other` too, at the same address, and gives its frame to `share`. With
    /// `read_only`, it is not writable in either from here on: for a copy that is made when one of them writes.
    ///
    /// # Context
    ///
    /// Any but NMI, and that of `share`. Takes no lock; makes tables in `other`.
    ///
    /// # Errors
    ///
    /// There is no memory for a table, or something is mapped in `other`. What was shared before that is.
    ///
    /// # Safety
    ///
    /// 1. The range is the caller's in both trees, and no other mapper works in it at the same time.
    /// 2. Whoever may access the range through `other` may access the frames so.
    /// 3. With `read_only`: nobody relies on the frames being unchanged before the caller has flushed the range on
    ///    every CPU that could hold a translation of it.
    pub unsafe fn share_leaves(
        &self,
        other: &Mapper<'_, F, M>,
        range: VirtRange,
        read_only: bool,
        mut share: impl FnMut(PhysAddr),
    ) -> Result<(), MapError> {
        let mut rest = Some(range);
        while let Some(part) = rest.and_then(|rest| self.first_leaf_table(rest)) {
            let theirs = other.make_table_for(part.start(), Level::PAGE)?;
            let shared = self.try_sweep(part, |at, slot| {
                match share_slot::<F>(slot, theirs.slot(F::index(at, Level::PAGE)), read_only) {
                    Ok(Some(frame)) => share(frame),
                    Ok(None) => {}
                    Err(found) => return ControlFlow::Break(MapError::instead_of_leaf(found, at)),
                }
                ControlFlow::Continue(())
            });
            if let ControlFlow::Break(error) = shared {
                return Err(error);
            }
            rest = rest.and_then(|rest| after(rest, part));
        }
        Ok(())
    }

    /// Moves what is in the entries of `pages`, leaves and parked ones, to as many pages from `to` on.
    ///
    /// # Context
    ///
    /// Any but NMI. Takes no lock; makes tables.
    ///
    /// # Errors
    ///
    /// There is no memory for a table, or either is no run of pages. Then nothing was moved.
    ///
    /// # Safety
    ///
    /// 1. Both are the caller's, they do not overlap, and no other mapper works on them at the same time.
    /// 2. Nothing is mapped at the pages from `to` on.
    /// 3. Nobody relies on the memory being gone from `pages` before the caller has flushed them.
    pub unsafe fn move_leaves(&self, pages: Pages, to: VirtAddr) -> Result<(), MapError> {
        let from = Run::check::<F>(pages)?;
        let there = Run::check::<F>(Pages::new(to, pages.count()))?;
        self.make_slots(there).try_for_each(|slot| slot.map(|_| ()))?;
        for (from, there) in self.slots(from).zip(self.slots(there)) {
            if let (Ok((_, from)), Ok((_, there))) = (from, there) {
                let entry = from.take::<F>(Level::PAGE);
                let filled = there.fill::<F>(entry, Level::PAGE);
                debug_assert!(filled.is_ok(), "something is mapped there: {filled:?}");
            }
        }
        Ok(())
    }

    /// Gives `visit` the slot of each page in `range` that has a leaf table, absent ones included.
    fn sweep(&self, range: VirtRange, mut visit: impl FnMut(VirtAddr, &'a Slot)) {
        let swept: ControlFlow<()> = self.try_sweep(range, |at, slot| {
            visit(at, slot);
            ControlFlow::Continue(())
        });
        debug_assert!(swept.is_continue(), "nothing stops the sweep");
    }

    /// As [`sweep`](Self::sweep), until `visit` breaks.
    fn try_sweep<B>(
        &self,
        range: VirtRange,
        mut visit: impl FnMut(VirtAddr, &'a Slot) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut rest = Some(range);
        while let Some(part) = rest.and_then(|rest| self.first_leaf_table(rest)) {
            if let Ok(table) = self.table_for(part.start(), Level::PAGE) {
                let first = F::index(part.start(), Level::PAGE);
                for page in 0..part.bytes() / F::page_bytes() {
                    visit(part.start().wrapping_add(page * F::page_bytes()), table.slot(first + page))?;
                }
            }
            rest = rest.and_then(|rest| after(rest, part));
        }
        ControlFlow::Continue(())
    }
}

/// Copies a leaf from `mine` to `theirs`, and says which frame it leads to. Else what is in the way.
fn share_slot<F: Format>(mine: &Slot, theirs: &Slot, read_only: bool) -> Result<Option<PhysAddr>, Entry> {
    let Entry::Leaf { frame, attributes, dirty } = mine.read::<F>(Level::PAGE) else { return Ok(None) };
    let attributes = match attributes.access() {
        Access::ReadWrite if read_only => {
            let attributes = attributes.with_access(Access::Read);
            mine.change::<F>(Level::PAGE, |entry| entry.with_attributes(attributes));
            attributes
        }
        _ => attributes,
    };
    theirs.fill::<F>(Entry::Leaf { frame, attributes, dirty }, Level::PAGE)?;
    Ok(Some(frame))
}

/// What of `range` comes after `part`.
fn after(range: VirtRange, part: VirtRange) -> Option<VirtRange> {
    let bytes = range.end().offset_from(part.end())?;
    VirtRange::new(part.end(), bytes).filter(|rest| rest.bytes() != 0)
}
