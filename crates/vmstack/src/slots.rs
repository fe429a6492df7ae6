//! Slot records: who owns a slot, and in which phase of its life it is.
//!
//! A record is one cache line of 64 bytes, so that two CPUs with neighbouring stacks do not take it from each other. Records are
//! made a page at a time when their slots are first used (`metadata`). All fields are atomics and all of them are valid as zero, so
//! a fresh zeroed page is a page of records of slots that were never used.
//!
//! ```text
//!              alloc (cold)              hand out            hand over               no pins
//!   Free ────────────────────> Ready ───────────────> Live ───────────> Dead ─────────────────> Ready
//!    ^                           │                                        │                       ^
//!    │                           │ unmapped                          pins │      the last pin     │
//!    └──────── Retiring <────────┘                                        └───> Pinned ───────────┘
//!               flushed            any ──in doubt──> Leaked (for ever)
//! ```
//!
//! # Pins without a locked instruction for the owner
//!
//! Two words: `life`, which whoever holds the slot writes with plain stores, and `hold`, in which readers count themselves by
//! locked additions. A reader counts itself first and looks at the life afterwards; the owner ends the life first and looks at the
//! count afterwards. With a full fence between the two steps on either side, one of them sees the other (Dekker): the reader sees that
//! the stack is gone, or the owner sees the pin and leaves the stack to it. The reader has the fence here. The owner's is a
//! [`Platform::handed_over`](crate::Platform::handed_over): a switch of tasks has one already.
//!
//! Reading a record is allowed in any context, the fault path included. Transitions belong to whoever holds the slot.

use crate::flight::Retiring;
use crate::platform::{Hint, Node};
use crate::sync::{AtomicU32, AtomicUsize, Ordering, fence};

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
    /// Given back by its owner; the last pin will put it in a cache.
    Pinned = 6,
    /// Somebody has come with its number, and is mapping frames: see [`Placement::Numbered`](crate::Placement::Numbered).
    Building = 7,
    /// Mapped, where numbers lead to slots, and waiting for every CPU to forget that its pages were written.
    Recovering = 8,
}

impl Phase {
    /// Whether the slot has a stack that nobody wants, or whoever holds it is about to say so, and has noted it perhaps.
    pub(crate) const fn is_idle_soon(self) -> bool {
        matches!(self, Self::Ready | Self::Dead | Self::Pinned | Self::Recovering)
    }

    const fn from_bits(bits: u32) -> Self {
        match bits {
            0 => Self::Free,
            1 => Self::Ready,
            2 => Self::Live,
            3 => Self::Dead,
            4 => Self::Retiring,
            6 => Self::Pinned,
            7 => Self::Building,
            8 => Self::Recovering,
            _ => Self::Leaked,
        }
    }
}

const PHASE_BITS: u32 = 8;
const PHASE_MASK: u32 = (1 << PHASE_BITS) - 1;
/// One generation, in the life word. They count modulo 2^24: what is carried out of the word is gone.
const GENERATION: u32 = 1 << PHASE_BITS;

/// The life word of a slot, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) generation: u32,
}

impl State {
    /// Of a slot whose record was never made.
    pub(crate) const NONE: Self = Self { phase: Phase::Free, generation: 0 };

    const fn unpack(word: u32) -> Self {
        Self { phase: Phase::from_bits(word & PHASE_MASK), generation: word >> PHASE_BITS }
    }

    const fn pack(self) -> u32 {
        self.phase as u32 | self.generation << PHASE_BITS
    }
}

/// Pins, in the hold word.
const PINS_MASK: u32 = (1 << 16) - 1;
/// As many pins as are allowed. A few more may be counted for an instant, by readers that are about to be refused.
const MOST_PINS: u32 = 1 << 15;
/// Something wrote to the stack around its mapping (INV-ZERO).
const WRITTEN: u32 = 1 << 16;
/// The stack went deep in this life or an earlier one, and its dirty bits still say so.
const DEEP: u32 = 1 << 17;
const NODE_SHIFT: u32 = 24;

/// The hold word of a slot of nobody's interest, whose frames lie on one node: what a CPU of that node expects of a stack that is
/// given back, and finds by one comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Home(u32);

impl Home {
    pub(crate) const fn new(node: Node) -> Self {
        Self((node.0 as u32) << NODE_SHIFT)
    }

    pub(crate) const fn node(self) -> Node {
        Node((self.0 >> NODE_SHIFT) as u8)
    }
}

/// What the hold word of a stack that was given back says beside its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hold {
    pub(crate) pinned: bool,
    pub(crate) written: bool,
    pub(crate) deep: bool,
    pub(crate) node: Node,
}

