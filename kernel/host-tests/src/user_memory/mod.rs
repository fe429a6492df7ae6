//! A program's mappings against a list of pages: whatever is asked, both say the same; and a failure changes nothing.

#[path = "../../../src/mm/memory/chunk.rs"]
mod chunk;
#[path = "../../../src/mm/memory/mapping.rs"]
#[expect(dead_code, reason = "the kernel uses more of it than the tests")]
mod mapping;
#[path = "../../../src/mm/memory/mappings.rs"]
#[expect(dead_code, reason = "the kernel uses more of it than the tests")]
mod mappings;
mod page_box;
mod users;

use std::collections::BTreeMap;

use mapping::{Kind, Mapping, Rights};
use mappings::{Full, LIMIT, Mappings};
use vmstack::{VirtAddr, VirtRange};

use crate::memory::Random;
use crate::sync::Section;

const PAGE_SIZE: usize = 4096;
/// Pages that the model has.
const PAGES: u64 = 700;

/// The kernel's heap, as far as it is asked.
mod heap {
    pub(super) fn reserve<T>(vec: &mut Vec<T>, more: usize) -> Result<(), ()> {
        vec.reserve(more);
        Ok(())
    }
}

fn range(first: u64, count: u64) -> VirtRange {
    VirtRange::new(VirtAddr::new((first as usize + 16) * PAGE_SIZE), count as usize * PAGE_SIZE).expect("it fits")
}

fn page_of(addr: VirtAddr) -> u64 {
    (addr.get() / PAGE_SIZE) as u64 - 16
}

const RIGHTS: [Rights; 3] = [Rights::NONE, Rights::READ, Rights::READ_WRITE];

/// What each page is, as the list says.
fn listed(mappings: &Mappings) -> BTreeMap<u64, Rights> {
    let mut pages = BTreeMap::new();
    let mut last: Option<Mapping> = None;
    for mapping in mappings.iter() {
        assert!(mapping.bytes() != 0);
        if let Some(last) = last {
            assert!(
                page_of(last.range().end()) <= page_of(mapping.range().start()),
                "they overlap, or are out of order"
            );
            assert!(!last.joins(mapping), "what is one is two");
        }
        for page in page_of(mapping.range().start())..page_of(mapping.range().end()) {
            pages.insert(page, mapping.rights);
        }
        last = Some(*mapping);
    }
    pages
}

fn unmap(mappings: &mut Mappings, range: VirtRange) -> Result<(), Full> {
    while mappings.carve(range)?.is_some() {}
    Ok(())
}

fn protect(mappings: &mut Mappings, all: VirtRange, rights: Rights) -> Result<(), Full> {
    let mut at = all.start();
    while let Some(bytes) = all.end().offset_from(at).filter(|&bytes| bytes != 0) {
        let rest = VirtRange::new(at, bytes).expect("a part");
        let Some(changed) = mappings.change(rest, |mapping| Mapping { rights, ..mapping })? else { break };
        at = changed.range().end();
    }
    Ok(())
}

/// The highest free pages, found by looking at each.
fn highest(pages: &BTreeMap<u64, Rights>, count: u64) -> Option<u64> {
    (0..=PAGES - count).rev().find(|&first| (first..first + count).all(|page| !pages.contains_key(&page)))
}

#[test]
fn any_sequence_of_changes_gives_what_a_list_of_pages_says() {
    for seed in 1..40_u64 {
        let mut random = Random(seed);
        let (mut mappings, mut pages) = (Mappings::new(), BTreeMap::new());
        for _ in 0..1500 {
            let (first, count) = (random.next() % PAGES, 1 + random.next() % 6);
            let count = count.min(PAGES - first);
            let rights = RIGHTS[(random.next() % 3) as usize];
            page_box::let_fail(random.next().is_multiple_of(4));
            match random.next() % 5 {
                0..=2 if mappings.is_free(range(first, count)) => {
                    let new = Mapping::anonymous(range(first, count), rights, Kind::PRIVATE);
                    if mappings.insert(new).is_ok() {
                        (first..first + count).for_each(|page| {
                            pages.insert(page, rights);
                        });
                    }
                }
                3 => {
                    if unmap(&mut mappings, range(first, count)).is_ok() {
                        (first..first + count).for_each(|page| {
                            pages.remove(&page);
                        });
                    }
                }
                _ => {
                    page_box::let_fail(false);
                    protect(&mut mappings, range(first, count), rights).expect("there is memory");
                    (first..first + count).for_each(|page| {
                        pages.entry(page).and_modify(|old| *old = rights);
                    });
                }
            }
            page_box::let_fail(false);
            let count = 1 + random.next() % 9;
            let all = range(0, PAGES);
            let hole = mappings.highest_hole(count as usize * PAGE_SIZE, all.start(), all.end());
            assert_eq!(hole.map(page_of), highest(&pages, count));
        }
        assert_eq!(listed(&mappings), pages);
        let mut copy = Mappings::new();
        copy.copy_from(&mappings).expect("there is memory");
        assert_eq!(listed(&copy), pages);
        assert_eq!(copy.iter().count(), mappings.iter().count());
    }
    assert_eq!(page_box::alive(), 0, "a chunk was lost");
}

