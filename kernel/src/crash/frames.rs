//! Frames that are too big on purpose. The gate on frame sizes lets these pass, and no others (`docs/design.md`).
//!
//! Compiled with stack probes, each touches its pages one after the other on the way down, so none jumps a guard.

use core::hint::black_box;

use super::Provocation;
use super::places::call_below;
use super::stack::deep;
use crate::stacks::TASK_STACK;

pub(super) static PROVOCATIONS: [Provocation; 4] = [
    Provocation { name: "BIG_FRAME:page", act: || deep(larger_than_a_page) },
    Provocation { name: "BIG_FRAME:guard", act: larger_than_the_guard },
    Provocation { name: "BIG_FRAME:stack", act: larger_than_the_stack },
    Provocation { name: "BIG_FRAME:unprobed", act: unprobed },
];

/// A stride is twice a stack: the guard is as wide as the stack.
const GUARD: usize = TASK_STACK;

#[inline(never)]
fn larger_than_a_page() {
    black_box(&mut [0_u8; 2 * 4096]);
}

#[inline(never)]
fn larger_than_the_guard() {
    black_box(&mut [0_u8; GUARD + 4096]);
}

/// Larger than stack and guard together: without probes it would end in the next stack.
#[inline(never)]
fn larger_than_the_stack() {
    black_box(&mut [0_u8; TASK_STACK + GUARD + 4096]);
}

/// What a frame does that is not probed: the stack pointer is more than a page below the stack when it is first used. The guard is wide
/// enough to see it.
fn unprobed() {
    call_below(UNPROBED);
}

/// How far below the bottom, in bytes: in the upper half of the guard.
const UNPROBED: usize = 6 * 1024;
