//! What files ask of other parts of the kernel.

use crate::arch::cut::{self, Cut};
use crate::arch::provoke;
use crate::mm::inject;
use crate::oops;
use crate::stacks::TASK_STACK;
use crate::syscall::Errno;
use crate::task::look::Look;
use crate::task::sched;
use crate::text::Text;

/// Writes the calls that the kernel stack of task `id` holds.
pub(super) fn write_stack(id: usize, text: &mut Text) -> Result<(), Errno> {
    // Nothing of one that runs: its calls change while they are written.
    Look::at(id).map_or(Ok(()), |look| look.write(text)).map_err(|_| Errno::NOMEM)
}

/// How many allocations of the current task are left before one is made to fail.
pub(super) fn failures_left() -> u32 {
    inject::left()
}

/// Makes allocation `number` of the current task, from now on, fail.
pub(super) fn fail_nth(number: usize) -> Result<(), Errno> {
    inject::set(u32::try_from(number).map_err(|_| Errno::INVAL)?);
    Ok(())
}

/// How many instructions of the last system call that was to be cut were carried out.
pub(super) fn cut_after() -> usize {
    cut::steps()
}

/// Behind how many instructions of its end a task that was to overflow again did.
pub(super) fn cut_again_at() -> usize {
    cut::again_at()
}

/// Has the current task overflow again behind instruction `number` of what it does when it dies of an overflow.
pub(super) fn cut_again_after(number: usize) {
    cut::again_after(number);
}

/// How many overflows there were.
pub(super) fn overflows() -> usize {
    oops::count()
}

/// Has the current task's next system call overflow behind instruction `number`.
pub(super) fn cut_next_call_after(number: usize) {
    // SAFETY: it is to be served where it enters.
    unsafe { provoke::cut_next_call(Cut::After(number.max(1)), sched::current().stack_bounds().0) };
}

/// Has the current task's next system call begin with `bytes` of its stack left.
///
/// # Errors
///
/// `EINVAL`: the stack has no room for what an entry needs above that.
pub(super) fn leave_room(bytes: usize) -> Result<(), Errno> {
    if !bytes.is_multiple_of(8) || bytes > TASK_STACK - ENTRY {
        return Err(Errno::INVAL);
    }
    let bottom = sched::current().stack_bounds().0;
    // SAFETY: there are that many bytes, and as many above it as an entry uses.
    unsafe { provoke::cut_next_call(Cut::Room(bottom.wrapping_add(bytes)), bottom) };
    Ok(())
}

/// More than a system call's entry uses of the stack, in bytes.
const ENTRY: usize = 512;

/// The signal for who writes to a pipe that nobody reads.
pub(crate) use crate::process::signal::broken_pipe;
