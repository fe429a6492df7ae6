//! Slot records: who owns a slot, in which phase of its life it is, and the list of the free ones.
//!
//! A record is 32 bytes, made a page at a time when its slot is first used (`metadata`). All of its fields are atomics and
//! all of them are valid as zero, so a fresh zeroed page is a page of records of slots that were never used.
//!
//! ```text
//!              alloc (cold)              hand out             last reference gone
//!   Free ────────────────────> Ready ───────────────> Live ────────────────────────> Ready
//!    ^                           │                     │  hand over                    │
//!    │                           │ unmapped            └──────────> Dead ──────────────┘
//!    └──────── Retiring <────────┘
//!               flushed            any ──in doubt──> Leaked (for ever)
//! ```
//!
//! The phase, the reference count and the generation share one word, so that a pin sees all three at one instant: it
//! can only be had while the stack is the very one that was meant, and somebody still holds it (INV-LIVE).
//!
//! Reading a record is allowed in any context, the fault path included. Transitions belong to whoever holds the slot.

use crate::geometry::SlotIndex;
use crate::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// A phase in the life of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Phase {
    /// No frames. On the free list, or never used.
    Free = 0,
    /// Mapped, in a cache, waiting for a task.
    Ready = 1,
    /// Handed out.
    Live = 2,
    /// Its task is dead; the next task on that CPU will give it back.
    Dead = 3,
    /// Unmapped, waiting for every CPU to flush its TLB.
    Retiring = 4,
    /// In doubt, and so never used again.
    Leaked = 5,
}

impl Phase {
    const fn from_bits(bits: u64) -> Self {
        match bits {
            0 => Self::Free,
            1 => Self::Ready,
            2 => Self::Live,
            3 => Self::Dead,
            4 => Self::Retiring,
            _ => Self::Leaked,
        }
    }
}

const REFS_BITS: u32 = 32;
const PHASE_BITS: u32 = 8;
const REFS_MASK: u64 = (1 << REFS_BITS) - 1;
const PHASE_MASK: u64 = (1 << PHASE_BITS) - 1;
const GENERATION_SHIFT: u32 = REFS_BITS + PHASE_BITS;
/// Generations count modulo this.
const GENERATIONS: u32 = 1 << (64 - GENERATION_SHIFT);

/// The state word of a slot, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct State {
    pub(crate) refs: u32,
    pub(crate) phase: Phase,
    pub(crate) generation: u32,
}

impl State {
    const fn unpack(word: u64) -> Self {
        Self {
            refs: (word & REFS_MASK) as u32,
            phase: Phase::from_bits((word >> REFS_BITS) & PHASE_MASK),
            generation: (word >> GENERATION_SHIFT) as u32,
        }
    }

    const fn pack(self) -> u64 {
        self.refs as u64 | (self.phase as u64) << REFS_BITS | (self.generation as u64) << GENERATION_SHIFT
    }
}

/// Why another task's stack cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PinError {
    /// The stack that was meant is no longer anybody's: its task has died and given it back.
    Gone,
    /// The area has no such slot, or it was never used.
    NoSuchSlot,
    /// The count of pins is exhausted.
    TooManyPins,
}

impl core::fmt::Display for PinError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Gone => "the stack's task has died and given it back",
            Self::NoSuchSlot => "no stack was ever in this slot",
            Self::TooManyPins => "the stack has as many pins as can be counted",
        })
    }
}

impl core::error::Error for PinError {}

/// The record of one slot.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct SlotRecord {
    state: AtomicU64,
    owner: AtomicUsize,
    next: AtomicU32,
    written_around: AtomicU32,
    watermark: AtomicU32,
    spare: u32,
}

