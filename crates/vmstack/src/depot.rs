//! The depot of a node: the ready stacks that no CPU holds, a magazine at a time.
//!
//! A CPU whose magazines are empty takes a full one here, and a CPU whose magazines are full leaves one. Stacks in a depot have their
//! frames on the depot's node, so whoever asks for a node gets that node.
//!
//! ```text
//!   CPU 0: loaded, previous ──full──>┌─────────┐<──full── CPU 1: loaded, previous
//!                           <──────── │  depot  │
//!   CPU 5, another node:   ──away──> │  node 0 │ ──over budget, or idle for a while──> unmapped
//!                                     └─────────┘
//! ```
//!
//! It knows how many stacks it has, the fewest that it had since it was last asked (what was never needed may go), and how many were
//! there when memory was short, or idle and could not go at once (they must go).
//!
//! Contexts: task and interrupt. Never NMI, never the fault path.

use crate::chain::{Chain, MagazineList, Records};
use crate::sync::{AtomicU32, Ordering};

/// The depot of one node, in a cache line of its own.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Depot {
    magazines: MagazineList,
    held: AtomicU32,
    fewest: AtomicU32,
    owed: AtomicU32,
}

impl Depot {
    pub(crate) fn new() -> Self {
        let (held, fewest, owed) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        Self { magazines: MagazineList::new(), held, fewest, owed }
    }

    /// How many stacks it has. A moment's answer.
    #[inline]
    pub(crate) fn held(&self) -> u32 {
        // Relaxed, here and where nothing is said: the counts order nothing; the list does.
        self.held.load(Ordering::Relaxed)
    }

    /// Leaves a magazine. An empty one is nothing.
    pub(crate) fn push(&self, magazine: Chain, records: &impl Records) {
        // Counted before it can be taken, so that the count is never below zero.
        self.held.fetch_add(magazine.len(), Ordering::Relaxed);
        self.magazines.push(magazine, records);
    }

    /// Takes a magazine, for whoever may put some of it back, and then says what was needed ([`note_need`](Self::note_need)).
    pub(crate) fn pop(&self, records: &impl Records) -> Option<Chain> {
        let magazine = self.magazines.pop(records)?;
        self.held.fetch_sub(magazine.len(), Ordering::Relaxed);
        Some(magazine)
    }

    /// What was taken is in use: no more than what is here now was idle.
    pub(crate) fn note_need(&self) {
        // Release: pairs with the Acquire of the swap below, which then does not miss what was taken.
        self.fewest.fetch_min(self.held(), Ordering::Release);
    }

    /// The fewest stacks that it had since this was last asked: nobody would have missed them.
    pub(crate) fn take_idle(&self) -> u32 {
        let fewest = self.fewest.swap(self.held(), Ordering::Acquire);
        // What was taken since it was asked how many there are.
        self.note_need();
        fewest.min(self.held())
    }

    /// Everything that is here must go.
    pub(crate) fn owe_all(&self) {
        self.owed.store(self.held(), Ordering::Relaxed);
    }

    /// So many of those that are here must go.
    pub(crate) fn owe(&self, stacks: u32) {
        self.owed.fetch_max(stacks, Ordering::Relaxed);
    }

    /// So many have gone.
    pub(crate) fn pay(&self, gone: u32) {
        let _ = self.owed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |owed| Some(owed.saturating_sub(gone)));
    }

    /// How many stacks must go, where `budget` may stay.
    pub(crate) fn excess(&self, budget: u32) -> u32 {
        let held = self.held();
        held.saturating_sub(budget).max(self.owed.load(Ordering::Relaxed).min(held))
    }
}

/// Models of what CPUs do to a depot at the same time, checked by loom in every order (`--cfg loom`).
#[cfg(all(loom, test))]
mod models;
