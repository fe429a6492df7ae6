//! The ring of reports: each has a number, one printer, and a reader who sees it whole.

#![expect(clippy::unwrap_used, reason = "a test says what it does by failing")]

use core::sync::atomic::{AtomicBool, Ordering};

use vmstack::{PrintState, Ring, RingFull};

const WORDS: usize = 32;
/// All words are the same, or the copy is torn.
type Words = [u64; WORDS];

fn write<const N: usize>(ring: &Ring<Words, N>) -> u64 {
    try_write(ring).unwrap()
}

fn try_write<const N: usize>(ring: &Ring<Words, N>) -> Option<u64> {
    let writing = ring.begin().ok()?;
    let number = writing.number();
    Some(writing.publish([number; WORDS]))
}

fn seen<const N: usize>(ring: &Ring<Words, N>) -> Vec<(u64, PrintState)> {
    let mut seen = Vec::new();
    while let Some(record) = ring.next_after(seen.last().map_or(0, |&(number, _)| number)) {
        assert_eq!(record.value, [record.number; WORDS]);
        seen.push((record.number, record.state));
    }
    seen
}

#[test]
fn records_are_numbered_from_one_and_printed_once_in_order() {
    static RING: Ring<Words, 4> = Ring::new([0; WORDS]);
    assert!(RING.claim_unprinted().is_none() && RING.next_after(0).is_none());
    assert_eq!([write(&RING), write(&RING), write(&RING)], [1, 2, 3]);
    let claim = RING.claim_unprinted().unwrap();
    assert_eq!((claim.number(), claim[0], RING.unprinted()), (1, 1, 2));
    assert!(RING.claim(1).is_none(), "it has its printer");
    let states = [(1, PrintState::Printing), (2, PrintState::Unprinted), (3, PrintState::Unprinted)];
    assert_eq!(seen(&RING), states);
    drop(claim);
    assert_eq!(seen(&RING)[0], (1, PrintState::Printed));
    assert_eq!(RING.claim(3).unwrap().number(), 3, "a printer may ask for its own");
    assert_eq!(RING.claim_unprinted().unwrap().number(), 2);
    assert!(RING.claim_unprinted().is_none());
    assert_eq!((RING.begun(), RING.lost()), (3, 0));
}

#[test]
fn the_oldest_is_overwritten_and_counted_if_nobody_printed_it() {
    let ring: Ring<Words, 3> = Ring::new([0; WORDS]);
    (0..3).for_each(|_| assert_ne!(write(&ring), 0));
    drop(ring.claim_unprinted());
    assert_eq!((write(&ring), ring.lost()), (4, 0), "the first was printed");
    assert_eq!((write(&ring), ring.lost()), (5, 1), "the second was not");
    let numbers: Vec<u64> = seen(&ring).iter().map(|seen| seen.0).collect();
    assert_eq!(numbers, [3, 4, 5]);
}

#[test]
fn what_is_being_printed_may_be_overwritten_and_the_printer_has_it_still() {
    let ring: Ring<Words, 1> = Ring::new([0; WORDS]);
    write(&ring);
    let claim = ring.claim_unprinted().unwrap();
    assert_eq!((write(&ring), ring.lost()), (2, 0));
    assert_eq!(*claim, [1; WORDS]);
    drop(claim);
    assert_eq!(seen(&ring), [(2, PrintState::Unprinted)], "the end of the first print says nothing of the second");
}

#[test]
fn writers_that_die_in_the_middle_cost_a_record_each_and_stop_nobody() {
    let ring: Ring<Words, 4> = Ring::new([0; WORDS]);
    for dead in 1..=3 {
        core::mem::forget(ring.begin());
        assert_eq!(write(&ring), dead * 2);
        assert_eq!(ring.claim_unprinted().unwrap().number(), dead * 2);
    }
    assert_eq!(ring.lost(), 0);
    core::mem::forget(ring.begin());
    assert!(matches!(ring.begin(), Err(RingFull { number: 8, .. })));
    assert_eq!((ring.begun(), ring.lost()), (8, 1));
}

#[test]
fn a_writer_that_gives_up_leaves_nothing_behind() {
    let ring: Ring<Words, 1> = Ring::new([0; WORDS]);
    drop(ring.begin());
    assert!(ring.claim_unprinted().is_none() && ring.next_after(0).is_none());
    assert_eq!((write(&ring), ring.lost()), (2, 1));
}

#[test]
fn four_writers_two_printers_and_a_reader_lose_nothing_uncounted_and_see_nothing_torn() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 20_000;
    let ring: Ring<Words, 8> = Ring::new([0; WORDS]);
    let done = AtomicBool::new(false);
    let mut printed: Vec<u64> = std::thread::scope(|scope| {
        let printer = || {
            let mut mine = Vec::new();
            loop {
                let last = done.load(Ordering::Acquire);
                match ring.claim_unprinted() {
                    Some(claim) => {
                        assert_eq!(*claim, [claim.number(); WORDS]);
                        mine.push(claim.number());
                    }
                    None if last => return mine,
                    None => std::thread::yield_now(),
                }
            }
        };
        let printers = [scope.spawn(printer), scope.spawn(printer)];
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                seen(&ring);
            }
        });
        let writer = || (0..EACH).filter(|_| try_write(&ring).is_some()).count();
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(writer)).collect();
        writers.into_iter().for_each(|writer| assert!(writer.join().unwrap() > 0));
        done.store(true, Ordering::Release);
        printers.into_iter().flat_map(|printer| printer.join().unwrap()).collect()
    });
    printed.sort_unstable();
    let before = printed.len() as u64;
    printed.dedup();
    assert_eq!(printed.len() as u64, before, "each has one printer");
    assert_eq!((ring.begun(), before + ring.lost()), (WRITERS * EACH, WRITERS * EACH));
}

#[test]
fn a_record_that_is_made_where_it_is_kept_is_found_as_it_was_left() {
    let ring: Ring<Words, 1> = Ring::new([7; WORDS]);
    let fill = |was: u64| {
        ring.begin().unwrap().fill(|record| {
            assert_eq!(*record, [was; WORDS]);
            *record = [was + 1; WORDS];
        })
    };
    assert_eq!((fill(7), *ring.claim_unprinted().unwrap()), (1, [8; WORDS]));
    assert_eq!((fill(8), *ring.claim_unprinted().unwrap()), (2, [9; WORDS]));
    assert_eq!(ring.lost(), 0);
}
