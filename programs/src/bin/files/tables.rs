//! Tables of descriptors that several processes have (`CLONE_FILES`): a program that is executed has one of its own.

use std::ffi::CString;
use std::process::ExitCode;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

use libc::c_int;
use vmstack_programs::checks::{Checks, Outcome, equal, expect, status};
use vmstack_programs::raw::{self, Stack};

use crate::sys::{answer, close, has_ended, is_open, pipe, write};

pub(crate) const CHECKS: &Checks = &[
    ("shared", shared),
    ("executed", executed_apart),
    ("executed-again", executed_twice),
    ("last-of-two", last_of_two),
];

/// What the children here are told: descriptors.
static ENDS: [AtomicI32; 2] = [const { AtomicI32::new(-1) }; 2];

/// A child with the same table, which runs `run(0)`.
fn sharing(flags: c_int, run: extern "C" fn(usize) -> i32) -> Result<i32, String> {
    let flags = (flags | libc::CLONE_FILES | libc::SIGCHLD) as u64;
    // SAFETY: the functions here make system calls, and that is all.
    let made = unsafe { raw::clone(flags, Stack::new(), ptr::null_mut(), ptr::null_mut(), run, 0) };
    made.map_err(|error| format!("clone: {error}"))
}

extern "C" fn close_first(_: usize) -> i32 {
    // SAFETY: nobody uses it.
    unsafe { libc::close(ENDS[0].load(SeqCst)) }
}

/// What one closes is closed for all.
fn shared() -> Outcome {
    let ends = pipe()?;
    ENDS[0].store(ends[0], SeqCst);
    equal("the child", status(sharing(0, close_first)?)?, 0)?;
    expect(!is_open(ends[0]) && is_open(ends[1]), "what is open")
}

/// Descriptors as words.
fn words() -> [CString; 2] {
    [0, 1].map(|index: usize| CString::new(ENDS[index].load(SeqCst).to_string()).unwrap_or_default())
}

/// Executes this program, which tries to spoil what it has: [`executed`].
fn execute() -> i32 {
    let [first, second] = words();
    let path = c"/proc/self/exe";
    let list = [path.as_ptr(), c"--executed".as_ptr(), first.as_ptr(), second.as_ptr(), ptr::null()];
    // SAFETY: a string, a list that ends with a null pointer, and no environment.
    unsafe { libc::execve(path.as_ptr(), list.as_ptr(), ptr::null()) };
    100
}

extern "C" fn execute_alone(_: usize) -> i32 {
    execute()
}

/// In the new program: the first descriptor is here, and closed hereby; the second is not.
pub(crate) fn executed(words: &[String]) -> ExitCode {
    let descriptors: Vec<c_int> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let [kept, closed] = descriptors[..] else { return ExitCode::from(2) };
    let found = (is_open(kept), is_open(closed));
    let done = close(kept).is_ok();
    ExitCode::from(if found == (true, false) && done { 0 } else { 3 })
}

/// A pipe whose writing end `execve` closes.
fn half_kept() -> Result<[c_int; 2], String> {
    let ends = pipe()?;
    // SAFETY: a flag of a descriptor of our own.
    answer(unsafe { libc::fcntl(ends[1], libc::F_SETFD, libc::FD_CLOEXEC) })?;
    [0, 1].into_iter().for_each(|index| ENDS[index].store(ends[index], SeqCst));
    Ok(ends)
}

/// A child with this table executes a program: its closing on `execve`, and what it closes then, is its own affair.
fn executed_apart() -> Outcome {
    for flags in [0, libc::CLONE_VM | libc::CLONE_VFORK] {
        let ends = half_kept()?;
        equal("the child", status(sharing(flags, execute_alone)?)?, 0)?;
        expect(is_open(ends[0]) && is_open(ends[1]), "what is open here")?;
        write(ends[1])?;
        close(ends[1])?;
        expect(has_ended(ends[0]), "somebody else has the writing end")?;
        close(ends[0])?;
    }
    Ok(())
}

extern "C" fn share_and_execute(_: usize) -> i32 {
    // Whoever executes has shared its table twice: with its parent, and with this child.
    let child = sharing(0, execute_alone);
    let well = child.and_then(status) == Ok(0) && is_open(ENDS[0].load(SeqCst)) && is_open(ENDS[1].load(SeqCst));
    if well { execute() } else { 4 }
}

/// The same, twice over.
fn executed_twice() -> Outcome {
    let ends = half_kept()?;
    equal("the child", status(sharing(0, share_and_execute)?)?, 0)?;
    expect(is_open(ends[0]) && is_open(ends[1]), "what is open here")
}

extern "C" fn end_at_once(_: usize) -> i32 {
    0
}

/// Who has a table with others closes what is in it when it is the last that ends.
fn last_of_two() -> Outcome {
    let ends = pipe()?;
    let child = vmstack_programs::checks::child(|| {
        let ended = close(ends[0]).and_then(|()| sharing(0, end_at_once)).and_then(status);
        i32::from(ended != Ok(0))
    })?;
    close(ends[1])?;
    vmstack_programs::checks::until("the pipe ended", || has_ended(ends[0]))?;
    equal("the child", status(child)?, 0)
}
