//! Groups: what a few entries do that were found once is what a mapper does that walks to them.

mod common;

use common::{DATA, Slab, base, frame, map, mapper, park, slot, va, word};
use core::sync::atomic::Ordering;
use vmstack::{Pages, PhysAddr};
use vmstack_paging::{Entry, Format, Group, Level, Mapper, Table};

const PAGES: usize = 4;

/// The pages that the tests use, behind one that is mapped, so that there is a table.
fn pages<F: Format>(mapper: &Mapper<'_, F, Slab>) -> Pages {
    map(mapper, Pages::new(va(base::<F>()), 1)).expect("the page is free");
    Pages::new(va(base::<F>() + 4096), PAGES)
}

fn group<'a, F: Format>(mapper: &Mapper<'a, F, Slab>, pages: Pages) -> Group<'a, F> {
    mapper.group(pages).expect("there is a table that has all of them")
}

/// The words of the pages, read by a walk that shares no code with the group's.
fn words<F: Format>(slab: &Slab, root: PhysAddr, pages: Pages) -> Vec<u64> {
    pages.addresses(4096).map(|at| word(slot::<F>(slab, root, at.get())).load(Ordering::Relaxed)).collect()
}

fn map_group<F: Format>(group: Group<'_, F>, frames: &[PhysAddr]) -> bool {
    // SAFETY: no CPU walks these tables.
    unsafe { group.map(DATA, frames) }
}

fn map_run<F: Format>(group: Group<'_, F>, first: PhysAddr) -> bool {
    // SAFETY: no CPU walks these tables.
    unsafe { group.map_run(DATA, first) }
}

fn take_run<F: Format>(group: Group<'_, F>) -> Option<PhysAddr> {
    // SAFETY: no CPU walks these tables.
    unsafe { group.take_run() }
}

fn take_parked<F: Format>(group: Group<'_, F>) -> (bool, Vec<PhysAddr>) {
    let mut frames = Vec::new();
    // SAFETY: no CPU walks these tables.
    let taken = unsafe { group.take_parked(|frame| frames.push(frame)) };
    (taken, frames)
}

/// Four frames of which no two lie side by side.
const SCATTERED: [usize; PAGES] = [7, 3, 12, 5];

fn a_group_maps_parks_and_takes_as_a_mapper_does<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let pages = pages(&mapper);
    let frames = SCATTERED.map(frame);
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.map(pages, DATA, frames) }.expect("the pages are free");
    let mapped = words::<F>(&slab, root, pages);
    park(&mapper, pages).expect("the pages are mapped");
    let parked = words::<F>(&slab, root, pages);
    common::take(&mapper, pages).expect("the pages are parked");

    let group = group(&mapper, pages);
    assert!(map_group(group, &frames));
    assert_eq!(words::<F>(&slab, root, pages), mapped);
    assert_eq!(group.frames().collect::<Vec<_>>(), frames);
    // SAFETY: no CPU walks these tables.
    assert!(unsafe { group.park() });
    assert_eq!(words::<F>(&slab, root, pages), parked);
    assert_eq!(group.frames().count(), 0);
    assert_eq!(take_parked(group), (true, frames.to_vec()));
    assert_eq!(words::<F>(&slab, root, pages), [0; PAGES]);
}

fn a_run_is_mapped_as_its_frames_are<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let group = group(&mapper, pages(&mapper));
    assert!(map_run(group, frame(40)));
    assert_eq!(group.frames().collect::<Vec<_>>(), [40, 41, 42, 43].map(frame));
    assert_eq!(take_run(group), F::NEIGHBOURS.map(|_| frame(40)));
    assert_eq!(group.frames().count(), if F::NEIGHBOURS.is_some() { 0 } else { PAGES });
}

fn what_is_no_run_is_not_taken_as_one<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let pages = pages(&mapper);
    let group = group(&mapper, pages);
    for numbers in [SCATTERED, [40, 41, 42, 44], [40, 40, 40, 40], [43, 42, 41, 40]] {
        assert!(map_group(group, &numbers.map(frame)));
        let before = words::<F>(&slab, root, pages);
        assert_eq!(take_run(group), None, "{numbers:?}");
        assert_eq!(words::<F>(&slab, root, pages), before);
        park(&mapper, pages).expect("the pages are mapped");
        assert_eq!(take_run(group), None, "parked pages are no run of mapped ones");
        common::take(&mapper, pages).expect("the pages are parked");
    }
}

