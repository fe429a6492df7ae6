//! A failure at each point of each operation: an error of its kind, and nothing is lost.

#![allow(clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]
#![allow(clippy::allow_attributes, reason = "as in the fake")]

mod fake;

use fake::{
    CHUNK, DATA, Fake, FakeError, Flush, PAGE, State, Supply, assert_nothing_left, assert_tables_agree,
    give_everything_back, note_records, vmalloc_of,
};
use std::collections::BTreeSet;
use vmstack::PhysAddr;
use vmstack_vmalloc::{AreaError, InitError, Request, Tag, Vmalloc};

/// The most calls that one operation can need here.
const MOST: usize = 300;

/// What `error` is, in a word.
fn kind(error: AreaError<FakeError>) -> &'static str {
    match error {
        AreaError::NoFrames(FakeError::Told) => "frames",
        AreaError::NoRecords(FakeError::Told | FakeError::NoTables) => "records",
        AreaError::NotMapped(FakeError::Told | FakeError::NoTables) => "map",
        AreaError::Refused { reason: FakeError::Told, .. } => "lend",
        _ => panic!("{error} is no error of a platform that fails"),
    }
}

/// Lets each call of `run` fail that can, one after the other, on a vmalloc that nobody has used yet, and on one that was used. Says which
/// kinds of errors there were.
fn fails_at_each_point(
    run: impl Fn(&Fake, &Vmalloc<&Fake>) -> Result<(), AreaError<FakeError>>,
) -> BTreeSet<&'static str> {
    let mut kinds = BTreeSet::new();
    for used in [false, true] {
        for n in 0..=MOST {
            assert!(n < MOST, "it never succeeds");
            let fake = &Fake::new(Supply::plenty());
            let vmalloc = &vmalloc_of(fake);
            if used {
                vmalloc.vmalloc(3 * PAGE).map(drop).expect("nothing fails yet");
                vmalloc.vmalloc(3 * CHUNK).map(drop).expect("nothing fails yet");
            }
            fake.failing().after(n);
            let done = run(fake, vmalloc);
            let never_came = fake.failing().stop();
            kinds.extend(done.err().map(kind));
            assert_tables_agree(fake, &[]);
            run(fake, vmalloc).expect("it succeeds when nothing fails");
            give_everything_back(fake, vmalloc);
            assert_nothing_left(fake, vmalloc);
            if never_came {
                assert_eq!(done, Ok(()));
                break;
            }
        }
    }
    kinds
}

