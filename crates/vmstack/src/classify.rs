//! What an address and a stack pointer say together, in constant time.
//!
//! Arithmetic on two words and the shape of the area, and nothing else: no record is read here, so it can be asked anywhere.
//!
//! ```text
//!   address in ...     stack pointer in ...                           finding
//!   a guard            the stack above, or the guard under it,
//!                        within a page of the address                 OverflowWalked
//!   a guard            the guard, deeper than a page, or the access
//!                        far above a pointer that left the stack      OverflowJumped
//!   a guard            the stack below, within a page                 Underflow
//!   a guard            another stack than the nearest, or its guard   OtherGuard
//!   a guard            anything else: healthy and far, or nowhere     WildPointer
//!   a stack            anything                                       InsideStack
//!   neither            anything                                       Outside
//! ```
//!
//! An address in the guard between two stacks is one stack's overflow or the other's underflow; the record names both and
//! which one the stack pointer speaks for. The bytes nearest to a stack belong to it: a stack pointer in the upper half
//! of a guard comes from above, one in the lower half from below.

use crate::addr::VirtAddr;
use crate::geometry::{Geometry, Place, SlotIndex};

/// How far from the stack pointer an access may be, in bytes, and still be the work of a frame: a push, a call, a store
/// to a local variable, a probe.
pub(crate) const FRAME_REACH: usize = 4096;

/// What a fault turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Finding {
    /// The stack grew over its bottom, a frame at a time.
    OverflowWalked = 0,
    /// The stack pointer jumped over the bottom by more than a page.
    OverflowJumped = 1,
    /// An access above the top of the stack, close to the stack pointer.
    Underflow = 2,
    /// The code stood on one stack and touched the guard of another.
    OtherGuard = 3,
    /// A guard was touched, and no stack pointer explains it.
    WildPointer = 4,
    /// The address is inside a stack: a stack that is not there (any more), or a spurious fault.
    InsideStack = 5,
    /// Not an address of this area's stacks and guards.
    Outside = 6,
}

impl Finding {
    /// One word for logs that programs read.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::OverflowWalked => "overflow-walked",
            Self::OverflowJumped => "overflow-jumped",
            Self::Underflow => "underflow",
            Self::OtherGuard => "other-guard",
            Self::WildPointer => "wild-pointer",
            Self::InsideStack => "inside-stack",
            Self::Outside => "outside",
        }
    }

    /// A few words for a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OverflowWalked => "overflow, walked down",
            Self::OverflowJumped => "overflow, jumped",
            Self::Underflow => "underflow",
            Self::OtherGuard => "another stack's guard",
            Self::WildPointer => "wild pointer",
            Self::InsideStack => "inside a stack",
            Self::Outside => "outside",
        }
    }
}

/// A classified fault: what, and between which slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Classified {
    pub(crate) finding: Finding,
    pub(crate) stack: Option<SlotIndex>,
    pub(crate) neighbour: Option<SlotIndex>,
}

impl Classified {
    const OUTSIDE: Self = Self { finding: Finding::Outside, stack: None, neighbour: None };

    const fn new(finding: Finding, stack: Option<SlotIndex>, neighbour: Option<SlotIndex>) -> Self {
        Self { finding, stack, neighbour }
    }
}

impl Geometry {
    /// What a fault at `address` with the stack pointer `sp` is, and between which slots.
    #[inline]
    pub(crate) fn classify(&self, address: VirtAddr, sp: VirtAddr) -> Classified {
        match self.place(address) {
            Place::Outside => Classified::OUTSIDE,
            Place::Stack(slot) => Classified::new(Finding::InsideStack, Some(slot), None),
            Place::Guard { below, above } => self.classify_guard(address, sp, below, above),
        }
    }

    /// The guard between `below` and `above` was touched.
    #[inline]
    fn classify_guard(
        &self,
        address: VirtAddr,
        sp: VirtAddr,
        below: Option<SlotIndex>,
        above: Option<SlotIndex>,
    ) -> Classified {
        let close = address.distance(sp) <= FRAME_REACH;
        match self.speaks_for(sp) {
            Speaker::On(slot) if Some(slot) == above && close => Classified::new(Finding::OverflowWalked, above, below),
            Speaker::On(slot) if Some(slot) == below && close => Classified::new(Finding::Underflow, below, above),
            Speaker::Over(slot) if Some(slot) == below && close => Classified::new(Finding::Underflow, below, above),
            Speaker::Under(slot) if Some(slot) == above => self.overflow(address, sp, slot, below, close),
            Speaker::Nobody => Classified::new(Finding::WildPointer, None, self.nearest(address, below, above)),
            speaker => self.far_off(speaker.slot(), address, below, above),
        }
    }

