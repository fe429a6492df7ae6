//! What a fault means: from an address and a stack pointer to a finding, a verdict and a record.
//!
//! Everything here runs in the fault path (INV-FAULT): it takes no lock, allocates nothing, reads only memory that cannot
//! fault, and takes the same time for every address. It sees two words and derives the rest:
//!
//! ```text
//!   address in ...     stack pointer in ...                           finding
//!   a guard            the stack above, or the guard under it,
//!                        within a page of the address                 OverflowWalked
//!   a guard            the guard, deeper than a page, or the access
//!                        far above a pointer that left the stack      OverflowJumped
//!   a guard            the stack below, within a page                 Underflow
//!   a guard            another stack of the area, or its guard        OtherGuard
//!   a guard            anything else: healthy and far, or nowhere     WildPointer
//!   a stack            anything                                       InsideStack
//!   neither            anything                                       Outside
//! ```
//!
//! An address in the guard between two stacks is one stack's overflow or the other's underflow; the record names both and
//! which one the stack pointer speaks for. The bytes nearest to a stack belong to it: a stack pointer in the upper half
//! of a guard comes from above, one in the lower half from below.

use crate::addr::{Cpu, VirtAddr};
use crate::area::StackArea;
use crate::geometry::{Geometry, Place, SlotIndex, StackKind};
use crate::platform::Platform;
use crate::slots::Phase;
use crate::sync::{AtomicUsize, Ordering};

/// How far from the stack pointer an access may be, in bytes, and still be the work of a frame: a push, a call, a store
/// to a local variable, a probe.
const FRAME_REACH: usize = 4096;

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

/// What the kernel knows about the moment of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FaultContext {
    /// The CPU on which it happened.
    pub cpu: Cpu,
    /// The instruction that made it.
    pub instruction: VirtAddr,
    /// The page was there, and what was done to it is forbidden (a write to read-only, a fetch from data).
    pub protection: bool,
    /// Nobody can be killed here: init, or a section that protects the allocator, the page tables or the run queue.
    pub indispensable: bool,
}

impl FaultContext {
    /// A fault on `cpu` at `instruction`, on an absent page, in code that can be killed.
    #[must_use]
    pub const fn new(cpu: Cpu, instruction: VirtAddr) -> Self {
        Self { cpu, instruction, protection: false, indispensable: false }
    }

    /// Whether the page was there, and what was done to it is forbidden.
    #[must_use]
    pub const fn protection(self, protection: bool) -> Self {
        Self { protection, ..self }
    }

    /// Whether nobody can be killed here.
    #[must_use]
    pub const fn indispensable(self, indispensable: bool) -> Self {
        Self { indispensable, ..self }
    }
}

/// What to do about a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// Not about this area's stacks: ask the next area, or the rest of the fault handler.
    NotOurs,
    /// Whoever made the fault must not go on. Report, then kill the *current* task, or abandon the handler: never "the
    /// owner of [`stack`](StackFault::stack)", which may be nobody, or somebody who has nothing to do with it.
    Kill(StackFault),
    /// A mapping that this CPU had not seen yet: try the instruction again.
    Resume,
    /// Nobody can be killed for it: report, then stop the machine in order.
    Stop(StackFault),
}

impl Verdict {
    /// The record, if there is something to report.
    #[must_use]
    pub const fn fault(&self) -> Option<&StackFault> {
        match self {
            Self::Kill(fault) | Self::Stop(fault) => Some(fault),
            Self::NotOurs | Self::Resume => None,
        }
    }
}

/// One stack, as a record shows it. All zero where there is none.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct StackView {
    /// The lowest address of the stack.
    pub bottom: VirtAddr,
    /// The first address above it.
    pub top: VirtAddr,
    /// The word that the kernel set as its owner.
    pub owner: usize,
    /// Its slot, or `u32::MAX` for a registered stack.
    pub slot: u32,
    /// Which life of the slot.
    pub generation: u32,
    /// Its phase, as [`Phase`] numbers them.
    pub phase: u8,
    /// What it is for, as [`StackKind`] numbers it.
    pub kind: u8,
    /// 1 if the record of the slot was there to be read.
    pub known: u8,
    /// The deepest use seen in earlier lives, in pages rounded up.
    pub earlier_pages: u8,
}

