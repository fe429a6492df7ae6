//! Allocations that fail on purpose: the one that a task asks for, counted from now, as Linux's `fail-nth` has it.
//!
//! The number is in the task struct. Each allocation on behalf of the task counts it down, and the one that finds it at one fails: so a
//! program makes one call after the other with each allocation on its way failing once, and looks whether anything is lost.
//!
//! # Context
//!
//! Tasks. What an interrupt handler allocates is nobody's, and does not count.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch::percpu;
use crate::task::sched;

/// Whether any task ever asked for it: nearly always none did, and there is nothing else to look at.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Makes the `nth` allocation of the current task from now on fail, once; zero: none.
pub(crate) fn set(nth: u32) {
    ASKED.store(true, Ordering::Relaxed);
    sched::current().fail_nth().store(nth, Ordering::Relaxed);
}

/// How many allocations are left until one fails: zero if it happened, or if none is to.
pub(crate) fn left() -> u32 {
    sched::current().fail_nth().load(Ordering::Relaxed)
}

/// Whether the allocation that the current task is about to make is to fail.
#[inline]
pub(crate) fn fails() -> bool {
    ASKED.load(Ordering::Relaxed) && is_the_one()
}

#[cold]
fn is_the_one() -> bool {
    let Some(task) = sched::current_if_any() else { return false };
    let left = task.fail_nth().load(Ordering::Relaxed);
    left != 0 && percpu::this_cpu().irq_depth() == 0 && {
        task.fail_nth().store(left - 1, Ordering::Relaxed);
        left == 1
    }
}

/// Runs `work`, of which no allocation fails on purpose: the kernel could not do without.
pub(crate) fn spared<T>(work: impl FnOnce() -> T) -> T {
    let Some(task) = sched::current_if_any() else { return work() };
    let left = task.fail_nth().swap(0, Ordering::Relaxed);
    let result = work();
    task.fail_nth().store(left, Ordering::Relaxed);
    result
}