impl SlotRecord {
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            owner: AtomicUsize::new(0),
            next: AtomicU32::new(0),
            written_around: AtomicU32::new(0),
            watermark: AtomicU32::new(0),
            spare: 0,
        }
    }

    pub(crate) fn state(&self) -> State {
        // Acquire: pairs with the Release of every transition, so that whoever sees a phase sees what led to it.
        State::unpack(self.state.load(Ordering::Acquire))
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state().phase
    }

    pub(crate) fn owner(&self) -> usize {
        self.owner.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set_owner(&self, owner: usize) {
        self.owner.store(owner, Ordering::Relaxed);
    }

    /// The deepest use seen in any life of this slot, in bytes.
    pub(crate) fn watermark(&self) -> usize {
        self.watermark.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn raise_watermark(&self, bytes: usize) {
        self.watermark.fetch_max(bytes as u32, Ordering::Relaxed);
    }

    /// Notes that something wrote to the stack around its mapping, so that the dirty bits say too little (INV-ZERO).
    pub(crate) fn mark_written(&self) {
        self.written_around.store(1, Ordering::Release);
    }

    /// Whether something wrote around the mapping since this was last asked.
    #[inline]
    pub(crate) fn take_written(&self) -> bool {
        // A plain test first: the common answer is no, and it should cost no locked instruction.
        self.written_around.load(Ordering::Acquire) != 0 && self.written_around.swap(0, Ordering::AcqRel) != 0
    }

    /// Moves a slot that has no references to `phase`. For the one who holds it.
    pub(crate) fn set_phase(&self, phase: Phase) {
        let state = State::unpack(self.state.load(Ordering::Relaxed));
        // A plain store is enough: with no references, nobody else changes the word (a pin refuses a count of zero).
        self.state.store(State { phase, ..state }.pack(), Ordering::Release);
    }

    /// Out of circulation for ever, whoever holds references. Any context.
    pub(crate) fn leak(&self) {
        let mut word = self.state.load(Ordering::Relaxed);
        loop {
            let leaked = State { phase: Phase::Leaked, ..State::unpack(word) }.pack();
            match self.state.compare_exchange_weak(word, leaked, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Ready to live: one reference, a new generation. For the one who took it from a cache.
    #[inline]
    pub(crate) fn hand_out(&self, owner: usize) -> u32 {
        self.set_owner(owner);
        let state = State::unpack(self.state.load(Ordering::Relaxed));
        let generation = state.generation.wrapping_add(1) % GENERATIONS;
        self.state.store(State { refs: 1, phase: Phase::Live, generation }.pack(), Ordering::Release);
        generation
    }

    /// Live to dead: the owner's reference stays, and is given up by the next task. Pins may come and go meanwhile.
    pub(crate) fn hand_over(&self) {
        let dead = State { refs: 0, phase: Phase::Dead, generation: 0 }.pack();
        let live = State { refs: 0, phase: Phase::Live, generation: 0 }.pack();
        // Live is 2 and dead is 3 in the phase bits: one addition changes the phase and leaves counts alone.
        self.state.fetch_add(dead - live, Ordering::AcqRel);
    }

    /// Takes a reference to the stack of `generation`, if it is still somebody's.
    pub(crate) fn pin(&self, generation: u32) -> Result<(), PinError> {
        let mut word = self.state.load(Ordering::Relaxed);
        loop {
            let state = State::unpack(word);
            if state.refs == 0 || state.generation != generation {
                return Err(PinError::Gone);
            }
            if state.refs == u32::MAX {
                return Err(PinError::TooManyPins);
            }
            // Acquire: what the owner did to the stack before it handed it out is visible to the reader.
            match self.state.compare_exchange_weak(word, word + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    /// Gives a reference back. True for the last one, who then holds the slot alone.
    pub(crate) fn unref(&self) -> bool {
        // Release: my use of the stack comes before whatever the last one does with it. The fence pairs with that.
        let before = State::unpack(self.state.fetch_sub(1, Ordering::Release));
        if before.refs != 1 {
            return false;
        }
        fence(Ordering::Acquire);
        true
    }
}

/// How the free list finds the link of a slot.
pub(crate) trait Records {
    /// The record of `slot`, which was used before.
    fn record(&self, slot: SlotIndex) -> &SlotRecord;
}

/// The slots that were used and are free again: a lock-free stack of indices, linked through their records.
///
/// The head is the index of the first free slot plus one (zero: none) and a tag that counts pushes and pops, so that a
/// head that was popped and pushed again between a load and its exchange is not mistaken for the old one. 2^32
/// operations inside one pop by another CPU would fool it.
#[derive(Debug)]
pub(crate) struct FreeList {
    head: AtomicU64,
}

impl FreeList {
    #[cfg(not(all(loom, test)))]
    pub(crate) const fn new() -> Self {
        Self { head: AtomicU64::new(0) }
    }

    #[cfg(all(loom, test))]
    pub(crate) fn new() -> Self {
        Self { head: AtomicU64::new(0) }
    }

    pub(crate) fn push(&self, slot: SlotIndex, records: &impl Records) {
        let link = &records.record(slot).next;
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link.store(head as u32, Ordering::Relaxed);
            let new = next_tag(head) | u64::from(slot.get() + 1);
            // Release: the link, and everything done to the slot, before whoever pops it.
            match self.head.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    pub(crate) fn pop(&self, records: &impl Records) -> Option<SlotIndex> {
        // Acquire, here and on failure: pairs with the push that made this head, so that its link is the one we read.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let slot = SlotIndex::new((head as u32).checked_sub(1)?);
            let next = records.record(slot).next.load(Ordering::Relaxed);
            let new = next_tag(head) | u64::from(next);
            match self.head.compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(slot),
                Err(now) => head = now,
            }
        }
    }
}

/// The tag of `head`, counted on, in its place.
const fn next_tag(head: u64) -> u64 {
    ((head >> 32).wrapping_add(1)) << 32
}

/// A chain of slots that one CPU holds, linked through the same field as the free list. Costs no memory (INV-FREE).
#[derive(Debug, Default)]
pub(crate) struct Chain {
    head: u32,
    len: u32,
}

impl Chain {
    pub(crate) const fn new() -> Self {
        Self { head: 0, len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) fn push(&mut self, slot: SlotIndex, records: &impl Records) {
        records.record(slot).next.store(self.head, Ordering::Relaxed);
        self.head = slot.get() + 1;
        self.len += 1;
    }

    pub(crate) fn pop(&mut self, records: &impl Records) -> Option<SlotIndex> {
        let slot = SlotIndex::new(self.head.checked_sub(1)?);
        self.head = records.record(slot).next.load(Ordering::Relaxed);
        self.len -= 1;
        Some(slot)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

/// Models of the hand-overs: loom tries every order in which two CPUs can do this, and every value that a load may see.
#[cfg(all(loom, test))]
mod models;
