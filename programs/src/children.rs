//! Children without a C library between: what is measured is the kernel's work.
//!
//! Whoever calls these has one thread, or children that touch nothing that another thread may hold.

use core::arch::asm;
use std::ffi::CStr;
use std::io;

use crate::{Pid, succeeded};

/// Starts a child that exits at once, and returns when it has: `vfork`.
///
/// # Errors
///
/// The system's, when there can be no more processes.
pub fn vfork_and_exit() -> io::Result<Pid> {
    start_and_exit::<{ libc::SYS_vfork as isize }>()
}

/// Starts a child that exits at once: `fork`.
///
/// # Errors
///
/// The system's, when there can be no more processes.
pub fn fork_and_exit() -> io::Result<Pid> {
    start_and_exit::<{ libc::SYS_fork as isize }>()
}

/// Makes the call with this number, one of the two above. Inlined, with the number in the instruction: what is measured is as long as if
/// it were written twice.
#[inline(always)]
fn start_and_exit<const CALL: isize>() -> io::Result<Pid> {
    let result: isize;
    // SAFETY: the child has a copy of everything, or has this stack while the parent waits: it pushes nothing, touches nothing, and makes
    // one system call that does not return.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, {exit}", // child
            "xor edi, edi",
            "syscall",
            "ud2",
            "2:",
            exit = const libc::SYS_exit_group,
            inlateout("rax") CALL => result,
            lateout("rdi") _,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    succeeded(result).map(|pid| pid as Pid)
}

/// Starts a child that executes the program at `path`, without arguments but its name.
///
/// # Errors
///
/// The system's, when there can be no more processes. A child that cannot execute the program exits with status 127.
pub fn fork_and_execute(path: &CStr) -> io::Result<Pid> {
    let arguments = [path.as_ptr(), core::ptr::null()];
    let environment = [core::ptr::null()];
    // SAFETY: the child makes two system calls, and returns from neither.
    match unsafe { libc::syscall(libc::SYS_fork) } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: a path, and two lists that end with a null pointer.
            unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
            // SAFETY: ends the child.
            unsafe { libc::_exit(127) }
        }
        pid => Ok(pid as Pid),
    }
}
