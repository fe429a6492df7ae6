//! What it takes to kill a task that overflows, in instructions: the suite `fault`.
//!
//! From the instruction that overflows to the first one of the task that runs next, step by step ([`marks`]). The victim has as many frames
//! as a trace should have, and then stands at the bottom of its stack; the next task is a new one, which is queued already. A kernel task
//! dies, and a process, in a system call: each several times, of which the one of the median is told.
//!
//! Runs in a boot of its own, as [`count`](super::count) does. Marks cost something too: as much is taken off each step.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{calibrate, median};
use crate::arch::cpu::InterruptsOff;
use crate::crash;
use crate::fact;
use crate::oops::marks::{self, Step};
use crate::oops::{self, last_frames};
use crate::process::exec::Strings;
use crate::process::{Process, start};
use crate::syscall::Errno;
use crate::task::{self, sched};

/// How often each dies; the first ones fill caches.
const DEATHS: usize = 9;
const WARM_UP: usize = 2;

/// The parts of a death, in order: a name, and the step that ends it.
const PARTS: [(&str, Step); 12] = [
    ("entry", Step::Entered),
    ("judge", Step::Judged),
    ("note", Step::Walking),
    ("trace", Step::Walked),
    ("record", Step::Recorded),
    ("leave", Step::Dying),
    ("give_back", Step::CleanedUp),
    ("print", Step::Printed),
    ("goodbye", Step::Forgetting),
    ("memory", Step::Forgotten),
    ("exit", Step::Leaving),
    ("switch", Step::Next),
];

/// One death: the instructions of each part, and the frames of its trace.
#[derive(Clone, Copy)]
struct Death {
    parts: [u64; PARTS.len()],
    frames: usize,
}

/// Counts everything. Not inlined, nor is what it calls: starting a program takes much of the stack that it is started on.
#[inline(never)]
pub(crate) fn count() {
    let mark = mark();
    fact!("fault.mark", "{mark}");
    tell("task", mark, die_as_task);
    tell("process", mark, die_as_process);
}

/// Calibrates the clock, and says what a mark costs.
#[inline(never)]
fn mark() -> u64 {
    let _interrupts = InterruptsOff::new();
    let empty = median(|| ());
    calibrate(empty);
    marks::begin();
    median(|| marks::reached(Step::Next)).saturating_sub(empty)
}

/// Says what one death takes: that of the median, of those that `die` dies.
#[inline(never)]
fn tell(who: &str, mark: u64, die: fn()) {
    let mut deaths: Vec<Death> = (0..DEATHS).filter_map(|_| one(mark, die)).skip(WARM_UP).collect();
    deaths.sort_unstable_by_key(Death::total);
    let Some(death) = deaths.get(deaths.len() / 2) else { return };
    fact!(format_args!("fault.{who}.frames"), "{}", death.frames);
    for ((part, _), cost) in PARTS.iter().zip(death.parts) {
        fact!(format_args!("fault.{who}.{part}"), "{cost}");
    }
}

/// One death by `die`, with somebody queued behind who notes when it is over. None if it could not be counted.
#[inline(never)]
fn one(mark: u64, die: fn()) -> Option<Death> {
    oops::renew_budget();
    marks::begin();
    die();
    marks::end();
    // There is no timer: who is dead is buried by those who run.
    (0..4).for_each(|_| sched::yield_now());
    Death::told(mark)
}

impl Death {
    /// What the marks tell.
    #[inline(never)]
    fn told(mark: u64) -> Option<Self> {
        let mut parts = [0; PARTS.len()];
        let mut last = marks::at(Step::Overflow)?;
        for (part, (_, step)) in parts.iter_mut().zip(PARTS) {
            // A kernel task has no memory to give up.
            let Some(reached) = marks::at(step) else { continue };
            *part = (reached - last).saturating_sub(mark);
            last = reached;
        }
        marks::at(Step::Next).map(|_| Self { parts, frames: last_frames() })
    }

    fn total(&self) -> u64 {
        self.parts.iter().sum()
    }
}

/// A kernel task dies.
fn die_as_task() {
    let victim = task::spawn_kernel("victim", victim, 0).map(drop);
    if victim.is_ok() {
        let_die();
    }
}

extern "C" fn victim(_: usize) -> ! {
    sched::begin();
    crash::overflow_counted();
    sched::exit()
}

/// A process dies.
fn die_as_process() {
    if let Ok(process) = start_victim() {
        let_die();
        process.wait_for_end();
    }
}

fn start_victim() -> Result<Arc<Process>, Errno> {
    let mut strings = Strings::default();
    strings.arguments.push(crash::PROGRAM)?;
    strings.arguments.push(crash::COUNTED.as_bytes())?;
    start::start(crash::PROGRAM, &strings)
}

/// Queues who runs next, and lets both run.
fn let_die() {
    if task::spawn_kernel("next", next, 0).map(drop).is_ok() {
        sched::yield_now();
    }
}

extern "C" fn next(_: usize) -> ! {
    marks::reached(Step::Next);
    // Its own end is none of the death that was counted.
    marks::end();
    sched::begin();
    sched::exit()
}
