//! On which CPU a process runs.

use std::io;

/// The CPUs of the machine that this process may run on.
#[must_use]
pub fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The CPU that this runs on, at this moment.
#[must_use]
pub fn here() -> usize {
    // SAFETY: only asks.
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

/// Keeps this process, and the children that it has later, on `cpu`. It is there when this returns.
///
/// # Errors
///
/// The system's, when there is no such CPU.
pub fn stay_on(cpu: usize) -> io::Result<()> {
    // SAFETY: all zeros is a set of none.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: it checks that the number is within the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is this function's own.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}