    /// The stack pointer itself has left the stack in `slot` downwards.
    fn overflow(
        &self,
        address: VirtAddr,
        sp: VirtAddr,
        slot: SlotIndex,
        below: Option<SlotIndex>,
        close: bool,
    ) -> Classified {
        let gone = self.bottom(slot).offset_from(sp).unwrap_or(0);
        let walked = close && gone <= FRAME_REACH;
        let of_the_frame = close || address >= sp;
        match (walked, of_the_frame) {
            (true, _) => Classified::new(Finding::OverflowWalked, Some(slot), below),
            (false, true) => Classified::new(Finding::OverflowJumped, Some(slot), below),
            (false, false) => Classified::new(Finding::WildPointer, Some(slot), below),
        }
    }

    /// Which stack the stack pointer speaks for. A pointer equal to the top is that of an empty stack.
    #[inline]
    pub(crate) fn speaks_for(&self, sp: VirtAddr) -> Speaker {
        match self.place(sp) {
            Place::Stack(slot) => Speaker::On(slot),
            Place::Outside => match self.place(sp.wrapping_sub(1)) {
                Place::Stack(slot) => Speaker::On(slot),
                _ => Speaker::Nobody,
            },
            Place::Guard { below, above } => self.speaks_in_guard(sp, below, above),
        }
    }

    fn speaks_in_guard(&self, sp: VirtAddr, below: Option<SlotIndex>, above: Option<SlotIndex>) -> Speaker {
        let over = below.and_then(|slot| Some((slot, sp.offset_from(self.top(slot))?)));
        let under = above.and_then(|slot| Some((slot, self.bottom(slot).offset_from(sp)?)));
        match (over, under) {
            (Some((slot, 0)), _) => Speaker::On(slot),
            (Some((slot, over)), Some((_, under))) if over < under => Speaker::Over(slot),
            (_, Some((slot, _))) => Speaker::Under(slot),
            (Some((slot, _)), None) => Speaker::Over(slot),
            (None, None) => Speaker::Nobody,
        }
    }

    /// A guard was touched from far off, by code on `stack`: its own guard, or another's.
    fn far_off(
        &self,
        stack: Option<SlotIndex>,
        address: VirtAddr,
        below: Option<SlotIndex>,
        above: Option<SlotIndex>,
    ) -> Classified {
        let nearest = self.nearest(address, below, above);
        if stack != nearest {
            return Classified::new(Finding::OtherGuard, stack, nearest);
        }
        let other = if stack == above { below } else { above };
        Classified::new(Finding::WildPointer, stack, other)
    }

    fn nearest(&self, address: VirtAddr, below: Option<SlotIndex>, above: Option<SlotIndex>) -> Option<SlotIndex> {
        match (below, above) {
            (Some(low), Some(high)) => {
                let nearer_low = address.distance(self.top(low)) < address.distance(self.bottom(high));
                Some(if nearer_low { low } else { high })
            }
            (low, high) => high.or(low),
        }
    }

    /// How far `address` is past the end of the stack in `slot`, in bytes.
    #[inline]
    pub(crate) fn beyond(&self, address: VirtAddr, slot: SlotIndex) -> usize {
        let (bottom, top) = (self.bottom(slot), self.top(slot));
        bottom.offset_from(address).or_else(|| Some(address.offset_from(top)? + 1)).unwrap_or(0)
    }
}

/// Where a stack pointer stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Speaker {
    /// On this stack, or at its very top.
    On(SlotIndex),
    /// In the guard, nearer to this stack's bottom: it came from there.
    Under(SlotIndex),
    /// In the guard, nearer to this stack's top.
    Over(SlotIndex),
    /// Nowhere in the area.
    Nobody,
}

impl Speaker {
    /// The stack that it speaks for.
    pub(crate) const fn slot(self) -> Option<SlotIndex> {
        match self {
            Self::On(slot) | Self::Under(slot) | Self::Over(slot) => Some(slot),
            Self::Nobody => None,
        }
    }
}
