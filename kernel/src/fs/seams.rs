//! What files ask of other parts of the kernel.

use crate::mm::inject;
use crate::syscall::Errno;
use crate::task::look::Look;
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

/// The signal for who writes to a pipe that nobody reads.
pub(crate) use crate::process::signal::broken_pipe;
