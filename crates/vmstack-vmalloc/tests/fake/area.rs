//! A vmalloc on the fake platform, and what must hold of it.

use core::sync::atomic::Ordering;
use std::collections::BTreeMap;

use super::{CHUNK, Fake, FakeError, PAGE, State};
use vmstack::{PhysAddr, VirtAddr, VirtRange};
use vmstack_paging::{Attributes, Level};
use vmstack_vmalloc::{Found, Vmalloc};

/// What the tables must say of an area: its pages, with which attributes, and of which frames if that is known. None where nothing is mapped.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) range: VirtRange,
    pub(crate) attributes: Option<Attributes>,
    pub(crate) frames: Option<Vec<PhysAddr>>,
    /// How many chunks are mapped by a large page each.
    pub(crate) large: usize,
}

/// One that is initialised, in all of the fake's range.
pub(crate) fn vmalloc_of(fake: &Fake) -> Vmalloc<&Fake> {
    let vmalloc = Vmalloc::new(fake);
    // The fake's range is this one's alone.
    unsafe { vmalloc.init(fake.range(), fake.supply().cpus) }.expect("the vmalloc is initialised");
    note_records(fake, &vmalloc);
    vmalloc
}

/// Finds out where the records end: nothing above can be reached from then on.
pub(crate) fn note_records(fake: &Fake, vmalloc: &Vmalloc<&Fake>) {
    let range = fake.range();
    let pages = (0..range.bytes() / PAGE).map(|page| range.start().wrapping_add(page * PAGE));
    let end = pages.into_iter().find(|&page| vmalloc.find(page) != Found::Records).expect("not all is records");
    assert!(end > range.start(), "the range begins with records");
    fake.records_end.store(end.get(), Ordering::Relaxed);
}

impl Fake {
    /// Pages of records that are mapped.
    pub(crate) fn record_pages(&self) -> usize {
        self.leaves(self.records()).len()
    }

    /// All of the range but the records.
    pub(crate) fn areas(&self) -> VirtRange {
        let (start, end) = (self.records().end(), self.range().end());
        VirtRange::new(start, end.get() - start.get()).unwrap()
    }
}

/// Walks the page tables: they map exactly what is expected, and records.
pub(crate) fn assert_tables_agree(fake: &Fake, expected: &[Expected]) {
    let leaves = fake.leaves(fake.areas());
    let mut found = leaves.iter().peekable();
    let mut sorted: Vec<&Expected> = expected.iter().filter(|area| area.attributes.is_some()).collect();
    sorted.sort_by_key(|area| area.range.start());
    for area in sorted {
        let (mut at, mut large) = (area.range.start(), 0);
        while let Some(leaf) = found.next_if(|leaf| leaf.at < area.range.end()) {
            assert_eq!(leaf.at, at, "the tables map what is nobody's, or not all of {area:x?}");
            assert_eq!(Some(leaf.attributes), area.attributes, "of {at} in {area:x?}");
            if let Some(frames) = &area.frames {
                assert_eq!(leaf.frame, frames[at.distance(area.range.start()) / PAGE], "of {at}");
            }
            large += usize::from(leaf.level != Level::PAGE);
            at = at.wrapping_add(if leaf.level == Level::PAGE { PAGE } else { CHUNK });
        }
        assert_eq!(at, area.range.end(), "not all is mapped of {area:x?}");
        assert_eq!(large, area.large, "large pages of {area:x?}");
    }
    assert_eq!(found.next(), None, "the tables map what is nobody's");
}

/// Each CPU leaves what it keeps, and all of it goes back.
pub(crate) fn give_everything_back(fake: &Fake, vmalloc: &Vmalloc<&Fake>) {
    fake.failing().stop();
    for _ in 0..2 {
        for cpu in 0..fake.supply().cpus {
            fake.run_on(cpu);
            vmalloc.leave_cpu();
            vmalloc.drain();
        }
    }
}

/// What must hold when all areas are free and [`give_everything_back`] was called: nothing is lost, and nothing is left but records.
pub(crate) fn assert_nothing_left(fake: &Fake, vmalloc: &Vmalloc<&Fake>) {
    assert_tables_agree(fake, &[]);
    let supply = fake.supply();
    let all = supply.frames + supply.large * super::LARGE;
    let gap = supply.frames.next_multiple_of(super::LARGE) - supply.frames;
    assert_eq!((fake.count(State::Taken), fake.count(State::Unmapped)), (0, 0), "INV-COUNT: frames are lost");
    assert_eq!(fake.count(State::Mapped), fake.record_pages(), "INV-COUNT: what is mapped is records");
    assert_eq!(fake.count(State::Free), all + gap - fake.record_pages(), "INV-COUNT: all other frames are free");
    assert_eq!(fake.free().1, supply.large, "INV-COUNT: and all blocks");
    assert_eq!(fake.lent(), (0, 0), "INV-COUNT: nothing is lent");
    assert_eq!(fake.tables(), fake.linked_tables(), "INV-COUNT: tables are lost");
    if supply.takes_tables {
        assert_eq!(fake.leaf_tables(fake.areas()), [], "no leaf table is left but those of records");
    }
    vmalloc.for_each(|info| panic!("{info} is listed"));
    let (usage, recount, addresses) = (vmalloc.usage(), vmalloc.recount(), vmalloc.fragmentation());
    assert_eq!((usage.areas(), usage.pages(), usage.pages_waiting()), (0, 0, 0), "INV-COUNT: {usage:?}");
    assert_eq!(usage.pieces_unmapped, usage.pieces_retired, "INV-COUNT: {usage:?}");
    assert_eq!((recount.areas, recount.bytes, recount.pages, recount.dying), (0, 0, 0, 0), "INV-COUNT: {recount:?}");
    let left = (addresses.used, addresses.guards, addresses.padding, addresses.free_slots, addresses.waiting);
    assert_eq!(left, (0, 0, 0, 0, 0), "addresses are left behind: {addresses:?}");
}