impl StackView {
    /// Whether there is a stack at all.
    #[must_use]
    pub const fn exists(&self) -> bool {
        self.top.get() != 0
    }

    /// What the stack is for.
    #[must_use]
    pub const fn stack_kind(&self) -> StackKind {
        StackKind::from_index(self.kind)
    }
}

/// A fault in a stack area, as data. The text is made from it later ([`Report`](crate::Report)).
///
/// The layout is fixed for a version; a reader checks [`version`](Self::version) first.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StackFault {
    /// The version of this layout: 1.
    pub version: u16,
    /// What it was.
    pub finding: Finding,
    /// 1 if the kernel said that nobody can be killed there.
    pub indispensable: u8,
    /// The CPU.
    pub cpu: Cpu,
    /// Counts the faults of this area, from 1.
    pub sequence: u64,
    /// The address that faulted.
    pub address: VirtAddr,
    /// The stack pointer at that moment.
    pub stack_pointer: VirtAddr,
    /// The instruction.
    pub instruction: VirtAddr,
    /// The unmapped bytes under every stack of the area, or around the registered stack.
    pub guard_bytes: usize,
    /// How far the address is past the end of the stack whose guard it is in: bytes below the bottom, or from the top up.
    pub beyond: usize,
    /// The stack that the stack pointer speaks for; for [`Finding::InsideStack`] the one that the address is in. Empty if
    /// the stack pointer speaks for no stack.
    ///
    /// It says where to look, not whom to kill: that is the current task. Check its [`phase`](StackView::phase) before
    /// reading the stack's memory: unless it is [`Phase::Live`] or [`Phase::Dead`], there may be none.
    pub stack: StackView,
    /// The stack on the other side of the guard, or the one whose guard was touched from elsewhere: if `stack` is empty,
    /// the one nearest to the address.
    pub neighbour: StackView,
}

impl StackFault {
    /// The version of the layout.
    pub const VERSION: u16 = 1;

    /// The stack that the fault is about: the one that the stack pointer speaks for, or else the one whose guard was touched.
    pub(crate) const fn subject(&self) -> &StackView {
        if self.stack.exists() { &self.stack } else { &self.neighbour }
    }
}

/// A classified fault: what, and between which slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Classified {
    finding: Finding,
    stack: Option<SlotIndex>,
    neighbour: Option<SlotIndex>,
}

impl Classified {
    const OUTSIDE: Self = Self { finding: Finding::Outside, stack: None, neighbour: None };

    const fn new(finding: Finding, stack: Option<SlotIndex>, neighbour: Option<SlotIndex>) -> Self {
        Self { finding, stack, neighbour }
    }
}

impl Geometry {
    fn classify(&self, address: VirtAddr, sp: VirtAddr) -> Classified {
        match self.place(address) {
            Place::Outside => Classified::OUTSIDE,
            Place::Stack(slot) => Classified::new(Finding::InsideStack, Some(slot), None),
            Place::Guard { below, above } => self.classify_guard(address, sp, below, above),
        }
    }

    /// The guard between `below` and `above` was touched.
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
            speaker if speaker.slot() == above => Classified::new(Finding::WildPointer, above, below),
            speaker if speaker.slot() == below => Classified::new(Finding::WildPointer, below, above),
            speaker => Classified::new(Finding::OtherGuard, speaker.slot(), above.or(below)),
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
    fn speaks_for(&self, sp: VirtAddr) -> Speaker {
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
    fn beyond(&self, address: VirtAddr, slot: SlotIndex) -> usize {
        let (bottom, top) = (self.bottom(slot), self.top(slot));
        bottom.offset_from(address).or_else(|| Some(address.offset_from(top)? + 1)).unwrap_or(0)
    }
}

/// Where a stack pointer stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Speaker {
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
    const fn slot(self) -> Option<SlotIndex> {
        match self {
            Self::On(slot) | Self::Under(slot) | Self::Over(slot) => Some(slot),
            Self::Nobody => None,
        }
    }
}

impl<P: Platform> StackArea<P> {
    /// What a fault at `address` with the stack pointer `stack_pointer` is. Constant time, any context.
    pub fn classify(&self, address: VirtAddr, stack_pointer: VirtAddr) -> Finding {
        self.geometry().map_or(Finding::Outside, |geometry| geometry.classify(address, stack_pointer).finding)
    }

