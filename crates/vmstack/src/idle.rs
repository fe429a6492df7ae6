//! Where idle stacks may be: a word for each chunk of records, so that the hand passes over those that have none.
//!
//! Whoever makes a stack idle notes it first. Who looks forgets the note first, looks at the records, and notes it again if any stays,
//! or [is idle soon](crate::slots::Phase::is_idle_soon): its holder may have found the note before it was forgotten. So no idle stack
//! is in a chunk of which nothing is noted, however the two meet.
//!
//! Contexts: task and interrupt, under a guard. Never NMI, never the fault path.

use crate::sync::{AtomicU8, Ordering, fence};

/// The chunk was made, and nothing is noted of it.
pub(crate) const MADE: u8 = 2;
/// Made, and there may be idle stacks among its slots.
pub(crate) const IDLE: u8 = 3;

/// Notes that there may be an idle stack. Before it is idle, for whoever has had a full fence since it ended its life, or has claimed it.
#[inline]
pub(crate) fn note(byte: &AtomicU8) {
    if byte.load(Ordering::Relaxed) != IDLE {
        // Release: as where the chunk was made, for whoever sees only this.
        byte.store(IDLE, Ordering::Release);
    }
}

/// Whether there may be idle stacks. Forgets it, for whoever looks now.
pub(crate) fn take(byte: &AtomicU8) -> bool {
    // Acquire: pairs with the Release above, for whoever sees only what is stored below.
    let idle = byte.load(Ordering::Acquire) == IDLE;
    if idle {
        byte.store(MADE, Ordering::Release);
        // Between this and the look at the records: whoever gives one back sees this, or is seen.
        fence(Ordering::SeqCst);
    }
    idle
}

/// Models of the hand and of those who make stacks idle, checked by loom in every order (`--cfg loom`).
#[cfg(all(loom, test))]
mod models;
