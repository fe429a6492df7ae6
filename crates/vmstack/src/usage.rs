//! Counters, and the recount that proves them.
//!
//! Each CPU counts its own events in its own block, with plain loads and stores: one writer, many readers. A sum over
//! CPUs is exact when nothing runs, and a snapshot otherwise. [`Recount`] does not look at counters at all: it walks
//! the slot records, so that the two can be compared (INV-COUNT).

use crate::slots::Phase;
use crate::sync::{AtomicU64, Ordering};

/// What happened in an area since it was initialised. Numbers of events, except where a unit is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Stacks handed out.
    pub allocated: u64,
    /// Of these, the ones that came ready from what the CPU keeps, or were ready in the slot of their number.
    pub hits: u64,
    /// Of these, the ones that took a magazine from the depot of a node: ready too.
    pub from_depot: u64,
    /// Of these, the ones that were built from frames.
    pub populated: u64,
    /// Stacks given back: by their owner, or by the last pin.
    pub released: u64,
    /// Magazines left in a depot.
    pub returned: u64,
    /// Pages cleared, so that a stack reads as zero when it is handed out again.
    pub pages_cleared: u64,
    /// Pages that were not cleared when a stack was handed out again.
    pub pages_clean: u64,
    /// Stacks whose dirty bits were taken back, because they had gone deep.
    pub recovered: u64,
    /// Stacks unmapped.
    pub unmapped: u64,
    /// Shootdowns started.
    pub shootdowns: u64,
    /// Stacks whose frames and slot went back after the shootdown.
    pub retired: u64,
    /// Allocations refused.
    pub refused: u64,
    /// Stacks leaked because freeing them was in doubt (INV-LIVE).
    pub leaked: u64,
    /// Bytes of ready stacks in magazines, depots, and on their way there, now.
    pub held: u64,
}

/// One CPU's share: what a hit touches first.
#[derive(Debug)]
pub(crate) struct CpuCounters {
    pub(crate) hits: Count,
    pub(crate) released: Count,
    pub(crate) returned: Count,
    pub(crate) pages_cleared: Count,
    pub(crate) from_depot: Count,
    pub(crate) populated: Count,
    pub(crate) recovered: Count,
    pub(crate) unmapped: Count,
    pub(crate) shootdowns: Count,
    pub(crate) retired: Count,
    pub(crate) refused: Count,
}

impl CpuCounters {
    #[cfg(not(all(loom, test)))]
    pub(crate) const fn new() -> Self {
        Self {
            hits: Count::new(),
            released: Count::new(),
            returned: Count::new(),
            pages_cleared: Count::new(),
            from_depot: Count::new(),
            populated: Count::new(),
            recovered: Count::new(),
            unmapped: Count::new(),
            shootdowns: Count::new(),
            retired: Count::new(),
            refused: Count::new(),
        }
    }

    pub(crate) fn add_to(&self, sum: &mut Counters) {
        sum.hits += self.hits.get();
        sum.released += self.released.get();
        sum.returned += self.returned.get();
        sum.pages_cleared += self.pages_cleared.get();
        sum.from_depot += self.from_depot.get();
        sum.populated += self.populated.get();
        sum.recovered += self.recovered.get();
        sum.unmapped += self.unmapped.get();
        sum.shootdowns += self.shootdowns.get();
        sum.retired += self.retired.get();
        sum.refused += self.refused.get();
    }
}

impl Counters {
    /// Fills in what follows from the rest, for stacks of `pages` pages of `page_size` bytes. So that it costs nothing when it happens.
    pub(crate) fn derive(&mut self, pages: usize, page_size: usize) {
        self.allocated = self.hits + self.from_depot + self.populated;
        let reused = (self.hits + self.from_depot) * pages as u64;
        self.pages_clean = reused.saturating_sub(self.pages_cleared);
        // A leaked stack was allocated and never released.
        let gone = self.unmapped + self.allocated.saturating_sub(self.released);
        self.held = self.populated.saturating_sub(gone) * (pages * page_size) as u64;
    }
}

/// A counter with one writer: the CPU that owns it. Whoever else writes to it at the same time loses counts, and nothing more.
#[derive(Debug)]
pub struct Count(AtomicU64);

#[cfg(not(all(loom, test)))]
impl Default for Count {
    fn default() -> Self {
        Self::new()
    }
}

impl Count {
    /// A counter at zero.
    #[cfg(not(all(loom, test)))]
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one. For the CPU that owns it.
    #[inline]
    pub fn bump(&self) {
        self.add(1);
    }

    /// Counts `n`. For the CPU that owns it.
    #[inline]
    pub fn add(&self, n: u64) {
        // Load and store, not a locked add: the guard proves that this CPU alone writes. Relaxed: it orders nothing.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// What was counted. Any context.
    #[must_use]
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many slots are in each phase, found by walking the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Recount {
    /// Slots without frames: on the free list, or never used, or being given some.
    pub free: usize,
    /// Mapped stacks of nobody: in caches, or in the slots of their numbers.
    pub ready: usize,
    /// Stacks handed out.
    pub live: usize,
    /// Stacks of dead tasks, waiting for the next task on their CPU.
    pub dead: usize,
    /// Stacks that their owner gave back, and that a pin still holds.
    pub pinned: usize,
    /// Unmapped stacks, waiting for the shootdown.
    pub retiring: usize,
    /// Stacks leaked.
    pub leaked: usize,
    /// Pages of metadata: directory, records, per-CPU blocks.
    pub metadata_pages: usize,
    /// Slots without a stack, or with one that nobody owns, that have pins counted, and stacks left to pins that have none.
    pub miscounted: usize,
}

impl Recount {
    /// Mapped stacks: each has frames for all of its pages.
    #[must_use]
    pub const fn mapped(&self) -> usize {
        self.ready + self.live + self.dead + self.pinned + self.leaked
    }

    pub(crate) fn note(&mut self, phase: Phase, pinned: bool) {
        let (count, right) = match phase {
            Phase::Free | Phase::Building => (&mut self.free, !pinned),
            Phase::Ready | Phase::Recovering => (&mut self.ready, !pinned),
            Phase::Live => (&mut self.live, true),
            Phase::Dead => (&mut self.dead, true),
            Phase::Pinned => (&mut self.pinned, pinned),
            Phase::Retiring => (&mut self.retiring, !pinned),
            Phase::Leaked => (&mut self.leaked, true),
        };
        *count += 1;
        self.miscounted += usize::from(!right);
    }
}
