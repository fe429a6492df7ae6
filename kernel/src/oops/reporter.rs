//! Reports that could not be printed where they were made: a task of its own prints them.
//!
//! A handler that was abandoned leaves its report here, for it may have interrupted whoever holds the console. The reporter looks
//! a few times a second; a script or the end of a run may ask for everything at once.

use core::sync::atomic::{AtomicU64, Ordering};

use super::record::{self, Aftermath};
use crate::println;
use crate::task::{self, sched};

/// How often the reporter looks, in ticks.
const EVERY: u64 = 5;
/// How many reports can wait: as many as there are CPUs, and some more.
const PLACES: usize = 96;

/// The numbers of reports that wait to be printed; zero for a place that is free.
static LEFT: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];

/// Starts the reporter.
pub(crate) fn start() {
    if let Err(error) = task::spawn_kernel("reporter", report, 0) {
        println!("vmstack: no reporter: {error}");
    }
}

extern "C" fn report(_: usize) -> ! {
    sched::begin();
    loop {
        print_left();
        sched::sleep_until(sched::ticks() + EVERY);
    }
}

/// Leaves report `number` to the reporter. Any context. Where there is no place the report stays in the ring.
pub(super) fn leave(number: u64) {
    // Release: pairs with the Acquire in `print_left`: the record is whole.
    let take = |place: &AtomicU64| place.compare_exchange(0, number, Ordering::Release, Ordering::Relaxed).is_ok();
    LEFT.iter().any(take);
}

/// Prints what was left, in order, each once.
pub(crate) fn print_left() {
    loop {
        let waiting = LEFT.iter().filter(|place| place.load(Ordering::Relaxed) != 0);
        let Some(first) = waiting.min_by_key(|place| place.load(Ordering::Relaxed)) else { return };
        // Acquire: see `leave`. Taking the number is taking the right to print.
        match first.swap(0, Ordering::Acquire) {
            0 => {}
            number => record::print(number, &Aftermath::default()),
        }
    }
}
