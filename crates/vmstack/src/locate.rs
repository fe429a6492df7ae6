//! Which stack, whose, and where in it: what a range of addresses has to do with the stacks of an area.
//!
//! ```text
//!        records   guard  [ stack 0 ]  guard  [ stack 1 ]  guard
//!           ─        ─        ─          ─        ─          ─
//!        Records   Guard    Stack       Guard    Idle       Guard       (stack 1 is nobody's)
//!                     ──────                 ────────────
//!                     Across                 Across
//! ```
//!
//! Arithmetic on the two ends of the range, and one look at the record of one slot: the time is the same for every address and every
//! length. It asks nobody whose stack is current, so it answers for every task's.
//!
//! Contexts: any, the fault path included.

use crate::addr::VirtAddr;
use crate::area::StackArea;
use crate::fault::StackView;
use crate::geometry::{Geometry, Place, SlotIndex};
use crate::platform::Platform;
use crate::slots::Phase;
use crate::stack::StackId;

/// What a range of addresses has to do with the stacks of an area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Located {
    /// Nothing: no byte of it is the area's, nor of a stack that is registered with it.
    Outside,
    /// All of it is in one stack, which is somebody's.
    Stack(StackSpan),
    /// All of it is in one stack, which is nobody's: given back, about to be, or never handed out.
    Idle(StackSpan),
    /// A part of it is in this stack, and a part is not. The span is the part that is in the stack; where there are several such stacks,
    /// it is that of the lowest one.
    Across {
        /// The part that is in the stack.
        span: StackSpan,
        /// How many bytes lie below the stack.
        below: usize,
        /// How many bytes lie above it.
        above: usize,
    },
    /// It touches no stack, but a guard: that of this stack.
    Guard(StackView),
    /// It touches no stack, but what the area keeps about its stacks.
    Records,
}

/// A part of one stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StackSpan {
    /// The stack, and whose it is.
    pub stack: StackView,
    /// Where the part begins: bytes above the bottom of the stack.
    pub offset: usize,
    /// How long it is, in bytes.
    pub bytes: usize,
}

impl StackSpan {
    /// Whether it is a stack that was there before the areas, and stays.
    pub(crate) const fn is_registered(&self) -> bool {
        self.stack.slot == u32::MAX
    }
}

/// The part of a stack that lies in a range, and what of the range lies outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Overlap {
    offset: usize,
    bytes: usize,
    below: usize,
    above: usize,
}

impl Overlap {
    /// Of `first..=last` with a stack that they meet.
    pub(crate) const fn of(first: VirtAddr, last: VirtAddr, bottom: VirtAddr, top: VirtAddr) -> Self {
        let (first, last, bottom, end) = (first.get(), last.get(), bottom.get(), top.get() - 1);
        let (from, to) = (if first < bottom { bottom } else { first }, if last > end { end } else { last });
        Self { offset: from - bottom, bytes: to - from + 1, below: from - first, above: last - to }
    }

    pub(crate) fn located(self, stack: StackView) -> Located {
        let span = StackSpan { stack, offset: self.offset, bytes: self.bytes };
        match (self.below, self.above) {
            (0, 0) if stack.phase == Phase::Live as u8 => Located::Stack(span),
            (0, 0) => Located::Idle(span),
            (below, above) => Located::Across { span, below, above },
        }
    }
}

/// Where a range lies in an area, by arithmetic alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lies {
    Outside,
    /// It meets this stack, and none that is lower.
    Meets(SlotIndex),
    /// It meets the guard of this one, and no stack.
    Guard(SlotIndex),
    Records,
}

impl Geometry {
    fn lies(&self, first: VirtAddr, last: VirtAddr) -> Lies {
        let whole = self.whole_range();
        if last < whole.start() || first >= whole.end() {
            return Lies::Outside;
        }
        // The lowest stack that does not end below the range.
        let lowest = match self.place(first) {
            Place::Stack(slot) => return Lies::Meets(slot),
            Place::Guard { above, below } => above.ok_or(below),
            Place::Outside => self.slot(0).ok_or(None),
        };
        match lowest {
            Ok(slot) if self.bottom(slot) <= last => Lies::Meets(slot),
            Ok(slot) if first >= self.slot_range().start() => Lies::Guard(slot),
            Err(Some(slot)) => Lies::Guard(slot),
            _ => Lies::Records,
        }
    }
}

impl<P: Platform> StackArea<P> {
    /// The stack that all of these bytes are in, if it is somebody's. For none there is no such stack.
    #[inline]
    pub(crate) fn live_stack(&self, addr: VirtAddr, bytes: usize) -> Option<StackId> {
        let meta = self.metadata()?;
        let slot = meta.geometry.slot_with(addr, bytes)?;
        let state = meta.try_record(slot)?.state();
        (state.phase == Phase::Live).then(|| StackId::new(slot, state.generation))
    }

    /// The slot whose stack has `addr`, if somebody has a pin on it.
    pub(crate) fn pinned_slot(&self, addr: VirtAddr) -> Option<SlotIndex> {
        let meta = self.metadata()?;
        match meta.geometry.place(addr) {
            Place::Stack(slot) => meta.try_record(slot)?.is_pinned().then_some(slot),
            _ => None,
        }
    }

    /// What the `bytes` bytes from `addr` on have to do with the stacks of this area, and with those that are registered with it. In
    /// constant time.
    ///
    /// No bytes have nothing to do with it. A range that leaves the address space is taken to end there.
    ///
    /// # Context
    ///
    /// Any, the fault path included. The answer is a moment's: a stack that is somebody's may be given back at once, unless it is the
    /// caller's own or [pinned](Self::pin).
    pub fn locate(&self, addr: VirtAddr, bytes: usize) -> Located {
        if bytes == 0 {
            return Located::Outside;
        }
        let last = VirtAddr::new(addr.get().saturating_add(bytes - 1));
        match self.geometry().map_or(Lies::Outside, |geometry| geometry.lies(addr, last)) {
            Lies::Meets(slot) => {
                let (bottom, top) = self.bounds(slot);
                Overlap::of(addr, last, bottom, top).located(self.view(Some(slot)))
            }
            Lies::Guard(slot) => Located::Guard(self.view(Some(slot))),
            Lies::Records => Located::Records,
            Lies::Outside => self.registry.locate(addr, last),
        }
    }
}
