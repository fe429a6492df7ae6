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
    /// How many chunks of records there are, up to the highest number that was used.
    chunks: AtomicU32,
    /// The chunk above which the hand has looked for idle stacks, since there are too many.
    hand: AtomicU32,
    /// The chunk above which stacks that went deep were looked for.
    deep: AtomicU32,
    /// How many idle stacks have to go, since memory was short.
    owed: AtomicU32,
}

impl Numbers {
    #[cfg(not(all(loom, test)))]
    pub(crate) const fn new() -> Self {
        let [slots, chunks, hand, deep, owed] = [const { AtomicU32::new(0) }; 5];
        Self { slots, chunks, hand, deep, owed }
    }

    /// From here on numbers lead to `slots` slots. Before the area is ready.
    pub(crate) fn begin(&self, slots: usize) {
        // Relaxed, here and below: whoever sees that the area is ready sees this, and the others are counts and hints that order nothing.
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

    /// No chunk of records at or above this was ever used.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks.load(Ordering::Relaxed) as usize
    }

    /// This chunk is used.
    pub(crate) fn note_used(&self, chunk: usize) {
        self.chunks.fetch_max(chunk as u32 + 1, Ordering::Relaxed);
    }

    /// Where the hand is. At the top again, once it has come to the end.
    pub(crate) fn hand(&self) -> usize {
        match self.hand.load(Ordering::Relaxed) as usize {
            0 => self.chunks(),
            hand => hand,
        }
    }

    /// Puts the hand at `chunk`. Two CPUs that move it at once look at the same chunks twice.
    pub(crate) fn put_hand(&self, chunk: usize) {
        self.hand.store(chunk as u32, Ordering::Relaxed);
    }

    /// The next chunk to look for deep stacks in.
    pub(crate) fn next_deep(&self) -> Option<usize> {
        let next = |chunk: u32| Some(if chunk == 0 { self.chunks() as u32 } else { chunk }.saturating_sub(1));
        self.deep
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .ok()
            .and_then(next)
            .map(|chunk| chunk as usize)
    }

    /// How many idle stacks have to go, whoever needs them next.
    pub(crate) fn owed(&self) -> usize {
        self.owed.load(Ordering::Relaxed) as usize
    }

    /// So many have to go: all that are idle.
    pub(crate) fn owe_all(&self, stacks: usize) {
        self.owed.store(stacks as u32, Ordering::Relaxed);
    }

    /// So many of those that are idle have to go.
    pub(crate) fn owe(&self, stacks: usize) {
        self.owed.fetch_max(stacks as u32, Ordering::Relaxed);
    }

    /// So many have gone.
    pub(crate) fn pay(&self, gone: u32) {
        let _ = self.owed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |owed| Some(owed.saturating_sub(gone)));
    }
}
