//! Calls about futexes.

use super::time::{self, Clock};
use super::{Errno, user};
use crate::process::futex::{self, ANY, Ended, Futex, Requeue};
use crate::process::robust;
use crate::process::tree;
use crate::task::sched;

/// What is to be done, by Linux's numbers, and what may be added to them.
mod operation {
    pub(super) const WAIT: usize = 0;
    pub(super) const WAKE: usize = 1;
    pub(super) const REQUEUE: usize = 3;
    pub(super) const CMP_REQUEUE: usize = 4;
    pub(super) const WAKE_OP: usize = 5;
    pub(super) const WAIT_BITSET: usize = 9;
    pub(super) const WAKE_BITSET: usize = 10;
    pub(super) const PRIVATE: usize = 128;
    pub(super) const CLOCK_REALTIME: usize = 256;
}

/// A number of tasks as programs write it: negative ones are as good as all.
fn count(word: usize) -> usize {
    word as u32 as usize
}

pub(super) fn futex([addr, operation, value, timeout, second, third]: [usize; 6]) -> Result<usize, Errno> {
    let private = operation & operation::PRIVATE != 0;
    let by_date = operation & operation::CLOCK_REALTIME != 0;
    let command = operation & !(operation::PRIVATE | operation::CLOCK_REALTIME);
    let (first, other) = (Futex { addr, private }, Futex { addr: second, private });
    if by_date && !matches!(command, operation::WAIT | operation::WAIT_BITSET) {
        return Err(Errno::NOSYS);
    }
    match command {
        operation::WAIT => {
            let until = if timeout == 0 { None } else { Some(time::deadline(time::read(timeout)?)) };
            wait(first, value as u32, until, ANY)
        }
        operation::WAIT_BITSET => wait(first, value as u32, absolute(timeout, by_date)?, third as u32),
        operation::WAKE => wake(first, value, ANY),
        operation::WAKE_BITSET => wake(first, value, third as u32),
        operation::REQUEUE => requeue(first, other, value, timeout, None),
        operation::CMP_REQUEUE => requeue(first, other, value, timeout, Some(third as u32)),
        operation::WAKE_OP => wake_and_change((first, other), (value, timeout), third as u32),
        _ => Err(Errno::NOSYS),
    }
}

/// Until when to wait, by a time that is one.
fn absolute(timeout: usize, by_date: bool) -> Result<Option<u64>, Errno> {
    if timeout == 0 {
        return Ok(None);
    }
    let clock = if by_date { Clock::Date } else { Clock::Uptime };
    let until = clock.to_kernel(time::read(timeout)?)?;
    Ok(Some(time::resumed().unwrap_or(until)))
}

fn wait(futex: Futex, expected: u32, until: Option<u64>, bits: u32) -> Result<usize, Errno> {
    if bits == 0 {
        return Err(Errno::INVAL);
    }
    let ended = user::with_memory(|memory| futex::wait(memory, futex, expected, until, bits))?;
    match (ended, until) {
        (Ended::Woken, _) => Ok(0),
        (Ended::TimedOut, _) => Err(Errno::TIMEDOUT),
        (Ended::Interrupted, None) => Err(Errno::RESTART),
        (Ended::Interrupted, Some(until)) => {
            time::note_restart(until);
            Err(Errno::RESTART_TIMED)
        }
    }
}

fn wake(futex: Futex, most: usize, bits: u32) -> Result<usize, Errno> {
    if bits == 0 {
        return Err(Errno::INVAL);
    }
    user::with_memory(|memory| futex::wake(memory, futex, count(most).max(1), bits))
}

fn requeue(from: Futex, to: Futex, wake: usize, moved: usize, expected: Option<u32>) -> Result<usize, Errno> {
    if (wake as i32) < 0 || (moved as i32) < 0 {
        return Err(Errno::INVAL);
    }
    let request = Requeue { from, to, wake: count(wake), moved: count(moved), expected };
    let (woken, moved) = user::with_memory(|memory| futex::requeue(memory, &request))?;
    Ok(woken + moved)
}

/// `FUTEX_WAKE_OP`: `encoded` says how the second word changes and which value of it wakes.
///
/// ```text
///   bits  31  the operand is a shift    28..31  change    24..28  comparison    12..24  operand    0..12  compared with
/// ```
fn wake_and_change(futexes: (Futex, Futex), counts: (usize, usize), encoded: u32) -> Result<usize, Errno> {
    let signed = |bits: u32| (bits << 20).cast_signed() >> 20;
    let (operand, compared) = (signed(encoded >> 12 & 0xfff), signed(encoded & 0xfff));
    let operand = if encoded >> 31 != 0 { 1_i32.wrapping_shl(operand.cast_unsigned()) } else { operand };
    let (change, comparison) = (encoded >> 28 & 7, encoded >> 24 & 15);
    if change > 4 || comparison > 5 {
        return Err(Errno::NOSYS);
    }
    let operand = operand.cast_unsigned();
    let change = |word: u32| match change {
        0 => operand,
        1 => word.wrapping_add(operand),
        2 => word | operand,
        3 => word & !operand,
        _ => word ^ operand,
    };
    let wanted = |word: u32| match (comparison, word.cast_signed()) {
        (0, word) => word == compared,
        (1, word) => word != compared,
        (2, word) => word < compared,
        (3, word) => word <= compared,
        (4, word) => word > compared,
        (_, word) => word >= compared,
    };
    let counts = (count(counts.0).max(1), count(counts.1).max(1));
    user::with_memory(|memory| futex::wake_and_change(memory, futexes, counts, change, wanted))
}

pub(super) fn set_robust_list(head: usize, bytes: usize) -> Result<usize, Errno> {
    if bytes != robust::HEAD_BYTES {
        return Err(Errno::INVAL);
    }
    sched::current().thread().ok_or(Errno::SRCH)?.set_robust_list(head);
    Ok(0)
}

pub(super) fn get_robust_list(id: usize, head: usize, bytes: usize) -> Result<usize, Errno> {
    let task = sched::current();
    let own = task.thread().ok_or(Errno::SRCH)?;
    let list = match id {
        0 => own.robust_list(),
        id => {
            let tree = tree::lock();
            let thread = tree.thread(id).and_then(crate::task::Task::thread);
            thread.ok_or(Errno::SRCH)?.robust_list()
        }
    };
    user::write(bytes, &robust::HEAD_BYTES.to_le_bytes())?;
    user::write(head, &list.to_le_bytes())?;
    Ok(0)
}
