//! The calls that led to a fault, with names: the library's trace, walked along this kernel's frame pointers.

use core::fmt;
use core::iter::once;

use vmstack::{Trace, VirtAddr, VirtRange};
use vmstack_arch::frames;

use crate::arch::frame::TrapFrame;
use crate::symbols::Code;

/// The calls that led to `frame`, on the stack in `bounds`. Any context, the fault path included.
pub(crate) fn of(frame: &TrapFrame, bounds: VirtRange) -> Trace {
    across(frame, bounds, None)
}

/// The calls that led to `frame`, on the stack in `bounds`, and those that it interrupted: from the frame pointer `then.0` on, on
/// the stack in `then.1`. Any context, the fault path included.
pub(crate) fn across(frame: &TrapFrame, bounds: VirtRange, then: Option<(VirtAddr, VirtRange)>) -> Trace {
    // SAFETY: callers give the bounds of a stack that is mapped, or an empty range.
    let mut walk = unsafe { frames(frame.frame_pointer(), bounds.start(), bounds.end()) };
    let innermost = walk.innermost(frame.instruction(), frame.stack_pointer());
    let (pointer, interrupted) = then.unwrap_or((VirtAddr::default(), VirtRange::EMPTY));
    // SAFETY: as above.
    let mut below = unsafe { frames(pointer, interrupted.start(), interrupted.end()) };
    let (address, bytes) = innermost;
    let trace = Trace::take_runs(once((address, bytes, 1)).chain(walk.runs()).chain(below.runs()));
    trace.ended(if then.is_some() { below.end() } else { walk.end() })
}

/// Writes the name of a place in the code.
pub(crate) fn name(address: VirtAddr, out: &mut dyn fmt::Write) -> fmt::Result {
    write!(out, "{}", Code(address))
}
