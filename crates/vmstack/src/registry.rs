//! Stacks that exist already, outside the area: a boot loader's, the firmware's, a CPU's own. They are named in reports too.
//!
//! A fixed table of atomics, so that the fault path looks at a bounded number of words (INV-FAULT). An entry is published once and
//! never taken back. Where one stack ends another's guard may begin: the entry that the stack pointer speaks for comes first.

use crate::addr::VirtAddr;
use crate::area::StackArea;
use crate::classify::{FRAME_REACH, Finding};
use crate::config::StackKind;
use crate::fault::{FaultContext, StackFault, StackView, Verdict};
use crate::geometry::Geometry;
use crate::locate::{Located, Overlap};
use crate::platform::Platform;
use crate::slots::Phase;
use crate::sync::{AtomicUsize, Ordering};

/// A stack that exists already, outside the area: of the boot loader, the firmware, or a CPU's fault handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExternalStack {
    /// The lowest address of the stack.
    pub bottom: VirtAddr,
    /// The first address above it.
    pub top: VirtAddr,
    /// The unmapped bytes below and above it.
    pub guard_bytes: usize,
    /// What it is for.
    pub kind: StackKind,
    /// The word that reports render as its owner.
    pub owner: usize,
}

/// Why a stack cannot be registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RegisterError {
    /// The area knows as many external stacks as it can.
    Full {
        /// How many that is.
        max: usize,
    },
    /// The stack ends before it starts, or its guards leave the address space.
    BadBounds {
        /// The bottom given.
        bottom: VirtAddr,
        /// The top given.
        top: VirtAddr,
    },
}

impl core::fmt::Display for RegisterError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Full { max } => write!(f, "the area knows {max} external stacks already, as many as it can"),
            Self::BadBounds { bottom, top } => write!(f, "no stack lies at {bottom}..{top} with its guards"),
        }
    }
}

impl core::error::Error for RegisterError {}

const REGISTERED: usize = 16;

/// The external stacks of an area: a fixed table, so that the fault path looks at a bounded number of words.
#[derive(Debug)]
pub(crate) struct Registry {
    claimed: AtomicUsize,
    entries: [RegistryEntry; REGISTERED],
}

#[derive(Debug)]
struct RegistryEntry {
    bottom: AtomicUsize,
    /// Written last; zero while the entry is not there.
    top: AtomicUsize,
    guard_bytes: AtomicUsize,
    kind: AtomicUsize,
    owner: AtomicUsize,
}

impl Registry {
    pub(crate) const fn new() -> Self {
        Self { claimed: AtomicUsize::new(0), entries: [const { RegistryEntry::new() }; REGISTERED] }
    }

    /// What `first..=last` has to do with these stacks.
    pub(crate) fn locate(&self, first: VirtAddr, last: VirtAddr) -> Located {
        let stacks = || self.entries.iter().filter_map(RegistryEntry::read);
        let meets = |from: VirtAddr, to: VirtAddr| first < to && last >= from;
        let met = stacks().filter(|stack| meets(stack.bottom, stack.top));
        if let Some(stack) = met.min_by_key(|stack| stack.bottom) {
            return Overlap::of(first, last, stack.bottom, stack.top).located(stack.view());
        }
        let guarded = |stack: &ExternalStack| {
            meets(stack.bottom.wrapping_sub(stack.guard_bytes), stack.top.wrapping_add(stack.guard_bytes))
        };
        stacks().find(guarded).map_or(Located::Outside, |stack| Located::Guard(stack.view()))
    }

    /// The stack in whose guard `address` is, what that means, and how far past its end. Where the page above one stack is
    /// the guard of the next, it is the one that the stack pointer speaks for.
    fn touched(&self, address: VirtAddr, sp: VirtAddr) -> Option<(ExternalStack, Finding, usize)> {
        let touched = || {
            let stacks = self.entries.iter().filter_map(RegistryEntry::read);
            stacks.filter_map(|stack| stack.classify(address, sp).map(|(finding, beyond)| (stack, finding, beyond)))
        };
        touched().find(|(stack, ..)| stack.holds(sp)).or_else(|| touched().next())
    }
}

impl RegistryEntry {
    const fn new() -> Self {
        Self {
            bottom: AtomicUsize::new(0),
            top: AtomicUsize::new(0),
            guard_bytes: AtomicUsize::new(0),
            kind: AtomicUsize::new(0),
            owner: AtomicUsize::new(0),
        }
    }