impl Hold {
    const fn unpack(word: u32) -> Self {
        Self {
            pinned: word & PINS_MASK != 0,
            written: word & WRITTEN != 0,
            deep: word & DEEP != 0,
            node: Node((word >> NODE_SHIFT) as u8),
        }
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
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct SlotRecord {
    life: AtomicU32,
    hold: AtomicU32,
    owner: AtomicUsize,
    hint: AtomicUsize,
    /// The next slot of the chain or list that this one is on.
    pub(crate) next: AtomicU32,
    /// In the depot, for the first slot of a magazine: the first of the next magazine, and how many are in this one.
    pub(crate) next_magazine: AtomicU32,
    pub(crate) rounds: AtomicU32,
    watermark: AtomicU32,
    /// The frames, while the slot is retiring: so that no other memory is needed for it (INV-FREE).
    pub(crate) frames: Retiring,
}

impl SlotRecord {
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self {
            life: AtomicU32::new(0),
            hold: AtomicU32::new(0),
            owner: AtomicUsize::new(0),
            hint: AtomicUsize::new(0),
            next: AtomicU32::new(0),
            next_magazine: AtomicU32::new(0),
            rounds: AtomicU32::new(0),
            watermark: AtomicU32::new(0),
            frames: Retiring::new(),
        }
    }

    #[inline]
    pub(crate) fn state(&self) -> State {
        // Acquire: pairs with the Release of every transition, so that whoever sees a phase sees what led to it.
        State::unpack(self.life.load(Ordering::Acquire))
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state().phase
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.hold().pinned
    }

    #[inline]
    pub(crate) fn owner(&self) -> usize {
        self.owner.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set_owner(&self, owner: usize) {
        self.owner.store(owner, Ordering::Relaxed);
    }

    /// What the platform remembers of the mapping.
    #[inline]
    pub(crate) fn hint(&self) -> Hint {
        Hint::new(self.hint.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn set_hint(&self, hint: Hint) {
        self.hint.store(hint.get(), Ordering::Relaxed);
    }

    /// The deepest use seen in any life of this slot, in bytes.
    #[inline]
    pub(crate) fn watermark(&self) -> usize {
        self.watermark.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn raise_watermark(&self, bytes: usize) {
        self.watermark.fetch_max(bytes as u32, Ordering::Relaxed);
    }

    /// Notes that something writes to the stack around its mapping, so that the dirty bits say too little (INV-ZERO).
    pub(crate) fn mark_written(&self) {
        self.hold.fetch_or(WRITTEN, Ordering::Release);
    }

    /// Notes that the dirty bits make this stack dear, and will in every life until they are taken back.
    pub(crate) fn mark_deep(&self) {
        self.hold.fetch_or(DEEP, Ordering::Relaxed);
    }

    /// Forgets that something wrote around the mapping, for whoever has cleared the stack since.
    pub(crate) fn unmark_written(&self) {
        self.hold.fetch_and(!WRITTEN, Ordering::Relaxed);
    }

    /// Forgets that the stack went deep, for whoever takes its dirty bits back.
    pub(crate) fn unmark_deep(&self) {
        self.hold.fetch_and(!DEEP, Ordering::Relaxed);
    }

    /// Moves the slot to `phase`. For the one who holds it.
    #[inline]
    pub(crate) fn set_phase(&self, phase: Phase) {
        let generation = self.life.load(Ordering::Relaxed) & !PHASE_MASK;
        // A plain store is enough: others change the word only where it says Pinned.
        self.life.store(generation | phase as u32, Ordering::Release);
    }

    /// Free to ready: the stack is mapped, on `node`, and the platform remembers `hint`.
    #[inline]
    pub(crate) fn set_mapped(&self, node: Node, hint: Hint) {
        self.note_mapping(node, hint);
        self.set_phase(Phase::Ready);
    }

    /// Notes that the stack is mapped, and nothing else. For the one who holds the slot.
    #[inline]
    pub(crate) fn note_mapping(&self, node: Node, hint: Hint) {
        self.set_hint(hint);
        // Readers of a stack that is gone may be counting themselves at this moment.
        let change = |hold: u32| Some(hold & PINS_MASK | Home::new(node).0);
        let _ = self.hold.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    /// Out of circulation for ever, whoever holds it. Any context.
    pub(crate) fn leak(&self) {
        let change = |word: u32| Some(State { phase: Phase::Leaked, ..State::unpack(word) }.pack());
        let _ = self.life.fetch_update(Ordering::AcqRel, Ordering::Relaxed, change);
    }

    /// Ready to live, in a new generation. For the one who took it from a cache.
    #[inline]
    pub(crate) fn hand_out(&self, owner: usize) -> u32 {
        self.set_owner(owner);
        let ready = self.life.load(Ordering::Relaxed);
        debug_assert_eq!(State::unpack(ready).phase, Phase::Ready);
        let live = ready.wrapping_add(GENERATION + (Phase::Live as u32 - Phase::Ready as u32));
        // Release: pairs with the Acquire of a pin: what was done to the stack before comes before the reader's look.
        self.life.store(live, Ordering::Release);
        live >> PHASE_BITS
    }

    /// Live to dead: nobody gets a pin any more. After a full fence, [`hold`](Self::hold) tells whether anybody has one.
    #[inline]
    pub(crate) fn end_life(&self) {
        let live = self.life.load(Ordering::Relaxed);
        debug_assert_eq!(State::unpack(live).phase, Phase::Live);
        self.life.store(live.wrapping_add(Phase::Dead as u32 - Phase::Live as u32), Ordering::Release);
    }

    /// Dead to ready, if nobody has a pin and nothing was noted, and the frames lie on the node that `home` says. For the owner,
    /// who has ended the life and had a full fence since.
    #[inline]
    pub(crate) fn is_plain(&self, home: Home) -> bool {
        // Acquire: pairs with the Release of whoever gave a pin back: its reads come before what is done to the stack next.
        self.hold.load(Ordering::Acquire) == home.0
    }

    /// Dead to ready, when [`is_plain`](Self::is_plain) said so, or what it found was done.
    #[inline]
    pub(crate) fn make_ready(&self) {
        let dead = self.life.load(Ordering::Relaxed);
        debug_assert_eq!(State::unpack(dead).phase, Phase::Dead);
        self.life.store(dead.wrapping_sub(Phase::Dead as u32 - Phase::Ready as u32), Ordering::Release);
    }

    /// What the hold word says.
    pub(crate) fn hold(&self) -> Hold {
        // Acquire: as in `is_plain`.
        Hold::unpack(self.hold.load(Ordering::Acquire))
    }

    /// Leaves a dead stack to the last of its pins, unless that has gone meanwhile: false, and it is the caller's again.
    pub(crate) fn leave_to_pins(&self) -> bool {
        self.set_phase(Phase::Pinned);
        // Between the phase and the look at the count, as in `unpin` the other way round: one of the two sees the other.
        fence(Ordering::SeqCst);
        !self.take_from_pins()
    }

    /// Takes a reference to the stack of `generation`, if it is still somebody's.
    pub(crate) fn pin(&self, generation: u32) -> Result<(), Refused> {
        let before = self.hold.fetch_add(1, Ordering::Relaxed);
        // See the essay: counted first, then looked.
        fence(Ordering::SeqCst);
        let state = self.state();
        if before & PINS_MASK >= MOST_PINS {
            return Err(Refused { reason: PinError::TooManyPins, last: self.unpin() });
        }
        if state != (State { phase: Phase::Live, generation }) {
            return Err(Refused { reason: PinError::Gone, last: self.unpin() });
        }
        Ok(())
    }

    /// Gives a pin back. True if the stack was left to it, and to nobody else: the caller holds it now, dead.
    pub(crate) fn unpin(&self) -> bool {
        // Release: my reads of the stack come before whatever its next owner does with it.
        let before = self.hold.fetch_sub(1, Ordering::Release);
        if before & PINS_MASK != 1 {
            return false;
        }
        fence(Ordering::SeqCst);
        self.take_from_pins()
    }

    /// Pinned to dead, if no pin is left: for one of those who find that.
    ///
    /// The count is looked at after the phase. Whoever gave the count's last pin back may come here late, when others have pinned the
    /// stack since and its owner has left it to them. But nobody gets a pin once the phase is Pinned, so zero after that is zero.
    fn take_from_pins(&self) -> bool {
        let state = self.state();
        let dead = State { phase: Phase::Dead, ..state };
        state.phase == Phase::Pinned
            && !self.hold().pinned
            && self.life.compare_exchange(state.pack(), dead.pack(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// A pin that was not to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refused {
    pub(crate) reason: PinError,
    /// The stack was left to its pins, and this was the last that was counted: the caller holds it now.
    pub(crate) last: bool,
}

pub(crate) mod claim;

#[cfg(all(test, not(loom)))]
mod tests;

/// Models of the hand-overs: loom tries every order in which two CPUs can do this, and every value that a load may see.
#[cfg(all(loom, test))]
mod models;
