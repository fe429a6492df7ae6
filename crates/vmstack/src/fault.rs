//! What to do about a fault: from an address and a stack pointer to a verdict and a record.
//!
//! Everything here runs in the fault path (INV-FAULT): it takes no lock, allocates nothing, reads only memory that cannot
//! fault, and takes the same time for every address of the area. What the fault *is* comes from `classify`; this adds who the
//! stacks belong to, as far as their records were ever made, and who has to pay.

use crate::addr::{Cpu, VirtAddr};
use crate::area::StackArea;
use crate::classify::{Classified, Finding};
use crate::config::StackKind;
use crate::geometry::{Geometry, Place, SlotIndex};
use crate::platform::Platform;
use crate::slots::{Phase, SlotRecord, State};
use crate::sync::Ordering;

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
    /// Whoever made the fault must not go on. Report, then kill the *current* task; on a stack of
    /// [`StackKind::Interrupt`] or [`StackKind::Nmi`] abandon the handler, and let the interrupted task go on. Never "the
    /// owner of [`stack`](StackFault::stack)", which may be nobody, or somebody who has nothing to do with it.
    Kill(StackFault),
    /// A mapping that this CPU had not seen yet: try the instruction again.
    Resume,
    /// Nobody can be killed for it: report, then stop the machine in order. So it is on a stack of
    /// [`StackKind::Emergency`], on which the handling of a fault would have to be abandoned, and wherever the kernel says
    /// that nobody can be spared ([`FaultContext::indispensable`]).
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
    /// No stack.
    const NONE: Self = Self {
        bottom: VirtAddr::new(0),
        top: VirtAddr::new(0),
        owner: 0,
        slot: 0,
        generation: 0,
        phase: 0,
        kind: 0,
        known: 0,
        earlier_pages: 0,
    };

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
    /// No fault: zero from end to end, for the place of one that is yet to come.
    pub const BLANK: Self = Self {
        version: 0,
        finding: Finding::OverflowWalked,
        indispensable: 0,
        cpu: Cpu::new(0),
        sequence: 0,
        address: VirtAddr::new(0),
        stack_pointer: VirtAddr::new(0),
        instruction: VirtAddr::new(0),
        guard_bytes: 0,
        beyond: 0,
        stack: StackView::NONE,
        neighbour: StackView::NONE,
    };

    /// The stack that the report's first line names: the one that the fault happened to.
    ///
    /// That is the stack whose guard was hit. Only an overflow, an underflow or a wild pointer into the guard of the own stack
    /// make it the one that the stack pointer speaks for; who touches [another's guard](Finding::OtherGuard) has not overflowed.
    #[must_use]
    pub const fn subject(&self) -> &StackView {
        match self.finding {
            Finding::OtherGuard => &self.neighbour,
            _ if self.stack.exists() => &self.stack,
            _ => &self.neighbour,
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
        let phase = slot.and_then(|slot| self.metadata()?.try_record(slot)).map(SlotRecord::phase);
        matches!(phase, Some(Phase::Live | Phase::Dead))
            && !context.protection
            && self.platform().translate(address).is_some()
    }

    #[inline]
    pub(crate) fn verdict(&self, fault: StackFault) -> Verdict {
        let fatal = fault.stack.exists() && fault.stack.stack_kind() == StackKind::Emergency;
        if fatal || fault.indispensable != 0 { Verdict::Stop(fault) } else { Verdict::Kill(fault) }
    }

    #[inline]
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

    #[inline]
    pub(crate) fn blank_fault(
        &self,
        finding: Finding,
        address: VirtAddr,
        sp: VirtAddr,
        context: &FaultContext,
    ) -> StackFault {
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
    #[inline]
    pub(crate) fn view(&self, slot: Option<SlotIndex>) -> StackView {
        let (Some(slot), Some(meta)) = (slot, self.metadata()) else { return StackView::NONE };
        let record = meta.try_record(slot);
        let state = record.map_or(State::NONE, SlotRecord::state);
        let page = meta.geometry.page_size();
        StackView {
            bottom: meta.geometry.bottom(slot),
            top: meta.geometry.top(slot),
            owner: record.map_or(0, SlotRecord::owner),
            slot: slot.get(),
            generation: state.generation,
            phase: state.phase as u8,
            kind: meta.geometry.kind() as u8,
            known: u8::from(record.is_some()),
            // A page is a power of two of bytes.
            earlier_pages: record.map_or(0, |record| (record.watermark() + page - 1) >> page.trailing_zeros()) as u8,
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
