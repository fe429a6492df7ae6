//! What programs ask for, call by call, for tasks whose flag [`Trace`](crate::task::flags::Flag::Trace) is up: with the word `trace=syscalls` on
//! the command line, the first program and all that come of it.
//!
//! A call is noted on its way back to the program, where the flag brings it; so one that does not come back (an end, a new image) is
//! not noted. Who is not traced pays nothing.
//!
//! ```text
//! trace: pid 7 (sh) call 12: 1(0x1, 0x7ffe0010, 0x6, 0x0, 0x0, 0x0) = 6
//! ```

use super::Arguments;
use crate::arch::frame::TrapFrame;
use crate::println;
use crate::task::names::Name;
use crate::task::sched;

/// Notes the call in `frame`, if it is of one, as it returns.
///
/// # Context
///
/// The task itself, before its return to user mode, with interrupts off.
pub(crate) fn returned(frame: &TrapFrame) {
    let Some(number) = frame.call_number() else { return };
    let task = sched::current();
    let (id, count) = (task.id(), task.count_call());
    let [a, b, c, d, e, f] = Arguments::of(frame).0;
    let answer = frame.rax.cast_signed();
    println!(
        "trace: pid {id} ({}) call {count}: {number}({a:#x}, {b:#x}, {c:#x}, {d:#x}, {e:#x}, {f:#x}) = {answer}",
        Name(id)
    );
}
