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

use super::{GENERATION, PHASE_BITS, PHASE_MASK, PINS_MASK, Phase, SlotRecord, WRITTEN};
use crate::sync::Ordering;

/// What becomes of somebody who comes with the number of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Claim {
    /// Nothing is there. The slot is his, to build a stack in.
    Building,
    /// He has the stack that was there, in this generation.
    Live(u32),
    /// It is in somebody else's hand.
    Taken(Phase),
}

impl SlotRecord {
    /// Claims the slot, whatever is in it. It is never refused because of what it was a moment ago: one that is nobody's is claimed.
    pub(crate) fn claim_any(&self, owner: usize) -> Claim {
        // Each turn but the first is because somebody else has moved the slot.
        loop {
            match self.phase() {
                Phase::Free if self.claim(Phase::Free, Phase::Building) => return Claim::Building,
                Phase::Ready => {
                    if let Some(generation) = self.claim_ready(owner) {
                        return Claim::Live(generation);
                    }
                }
                Phase::Free => {}
                phase => return Claim::Taken(phase),
            }
        }
    }

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

    /// Whether nobody has a pin, and nothing is to be done to the stack before it is ready, whatever node it is of. For the owner, who
    /// has ended the life and had a full fence since.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        // Acquire: as in `is_plain`.
        self.hold.load(Ordering::Acquire) & (PINS_MASK | WRITTEN) == 0
    }

    /// Whether the slot had no new owner since this was last asked. The generation tells, so owners write nothing for it.
    pub(crate) fn was_idle(&self) -> bool {
        // Nothing here is ever in a depot, which this word is for elsewhere. Zero: it was never asked.
        let (last, now) = (self.rounds.load(Ordering::Relaxed), self.state().generation + 1);
        self.rounds.store(now, Ordering::Relaxed);
        last == now
    }
}

/// Models of two CPUs with one number, checked by loom in every order (`--cfg loom`).
#[cfg(all(loom, test))]
mod models;
