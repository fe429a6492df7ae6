//! Ends of processes, as the other end of a pipe sees them: nobody waits for them, and still it learns of each.

use std::ptr;

use vmstack_programs::checks::{Checks, Outcome, child, equal, expect, status, until};
use vmstack_programs::raw::{self, Stack};
use vmstack_programs::{PROVOKE, provoke};

use crate::sys::{close, has_ended, pipe};

pub(crate) const CHECKS: &Checks = &[("not-waited-for", not_waited_for), ("dies-twice", dies_twice)];

/// A child that nobody has waited for yet has no files.
fn not_waited_for() -> Outcome {
    let [reader, writer] = pipe()?;
    let child = child(|| 5)?;
    close(writer)?;
    until("the pipe ended", || has_ended(reader))?;
    equal("the child", status(child)?, 5 << 8)
}

/// Is killed by an overflow of its kernel stack, and once more while it is. On another kernel it just ends.
extern "C" fn die_twice(_: usize) -> i32 {
    i32::from(provoke("EXHAUST_STACK:twice").is_ok())
}

/// A process that dies so badly that it cannot clean up does not keep open what another one has, too.
fn dies_twice() -> Outcome {
    let [reader, writer] = pipe()?;
    let has_device = std::fs::exists(PROVOKE).unwrap_or(false);
    let sharer = child(|| {
        let flags = (libc::CLONE_FILES | libc::SIGCHLD) as u64;
        // SAFETY: the function provokes its end; the memory is its own.
        let made = unsafe { raw::clone(flags, Stack::new(), ptr::null_mut(), ptr::null_mut(), die_twice, 0) };
        let Ok(victim) = made else { return 1 };
        // Not waited for: what is left of it stays.
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the information can be written to.
        unsafe { libc::waitid(libc::P_PID, victim as u32, info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) };
        // SAFETY: zeroed, or written by the call.
        let info = unsafe { info.assume_init() };
        // SAFETY: whatever the bits are, they are a number.
        let signal = unsafe { info.si_status() };
        i32::from(has_device && signal != libc::SIGSEGV) * 2
    })?;
    close(writer)?;
    until("the pipe ended", || has_ended(reader))?;
    expect(status(sharer)? == 0, "the child")
}
