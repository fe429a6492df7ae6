//! Futexes: programs' words that their threads wait on, in the run queue's parking lot.
//!
//! ```text
//!   waits                                              wakes
//!   look at the word: as expected? Its page comes      (the program changes the word)
//!   under the run queue's lock:                        under the run queue's lock:
//!     the word is as expected still? ── park             wake who is parked
//! ```
//!
//! *No wake is lost.* Who waits looks under the lock that who wakes takes. Nothing may be waited for there, so a page that has gone by then
//! is fetched again without the lock, and all begins anew.
//!
//! Keys are a memory's own, or a frame's where programs share it ([`Memory::futex_key`]). Futexes with priority inheritance are not there.
//!
//! # Context
//!
//! The threads of programs, also at their end, on the memory that is meant.

use crate::mm::memory::Memory;
use crate::syscall::Errno;
use crate::task::{Key, Wait, Woken, sched};

/// Any waiter, in the words that [`wake`] and [`wait`] compare.
pub(crate) const ANY: u32 = u32::MAX;

/// A futex: the word, and whether it is known to be of one memory alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Futex {
    pub(crate) addr: usize,
    pub(crate) private: bool,
}

impl Futex {
    fn key(self, memory: &Memory) -> Result<Key, Errno> {
        Ok(memory.futex_key(self.addr, self.private)?)
    }
}

/// How a wait that did not begin in vain ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    Woken,
    TimedOut,
    Interrupted,
}

/// Waits until somebody wakes those who wait on `futex`, with a word that has a bit of `bits`; if the word is `expected`.
///
/// # Errors
///
/// `EAGAIN`: it is not. `EFAULT`, `EINVAL`: there is no such word.
pub(crate) fn wait(
    memory: &Memory,
    futex: Futex,
    expected: u32,
    until: Option<u64>,
    bits: u32,
) -> Result<Ended, Errno> {
    let key = futex.key(memory)?;
    loop {
        if memory.load_u32(futex.addr)? != expected {
            return Err(Errno::AGAIN);
        }
        let mut parked = false;
        let wait = Wait { until, interruptible: true, word: bits };
        let woken = sched::park_for(key, &wait, || {
            parked = memory.peek_u32(futex.addr) == Some(expected);
            parked
        });
        match woken {
            Woken::Called if !parked => {}
            Woken::Called => return Ok(Ended::Woken),
            Woken::TimedOut => return Ok(Ended::TimedOut),
            Woken::Interrupted => return Ok(Ended::Interrupted),
        }
    }
}

fn wake_key(key: Key, count: usize, bits: u32) -> usize {
    sched::unpark(key, count, |word| word & bits != 0)
}

/// Wakes the first `count` of those who wait on `futex` with a bit of `bits`, and says how many there were.
pub(crate) fn wake(memory: &Memory, futex: Futex, count: usize, bits: u32) -> Result<usize, Errno> {
    Ok(wake_key(futex.key(memory)?, count, bits))
}

/// What is asked of a requeue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Requeue {
    pub(crate) from: Futex,
    pub(crate) to: Futex,
    /// How many wake, and how many are moved.
    pub(crate) wake: usize,
    pub(crate) moved: usize,
    /// What the first word must be.
    pub(crate) expected: Option<u32>,
}

/// Wakes some who wait on one futex and has the next wait on another. Says how many each.
pub(crate) fn requeue(memory: &Memory, request: &Requeue) -> Result<(usize, usize), Errno> {
    let (from, to) = (request.from.key(memory)?, request.to.key(memory)?);
    if let Some(expected) = request.expected
        && memory.load_u32(request.from.addr)? != expected
    {
        return Err(Errno::AGAIN);
    }
    if from == to {
        return Ok((sched::unpark(from, request.wake, |_| true), 0));
    }
    Ok(sched::requeue(from, to, request.wake, request.moved))
}

/// Changes the second word by `change`, wakes `counts.0` who wait on the first, and `counts.1` who wait on the second if what it was
/// is `wanted`. Says how many wake.
pub(crate) fn wake_and_change(
    memory: &Memory,
    futexes: (Futex, Futex),
    counts: (usize, usize),
    change: impl Fn(u32) -> u32,
    wanted: impl Fn(u32) -> bool,
) -> Result<usize, Errno> {
    let (first, second) = (futexes.0.key(memory)?, futexes.1.key(memory)?);
    let before = memory.update_u32(futexes.1.addr, |word| Some(change(word)))?;
    let woken = wake_key(first, counts.0, ANY);
    let more = if wanted(before.unwrap_or_else(|left| left)) { wake_key(second, counts.1, ANY) } else { 0 };
    Ok(woken + more)
}
