//! Pipes, as those see them who have the reading end: whether anybody is left who could write.

use std::io;

use libc::c_int;

/// A pipe: what reads, without waiting, and what writes.
///
/// # Errors
///
/// The system's.
pub fn pipe() -> io::Result<[c_int; 2]> {
    let mut ends = [0; 2];
    // SAFETY: there is room for two.
    match unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK) } {
        0 => Ok(ends),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes a descriptor that nobody uses.
///
/// # Errors
///
/// There is none.
pub fn close(descriptor: c_int) -> io::Result<()> {
    // SAFETY: nobody uses it.
    if unsafe { libc::close(descriptor) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether nobody has the writing end of the pipe any more. What was written is lost hereby.
#[must_use]
pub fn has_ended(reader: c_int) -> bool {
    let mut byte = 0_u8;
    loop {
        // SAFETY: one byte is written.
        match unsafe { libc::read(reader, (&raw mut byte).cast(), 1) } {
            0 => return true,
            1 => {}
            _ => return false,
        }
    }
}