/// Each page in turn is in another state than its neighbours.
fn all_or_nothing<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let pages = pages(&mapper);
    let group = group(&mapper, pages);
    for odd in pages.addresses(4096).map(|at| Pages::new(at, 1)) {
        map(&mapper, odd).expect("the page is free");
        let before = words::<F>(&slab, root, pages);
        assert!(!map_group(group, &SCATTERED.map(frame)) && !map_run(group, frame(40)), "a page is not free");
        // SAFETY: no CPU walks these tables.
        assert!(!unsafe { group.park() }, "three pages are not mapped");
        assert_eq!(take_run(group), None);
        park(&mapper, odd).expect("the page is mapped");
        assert_eq!(take_parked(group), (false, vec![]), "three pages are not parked");
        common::take(&mapper, odd).expect("nothing was taken");
        assert_eq!(before.iter().filter(|&&word| word != 0).count(), 1);
    }
    assert!(!map_group(group, &SCATTERED.map(frame)[..3]), "a frame is missing");
    let highest = PhysAddr::new((1_u64 << F::PHYS_BITS) - 4096);
    assert!(!map_run(group, highest), "the second frame is higher than the format can say");
    assert!(!map_run(group, PhysAddr::new(0x1234)), "no frame begins there");
    assert_eq!(words::<F>(&slab, root, pages), [0; PAGES]);
}

fn a_word_leads_back_to_the_group<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let group = group(&mapper, pages(&mapper));
    let exposed = group.expose();
    // SAFETY: the word is that of a group of as many pages, and the slab lives.
    let again = unsafe { Group::<F>::from_exposed(exposed, PAGES) };
    assert!(map_run(again, frame(8)));
    assert_eq!(group.frames().next(), Some(frame(8)));
}

fn a_table_has_the_groups_that_a_walk_finds<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let first = Pages::new(va(base::<F>() + 3 * 4096), PAGES);
    let table = mapper.make_leaf_table(first.start()).expect("there is room for a table");
    let stride = 2 * PAGES * 4096;
    let found: Vec<usize> = table.groups(first, stride).map(Group::expose).collect();
    let walked = |at: usize| mapper.group(Pages::new(first.start().wrapping_add(at * stride), PAGES));
    let walked: Vec<usize> = (0..).map_while(walked).map(Group::expose).collect();
    // The last one would end beyond the table.
    assert_eq!(found.len(), (Table::ENTRIES - 3) / (2 * PAGES) + 1);
    assert_eq!(found, walked);
}

fn no_group_is_longer_than_its_table<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let at = base::<F>();
    let table = mapper.make_leaf_table(va(at)).expect("there is room for a table");
    let end = at + Table::ENTRIES * 4096;
    let refused = [
        Pages::new(va(end - 4096), 2),
        Pages::new(va(end), 1),
        Pages::new(va(at - 4096), 2),
        Pages::new(va(at + 8), 1),
        Pages::new(va(at), 0),
        Pages::new(va(at), Table::ENTRIES + 1),
    ];
    for pages in refused {
        assert!(table.group(pages).is_none() && mapper.group(pages).is_none(), "{pages:?}");
    }
    assert_eq!(table.groups(Pages::new(va(at), 1), 4100).count(), 0, "no pages lie so");
    assert_eq!(table.groups(Pages::new(va(at), 1), 0).count(), Table::ENTRIES, "a stride of none is that of a page");
    assert!(table.group(Pages::new(va(end - 4096), 1)).is_some());
    assert!(table.group(Pages::new(va(at), Table::ENTRIES)).is_some());
    assert!(mapper.make_leaf_table(va(at + 8)).is_err(), "no page begins there");
    slab.allow(0);
    assert!(mapper.make_leaf_table(va(at + (1 << 30))).is_err(), "there is no memory for a table");
}

fn without_a_table_there_is_no_group<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    assert!(mapper.group(Pages::new(va(base::<F>()), PAGES)).is_none());
    assert_eq!(slab.live(), 1, "asking makes none");
}

fn what_is_not_surely_clean_is_written<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let pages = pages(&mapper);
    let group = group(&mapper, pages);
    assert!(map_run(group, frame(0)));
    for dirty in 0..1_u32 << PAGES {
        for (page, at) in pages.addresses(4096).enumerate() {
            let leaf = Entry::Leaf { frame: frame(page), attributes: DATA, dirty: dirty & 1 << page != 0 };
            word(slot::<F>(&slab, root, at.get())).store(F::encode(leaf, Level::PAGE), Ordering::Relaxed);
        }
        let expected = (0..PAGES).filter(|page| mapper.dirty(pages) & 1 << page != 0).map(frame);
        assert_eq!(group.written().collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{dirty:#b}");
        group.clear_dirty();
        assert_eq!(group.written().count(), if F::HAS_DIRTY { 0 } else { PAGES });
        assert_eq!(group.frames().collect::<Vec<_>>(), [0, 1, 2, 3].map(frame), "all are mapped as they were");
    }
}

for_every_format! {
    a_group_maps_parks_and_takes_as_a_mapper_does
    a_run_is_mapped_as_its_frames_are
    what_is_no_run_is_not_taken_as_one
    all_or_nothing
    a_word_leads_back_to_the_group
    a_table_has_the_groups_that_a_walk_finds
    no_group_is_longer_than_its_table
    without_a_table_there_is_no_group
    what_is_not_surely_clean_is_written
}
