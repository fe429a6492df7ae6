//! The same slot, used and overflowed again, 10,000 times. A program of its own, because it counts what the process holds.

#![expect(clippy::unwrap_used, clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]

use core::hint::black_box;
use std::time::Instant;

use vmstack::Finding;
use vmstack_hosted::story::{balance, recurse};
use vmstack_hosted::{Config, Machine, Outcome};

const TIMES: u64 = 10_000;

fn process_holds() -> (usize, usize) {
    let mappings = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
    (mappings, files)
}

/// One machine, one slot, `times` overflows in it.
fn overflow_again(times: u64) {
    let machine = Machine::new(&Config::new(4, 16 << 10)).unwrap();
    let cpu = machine.cpu().unwrap();
    let slot = machine.area().alloc(0).unwrap().id().slot().get();
    for i in 0..times {
        unsafe { cpu.spawn("again", || assert_ne!(black_box(recurse(1)), 1)) }.unwrap();
        let ended = cpu.run();
        let Outcome::Killed(death) = &ended[0].outcome else { panic!("{ended:?}") };
        assert_eq!((death.fault.finding, death.fault.sequence), (Finding::OverflowWalked, i + 1));
        assert_eq!((death.fault.stack.slot, u64::from(death.fault.stack.generation)), (slot, i + 2));
    }
    drop(cpu);
    let counters = machine.area().counters();
    assert_eq!((counters.allocated, counters.released, counters.populated), (times + 1, times + 1, 1));
    let balance = balance(&machine);
    assert_eq!(balance.frames_taken, balance.record_frames);
    assert_eq!((balance.slots_held, balance.slots_leaked, balance.open_guard_pages), (0, 0, Some(0)));
    assert_eq!(machine.area().recount().miscounted, 0);
}

#[test]
fn ten_thousand_overflows_in_the_same_slot_leak_nothing() {
    // The first time, the process gets what stays: the signal handler, the heap.
    overflow_again(10);
    let before = process_holds();
    let started = Instant::now();
    overflow_again(TIMES);
    println!("{TIMES} overflows in {:?}", started.elapsed());
    assert_eq!(process_holds(), before);
}
