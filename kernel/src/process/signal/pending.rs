//! Signals that were sent and not taken yet.
//!
//! A signal below the real-time ones is pending or it is not: a second one changes nothing. Real-time signals are queued, each with
//! what it says, and taken in their order. The queue is bounded; where it is full, or where there is no memory, a sender who wants
//! its value to arrive is told, and any other's signal is pending all the same, with nothing to say.

use alloc::vec::Vec;

use super::info::Info;
use super::number::{Set, Signal};
use crate::mm::heap;

/// How many signals can wait for one thread, or for one process.
const MOST: usize = 256;

/// There is no room for a signal's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Full;

/// Signals that wait.
#[derive(Debug)]
pub(super) struct Pending {
    set: Set,
    /// What they say, in the order in which they came. A signal of the set that is not here says nothing.
    queue: Vec<Info>,
}

impl Pending {
    pub(super) const fn new() -> Self {
        Self { set: Set::EMPTY, queue: Vec::new() }
    }

    pub(super) const fn set(&self) -> Set {
        self.set
    }

    /// Adds a signal. `value_matters` if the sender wants to know when what it says is lost.
    pub(super) fn add(&mut self, info: &Info, value_matters: bool) -> Result<(), Full> {
        let signal = info.signal();
        if self.set.has(signal) && !signal.is_real_time() {
            return Ok(());
        }
        let room = self.queue.len() < MOST && heap::reserve(&mut self.queue, 1).is_ok();
        if room {
            self.queue.push(*info);
        } else if value_matters && signal.is_real_time() {
            return Err(Full);
        }
        self.set = self.set.with(signal);
        Ok(())
    }

    /// Takes one of the `wanted` signals: those that faults raise first, then the one with the lowest number.
    pub(super) fn take(&mut self, wanted: Set) -> Option<Info> {
        let wanted = self.set & wanted;
        let signal = (wanted & Set::OF_FAULTS).first().or_else(|| wanted.first())?;
        Some(self.take_one(signal))
    }

    fn take_one(&mut self, signal: Signal) -> Info {
        let mut places = (0..self.queue.len()).filter(|&index| self.queue[index].signal() == signal);
        let (place, another) = (places.next(), places.next());
        if another.is_none() {
            self.set = self.set & !Set::of(signal);
        }
        place.map_or(Info::from_process(signal, super::info::code::USER, 0), |place| self.queue.remove(place))
    }

    /// Forgets all of the `unwanted` signals.
    pub(super) fn forget(&mut self, unwanted: Set) {
        if self.set.meets(unwanted) {
            self.set = self.set & !unwanted;
            self.queue.retain(|info| !unwanted.has(info.signal()));
        }
    }
}
