//! Whose list a lock goes on: the one rule for all locks.
//!
//! | code | list | number in owner words |
//! | --- | --- | --- |
//! | a task's own, system calls and exceptions included | the task's | the task's |
//! | an idle task | the task's | a number of the CPU |
//! | interrupt handlers, and boot before there is a task | the CPU's first | another |
//! | #DF, NMI, #MC and #DB handlers | the CPU's second | another |
//!
//! The handlers have lists of their own because they come between any two steps of what they interrupt.

use super::held::{GivenBack, HeldLocks, HeldNames, Holder};
use super::raw::RawLock;
use crate::arch::cpu;
use crate::arch::gdt::{self, Ist};
use crate::arch::percpu::{self, MAX_CPUS, PerCpu};
use crate::task::sched::{self, CurrentTask};

static HANDLERS: [HeldLocks; MAX_CPUS] = [const { HeldLocks::new() }; MAX_CPUS];
static EMERGENCIES: [HeldLocks; MAX_CPUS] = [const { HeldLocks::new() }; MAX_CPUS];

/// Numbers that no task has, to which the CPU's is added.
const HANDLER: u64 = 1 << 62;
const EMERGENCY: u64 = 2 << 62;
const IDLE: u64 = 3 << 62;

/// Whoever runs this code.
pub(crate) fn holder() -> Holder<'static> {
    // Handlers have interrupts off, so where they are on it is a task: and its own, on whichever CPU.
    if !cpu::interrupts_on() {
        let block = percpu::this_cpu();
        if Ist::ALL.into_iter().any(|ist| gdt::ist_busy(block, ist)) {
            return of_cpu(block, &EMERGENCIES, EMERGENCY);
        }
        if block.irq_depth() != 0 {
            return of_cpu(block, &HANDLERS, HANDLER);
        }
    }
    match sched::current_if_any() {
        Some(task) => of_task(&task),
        None => of_cpu(percpu::this_cpu(), &HANDLERS, HANDLER),
    }
}

fn of_cpu(block: &PerCpu, lists: &'static [HeldLocks; MAX_CPUS], number: u64) -> Holder<'static> {
    let cpu = block.cpu().index();
    Holder::new(&lists[cpu], number | cpu as u64)
}

fn of_task(task: &CurrentTask) -> Holder<'static> {
    let locks = core::ptr::from_ref(task.held());
    // SAFETY: the list is in the task's struct, which is there while the task's own code runs; a holder is used by that code alone
    // (`Holder` is not `Send`).
    let locks = unsafe { &*locks };
    Holder::new(locks, number_of(task))
}

fn number_of(task: &CurrentTask) -> u64 {
    if task.is_idle() { IDLE | percpu::cpu_number().index() as u64 } else { task.id() as u64 }
}

/// Whether code that was interrupted on this CPU, or that runs on it, has `lock`. Interrupts are off, and were when it was taken.
pub(crate) fn is_of_this_cpu(lock: &RawLock) -> bool {
    let cpu = percpu::cpu_number().index() as u64;
    let task = sched::current_if_any().is_some_and(|task| lock.is_of(number_of(&task)));
    task || [HANDLER, EMERGENCY].iter().any(|number| lock.is_of(number | cpu))
}

/// Puts the locks that the current task holds at this moment into `names`. For its own fault, before anything is given back.
///
/// # Safety
///
/// The task's code does not go on meanwhile.
pub(crate) unsafe fn names_of_task(task: &CurrentTask, names: &mut HeldNames) {
    // SAFETY: the caller's promise.
    unsafe { task.held().names(number_of(task), names) }
}

/// Puts the locks that this CPU's interrupt handlers hold at this moment into `names`.
///
/// # Safety
///
/// As for [`names_of_task`].
pub(crate) unsafe fn names_of_handlers(names: &mut HeldNames) {
    let cpu = percpu::cpu_number().index();
    // SAFETY: the caller's promise.
    unsafe { HANDLERS[cpu].names(HANDLER | cpu as u64, names) }
}

/// Gives back the locks of `task`, the current one, whose code was cut short.
///
/// # Context
///
/// On the task's CPU, on a stack with room, before interrupts go on.
///
/// # Safety
///
/// Nothing of what the task was doing goes on.
pub(crate) unsafe fn give_back_task(task: &CurrentTask) -> GivenBack {
    // SAFETY: the caller's promise.
    unsafe { task.held().give_back(number_of(task)) }
}

/// Gives back the locks of this CPU's interrupt handlers, which were abandoned.
///
/// # Context
///
/// As for [`give_back_task`].
///
/// # Safety
///
/// None of the handlers goes on.
pub(crate) unsafe fn give_back_handlers() -> GivenBack {
    let cpu = percpu::cpu_number().index();
    // SAFETY: the caller's promise.
    unsafe { HANDLERS[cpu].give_back(HANDLER | cpu as u64) }
}

/// Gives back the locks of this CPU's handlers on emergency stacks, which were abandoned.
///
/// # Context
///
/// As for [`give_back_task`].
///
/// # Safety
///
/// None of the handlers goes on.
pub(crate) unsafe fn give_back_emergencies() -> GivenBack {
    let cpu = percpu::cpu_number().index();
    // SAFETY: the caller's promise.
    unsafe { EMERGENCIES[cpu].give_back(EMERGENCY | cpu as u64) }
}
