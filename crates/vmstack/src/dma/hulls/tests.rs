//! Where a range meets a hull, to the byte.

use super::{Hull, Hulls};
use crate::addr::VirtAddr;

/// First and last addresses.
type Ranges = &'static [(usize, usize)];

fn hull(ranges: Ranges) -> Hull {
    Hull::around(ranges.iter().copied())
}

fn looked(areas: Ranges, registered: Ranges) -> Hulls {
    let hulls = Hulls::new();
    hulls.note(hull(areas), hull(registered));
    hulls
}

fn meet(hulls: &Hulls, addr: usize, bytes: usize) -> bool {
    hulls.meet(VirtAddr::new(addr), bytes)
}

#[test]
fn everything_is_suspect_until_somebody_has_looked() {
    let hulls = Hulls::new();
    for addr in [0, 1, 1 << 40, usize::MAX - 1, usize::MAX] {
        assert!(meet(&hulls, addr, 1), "{addr:#x}");
    }
}

#[test]
fn a_range_meets_a_piece_by_its_first_byte_by_its_last_and_by_spanning_it() {
    // What is registered above the areas, below them, and among them; areas at both ends of the address space.
    let layouts: [(Ranges, Ranges); 6] = [
        (&[(100, 199)], &[(400, 499)]),
        (&[(400, 499)], &[(100, 199)]),
        (&[(100, 199), (300, 499)], &[(350, 600)]),
        (&[(0, 0)], &[(usize::MAX - 9, usize::MAX - 1)]),
        (&[(100, 199)], &[]),
        (&[], &[(100, 199)]),
    ];
    for (areas, registered) in layouts {
        let hulls = looked(areas, registered);
        for &(first, last) in areas.iter().chain(registered) {
            let around = (first.saturating_sub(3), last - first + 4);
            assert!(meet(&hulls, first, 1) && meet(&hulls, last, 1) && meet(&hulls, around.0, around.1));
            assert!(meet(&hulls, first.saturating_sub(50), first.min(50) + 1), "the first byte of {first:#x}");
        }
        assert!(!meet(&hulls, 1, 99), "{areas:?}: memory that begins above zero and ends below 100");
    }
    let hulls = looked(&[(100, 199)], &[(400, 499)]);
    for (addr, bytes) in [(0, 100), (99, 1), (200, 200), (200, 1), (399, 1), (500, 1), (500, 1 << 40)] {
        assert!(!meet(&hulls, addr, bytes), "{addr}, {bytes}");
    }
    for (addr, bytes) in [(0, 101), (199, 1), (200, 201), (199, 300), (0, 1 << 40)] {
        assert!(meet(&hulls, addr, bytes), "{addr}, {bytes}");
    }
}

#[test]
fn no_bytes_and_bytes_that_leave_the_address_space_are_suspect_anywhere() {
    let hulls = looked(&[(100, 199)], &[]);
    for addr in [0, 1, 50, 300, usize::MAX] {
        assert!(meet(&hulls, addr, 0) && meet(&hulls, addr, usize::MAX), "{addr:#x}");
    }
    assert!(meet(&hulls, usize::MAX, 1), "its end cannot be said");
    assert!(!meet(&hulls, usize::MAX - 1, 1));
}

#[test]
fn a_look_with_old_knowledge_takes_nothing_back() {
    let hulls = looked(&[(100, 199), (800, 899)], &[(400, 499)]);
    hulls.note(hull(&[(100, 199)]), hull(&[]));
    for addr in [100, 199, 400, 499, 800, 899] {
        assert!(meet(&hulls, addr, 1), "{addr}");
    }
    let hulls = looked(&[(100, 199)], &[]);
    hulls.note(hull(&[(100, 199)]), hull(&[(10, 19)]));
    hulls.note(hull(&[(100, 199)]), hull(&[]));
    for addr in [10, 19, 100, 199] {
        assert!(meet(&hulls, addr, 1), "{addr}");
    }
    assert!(!meet(&hulls, 9, 1) && !meet(&hulls, 200, 1));
}
