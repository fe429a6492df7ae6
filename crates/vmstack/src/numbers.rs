//! Which slot a stack gets: any that is ready, or the one that its task's number says.
//!
//! A kernel has numbers for its tasks anyway. If each number has a slot, there is nothing to look for: the number is the place, and
//! what the last task of that number left there is found again (P. Pisa proposed so in the comments to LWN 692208). What that is good for
//! depends on who hands the numbers out:
//!
//! ```text
//!   lowest free first    0 1 2 1 2 0 1 ...         a few slots, used again and again: their pages are there
//!   one after the other  300 301 302 ... 32767 300  each slot rests until all others had a turn: its pages are gone, or idle
//! ```
//!
//! Contexts: any.

use crate::sync::{AtomicU32, Ordering};

/// Which slot of an area a new stack gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Placement {
    /// Any: the one that this CPU has ready, of those that were freed last. [`StackArea::alloc`](crate::StackArea::alloc).
    #[default]
    Any,
    /// The one that the caller's number says: [`StackArea::alloc_numbered`](crate::StackArea::alloc_numbered). The caller hands numbers
    /// out, each to one task at a time. Slots are of no CPU and of no node: a stack's frames stay where they were first had.
    ///
    /// Whoever knows a task's number and the range of the area knows the address of its stack.
    Numbered,
}

/// What an area knows of its slots as a whole, where numbers lead to them.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// How many numbers there are: none in an area of the other placement.
    slots: AtomicU32,
    /// Slots from this number on were never used.
    used: AtomicU32,
    /// Where the hand is that looks for idle stacks.
    hand: AtomicU32,
    /// How many idle stacks have to go, since memory was short.
    owed: AtomicU32,
}

impl Numbers {
    #[cfg(not(all(loom, test)))]
    pub(crate) const fn new() -> Self {
        Self { slots: AtomicU32::new(0), used: AtomicU32::new(0), hand: AtomicU32::new(0), owed: AtomicU32::new(0) }
    }

    /// From here on numbers lead to `slots` slots. Before the area is ready.
    pub(crate) fn begin(&self, slots: usize) {
        // Relaxed, here and below: whoever sees that the area is ready sees this, and the others are counts that order nothing.
        self.slots.store(slots as u32, Ordering::Relaxed);
    }

    /// How many numbers there are.
    #[inline]
    pub(crate) fn slots(&self) -> u32 {
        self.slots.load(Ordering::Relaxed)
    }

    /// Whether numbers lead to the slots of this area.
    #[inline]
    pub(crate) fn lead(&self) -> bool {
        self.slots() != 0
    }

    /// No number at or above this was ever used.
    pub(crate) fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// This number is used.
    pub(crate) fn note_used(&self, number: u32) {
        self.used.fetch_max(number + 1, Ordering::Relaxed);
    }

    /// Where the hand is.
    pub(crate) fn hand(&self) -> u32 {
        self.hand.load(Ordering::Relaxed)
    }

    /// Puts the hand at `number`, or at the beginning if that is past the last one that was used. Two CPUs that move it at once look at
    /// the same stretch twice.
    pub(crate) fn put_hand(&self, number: u32) {
        self.hand.store(if number < self.used() { number } else { 0 }, Ordering::Relaxed);
    }

    /// How many idle stacks have to go, whoever needs them next.
    pub(crate) fn owed(&self) -> u32 {
        self.owed.load(Ordering::Relaxed)
    }

    /// So many have to go.
    pub(crate) fn owe(&self, stacks: u32) {
        self.owed.store(stacks, Ordering::Relaxed);
    }

    /// So many have gone.
    pub(crate) fn pay(&self, gone: u32) {
        let _ = self.owed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |owed| Some(owed.saturating_sub(gone)));
    }
}