#[test]
fn there_can_be_as_many_as_on_linux_and_not_one_more() {
    let mut mappings = Mappings::new();
    let single = |index: usize| Mapping::anonymous(range(2 * index as u64, 1), Rights::READ, Kind::PRIVATE);
    for index in 0..LIMIT {
        mappings.insert(single(index)).expect("not full yet");
    }
    assert_eq!(mappings.insert(single(LIMIT)), Err(Full));
    assert_eq!(mappings.iter().count(), LIMIT);
    // Half as many chunks as there could be, at worst: none is less than half full when they are filled in order.
    assert!(page_box::alive() <= 2 * LIMIT / 96 + 1);
    let hole = mappings.highest_hole(2 * PAGE_SIZE, VirtAddr::new(0), range(2 * LIMIT as u64 - 1, 1).start());
    assert_eq!(hole, Some(VirtAddr::new(14 * PAGE_SIZE)));
    unmap(&mut mappings, range(0, 3 * LIMIT as u64)).expect("nothing is split");
    assert_eq!((mappings.iter().count(), page_box::alive()), (0, 0));
}

#[test]
fn the_first_of_a_full_chunk_can_be_cut_in_two() {
    let mut mappings = Mappings::new();
    // In order, with a page between: the first chunk is split when it is full, and the second one filled.
    for index in 0..144 {
        let new = Mapping::anonymous(range(4 * index, 3), Rights::READ, Kind::PRIVATE);
        mappings.insert(new).expect("there is memory");
    }
    for index in 0..144 {
        let mut mappings = {
            let mut copy = Mappings::new();
            copy.copy_from(&mappings).expect("there is memory");
            copy
        };
        unmap(&mut mappings, range(4 * index + 1, 1)).expect("there is memory");
        protect(&mut mappings, range(4 * index, 1), Rights::READ_WRITE).expect("there is memory");
        assert_eq!(mappings.iter().count(), 145);
        assert_eq!(listed(&mappings).len(), 144 * 3 - 1);
    }
}

#[test]
fn the_only_mapping_can_get_other_rights() {
    let mut mappings = Mappings::new();
    mappings.insert(Mapping::anonymous(range(0, 3), Rights::READ, Kind::PRIVATE)).expect("it is empty");
    protect(&mut mappings, range(0, 3), Rights::READ_WRITE).expect("there is memory");
    assert_eq!(listed(&mappings), (0..3).map(|page| (page, Rights::READ_WRITE)).collect());
    unmap(&mut mappings, range(0, 3)).expect("nothing is split");
    assert_eq!(page_box::alive(), 0);
}

#[test]
fn one_that_is_alone_before_a_full_chunk_can_get_other_rights() {
    let mut mappings = Mappings::new();
    let single = |index: u64| Mapping::anonymous(range(2 * index, 1), Rights::READ, Kind::PRIVATE);
    (0..144).for_each(|index| mappings.insert(single(index)).expect("there is memory"));
    // The first chunk has half of the first 96, the second all others: but one of the first 48 goes.
    unmap(&mut mappings, range(2, 2 * 47)).expect("nothing is split");
    assert_eq!(mappings.iter().count(), 97);
    protect(&mut mappings, range(0, 1), Rights::READ_WRITE).expect("there is memory");
    assert_eq!((listed(&mappings).len(), listed(&mappings)[&0]), (97, Rights::READ_WRITE));
}

#[test]
fn what_was_reserved_is_there_whatever_comes_in_between() {
    for others in 0..200 {
        let mut mappings = Mappings::new();
        for index in 0..others {
            let new = Mapping::anonymous(range(2 * index, 1), Rights::READ, Kind::PRIVATE);
            mappings.insert(new).expect("there is memory");
        }
        for (old, new) in [(600, 400), (600, 608), (600, 597), (600, 603)] {
            let whole = Mapping::anonymous(range(old, 3), Rights::READ_WRITE, Kind::PRIVATE);
            mappings.insert(whole).expect("there is memory");
            mappings.reserve(range(old + 1, 1).start(), 2).expect("there is memory");
            let moved = Mapping::anonymous(range(new, 1), Rights::READ_WRITE, Kind::PRIVATE);
            if mappings.insert(moved).is_ok() {
                page_box::let_fail(true);
                unmap(&mut mappings, range(old + 1, 1)).expect("that was reserved");
                page_box::let_fail(false);
            }
            unmap(&mut mappings, range(400, 300)).expect("nothing is split");
        }
        mappings.clear();
        assert_eq!((mappings.iter().count(), page_box::alive()), (0, 0));
    }
}

#[test]
fn parts_of_a_file_show_what_they_showed() {
    static FILE: [u8; 3 * PAGE_SIZE + 100] = {
        let mut bytes = [0; 3 * PAGE_SIZE + 100];
        bytes[2 * PAGE_SIZE] = 7;
        bytes
    };
    let mut mappings = Mappings::new();
    mappings.insert(Mapping::of_file(range(0, 6), Rights::READ, Kind::PRIVATE, &FILE)).expect("it is empty");
    protect(&mut mappings, range(2, 1), Rights::READ_WRITE).expect("there is memory");
    let third = mappings.find(range(2, 1).start()).expect("it is mapped");
    assert_eq!(third.file_page(range(2, 1).start())[0], 7);
    let rest = mappings.find(range(3, 1).start()).expect("it is mapped");
    assert_eq!(rest.file_page(range(3, 1).start()).len(), 100);
    assert!(rest.file_page(range(4, 1).start()).is_empty());
    assert_eq!(mappings.iter().count(), 3);
}
