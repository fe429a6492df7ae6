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

/// What a piece weighs beside its pages.
const PIECE: usize = 8;
/// How much shares one shootdown: more than a hundred areas of a page, or about a thousand pages. Their frames wait meanwhile.
const FULL: usize = 1024;

/// What is the CPU's alone.
#[derive(Debug)]
pub(crate) struct Near<P: Pager> {
    /// Free slots of each class.
    pub(crate) pools: [Chain; CLASSES],
    /// Unmapped, and not in flight yet.
    pub(crate) pending: Pieces,
    pub(crate) flight: Flight<P, Pieces>,
    /// How many pages had been unmapped when the last batch was sent off.
    pub(crate) sent_off: u64,
    /// How much is pending: [`FULL`] is enough for a batch.
    pub(crate) weight: usize,
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

    /// Notes that a piece of `pages` pages is pending. True if that is enough for a batch.
    #[inline]
    pub(crate) fn add_weight(&mut self, pages: usize) -> bool {
        self.weight += PIECE + pages;
        self.weight >= FULL
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
            pools: [Chain::new(); CLASSES],
            pending: Pieces::new(),
            flight: Flight::new(Pieces::new()),
            sent_off: 0,
            weight: 0,
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
