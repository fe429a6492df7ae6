//! Models of writers, printers and readers at the same ring, checked by loom in every order (`--cfg loom`).

use core::mem::MaybeUninit;

use loom::sync::Arc;
use loom::thread;

use super::{AtomicU64, Ring, Slot, UnsafeCell};

/// Two words that belong together: a torn copy has two that do not.
type Pair = (u64, u64);

fn ring<const N: usize>() -> Arc<Ring<Pair, N>> {
    let slot = |_| Slot { state: AtomicU64::new(0), record: UnsafeCell::new(MaybeUninit::new((0, 0))) };
    Arc::new(Ring { slots: core::array::from_fn(slot), begun: AtomicU64::new(0), lost: AtomicU64::new(0) })
}

fn write<const N: usize>(ring: &Ring<Pair, N>) -> Option<u64> {
    let writing = ring.begin().ok()?;
    let number = writing.number();
    Some(writing.publish((number, !number)))
}

fn print<const N: usize>(ring: &Ring<Pair, N>) -> Option<u64> {
    let claim = ring.claim_unprinted()?;
    assert_eq!(*claim, (claim.number(), !claim.number()), "a torn copy");
    Some(claim.number())
}

#[test]
fn a_record_is_handed_to_one_of_two_printers_and_whole() {
    loom::model(|| {
        let ring = ring::<1>();
        let (writer, printer) = (Arc::clone(&ring), Arc::clone(&ring));
        let writes = thread::spawn(move || write(&writer));
        let theirs = thread::spawn(move || print(&printer));
        let mine = print(&ring);
        writes.join().expect("the writer does not panic").expect("the only writer has a place");
        let theirs = theirs.join().expect("the printer does not panic");
        let mut printed: Vec<u64> = [mine, theirs, print(&ring)].into_iter().flatten().collect();
        printed.sort_unstable();
        assert_eq!((printed, ring.lost()), (vec![1], 0));
    });
}

#[test]
fn of_two_writers_both_are_kept_where_there_is_place_and_the_lost_are_counted_where_not() {
    fn check<const N: usize>() {
        loom::model(|| {
            let ring = ring::<N>();
            let other = Arc::clone(&ring);
            let writes = thread::spawn(move || write(&other));
            write(&ring);
            writes.join().expect("the writer does not panic");
            let printed: Vec<u64> = core::iter::from_fn(|| print(&ring)).collect();
            assert!(printed.is_sorted() && !printed.is_empty());
            assert_eq!(printed.len() as u64 + ring.lost(), 2, "each is printed or counted");
            assert!(N < 2 || printed.len() == 2);
        });
    }
    check::<1>();
    check::<2>();
}

#[test]
fn a_reader_sees_a_record_whole_or_not_at_all_while_it_is_overwritten() {
    loom::model(|| {
        let ring = ring::<1>();
        write(&ring);
        let other = Arc::clone(&ring);
        let writes = thread::spawn(move || write(&other));
        if let Some(record) = ring.next_after(0) {
            assert_eq!(record.value, (record.number, !record.number), "a torn copy");
        }
        let second = writes.join().expect("the writer does not panic");
        // Refused while it was copied, or written over the first.
        assert_eq!(ring.next_after(0).map(|record| record.number), Some(second.unwrap_or(1)));
        assert_eq!(ring.lost(), 1);
    });
}

#[test]
fn a_writer_that_dies_in_the_middle_stops_nobody() {
    loom::model(|| {
        let ring = ring::<2>();
        let other = Arc::clone(&ring);
        let dies = thread::spawn(move || core::mem::forget(other.begin()));
        let mine = write(&ring);
        dies.join().expect("it does not panic");
        let later = write(&ring);
        assert!(mine.is_some() && later.is_some());
        // One record is the dead writer's; the other was written twice.
        assert_eq!((print(&ring), ring.lost()), (later, 1));
    });
}
