//! The calls that led to a fault, with names: the library's trace, walked along this kernel's frame pointers.

use core::fmt;

use vmstack::{Taking, Trace, TraceEnd, VirtAddr, VirtRange};
use vmstack_arch::frames;

use crate::arch::frame::TrapFrame;
use crate::symbols::Code;

/// The calls that led to `frame`, on the stack in `bounds`. Any context, the fault path included.
pub(crate) fn of(frame: &TrapFrame, bounds: VirtRange) -> Trace {
    let mut trace = Trace::empty();
    take(&mut trace, frame, bounds, None);
    trace
}

/// Takes the calls that led to `frame` into `trace`, on the stack in `bounds`, and those that it interrupted: from the frame pointer
/// `then.0` on, on the stack in `then.1`. Any context, the fault path included.
pub(crate) fn take(trace: &mut Trace, frame: &TrapFrame, bounds: VirtRange, then: Option<(VirtAddr, VirtRange)>) {
    // SAFETY: callers give the bounds of a stack that is mapped, or an empty range.
    let mut walk = unsafe { frames(frame.frame_pointer(), bounds.start(), bounds.end()) };
    let (address, bytes) = walk.innermost(frame.instruction(), frame.stack_pointer());
    let mut taking = trace.retake();
    taking.add(address, bytes, 1);
    walk.runs().all(|(address, bytes, times)| taking.add(address, bytes, times));
    let end = match then {
        None => walk.end(),
        Some((pointer, interrupted)) => go_on(&mut taking, pointer, interrupted),
    };
    taking.ended(end);
}

/// Adds the calls from the frame pointer `pointer` on, on the stack in `bounds`. Says why they end.
#[cold]
fn go_on(taking: &mut Taking<'_>, pointer: VirtAddr, bounds: VirtRange) -> TraceEnd {
    // SAFETY: as above.
    let mut walk = unsafe { frames(pointer, bounds.start(), bounds.end()) };
    walk.runs().all(|(address, bytes, times)| taking.add(address, bytes, times));
    walk.end()
}

/// Writes the name of a place in the code.
pub(crate) fn name(address: VirtAddr, out: &mut dyn fmt::Write) -> fmt::Result {
    write!(out, "{}", Code(address))
}
