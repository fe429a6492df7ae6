//! Counters, and the recount that proves them.
//!
//! Each CPU counts its own events in its own block, with plain loads and stores: one writer, many readers. A sum over
//! CPUs is exact when nothing runs, and a snapshot otherwise. [`Recount`] does not look at counters at all: it walks
//! the slot records, so that the two can be compared (INV-COUNT).

use crate::slots::Phase;
use crate::sync::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened in an area since it was initialised. Numbers of events, except where a unit is given.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[non_exhaustive]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        /// One CPU's share.
        #[derive(Debug)]
        pub(crate) struct CpuCounters { $(pub(crate) $name: Count,)* }

        impl CpuCounters {
            pub(crate) fn new() -> Self {
                Self { $($name: Count(AtomicU64::new(0)),)* }
            }

            pub(crate) fn add_to(&self, sum: &mut Counters) {
                $(sum.$name += self.$name.get();)*
            }
        }
    };
}

counters! {
    /// Stacks handed out.
    allocated,
    /// Of these, the ones that came ready from this CPU's cache.
    hits,
    /// Of these, the ones that were built from frames.
    populated,
    /// Stacks given back: by their last reference.
    released,
    /// Pages cleared before a stack was handed out again.
    pages_cleared,
    /// Pages found clean, and so not cleared.
    pages_clean,
    /// Stacks unmapped.
    unmapped,
    /// Shootdowns started.
    shootdowns,
    /// Stacks whose frames and slot went back after the shootdown.
    retired,
    /// Allocations refused.
    refused,
    /// Stacks leaked because freeing them was in doubt (INV-LIVE).
    leaked,
}

/// A counter with one writer: the CPU that owns it.
#[derive(Debug)]
pub(crate) struct Count(AtomicU64);

impl Count {
    #[inline]
    pub(crate) fn bump(&self) {
        self.add(1);
    }

    #[inline]
    pub(crate) fn add(&self, n: u64) {
        // Load and store, not a locked add: the guard proves that this CPU alone writes. Relaxed: it orders nothing.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many slots are in each phase, found by walking the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Recount {
    /// Slots without frames: on the free list, or never used.
    pub free: usize,
    /// Mapped stacks in caches.
    pub ready: usize,
    /// Stacks handed out.
    pub live: usize,
    /// Stacks of dead tasks, waiting for the next task on their CPU.
    pub dead: usize,
    /// Unmapped stacks, waiting for the shootdown.
    pub retiring: usize,
    /// Stacks leaked.
    pub leaked: usize,
    /// Pages of metadata: directory, records, per-CPU blocks.
    pub metadata_pages: usize,
    /// Slots whose owner's reference or pins are counted though they should have none.
    pub miscounted: usize,
}

impl Recount {
    /// Mapped stacks: each has frames for all of its pages.
    #[must_use]
    pub const fn mapped(&self) -> usize {
        self.ready + self.live + self.dead + self.leaked
    }

    pub(crate) fn note(&mut self, phase: Phase, refs: u32) {
        let (count, held) = match phase {
            Phase::Free => (&mut self.free, false),
            Phase::Ready => (&mut self.ready, false),
            Phase::Live => (&mut self.live, true),
            Phase::Dead => (&mut self.dead, true),
            Phase::Retiring => (&mut self.retiring, false),
            Phase::Leaked => (&mut self.leaked, refs != 0),
        };
        *count += 1;
        self.miscounted += usize::from(held != (refs != 0));
    }
}
