//! `fork`, `vfork`, `clone` and `clone3`: four ways to say what a copy is to be like.

use super::{Errno, user};
use crate::arch::frame::TrapFrame;
use crate::arch::layout::PAGE_SIZE;
use crate::process::clone::{self, Request, flag};
use crate::process::signal;

/// The bits of `clone`'s flags that are a signal.
const SIGNAL: u64 = 0xff;
/// The highest signal.
const LAST_SIGNAL: u64 = 64;
/// Words of `clone3`'s structure: as it is now, and as it was at first.
const WORDS: usize = 11;
const FIRST_WORDS: usize = 8;

pub(super) fn fork(frame: &TrapFrame) -> Result<usize, Errno> {
    clone::clone(&Request { exit_signal: signal::CHLD.number(), ..Request::default() }, frame)
}

pub(super) fn vfork(frame: &TrapFrame) -> Result<usize, Errno> {
    let flags = flag::VM | flag::VFORK;
    clone::clone(&Request { flags, exit_signal: signal::CHLD.number(), ..Request::default() }, frame)
}

pub(super) fn clone(
    [flags, stack, parent_tid, child_tid, tls, _]: [usize; 6],
    frame: &TrapFrame,
) -> Result<usize, Errno> {
    // The upper half is not looked at.
    let (flags, signal) = (flags as u64 & 0xffff_ffff & !SIGNAL, flags as u64 & SIGNAL);
    if signal > LAST_SIGNAL {
        return Err(Errno::INVAL);
    }
    clone::clone(&Request { flags, exit_signal: signal as u8, stack, parent_tid, child_tid, tls }, frame)
}

pub(super) fn clone3(addr: usize, size: usize, frame: &TrapFrame) -> Result<usize, Errno> {
    if size > PAGE_SIZE {
        return Err(Errno::TOOBIG);
    }
    if size < FIRST_WORDS * size_of::<u64>() {
        return Err(Errno::INVAL);
    }
    let [flags, _pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, _] =
        structure(addr, size)?;
    let (flags, signal) = (flags as u64, exit_signal as u64);
    let signal_of_thread = flags & (flag::THREAD | flag::PARENT) != 0 && signal != 0;
    let bad_flags = flags & !flag::ALL != 0 || flags & (SIGNAL & !0x80 | flag::DETACHED) != 0;
    let bad_stack = (stack == 0) != (stack_size == 0);
    if bad_flags || bad_stack || signal_of_thread || signal > LAST_SIGNAL || set_tid != 0 || set_tid_size != 0 {
        return Err(Errno::INVAL);
    }
    let stack = stack.checked_add(stack_size).ok_or(Errno::INVAL)?;
    clone::clone(&Request { flags, exit_signal: signal as u8, stack, parent_tid, child_tid, tls }, frame)
}

/// The words of `clone3`'s structure of `size` bytes: those that a shorter one has not are zero, and those that this kernel does not know
/// have to be.
fn structure(addr: usize, size: usize) -> Result<[usize; WORDS], Errno> {
    let mut bytes = [0; WORDS * size_of::<usize>()];
    let known = size.min(bytes.len());
    user::read(addr, &mut bytes[..known])?;
    for offset in known..size {
        let mut byte = [0];
        user::read(addr.checked_add(offset).ok_or(Errno::FAULT)?, &mut byte)?;
        if byte != [0] {
            return Err(Errno::TOOBIG);
        }
    }
    let (words, _) = bytes.as_chunks();
    Ok(core::array::from_fn(|index| usize::from_le_bytes(words[index])))
}
