//! What the programs share: processes, through the C library, with their errors.
//!
//! Everything here is ordinary Linux: each program can be started on any Linux machine too.

pub mod cases;
pub mod chance;
pub mod checks;
pub mod cpus;
pub mod in_thread;
pub mod pipe;
pub mod raw;

use std::fs;
use std::io;

pub mod children;
pub mod clock;
pub mod mapping;
pub mod memory_info;
pub mod release;
pub mod samples;
pub mod threads;

/// Where a kernel crash is provoked by name: LKDTM's file on Linux, the same on the reference kernel.
pub const PROVOKE: &str = "/sys/kernel/debug/provoke-crash/DIRECT";
/// Where the reference kernel shows its task stacks.
pub const AREAS: &str = "/sys/kernel/debug/vmstack/tasks";

/// Where the reference kernel shows its last reports.
pub const REPORTS: &str = "/sys/kernel/debug/vmstack/reports";
/// Where the reference kernel says how often pages side by side were asked for and got.
pub const CONTIGUOUS: &str = "/sys/kernel/debug/vmstack/contiguous";
/// Where the reference kernel says how its task stacks were had, and how many of them it keeps ready.
pub const CACHE: &str = "/sys/kernel/debug/vmstack/cache";
/// Where the reference kernel is told how many stacks it may keep ready.
pub const BUDGET: &str = "/sys/kernel/debug/vmstack/budget";
/// Where the reference kernel is told to take every other page of its memory, or to give them back.
pub const FRAGMENTED: &str = "/sys/kernel/debug/vmstack/fragmented";
/// Where Linux is told to give back what it keeps only in case: here that is the stacks that are kept ready.
pub const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
/// Where a program that works beside a crash counts what it does, on the reference kernel.
pub const WORK: &str = "/sys/kernel/debug/provoke-crash/work";

/// Where the reference kernel evaluates nested brackets, however deep.
pub const NEST: &str = "/sys/kernel/debug/provoke-crash/nest";

/// A process number.
pub type Pid = libc::pid_t;

/// How a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Which child.
    pub pid: Pid,
    /// The status word, as `wait4` gives it.
    pub status: i32,
}

impl Ended {
    /// Whether the child exited with status 0.
    #[must_use]
    pub const fn well(self) -> bool {
        self.status == 0
    }
}

/// Starts a child that runs `work` and exits with what it returns.
///
/// # Errors
///
/// The system's, if there can be no more processes.
pub fn spawn(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the programs have one thread, so the child finds all locks free.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let status = work();
            // SAFETY: ends the child at once, without what the parent registered to run at its own end.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(pid),
    }
}

/// Waits for `pid` to end; for any child if it is -1.
///
/// # Errors
///
/// The system's, if there is no such child.
pub fn wait(pid: Pid) -> io::Result<Ended> {
    let mut status = 0;
    // SAFETY: `status` can be written to.
    match unsafe { libc::waitpid(pid, &raw mut status, 0) } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Ended { pid, status }),
    }
}

/// Whether process `pid` is there and has not ended.
#[must_use]
pub fn is_alive(pid: Pid) -> bool {
    // SAFETY: signal 0 only asks.
    unsafe { libc::kill(pid, 0) == 0 }
}

/// Provokes the kernel crash called `name`, in this process.
///
/// # Errors
///
/// The system's, if the kernel has no such file or crash. If the crash works, nothing is returned.
pub fn provoke(name: &str) -> io::Result<()> {
    fs::write(PROVOKE, name)
}

/// What a system call answered: a word, or an error from -1 down.
fn succeeded(result: isize) -> io::Result<isize> {
    if result < 0 { Err(io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(i32::MAX))) } else { Ok(result) }
}
