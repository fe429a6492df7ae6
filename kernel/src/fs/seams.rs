//! What files ask of other parts of the kernel.

use crate::hotplug;
use crate::syscall::Errno;
use crate::task::look::Look;
use crate::text::Text;

/// Writes the calls that the kernel stack of task `id` holds.
pub(super) fn write_stack(id: usize, text: &mut Text) -> Result<(), Errno> {
    // Nothing of one that runs: its calls change while they are written.
    Look::at(id).map_or(Ok(()), |look| look.write(text)).map_err(|_| Errno::NOMEM)
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
    hotplug::is_online(cpu)
}

/// Makes `cpu` run tasks, or no more.
pub(super) fn set_online(cpu: usize, online: bool) -> Result<(), Errno> {
    hotplug::set_online(cpu, online)
}

/// The signal for who writes to a pipe that nobody reads.
pub(crate) fn broken_pipe() {}
