//! The per-CPU cache: ready stacks that this CPU freed lately, handed out again without a lock.
//!
//! A *magazine* is a small array of slots, last in, first out (Bonwick & Adams, USENIX 2001). It belongs to one CPU, and
//! whoever touches it holds the platform's guard: no migration, no re-entry. So a hit is a plain load and a plain store
//! on lines that no other CPU writes.
//!
//! ```text
//!   free ──> magazine (16) ──full──> doomed (chain, still mapped) ──8 of them──> batch (unmapped, in flight) ──> free list
//!              │                        │
//!   alloc <────┴────────────────────────┘
//! ```
//!
//! Contexts: task and interrupt, under a guard. Never NMI, never the fault path.

use core::cell::UnsafeCell;
use core::fmt;

use crate::geometry::SlotIndex;
use crate::platform::Platform;
use crate::reclaim::Batch;
use crate::slots::{Chain, Records};
use crate::usage::CpuCounters;

/// How many ready stacks a CPU keeps before it gives some up.
pub(crate) const MAGAZINE_ROUNDS: usize = 16;

/// A fixed stack of slots.
#[derive(Debug)]
pub(crate) struct Magazine {
    rounds: [u32; MAGAZINE_ROUNDS],
    count: usize,
}

impl Magazine {
    const fn new() -> Self {
        Self { rounds: [0; MAGAZINE_ROUNDS], count: 0 }
    }

    /// Keeps `slot`, or hands it back if the magazine is full.
    pub(crate) fn push(&mut self, slot: SlotIndex) -> Result<(), SlotIndex> {
        match self.rounds.get_mut(self.count) {
            Some(round) => {
                *round = slot.get();
                self.count += 1;
                Ok(())
            }
            None => Err(slot),
        }
    }

    pub(crate) fn pop(&mut self) -> Option<SlotIndex> {
        let last = self.count.checked_sub(1)?;
        let round = *self.rounds.get(last)?;
        self.count = last;
        Some(SlotIndex::new(round))
    }
}

/// What one CPU holds of an area. Only that CPU touches it, under a guard.
pub(crate) struct Local<P: Platform> {
    pub(crate) magazine: Magazine,
    pub(crate) doomed: Chain,
    pub(crate) batch: Batch<P>,
    /// The stack of the task that died last on this CPU, until the next task gives it back.
    pub(crate) dead: Option<SlotIndex>,
}

impl<P: Platform> Local<P> {
    /// A ready stack, the hottest first.
    pub(crate) fn take_ready(&mut self, records: &impl Records) -> Option<SlotIndex> {
        self.magazine.pop().or_else(|| self.doomed.pop(records))
    }

    /// Every ready stack, one after the other, when the cache is to be emptied.
    pub(crate) fn doom_all(&mut self, records: &impl Records) {
        while let Some(slot) = self.magazine.pop() {
            self.doomed.push(slot, records);
        }
    }
}

/// One CPU's block of an area.
#[repr(C, align(64))]
pub(crate) struct CpuBlock<P: Platform> {
    local: UnsafeCell<Local<P>>,
    pub(crate) counters: CpuCounters,
}

// SAFETY: (1) `local` is reached only through `local()`, whose caller proves that it alone is there; what it holds
// (frames, tickets) may move between CPUs, as CPUs go offline; (2) the counters are atomics.
unsafe impl<P: Platform> Sync for CpuBlock<P> {}

impl<P: Platform> CpuBlock<P> {
    pub(crate) fn new() -> Self {
        let local = Local { magazine: Magazine::new(), doomed: Chain::new(), batch: Batch::new(), dead: None };
        Self { local: UnsafeCell::new(local), counters: CpuCounters::new() }
    }

    /// What this CPU holds.
    ///
    /// # Safety
    ///
    /// This is the block of the CPU on which `_guard` was taken, the guard outlives the reference, and no other reference to
    /// the local part is alive.
    #[expect(clippy::mut_from_ref, reason = "the guard makes it exclusive, as the caller proves")]
    pub(crate) unsafe fn local(&self, _guard: &P::Guard) -> &mut Local<P> {
        // SAFETY: the guard proves that no other code runs here, and the caller that it has no other reference itself.
        unsafe { &mut *self.local.get() }
    }
}

impl<P: Platform> fmt::Debug for CpuBlock<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuBlock").field("counters", &self.counters).finish_non_exhaustive()
    }
}