fn set<const N: usize>(kinds: [&'static str; N]) -> BTreeSet<&'static str> {
    kinds.into()
}

#[test]
fn a_small_area_fails_at_each_point() {
    let kinds = fails_at_each_point(|_, vmalloc| vmalloc.alloc(&Request::new(3 * PAGE)).map(drop));
    assert!(kinds.is_superset(&set(["frames", "map"])), "{kinds:?}");
    let waiting = fails_at_each_point(|_, vmalloc| vmalloc.alloc_waiting(&Request::new(3 * PAGE).zeroed()).map(drop));
    assert_eq!(waiting, set([]), "who may wait tries again");
}

#[test]
fn a_big_area_fails_at_each_point() {
    let big = || Request::new(5 * CHUNK + 7);
    let kinds = fails_at_each_point(|_, vmalloc| vmalloc.alloc(&big()).map(drop));
    assert!(kinds.is_superset(&set(["map", "frames"])), "{kinds:?}");
    let small_pages = fails_at_each_point(|_, vmalloc| vmalloc.alloc(&big().small_pages()).map(drop));
    assert!(small_pages.is_superset(&set(["map", "frames"])), "{small_pages:?}");
}

#[test]
fn an_aligned_area_fails_at_each_point() {
    let kinds =
        fails_at_each_point(|_, vmalloc| vmalloc.alloc(&Request::new(2 * CHUNK + 1).align(4 * CHUNK)).map(drop));
    assert!(kinds.is_superset(&set(["map", "frames"])), "{kinds:?}");
}

#[test]
fn lent_frames_fail_at_each_point() {
    for pages in [1, 5, 256] {
        let kinds = fails_at_each_point(|fake, vmalloc| {
            let frames: Vec<PhysAddr> = (0..pages).map(|index| fake.lent_frame(index)).collect();
            let area = unsafe { vmalloc.vmap(frames.iter().copied(), DATA, Tag::caller()) };
            area.map(drop)
        });
        assert!(kinds.is_superset(&set(["lend", "map"])), "{pages}: {kinds:?}");
    }
}

#[test]
fn short_lived_mappings_fail_at_each_point() {
    let kinds = fails_at_each_point(|fake, vmalloc| {
        let frames = [3, 1, 2].map(|index| fake.lent_frame(index));
        unsafe { vmalloc.map_ram(&frames, DATA) }.map(drop)
    });
    assert!(kinds.is_superset(&set(["lend", "map"])), "{kinds:?}");
}

#[test]
fn a_reservation_fails_at_each_point() {
    for bytes in [PAGE, 3 * CHUNK] {
        let kinds = fails_at_each_point(|_, vmalloc| vmalloc.reserve(&Request::new(bytes)).map(drop));
        assert!(kinds.is_subset(&set(["records"])), "a reservation needs nothing but records: {kinds:?}");
    }
}

/// Records, too, can fail: somewhere in so many areas they are made.
#[test]
fn records_that_cannot_be_had_are_an_error_of_their_own() {
    let kinds = fails_at_each_point(|_, vmalloc| {
        let areas: Result<Vec<_>, _> =
            [1, 9, 40, 200].map(|pages| vmalloc.reserve(&Request::new(pages * PAGE))).into_iter().collect();
        areas.map(drop)
    });
    assert_eq!(kinds, set(["records"]));
}

#[test]
fn initialising_fails_at_each_point_and_can_be_done_again() {
    let mut kinds = BTreeSet::new();
    for n in 0..=MOST {
        assert!(n < MOST, "it never succeeds");
        let fake = &Fake::new(Supply { flush: Flush::WhenAsked, ..Supply::plenty() });
        let vmalloc = Vmalloc::new(fake);
        fake.failing().after(n);
        let done = unsafe { vmalloc.init(fake.range(), 3) };
        let never_came = fake.failing().stop();
        if let Err(error) = done {
            kinds.insert(match error {
                InitError::NotPrepared(_) => "prepare",
                InitError::NoFrames(FakeError::Told) => "frames",
                InitError::NotMapped(FakeError::Told | FakeError::NoTables) => "map",
                _ => panic!("{error} is no error of a platform that fails"),
            });
            assert_eq!((fake.count(State::Taken), fake.count(State::Unmapped)), (0, 0), "INV-COUNT: frames are lost");
            assert_eq!(vmalloc.alloc(&Request::new(1)).map(drop), Err(AreaError::NotInitialised));
            unsafe { vmalloc.init(fake.range(), 3) }.expect("it succeeds when nothing fails");
        }
        note_records(fake, &vmalloc);
        assert_nothing_left(fake, &vmalloc);
        drop(vmalloc.vmalloc(PAGE).expect("an area"));
        give_everything_back(fake, &vmalloc);
        assert_nothing_left(fake, &vmalloc);
        if never_came {
            break;
        }
    }
    assert_eq!(kinds, set(["prepare", "frames", "map"]));
}

/// Page-table memory runs out by itself, in the middle of an area.
#[test]
fn an_area_that_wants_more_tables_than_there_are_leaves_nothing() {
    let fake = &Fake::new(Supply { tables: 12, large: 0, ..Supply::plenty() });
    let vmalloc = &vmalloc_of(fake);
    let before = fake.tables();
    let big = vmalloc.alloc_waiting(&Request::new(20 * CHUNK)).map(drop);
    assert_eq!(big, Err(AreaError::NotMapped(FakeError::NoTables)));
    give_everything_back(fake, vmalloc);
    assert_nothing_left(fake, vmalloc);
    assert!(fake.tables() <= before + 1, "{before} tables before, {} after", fake.tables());
    drop(vmalloc.vmalloc(4 * CHUNK).expect("fewer tables"));
}

/// Frames run out by themselves: what waits for its flush is waited for.
#[test]
fn an_allocation_that_may_wait_drains_before_it_fails() {
    let fake = &Fake::new(Supply { frames: 3 * 512, large: 0, ..Supply::plenty() });
    let vmalloc = &vmalloc_of(fake);
    for _ in 0..20 {
        let area = vmalloc.alloc_waiting(&Request::new(2 * CHUNK)).expect("drained, there are frames");
        fake.touch(area.start());
        drop(area);
        let small = vmalloc.alloc_waiting(&Request::new(250 * PAGE)).expect("drained, there are frames");
        fake.touch(small.start());
    }
    give_everything_back(fake, vmalloc);
    assert_nothing_left(fake, vmalloc);
}

/// Addresses run out by themselves.
#[test]
fn an_allocation_that_may_wait_drains_before_it_says_that_there_is_no_room() {
    let fake = &Fake::new(Supply::plenty());
    let vmalloc = &vmalloc_of(fake);
    let Err(AreaError::TooLarge { most, .. }) = vmalloc.alloc(&Request::new(usize::MAX)).map(drop) else {
        panic!("that is too large");
    };
    for _ in 0..4 {
        drop(vmalloc.alloc_waiting(&Request::new(most - CHUNK)).expect("drained, there is room"));
    }
    for start in 0..40_usize {
        drop(vmalloc.vmalloc(PAGE << (start % 6)).expect("room"));
    }
    drop(vmalloc.alloc_waiting(&Request::new(most - 8 * CHUNK)).expect("drained, there is room"));
    give_everything_back(fake, vmalloc);
    assert_nothing_left(fake, vmalloc);
}
