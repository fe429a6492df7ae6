//! Claims: slots that several CPUs may want at once, because a number leads to each of them.
//!
//! Elsewhere a slot belongs to whoever took it out of a chain or off a list. Where numbers lead to slots nothing is taken out of
//! anything: two CPUs may come with the same number, and the hand that looks for idle stacks comes by. So whoever changes the life
//! word first has the slot, by one exchange, and everybody else is told what it is.
//!
//! ```text
//!   Free ──claim──> Building ──go_live──> Live          a number, and nothing in its slot
//!   Ready ──────────claim_ready─────────> Live          a number, and a stack
//!   Ready ──claim──> Retiring ──flushed──> Free         the hand: memory is wanted back
//!   Ready ──claim──> Recovering ──flushed──> Ready      the hand: dirty bits are taken back
//! ```
//!
//! From there on the slot has one holder, and its other transitions are the plain stores that they are elsewhere.
//!
//! Contexts: task and interrupt, under a guard.

use super::{GENERATION, PHASE_BITS, PHASE_MASK, Phase, SlotRecord};
use crate::sync::{AtomicU32, Ordering};

/// Who remembers when he last came by a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Passer {
    /// The hand that looks for what is above the budget.
    Hand,
    /// Whoever asks every few seconds what nobody needed.
    Trim,
}

impl SlotRecord {
    /// Ready to live, in a new generation, for one of those who want it. None if it is not ready, or was not for long enough.
    #[inline]
    pub(crate) fn claim_ready(&self, owner: usize) -> Option<u32> {
        let ready = self.life.load(Ordering::Relaxed);
        if ready & PHASE_MASK != Phase::Ready as u32 {
            return None;
        }
        let live = ready.wrapping_add(GENERATION + (Phase::Live as u32 - Phase::Ready as u32));
        // Acquire: pairs with the Release of whoever made it ready: what the last owner did comes before what this one does.
        self.life.compare_exchange(ready, live, Ordering::Acquire, Ordering::Relaxed).ok()?;
        self.set_owner(owner);
        Some(live >> PHASE_BITS)
    }

    /// From `from` to `to`, for one of those who want it. True for that one.
    pub(crate) fn claim(&self, from: Phase, to: Phase) -> bool {
        let word = self.life.load(Ordering::Relaxed);
        let claimed = word & !PHASE_MASK | to as u32;
        // Acquire: as above.
        word & PHASE_MASK == from as u32
            && self.life.compare_exchange(word, claimed, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Building to live, in a new generation. For the one who has built the stack.
    pub(crate) fn go_live(&self, owner: usize) -> u32 {
        self.set_owner(owner);
        let building = self.life.load(Ordering::Relaxed);
        debug_assert_eq!(building & PHASE_MASK, Phase::Building as u32);
        // At once: it is never ready, when others could have it.
        let live = building.wrapping_add(GENERATION).wrapping_sub(Phase::Building as u32 - Phase::Live as u32);
        // Release: pairs with the Acquire of a pin.
        self.life.store(live, Ordering::Release);
        live >> PHASE_BITS
    }

    /// Whether the slot had no new owner since `passer` last came by. He has come by now.
    pub(crate) fn idle_since(&self, passer: Passer) -> bool {
        let mark: &AtomicU32 = match passer {
            // Nothing here is ever in a depot, which these two are for.
            Passer::Hand => &self.next_magazine,
            Passer::Trim => &self.rounds,
        };
        // Zero: he never came.
        let now = self.state().generation + 1;
        let idle = mark.load(Ordering::Relaxed) == now;
        mark.store(now, Ordering::Relaxed);
        idle
    }
}

/// Models of two CPUs with one number, checked by loom in every order (`--cfg loom`).
#[cfg(all(loom, test))]
mod models;
