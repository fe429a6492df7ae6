//! What files ask of other parts of the kernel.

use crate::boot;
use crate::syscall::Errno;
use crate::text::Text;

/// Writes the calls that the kernel stack of task `id` holds.
pub(super) fn write_stack(_id: usize, _text: &mut Text) -> Result<(), Errno> {
    Ok(())
}

/// How many allocations of the current task are left before one is made to fail.
pub(super) fn failures_left() -> usize {
    0
}

/// Makes allocation `number` of the current task, from now on, fail.
pub(super) fn fail_nth(_number: usize) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

/// Whether `cpu` runs tasks.
pub(super) fn is_online(cpu: usize) -> bool {
    cpu < boot::cpus()
}

/// Makes `cpu` run tasks, or no more.
pub(super) fn set_online(_cpu: usize, _online: bool) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

/// The signal for who writes to a pipe that nobody reads.
pub(crate) fn broken_pipe() {}
