//! What is said of a request and of the door, for the host to judge.

use core::fmt;

use vmstack::{DmaCounters, DmaError, Refusal, StackView};

use super::engine::{self, Passed};
use crate::dma::{DOOR, explain};
use crate::stacks::AREAS;
use crate::task::sched;
use crate::{fact, println};

/// A refusal in one word, with its number behind a colon where it has one.
pub(super) struct Word(pub(super) Refusal);

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Refusal::Empty => write!(f, "empty"),
            Refusal::Wraps => write!(f, "wraps"),
            Refusal::Stack => write!(f, "stack"),
            Refusal::AcrossBottom { below } => write!(f, "across-bottom:{below}"),
            Refusal::AcrossTop { above } => write!(f, "across-top:{above}"),
            Refusal::Guard => write!(f, "guard"),
            Refusal::Records => write!(f, "records"),
            Refusal::Idle => write!(f, "idle"),
            Refusal::Gone => write!(f, "gone"),
            Refusal::NotMapped { .. } => write!(f, "not-mapped"),
            Refusal::OutOfReach { .. } => write!(f, "out-of-reach"),
            Refusal::Misaligned { align, .. } => write!(f, "misaligned:{align}"),
            Refusal::TooManySegments { most } => write!(f, "too-many-segments:{most}"),
            Refusal::TooLarge { most } => write!(f, "too-large:{most}"),
            Refusal::PoolOutOfReach { .. } => write!(f, "pool-out-of-reach"),
            Refusal::PoolExhausted { buffers } => write!(f, "pool-exhausted:{buffers}"),
            Refusal::ListFull { most } => write!(f, "list-full:{most}"),
            Refusal::NotShared { .. } => write!(f, "not-shared"),
            _ => write!(f, "other"),
        }
    }
}

/// A refusal in words, with the owner's name.
struct Explained<'a>(&'a DmaError);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        explain(self.0, f)
    }
}

/// Says that `what` was refused, and of which stack.
pub(super) fn refused(what: &str, error: &DmaError) {
    println!("vmstack: {}", Explained(error));
    let &DmaError { refusal, addr, bytes, entry, caller, stack, offset, .. } = error;
    let StackView { bottom, top, owner, .. } = stack;
    fact!(
        "dma.refused",
        "{what} {} {}:{} {:#x} {bytes} {entry} {:#x} {:#x} {offset} {owner}",
        Word(refusal),
        caller.file(),
        caller.line(),
        addr.get(),
        bottom.get(),
        top.get()
    );
}

/// Says how `what` was let through.
pub(super) fn passed(what: &str, passed: &Passed) {
    fact!("dma.passed", "{what} {} {}", passed.passage.word(), passed.segments);
}

/// What the door has counted and still holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    counters: DmaCounters,
    buffers: usize,
    pinned: usize,
    miscounted: usize,
}

/// How many ticks dead stacks are waited for.
const PATIENCE: u64 = 50;

impl Tally {
    pub(super) fn take() -> Self {
        let end = sched::ticks() + PATIENCE;
        loop {
            let tally = Self::count();
            if tally.pinned + tally.miscounted == 0 || sched::ticks() > end {
                return tally;
            }
            sched::sleep_until(sched::ticks() + 1);
        }
    }

    fn count() -> Self {
        let slots = AREAS.iter().map(|area| area.recount());
        let (pinned, miscounted) =
            slots.fold((0, 0), |(pinned, odd), slots| (pinned + slots.pinned, odd + slots.miscounted));
        Self { counters: DOOR.counters(), buffers: DOOR.pool_usage().in_use, pinned, miscounted }
    }

    /// Says what the door did since `before`, and what it holds: buffers, pins, requests of the device.
    pub(super) fn print_since(&self, before: &Self) {
        let (then, now) = (before.counters, self.counters);
        fact!(
            "dma.counters",
            "{} {} {} {} {}",
            now.refused - then.refused,
            now.bounced - then.bounced,
            now.mapped - then.mapped,
            now.gone - then.gone,
            now.lost - then.lost
        );
        fact!("dma.pool", "{} {}", before.buffers, self.buffers);
        fact!("dma.left", "{} {} {}", self.pinned, self.miscounted, engine::in_table());
    }
}