    /// Judges a fault: whose it is, what it was, and what to do.
    ///
    /// Bounded, lock free, allocation free; touches nothing that can fault (INV-FAULT). The kernel reports the record once
    /// and acts; it does not return to the instruction unless the verdict is [`Verdict::Resume`].
    ///
    /// # Context
    ///
    /// Any, the fault path included, on any stack but the one that overflowed.
    pub fn on_fault(&self, address: VirtAddr, stack_pointer: VirtAddr, context: &FaultContext) -> Verdict {
        let Some(geometry) = self.geometry() else { return Verdict::NotOurs };
        let classified = geometry.classify(address, stack_pointer);
        match classified.finding {
            Finding::Outside => self.on_registered_fault(geometry, address, stack_pointer, context),
            Finding::InsideStack if self.is_spurious(address, classified.stack, context) => Verdict::Resume,
            _ => self.verdict(self.record_fault(geometry, &classified, address, stack_pointer, context)),
        }
    }

    /// A live stack's page that is mapped by now: another CPU mapped it and this one asked too early.
    fn is_spurious(&self, address: VirtAddr, slot: Option<SlotIndex>, context: &FaultContext) -> bool {
        let phase = slot.and_then(|slot| self.metadata()?.try_record(slot)).map(super::slots::SlotRecord::phase);
        matches!(phase, Some(Phase::Live | Phase::Dead))
            && !context.protection
            && self.platform().translate(address).is_some()
    }

    fn verdict(&self, fault: StackFault) -> Verdict {
        let fatal = fault.stack.exists() && fault.stack.stack_kind() == StackKind::Emergency;
        if fatal || fault.indispensable != 0 { Verdict::Stop(fault) } else { Verdict::Kill(fault) }
    }

    fn record_fault(
        &self,
        geometry: &Geometry,
        classified: &Classified,
        address: VirtAddr,
        stack_pointer: VirtAddr,
        context: &FaultContext,
    ) -> StackFault {
        // The stack pointer's own stack is none of those whose guard it is: the distance is from the other.
        let elsewhere = classified.finding == Finding::OtherGuard || classified.stack.is_none();
        let measured = if elsewhere { classified.neighbour } else { classified.stack };
        let beyond = measured.map_or(0, |slot| geometry.beyond(address, slot));
        StackFault {
            guard_bytes: geometry.guard(),
            beyond,
            stack: self.view(classified.stack),
            neighbour: self.view(classified.neighbour),
            ..self.blank_fault(classified.finding, address, stack_pointer, context)
        }
    }

    fn blank_fault(&self, finding: Finding, address: VirtAddr, sp: VirtAddr, context: &FaultContext) -> StackFault {
        StackFault {
            version: StackFault::VERSION,
            finding,
            indispensable: u8::from(context.indispensable),
            cpu: context.cpu,
            sequence: self.faults.fetch_add(1, Ordering::Relaxed) + 1,
            address,
            stack_pointer: sp,
            instruction: context.instruction,
            guard_bytes: 0,
            beyond: 0,
            stack: StackView::default(),
            neighbour: StackView::default(),
        }
    }

    /// One stack for a record. Its slot record is read only if it was made.
    fn view(&self, slot: Option<SlotIndex>) -> StackView {
        let (Some(slot), Some(meta)) = (slot, self.metadata()) else { return StackView::default() };
        let bounds = StackView {
            bottom: meta.geometry.bottom(slot),
            top: meta.geometry.top(slot),
            slot: slot.get(),
            kind: meta.geometry.kind() as u8,
            ..StackView::default()
        };
        let Some(record) = meta.try_record(slot) else { return bounds };
        let state = record.state();
        StackView {
            owner: record.owner(),
            generation: state.generation,
            phase: state.phase as u8,
            known: 1,
            earlier_pages: record.watermark().div_ceil(meta.geometry.page_size()) as u8,
            ..bounds
        }
    }

    /// The stack that `addr` lies in, if it is one that is in use: its bounds and its owner. Any context.
    pub fn stack_at(&self, addr: VirtAddr) -> Option<StackView> {
        match self.geometry()?.place(addr) {
            Place::Stack(slot) => {
                let view = self.view(Some(slot));
                let used = view.phase == Phase::Live as u8 || view.phase == Phase::Dead as u8;
                used.then_some(view)
            }
            _ => None,
        }
    }
}

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

    fn on_registered_fault(
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
