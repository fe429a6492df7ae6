//! When each step of the overflow path was reached: for `mode=fault`, which counts what a step takes.
//!
//! One fault at a time, on one CPU. Where nothing is counted a step costs the test of one word. No lock is taken and nothing allocated
//! (INV-FAULT).

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::arch::cpu;

/// What is reached, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// The instruction that overflows is next.
    Overflow,
    /// The handler of the double fault.
    Entered,
    /// The areas have said what it was.
    Judged,
    /// The walk along the frames begins.
    Walking,
    /// It is over.
    Walked,
    /// The record is in the ring.
    Recorded,
    /// The task stands on its own stack again, at the top.
    Dying,
    /// What it held is given back.
    CleanedUp,
    /// The report is printed, or left to others.
    Printed,
    /// The memory of a process is about to be given up.
    Forgetting,
    /// It is.
    Forgotten,
    /// The task takes its last step: the scheduler's.
    Leaving,
    /// The next task runs.
    Next,
}

const STEPS: usize = Step::Next as usize + 1;

static COUNTED: AtomicBool = AtomicBool::new(false);
static REACHED: [AtomicU64; STEPS] = [const { AtomicU64::new(0) }; STEPS];

/// Notes that `step` is reached, where that is counted.
#[inline(always)]
pub(crate) fn reached(step: Step) {
    if COUNTED.load(Relaxed) {
        note(step);
    }
}

#[cold]
#[inline(never)]
fn note(step: Step) {
    place(step).store(cpu::cycles(), Relaxed);
}

/// Where the time is noted of `step`.
pub(crate) fn place(step: Step) -> &'static AtomicU64 {
    &REACHED[step as usize]
}

/// Counts from here on; nothing is reached yet.
pub(crate) fn begin() {
    REACHED.iter().for_each(|reached| reached.store(0, Relaxed));
    COUNTED.store(true, Relaxed);
}

/// Counts no more.
pub(crate) fn end() {
    COUNTED.store(false, Relaxed);
}

/// When `step` was reached; none if it was not.
pub(crate) fn at(step: Step) -> Option<u64> {
    let time = place(step).load(Relaxed);
    (time != 0).then_some(time)
}