    fn publish(&self, stack: &ExternalStack) {
        self.bottom.store(stack.bottom.get(), Ordering::Relaxed);
        self.guard_bytes.store(stack.guard_bytes, Ordering::Relaxed);
        self.kind.store(stack.kind as usize, Ordering::Relaxed);
        self.owner.store(stack.owner, Ordering::Relaxed);
        // Release: a reader that sees the top sees the rest.
        self.top.store(stack.top.get(), Ordering::Release);
    }

    fn read(&self) -> Option<ExternalStack> {
        // Acquire: pairs with `publish`.
        let top = self.top.load(Ordering::Acquire);
        (top != 0).then(|| ExternalStack {
            bottom: VirtAddr::new(self.bottom.load(Ordering::Relaxed)),
            top: VirtAddr::new(top),
            guard_bytes: self.guard_bytes.load(Ordering::Relaxed),
            kind: StackKind::from_index(self.kind.load(Ordering::Relaxed) as u8),
            owner: self.owner.load(Ordering::Relaxed),
        })
    }
}

impl ExternalStack {
    /// Whether a stack pointer is on this stack, or has left it downwards and is in its guard. One equal to the top is that
    /// of an empty stack.
    fn holds(&self, sp: VirtAddr) -> bool {
        self.bottom.wrapping_sub(self.guard_bytes) < sp && sp <= self.top
    }

    /// How `address` and the stack pointer relate to this stack, if the address is in one of its guards.
    fn classify(&self, address: VirtAddr, sp: VirtAddr) -> Option<(Finding, usize)> {
        let close = address.distance(sp) <= FRAME_REACH;
        let below = self.bottom.offset_from(address).filter(|&beyond| beyond != 0 && beyond <= self.guard_bytes);
        let above = address.offset_from(self.top).filter(|&over| over < self.guard_bytes);
        match (below, above) {
            (Some(beyond), _) if close => Some((Finding::OverflowWalked, beyond)),
            (Some(beyond), _) if sp < self.bottom && self.bottom.distance(sp) <= self.guard_bytes => {
                Some((Finding::OverflowJumped, beyond))
            }
            (Some(beyond), _) => Some((Finding::WildPointer, beyond)),
            (None, Some(over)) if close => Some((Finding::Underflow, over + 1)),
            (None, Some(over)) => Some((Finding::WildPointer, over + 1)),
            (None, None) => None,
        }
    }

    fn view(&self) -> StackView {
        StackView {
            bottom: self.bottom,
            top: self.top,
            owner: self.owner,
            slot: u32::MAX,
            phase: Phase::Live as u8,
            kind: self.kind as u8,
            known: 1,
            ..StackView::default()
        }
    }
}

impl<P: Platform> StackArea<P> {
    /// Makes a stack outside the area known to its reports.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; then nothing changed.
    pub fn register(&self, stack: &ExternalStack) -> Result<(), RegisterError> {
        let bad = RegisterError::BadBounds { bottom: stack.bottom, top: stack.top };
        let guarded = stack.top.checked_add(stack.guard_bytes).is_some() && stack.bottom.get() >= stack.guard_bytes;
        if stack.bottom >= stack.top || !guarded {
            return Err(bad);
        }
        let index = self.registry.claimed.fetch_add(1, Ordering::Relaxed);
        let Some(entry) = self.registry.entries.get(index) else {
            self.registry.claimed.store(REGISTERED, Ordering::Relaxed);
            return Err(RegisterError::Full { max: REGISTERED });
        };
        entry.publish(stack);
        Ok(())
    }

    /// The first and the last address of each registered stack, its guards included.
    pub(crate) fn registered_ranges(&self) -> impl Iterator<Item = (usize, usize)> {
        self.registry.entries.iter().filter_map(RegistryEntry::read).map(|stack| {
            let (bottom, end) =
                (stack.bottom.wrapping_sub(stack.guard_bytes), stack.top.wrapping_add(stack.guard_bytes));
            (bottom.get(), end.get() - 1)
        })
    }

    pub(crate) fn on_registered_fault(
        &self,
        geometry: &Geometry,
        address: VirtAddr,
        sp: VirtAddr,
        context: &FaultContext,
    ) -> Verdict {
        let Some((touched, finding, beyond)) = self.registry.touched(address, sp) else { return Verdict::NotOurs };
        let speaker = geometry.speaks_for(sp).slot();
        let (finding, stack, neighbour) = match speaker {
            _ if finding != Finding::WildPointer || touched.holds(sp) => {
                (finding, touched.view(), StackView::default())
            }
            Some(_) => (Finding::OtherGuard, self.view(speaker), touched.view()),
            None => (finding, StackView::default(), touched.view()),
        };
        let guard_bytes = touched.guard_bytes;
        let blank = self.blank_fault(finding, address, sp, context);
        self.verdict(StackFault { guard_bytes, beyond, stack, neighbour, ..blank })
    }
}
