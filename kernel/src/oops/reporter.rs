//! Reports that could not be printed where they were made: a task of its own prints them.
//!
//! A handler that was abandoned leaves its report here, for it may have interrupted whoever holds the console. The reporter looks
//! a few times a second; a script or the end of a run may ask for everything at once.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::record::{self, Aftermath};
use crate::console::Console;
use crate::println;
use crate::task::{self, sched};

/// How often the reporter looks, in ticks.
const EVERY: u64 = 5;
/// How many reports can wait: as many as there are CPUs, and some more.
const PLACES: usize = 96;

/// A report that waits to be printed.
struct Left {
    /// Its number; zero for a place that is free, [`BEING_FILLED`] for one that is not yet to be read.
    number: AtomicU64,
    aftermath: UnsafeCell<Aftermath>,
}

const BEING_FILLED: u64 = u64::MAX;

// SAFETY: the aftermath is written by whoever has made the number `BEING_FILLED`, and read by whoever has taken the number: one at
// a time, see `leave` and `print_left`.
unsafe impl Sync for Left {}

static LEFT: [Left; PLACES] = [const { Left::new() }; PLACES];

impl Left {
    const fn new() -> Self {
        Self { number: AtomicU64::new(0), aftermath: UnsafeCell::new(Aftermath::NOTHING) }
    }

    fn fill(&self, number: u64, aftermath: &Aftermath) -> bool {
        // Acquire: pairs with the Release of the last reader.
        if self.number.compare_exchange(0, BEING_FILLED, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return false;
        }
        // SAFETY: the place is this CPU's alone until the number is there.
        unsafe { *self.aftermath.get() = *aftermath };
        // Release: pairs with the Acquire in `empty`.
        self.number.store(number, Ordering::Release);
        true
    }

    fn empty(&self, number: u64) -> Option<Aftermath> {
        // Acquire: see `fill`. Taking the number is taking the right to print.
        self.number.compare_exchange(number, BEING_FILLED, Ordering::Acquire, Ordering::Relaxed).ok()?;
        // SAFETY: the place is this CPU's alone until it is free.
        let aftermath = unsafe { *self.aftermath.get() };
        self.number.store(0, Ordering::Release);
        Some(aftermath)
    }

    fn waiting(&self) -> Option<u64> {
        let number = self.number.load(Ordering::Relaxed);
        (number != 0 && number != BEING_FILLED).then_some(number)
    }
}

/// The reporter's task number.
static REPORTER: AtomicUsize = AtomicUsize::new(0);

/// Starts the reporter.
pub(crate) fn start() {
    match task::spawn_kernel("reporter", report, 0) {
        Ok(task) => REPORTER.store(task.id(), Ordering::Relaxed),
        Err(error) => println!("vmstack: no reporter: {error}"),
    }
}

/// Starts another reporter if the current task is the reporter, and dies.
pub(super) fn replace_if_dead() {
    if sched::current().id() == REPORTER.load(Ordering::Relaxed) {
        start();
    }
}

extern "C" fn report(_: usize) -> ! {
    sched::begin();
    loop {
        print_left();
        sched::sleep_until(sched::ticks() + EVERY);
    }
}

/// Leaves report `number` to the reporter, with what was done about it. Any context. Where there is no place the reporter finds it in
/// the ring, without what was done.
pub(super) fn leave(number: u64, aftermath: &Aftermath) {
    LEFT.iter().any(|place| place.fill(number, aftermath));
}

/// Prints what was left, in order, each once; nothing if somebody holds the console for too long.
pub(crate) fn print_left() {
    let Some(mut console) = Console::take_soon() else { return };
    while let Some((number, place)) =
        LEFT.iter().filter_map(|place| Some((place.waiting()?, place))).min_by_key(|(number, _)| *number)
    {
        if let Some(aftermath) = place.empty(number) {
            record::print(number, &aftermath, &mut console);
        }
    }
    record::print_abandoned(&mut console);
}
