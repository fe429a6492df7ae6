//! Flags: what a task has to do before it goes back to its program.
//!
//! The entry code tests one word of the CPU before it returns to user mode ([`percpu`]), and comes to
//! [`hooks::before_return`](crate::hooks::before_return) only if it is not zero. The word belongs to the CPU: it is that of
//! whatever task runs there, and a switch carries it over. `words` has the protocol, and why no flag is lost.
//!
//! | flag | of | meaning |
//! | --- | --- | --- |
//! | [`Flag::Resched`] | the CPU | another task is due; also acted upon on the way back into the kernel |
//! | [`Flag::Signal`] | the task | a signal may be pending that is not blocked |
//! | [`Flag::Trace`] | the task | its system calls are counted and noted |
//! | [`Flag::Provoked`] | the task | a crash wants to see how it returns (`arch::provoke`) |
//!
//! A flag says "look": it may be raised when there is nothing. Who acts on it lowers it first and looks afterwards.
//!
//! # Context
//!
//! [`Task::raise`]: any but NMI and the fault path. The rest: the task itself, or the switch.

use core::sync::atomic::AtomicU32;

use vmstack::Cpu;

use super::Task;
use super::sched;
use crate::arch::cpu::InterruptsOff;
use crate::arch::percpu;
use crate::interrupts;

mod words;

/// The atomics of the protocol: loom's, in its tests.
mod atomic {
    pub(super) use core::sync::atomic::{AtomicU32, Ordering, fence};
}

pub(crate) use words::{RESCHED, TaskWords};

/// A reason to come to [`hooks::before_return`](crate::hooks::before_return).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Flag {
    Resched = RESCHED,
    Signal = 1 << 1,
    Trace = 1 << 2,
    Provoked = 1 << 3,
}

impl TaskWords {
    /// Those of a task that does not run yet, with these flags raised.
    pub(crate) const fn new(raised: u32) -> Self {
        Self { home: AtomicU32::new(raised), on_cpu: AtomicU32::new(0) }
    }
}

impl Task {
    /// Raises `flag` for the task, whichever CPU runs it, or none: it is seen before the task returns to user mode.
    pub(crate) fn raise(&self, flag: Flag) {
        let Some(cpu) = self.flags().raise(flag as u32) else { return };
        let Some(block) = percpu::of(Cpu::new(cpu)) else { return };
        words::mark(block.flags());
        // One that is in the kernel looks on its way out; one that is in user mode, or about to be, is told.
        let _interrupts = InterruptsOff::new();
        if percpu::cpu_number().index() != cpu as usize {
            interrupts::ask_to_look(block);
        }
    }

    /// Whether `flag` is raised for the task.
    pub(crate) fn is_raised(&self, flag: Flag) -> bool {
        self.flags().raised() & flag as u32 != 0
    }
}

/// Takes `flag` of the current task back. What it was raised for is looked at afterwards.
pub(crate) fn lower(flag: Flag) {
    let _interrupts = InterruptsOff::new();
    sched::current().flags().lower(flag as u32, percpu::this_cpu().flags());
}

/// Whether `flag` is raised for the current task, or for this CPU.
pub(crate) fn of_current(flag: Flag) -> bool {
    let _interrupts = InterruptsOff::new();
    let word = percpu::this_cpu().flags();
    sched::current().flags().look_again(word);
    word.load(core::sync::atomic::Ordering::Relaxed) & flag as u32 != 0
}

/// Whether any is, as the entry code sees it. With interrupts off: the answer holds until they are on.
pub(crate) fn any_of_current() -> bool {
    percpu::this_cpu().flags().load(core::sync::atomic::Ordering::Relaxed) != 0
}

/// This CPU switches from `previous` to `next`, with interrupts off.
pub(crate) fn switched(previous: &Task, next: &Task) {
    let block = percpu::this_cpu();
    previous.flags().leave();
    next.flags().arrive(block.cpu().index() as u32, block.flags());
}
