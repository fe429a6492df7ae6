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
//! It knows how many stacks it has, and the fewest that it had since it was last asked: what was never needed may go.
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
}

impl Depot {
    pub(crate) fn new() -> Self {
        Self { magazines: MagazineList::new(), held: AtomicU32::new(0), fewest: AtomicU32::new(0) }
    }

    /// How many stacks it has. A moment's answer.
    pub(crate) fn held(&self) -> u32 {
        // Relaxed, here and below: the count orders nothing; the list does.
        self.held.load(Ordering::Relaxed)
    }

    /// Leaves a magazine. Returns how many stacks there are now.
    pub(crate) fn push(&self, magazine: Chain, records: &impl Records) -> u32 {
        // Counted before it can be taken, so that the count is never below zero.
        let held = self.held.fetch_add(magazine.len(), Ordering::Relaxed) + magazine.len();
        self.magazines.push(magazine, records);
        held
    }

    /// Takes a magazine.
    pub(crate) fn pop(&self, records: &impl Records) -> Option<Chain> {
        let magazine = self.magazines.pop(records)?;
        let before = self.held.fetch_sub(magazine.len(), Ordering::Relaxed);
        self.fewest.fetch_min(before - magazine.len(), Ordering::Relaxed);
        Some(magazine)
    }

    /// The fewest stacks that it had since this was last asked: nobody would have missed them.
    pub(crate) fn take_idle(&self) -> u32 {
        self.fewest.swap(self.held(), Ordering::Relaxed).min(self.held())
    }
}
