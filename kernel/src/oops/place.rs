//! Where a CPU was when it faulted, and so who has to pay.
//!
//! What the CPU was doing says who, never the address: a handler that touches a task's guard is the handler's fault. Read from
//! this CPU's own words; nothing here takes a lock or can fault (INV-FAULT).

use vmstack::{VirtAddr, VirtRange};

use crate::arch::gdt::{self, Ist};
use crate::arch::percpu;
use crate::stacks::{INTERRUPT_STACK, NMI_STACK};
use crate::sync::{self, HeldNames};
use crate::task::sched;

/// What a CPU was doing, the innermost first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In the handler of #DF, #MC or #DB.
    Emergency,
    /// In an NMI's handler.
    Nmi,
    /// In an interrupt's handler.
    Interrupt,
    /// In the idle task.
    Idle,
    /// In a task: a process's system call or exception, or a kernel task.
    Task,
    /// On the way up: there is no task yet.
    Boot,
}

impl Place {
    /// Where this CPU was when it faulted.
    pub(super) fn of_this_cpu() -> Self {
        let block = percpu::this_cpu();
        let busy = |ist| gdt::ist_busy(block, ist);
        // The #DF stack is busy because of this fault: one that its handler made does not come here.
        if busy(Ist::MachineCheck) || busy(Ist::Debug) {
            return Self::Emergency;
        }
        if busy(Ist::Nmi) {
            return Self::Nmi;
        }
        if block.irq_depth() > 0 {
            return Self::Interrupt;
        }
        match sched::current_if_any() {
            None => Self::Boot,
            Some(task) if task.is_idle() => Self::Idle,
            Some(_) => Self::Task,
        }
    }

    /// Whether nobody can be ended here: there is nobody, the machine cannot do without, or a section was entered that must
    /// not be cut short.
    pub(super) fn is_indispensable(self) -> bool {
        let vital = percpu::vital() != 0;
        match self {
            Self::Emergency | Self::Boot => true,
            Self::Nmi => false,
            Self::Interrupt | Self::Idle => vital,
            Self::Task => vital || sched::is_init(),
        }
    }

    /// Why the machine stops for it.
    pub(super) fn why_nobody(self) -> &'static str {
        match self {
            Self::Emergency => "a fault in the handler of a fault",
            Self::Boot => "a fault before there is a task",
            Self::Task if sched::is_init() => "init overflowed its stack",
            _ => "a stack ended in a section that the machine cannot do without",
        }
    }

    /// The stack of whoever was there: mapped, and safe to read. Empty where that is not known.
    pub(super) fn stack(self) -> VirtRange {
        let block = percpu::this_cpu();
        let ending = |top: VirtAddr, bytes: usize| VirtRange::new(top.wrapping_sub(bytes), bytes);
        let range = match self {
            Self::Interrupt => ending(block.irq_stack_top(), INTERRUPT_STACK),
            Self::Nmi => ending(gdt::ist_top(block, Ist::Nmi), NMI_STACK),
            Self::Idle | Self::Task => sched::current_if_any().and_then(|task| {
                let (bottom, top) = task.stack_bounds();
                VirtRange::new(bottom, top.distance(bottom))
            }),
            Self::Emergency | Self::Boot => None,
        };
        range.unwrap_or(VirtRange::EMPTY)
    }

    /// Puts the locks that are held by whoever was there into `names`.
    pub(super) fn name_locks(self, names: &mut HeldNames) {
        match (self, sched::current_if_any()) {
            // SAFETY: whoever was there faulted, and does not go on before this is done.
            (Self::Interrupt, _) => unsafe { sync::names_of_handlers(names) },
            // SAFETY: as above.
            (Self::Task | Self::Idle, Some(task)) => unsafe { sync::names_of_task(&task, names) },
            _ => names.clear(),
        }
    }

    /// Where the frames go on of what a handler interrupted: the frame pointer, and the stack that it is on.
    pub(super) fn interrupted(self) -> Option<(VirtAddr, VirtRange)> {
        (self == Self::Interrupt).then(|| (percpu::this_cpu().interrupted_link(), Self::Task.stack()))
    }

    /// The word for reports.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Emergency => "in a fault handler",
            Self::Nmi => "in an NMI handler",
            Self::Interrupt => "in an interrupt handler",
            Self::Idle => "in the idle task",
            Self::Task => "in a task",
            Self::Boot => "before the first task",
        }
    }
}
