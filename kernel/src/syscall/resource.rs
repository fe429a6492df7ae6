//! Calls about what processes use, and may use.

use super::{Errno, user};
use crate::process::limits::INFINITE;
use crate::process::{self, Process, tree};
use crate::task::sched::{self, TICKS_PER_SECOND};

/// Runs `use_it` on process `id`, or on the current one with zero.
fn with_process<T>(id: usize, use_it: impl FnOnce(&Process) -> Result<T, Errno>) -> Result<T, Errno> {
    let current = process::current().ok_or(Errno::SRCH)?;
    if id == 0 || id == current.id() {
        return use_it(&current);
    }
    use_it(tree::lock().process(id).ok_or(Errno::SRCH)?)
}

fn write_pair(addr: usize, (first, second): (u64, u64)) -> Result<(), Errno> {
    user::write(addr, [first.to_le_bytes(), second.to_le_bytes()].as_flattened())
}

pub(super) fn getrlimit(number: usize, addr: usize) -> Result<usize, Errno> {
    if addr == 0 { Err(Errno::FAULT) } else { prlimit(0, number, 0, addr) }
}

pub(super) fn setrlimit(number: usize, addr: usize) -> Result<usize, Errno> {
    if addr == 0 { Err(Errno::FAULT) } else { prlimit(0, number, addr, 0) }
}

/// Reads a limit into `old`, then sets it from `new`.
pub(super) fn prlimit(id: usize, number: usize, new: usize, old: usize) -> Result<usize, Errno> {
    let wanted = if new == 0 { None } else { Some((user::word(new)? as u64, user::word(new.wrapping_add(8))? as u64)) };
    if wanted.is_some_and(|(soft, hard)| soft > hard) {
        return Err(Errno::INVAL);
    }
    let before = with_process(id, |process| {
        let before = process.limits().get(number).ok_or(Errno::INVAL)?;
        if let Some((soft, hard)) = wanted {
            process.limits().set(number, soft, hard);
        }
        Ok(before)
    })?;
    if old != 0 {
        write_pair(old, before)?;
    }
    Ok(0)
}

/// Seconds and microseconds of so many ticks.
const fn time(ticks: u64) -> [u64; 2] {
    [ticks / TICKS_PER_SECOND, ticks % TICKS_PER_SECOND * (1_000_000 / TICKS_PER_SECOND)]
}

/// What `rusage` says of so many ticks of a CPU. All of them count as user mode's; the rest is not counted.
pub(super) fn write_usage(addr: usize, ticks: u64) -> Result<(), Errno> {
    const WORDS: usize = 18;
    let mut usage = [0; WORDS];
    usage[..2].copy_from_slice(&time(ticks));
    user::write(addr, usage.map(u64::to_le_bytes).as_flattened())
}

pub(super) fn getrusage(who: usize, addr: usize) -> Result<usize, Errno> {
    const SELF: i32 = 0;
    const CHILDREN: i32 = -1;
    const THREAD: i32 = 1;
    let (own, children) = process::current().ok_or(Errno::SRCH)?.ticks();
    match who as i32 {
        SELF | THREAD => write_usage(addr, own)?,
        CHILDREN => write_usage(addr, children)?,
        _ => return Err(Errno::INVAL),
    }
    Ok(0)
}

/// The same as four words, and ticks since the start.
pub(super) fn times(addr: usize) -> Result<usize, Errno> {
    let (own, children) = process::current().ok_or(Errno::SRCH)?.ticks();
    if addr != 0 {
        user::write(addr, [own, 0, children, 0].map(u64::to_le_bytes).as_flattened())?;
    }
    Ok(sched::ticks() as usize)
}

const _: () = assert!(INFINITE == u64::MAX && TICKS_PER_SECOND == 100, "as programs know them");
