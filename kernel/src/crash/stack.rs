//! Overflows of a task's own stack, and accesses to guards.

use core::hint::black_box;

use super::Provocation;

pub(super) static PROVOCATIONS: [Provocation; 1] = [Provocation { name: "EXHAUST_STACK", act: exhaust_stack }];

/// Deeper than any stack: it does not come back.
pub(super) fn exhaust_stack() {
    black_box(recursive_loop(black_box(usize::MAX)));
}

/// Calls itself until the stack ends. Each frame holds something that its caller needs, so none of them can be left out.
#[inline(never)]
fn recursive_loop(remaining: usize) -> usize {
    let frame = black_box([remaining; 8]);
    if remaining == 0 {
        return frame[0];
    }
    recursive_loop(remaining - 1) + frame[remaining % 8]
}
