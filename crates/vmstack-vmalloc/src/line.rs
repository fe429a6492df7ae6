//! What a CPU keeps: free slots of each class, and what it has unmapped.
//!
//! ```text
//!   alloc <── pool of the class <──────── flushed ────────┐
//!                 │ ^                                     │
//!      too many   v │ none left          free ──> pending ──enough──> in flight
//!               central                                     one shootdown
//! ```
//!
//! Slots in a pool are unmapped, flushed, and have no frames: what a CPU keeps is addresses and records, no memory. Whoever touches it holds the
//! platform's guard: no migration, no re-entry, so plain loads and stores will do.
//!
//! Contexts: task and interrupt, under a guard. Never NMI, never the fault path.

use core::cell::UnsafeCell;
use core::fmt;

use vmstack::Flight;

use crate::chain::{Chain, Pieces};
use crate::class::CLASSES;
use crate::pager::Pager;
use crate::usage::CpuCounters;

/// How many pieces share one shootdown.
const BATCH: u32 = 64;
/// How many pages do, where pieces are large: their frames wait meanwhile.
const BATCH_PAGES: u64 = 1024;

/// Free slots of one class that a CPU keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool {
    pub(crate) free: Chain,
    /// The fewest that there were since the pool last decayed: nobody would have missed them.
    pub(crate) fewest: u32,
}

impl Pool {
    const EMPTY: Self = Self { free: Chain::new(), fewest: 0 };

    /// Notes how many there are, after one was taken.
    #[inline]
    pub(crate) fn note_fewest(&mut self) {
        self.fewest = self.fewest.min(self.free.len());
    }
}

/// What is the CPU's alone.
#[derive(Debug)]
pub(crate) struct Near<P: Pager> {
    pub(crate) pools: [Pool; CLASSES],
    /// Unmapped, and not in flight yet.
    pub(crate) pending: Pieces,
    pub(crate) flight: Flight<P, Pieces>,
    /// How many pages had been unmapped when the last batch was sent off.
    pub(crate) sent_off: u64,
    /// The last announcements of memory pressure, and of decay, that this CPU has answered.
    pub(crate) answered: u32,
    pub(crate) decayed: u32,
}

impl<P: Pager> Near<P> {
    /// How many pages are pending.
    #[inline]
    pub(crate) fn pending_pages(&self, counters: &CpuCounters) -> u64 {
        counters.unmapped.get().wrapping_sub(self.sent_off)
    }

    /// Whether what is pending is enough for a batch.
    #[inline]
    pub(crate) fn is_batch(&self, counters: &CpuCounters) -> bool {
        self.pending.len() >= BATCH || self.pending_pages(counters) >= BATCH_PAGES
    }
}

/// The line of one CPU. Made with the vmalloc, and never unmapped.
#[repr(C, align(128))]
pub(crate) struct Line<P: Pager> {
    near: UnsafeCell<Near<P>>,
    pub(crate) counters: CpuCounters,
}

// SAFETY: (1) the cell is reached only through `near`, whose callers prove that they alone are there; what it holds (tickets) may move
// between CPUs; (2) the counters are atomics.
unsafe impl<P: Pager> Sync for Line<P> {}

impl<P: Pager> Line<P> {
    /// Of a CPU that keeps nothing yet.
    pub(crate) const fn new() -> Self {
        let near = Near {
            pools: [Pool::EMPTY; CLASSES],
            pending: Pieces::new(),
            flight: Flight::new(Pieces::new()),
            sent_off: 0,
            answered: 0,
            decayed: 0,
        };
        Self { near: UnsafeCell::new(near), counters: CpuCounters::new() }
    }

    /// What is the CPU's alone.
    ///
    /// # Safety
    ///
    /// This is the line of the CPU on which the caller has a guard, the guard outlives the reference, and no other reference to this is alive.
    #[expect(clippy::mut_from_ref, reason = "the guard makes it exclusive, as the caller proves")]
    #[inline]
    pub(crate) unsafe fn near(&self) -> &mut Near<P> {
        // SAFETY: the guard means that no other code runs here, and the caller has no other reference itself.
        unsafe { &mut *self.near.get() }
    }
}

impl<P: Pager> fmt::Debug for Line<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("counters", &self.counters).finish_non_exhaustive()
    }
}
