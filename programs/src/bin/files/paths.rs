//! Open files by their paths under `/proc`: of what has no other path.

use std::ffi::CString;

use libc::c_int;
use vmstack_programs::checks::{Checks, Outcome, equal, expect};

use crate::sys::{answer, close, has_ended, pipe};

pub(crate) const CHECKS: &Checks = &[("path-of-pipe", path_of_pipe), ("pipe-again", pipe_again)];

/// Opens what is open at `descriptor` by its path.
fn open(descriptor: c_int, flags: c_int) -> Result<c_int, String> {
    let path = CString::new(format!("/proc/self/fd/{descriptor}")).map_err(|error| error.to_string())?;
    // SAFETY: a string.
    answer(unsafe { libc::open(path.as_ptr(), flags) })
}

fn status(descriptor: c_int) -> bool {
    // SAFETY: all zeros is a status.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: it can be written to.
    unsafe { libc::fstat(descriptor, &raw mut status) == 0 }
}

/// A path that leads to a descriptor, at that very descriptor. Where there is no such thing, that is said.
fn path_of_pipe() -> Outcome {
    let [reader, writer] = pipe()?;
    // Here, and not on Linux, what has no path cannot be opened as a path.
    let Ok(path) = open(reader, libc::O_PATH) else {
        return equal("why it cannot be opened", std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOENT));
    };
    // SAFETY: descriptors of our own.
    answer(unsafe { libc::dup2(path, reader) })?;
    let answers = (status(reader), open(reader, libc::O_RDONLY | libc::O_NONBLOCK).is_ok(), status(path));
    expect(answers.0 && answers.2, "fstat")?;
    close(writer)
}

/// A pipe that was opened by its path has one writer more, until that is closed.
fn pipe_again() -> Outcome {
    let [reader, writer] = pipe()?;
    let again = open(writer, libc::O_WRONLY)?;
    close(writer)?;
    expect(!has_ended(reader), "it ended too early")?;
    close(again)?;
    expect(has_ended(reader), "it did not end")
}
