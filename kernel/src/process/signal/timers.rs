//! Interval timers: `setitimer` and `alarm`, by real time. When one is over its process gets ALRM.
//!
//! The timer's tick looks whether one is due. The list has the numbers of processes and no count of them: a process that ends takes its
//! timer with it, and one that is not there any more is passed over.
//!
//! # Context
//!
//! Tasks; [`tick`] in an interrupt.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use super::info::{Info, code};
use super::number;
use crate::arch::clock;
use crate::mm::heap::{self, OutOfHeap};
use crate::process::tree;
use crate::sync::{AnyLock, Section, SpinLock};
use crate::task::sched::TICKS_PER_SECOND;

/// A timer that runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Timer {
    process: usize,
    /// When it is due, in nanoseconds of the clock.
    at: u64,
    /// After how many nanoseconds it is due again; zero: never.
    every: u64,
}

/// How long until a timer is due, and how long from then on; zero: never. In nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Setting {
    pub(crate) left: u64,
    pub(crate) every: u64,
}

/// Changed in sections: nobody is killed while it is cut.
static TIMERS: SpinLock<Vec<Timer>> = SpinLock::new("signal-timers", Vec::new());
/// When the first timer is due.
static FIRST: AtomicU64 = AtomicU64::new(NEVER);
const NEVER: u64 = u64::MAX;

/// The lock of the timers.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &TIMERS
}

fn setting_of(timer: &Timer) -> Setting {
    // One that is due and was not served yet is due soon: zero would say that there is none.
    Setting { left: timer.at.saturating_sub(clock::now()).max(1), every: timer.every }
}

/// The timer of `process`.
pub(crate) fn get(process: usize) -> Setting {
    let _section = Section::enter();
    let timers = TIMERS.lock_anyway();
    timers.iter().find(|timer| timer.process == process).map_or_else(Setting::default, setting_of)
}

/// Sets the timer of `process`, or takes it away, and returns what it was.
pub(crate) fn set(process: usize, setting: Setting) -> Result<Setting, OutOfHeap> {
    // What is allocated is nobody's for a moment.
    let _section = Section::enter();
    let mut timers = TIMERS.lock_anyway();
    let place = timers.iter().position(|timer| timer.process == process);
    let before = place.map_or_else(Setting::default, |place| setting_of(&timers[place]));
    let timer = Timer { process, at: clock::now().saturating_add(setting.left).min(NEVER - 1), every: setting.every };
    match (place, setting.left) {
        (None, 0) => return Ok(before),
        (Some(place), 0) => drop(timers.swap_remove(place)),
        (Some(place), _) => timers[place] = timer,
        (None, _) => {
            heap::reserve(&mut timers, 1)?;
            timers.push(timer);
        }
    }
    note_first(&mut timers);
    Ok(before)
}

/// The timer of a process that ends goes with it.
pub(crate) fn forget(process: usize) {
    if FIRST.load(Ordering::Relaxed) == NEVER {
        return;
    }
    let _section = Section::enter();
    let mut timers = TIMERS.lock_anyway();
    timers.retain(|timer| timer.process != process);
    note_first(&mut timers);
}

/// Notes when the first is due. A list of none takes no memory.
fn note_first(timers: &mut Vec<Timer>) {
    if timers.is_empty() {
        *timers = Vec::new();
    }
    let first = timers.iter().map(|timer| timer.at).min().unwrap_or(NEVER);
    FIRST.store(first, Ordering::Relaxed);
}

/// Takes a timer that is due, if one is, and sets it anew or takes it away.
fn take_due() -> Option<usize> {
    let now = clock::now();
    let _section = Section::enter();
    let mut timers = TIMERS.lock_anyway();
    let place = timers.iter().position(|timer| timer.at <= now);
    let process = place.map(|place| timers[place].process);
    if let Some(place) = place {
        let timer = &mut timers[place];
        if timer.every == 0 {
            timers.swap_remove(place);
        } else {
            // From when it was due; but once for all that was missed, and once a tick.
            let next = timer.at.saturating_add(timer.every).min(NEVER - 1);
            timer.at = next.max(now + clock::SECOND / TICKS_PER_SECOND / 2);
        }
    }
    note_first(&mut timers);
    process
}

/// Serves the timers that are due. In the timer's interrupt, on one CPU.
pub(crate) fn tick() {
    let first = FIRST.load(Ordering::Relaxed);
    if first == NEVER || first > clock::now() {
        return;
    }
    while let Some(id) = take_due() {
        let tree = tree::lock();
        if let Some(process) = tree.process(id) {
            let info = Info::from_process(number::ALRM, code::KERNEL, 0);
            let _full_or_not = super::to_process(&tree, process, &info, false);
        }
    }
}
