//! The system calls that the checks make.

use std::io;

use libc::c_int;
use vmstack_programs::pipe;
pub(crate) use vmstack_programs::pipe::has_ended;

/// The answer of a call that says -1 when it fails.
pub(crate) fn answer(word: c_int) -> Result<c_int, String> {
    if word == -1 { Err(io::Error::last_os_error().to_string()) } else { Ok(word) }
}

/// A pipe: what reads, and what writes.
pub(crate) fn pipe() -> Result<[c_int; 2], String> {
    pipe::pipe().map_err(|error| error.to_string())
}

/// Closes a descriptor.
pub(crate) fn close(descriptor: c_int) -> Result<(), String> {
    pipe::close(descriptor).map_err(|error| error.to_string())
}

/// Whether a descriptor is open.
pub(crate) fn is_open(descriptor: c_int) -> bool {
    // SAFETY: only asks.
    unsafe { libc::fcntl(descriptor, libc::F_GETFD) != -1 }
}

/// Writes one byte.
pub(crate) fn write(descriptor: c_int) -> Result<(), String> {
    // SAFETY: one byte is read.
    let written = unsafe { libc::write(descriptor, b"x".as_ptr().cast(), 1) };
    answer(written as c_int).map(drop)
}

/// Reads what there is, without waiting.
pub(crate) fn read(descriptor: c_int) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    // SAFETY: changes a flag of a file of our own.
    unsafe { libc::fcntl(descriptor, libc::F_SETFL, libc::O_NONBLOCK) };
    // SAFETY: the bytes can be written to.
    let count = unsafe { libc::read(descriptor, bytes.as_mut_ptr().cast(), bytes.len()) };
    bytes.truncate(usize::try_from(count).map_err(|_| io::Error::last_os_error())?);
    Ok(bytes)
}

/// What is ready of a descriptor, in `poll`'s bits.
pub(crate) fn poll(descriptor: c_int) -> i16 {
    let mut entry = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry.
    unsafe { libc::poll(&raw mut entry, 1, 0) };
    entry.revents
}
