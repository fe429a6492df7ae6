//! Reports that could not be printed where they were made: a task of its own prints them.
//!
//! A handler that was abandoned leaves its report here, for it may have interrupted whoever holds the console. The reporter looks
//! a few times a second; a script or the end of a run may ask for everything at once.

use core::sync::atomic::{AtomicU64, Ordering};

use super::record::{self, Aftermath, RECORDS};
use crate::println;
use crate::task::{self, sched};

/// How often the reporter looks, in ticks.
const EVERY: u64 = 5;

/// A bit for each record of the ring that waits to be printed.
static LEFT: [AtomicU64; RECORDS / 64] = [const { AtomicU64::new(0) }; RECORDS / 64];

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

/// Leaves report `number` to the reporter. Any context.
pub(super) fn leave(number: usize) {
    let index = number % RECORDS;
    // Release: pairs with the Acquire in `print_left`: the record is whole.
    LEFT[index / 64].fetch_or(1 << (index % 64), Ordering::Release);
}

/// Prints what was left, each once.
pub(crate) fn print_left() {
    print_all_but(usize::MAX);
}

/// Prints what was left but for report `number`.
pub(super) fn print_all_but(number: usize) {
    let mut numbers = [0_usize; RECORDS];
    let mut count = 0;
    for (word, left) in LEFT.iter().enumerate() {
        // Acquire: see `leave`. Taking the bits is taking the right to print.
        let bits = left.swap(0, Ordering::Acquire);
        for bit in (0..64).filter(|bit| bits & 1 << bit != 0) {
            numbers[count] = word * 64 + bit;
            count += 1;
        }
    }
    let left = &mut numbers[..count];
    left.sort_unstable_by_key(|&index| record::number_at(index));
    for index in left.iter().filter(|&&index| index != number % RECORDS) {
        record::print(*index, &Aftermath::default());
    }
}
