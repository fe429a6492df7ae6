//! Sweeps: whatever is found in a range, lowest address first.
//!
//! One recursion serves all of them. It visits each entry that is not absent, a table's after those in it, so that a
//! visitor may take down what it stands on. It is as deep as the format has levels, and costs one load for each entry
//! of each table that the range touches; where there is no table, it costs nothing.
//!
//! A range may be any: addresses that the format does not translate hold nothing.
//!
//! Sweeps take no lock. What other CPUs change meanwhile is seen before or after, entry by entry.

use core::ops::ControlFlow;

use vmstack::{VirtAddr, VirtRange};

use crate::entry::{Entry, Leaf, Level};
use crate::error::LeafError;
use crate::format::Format;
use crate::mapper::Mapper;
use crate::memory::TableMemory;
use crate::run::Span;
use crate::table::{Slot, Table};

/// An entry that a sweep found.
pub(crate) struct Place<'a> {
    /// The lowest address that its slot stands for.
    pub(crate) at: VirtAddr,
    pub(crate) level: Level,
    pub(crate) slot: &'a Slot,
    pub(crate) entry: Entry,
}

/// What is in a range, counted by looking.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Census {
    /// Leaves, of whatever size, that map some of the range.
    pub leaves: usize,
    /// Bytes that those leaves map, in the range or not.
    pub bytes: usize,
    /// Parked entries.
    pub parked: usize,
    /// Tables below the root that the range goes through.
    pub tables: usize,
    /// Entries that this crate did not write.
    pub foreign: usize,
}

impl<'a, F: Format, M: TableMemory> Mapper<'a, F, M> {
    /// Gives `visit` every leaf that maps some of `range`, lowest address first, until it breaks.
    ///
    /// For a fork's copy, for reports, for recounts. Parked and foreign entries are passed over.
    ///
    /// # Context
    ///
    /// Any, and that of `visit`. Takes no lock.
    pub fn for_each_leaf<B>(&self, range: VirtRange, mut visit: impl FnMut(Leaf) -> ControlFlow<B>) -> ControlFlow<B> {
        self.visit(range, |place| match place.entry.leaf(place.at, place.level) {
            Some(leaf) => visit(leaf),
            None => ControlFlow::Continue(()),
        })
    }

    /// Counts what is in `range`, by looking at every table that it goes through (INV-COUNT).
    ///
    /// # Context
    ///
    /// Any. Takes no lock.
    #[must_use]
    pub fn census(&self, range: VirtRange) -> Census {
        let mut census = Census::default();
        let swept: ControlFlow<()> = self.visit(range, |place| {
            census.count::<F>(place.entry, place.level);
            ControlFlow::Continue(())
        });
        debug_assert!(swept.is_continue(), "a count sees everything");
        census
    }

    /// Takes away every leaf in `range` and gives it to `take`, lowest address first. Pages that are not mapped, parked
    /// pages and foreign entries are passed over; tables are kept.
    ///
    /// For memory that is torn down in one piece, a process's for instance, with one flush after. The dirty bit in the
    /// [`Leaf`] is the one at the moment of the exchange.
    ///
    /// # Context
    ///
    /// Any but NMI, and that of `take`. Takes no lock, needs no memory (INV-FREE).
    ///
    /// # Errors
    ///
    /// [`LeafError::Misaligned`], or [`LeafError::HugeInTheWay`] if the range ends inside a large page, which would
    /// have to be split. Then all is as it was.
    ///
    /// # Safety
    ///
    /// 1. Nobody uses the memory in `range` any more.
    /// 2. The range is the caller's, and no other mapper works in it at the same time.
    /// 3. No frame that `take` is given is used again before every CPU that could hold a translation of it has flushed
    ///    (INV-FRAME).
    pub unsafe fn unmap_with(&self, range: VirtRange, mut take: impl FnMut(Leaf)) -> Result<(), LeafError> {
        self.expect_uncut(range)?;
        let swept: ControlFlow<()> = self.visit(range, |place| {
            if let Entry::Leaf { .. } = place.entry
                && let Some(leaf) = place.slot.take::<F>(place.level).leaf(place.at, place.level)
            {
                take(leaf);
            }
            ControlFlow::Continue(())
        });
        debug_assert!(swept.is_continue(), "nothing stops the sweep");
        Ok(())
    }

    /// Whether `range` has its ends on page boundaries and cuts no large page.
    fn expect_uncut(&self, range: VirtRange) -> Result<(), LeafError> {
        let page = F::page_bytes();
        if !range.start().is_aligned(page) || !range.end().is_aligned(page) {
            return Err(LeafError::Misaligned { at: range.start() });
        }
        let Some(span) = Span::of(range) else { return Ok(()) };
        let cut = [span.first(), span.last()].into_iter().find(|&end| self.is_cut(span, end));
        cut.map_or(Ok(()), |at| Err(LeafError::HugeInTheWay { at }))
    }

    /// Whether the leaf that maps `end`, an end of `span`, reaches out of it.
    fn is_cut(&self, span: Span, end: VirtAddr) -> bool {
        self.translate(end).is_some_and(|(_, leaf)| {
            let last = leaf.at.wrapping_add(F::entry_bytes(leaf.level) - 1);
            leaf.at < span.first() || last > span.last()
        })
    }

    /// Gives `visit` every entry of `range` that is not absent, a table's after those in it, until it breaks.
    pub(crate) fn visit<B>(
        self,
        range: VirtRange,
        mut visit: impl FnMut(Place<'a>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        Span::translated::<F>(range).try_for_each(|span| self.visit_in(self.root_table(), F::top(), span, &mut visit))
    }

    /// Visits the entries of `table` that stand for addresses in `span`.
    fn visit_in<B>(
        self,
        table: &'a Table,
        level: Level,
        span: Span,
        visit: &mut impl FnMut(Place<'a>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for index in table.used(F::index(span.first(), level), F::index(span.last(), level)) {
            let slot = table.slot(index);
            let Some(part) = span.part::<F>(level, index) else { continue };
            let entry = slot.read::<F>(level);
            if let (Entry::Table { at }, Some(down)) = (entry, level.down()) {
                self.visit_in(self.follow(at), down, part, visit)?;
            }
            if entry != Entry::Absent {
                let at = VirtAddr::new(part.first().get() & !(F::entry_bytes(level) - 1));
                visit(Place { at, level, slot, entry })?;
            }
        }
        ControlFlow::Continue(())
    }
}

impl Census {
    /// Counts one entry of a table of `level`.
    fn count<F: Format>(&mut self, entry: Entry, level: Level) {
        match entry {
            Entry::Absent => {}
            Entry::Parked { .. } => self.parked += 1,
            Entry::Table { .. } => self.tables += 1,
            Entry::Foreign { .. } => self.foreign += 1,
            Entry::Leaf { .. } => {
                self.leaves += 1;
                self.bytes += F::entry_bytes(level);
            }
        }
    }
}
