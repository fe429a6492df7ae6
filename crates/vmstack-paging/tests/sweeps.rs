//! What sweeps over whole leaf tables do, in every format: to whatever is there, wherever it is, and to nothing else.

mod common;

use common::{DATA, Slab, base, frame, map, mapper, range, va};
use vmstack::{Pages, VirtRange};
use vmstack_paging::{Access, Format, Level, MapError, TableMemory};

const MIB_2: usize = 2 << 20;
const GIB: usize = 1 << 30;

/// All that the tests map lies in here.
fn all<F: Format>() -> VirtRange {
    range(base::<F>(), 3 * GIB)
}

/// Islands of 3 pages: at the end of a leaf table and over it, and far away.
fn map_islands<F: Format>(mapper: &vmstack_paging::Mapper<'_, F, Slab>) -> [usize; 2] {
    let islands = [base::<F>() + MIB_2 - 4096, base::<F>() + 2 * GIB + 5 * 4096];
    for at in islands {
        map(mapper, Pages::new(va(at), 3)).expect("the pages are free");
    }
    islands
}

fn sharing_makes_both_read_only_and_counts_each_frame_once<F: Format>() {
    let (slab, root) = Slab::with_root();
    let child = slab.new_table().expect("there is room");
    let (parent, child) = (mapper::<F>(&slab, root), mapper::<F>(&slab, child));
    let islands = map_islands(&parent);
    let mut shared = Vec::new();
    for island in islands {
        // The second time they are read-only already, and other pages are there.
        let part = range(island, 3 * 4096);
        // SAFETY: no CPU walks these tables.
        unsafe { parent.share_leaves(&child, part, true, |frame| shared.push(frame)) }.expect("the child is empty");
    }
    assert_eq!(shared, [0, 1, 2, 0, 1, 2].map(frame));
    for page in islands.iter().flat_map(|at| (0..3).map(move |page| va(at + page * 4096))) {
        let (mine, theirs) = (parent.translate(page).expect("there"), child.translate(page).expect("there"));
        assert_eq!(mine, theirs);
        assert_eq!(mine.1.attributes, DATA.with_access(Access::Read));
    }
    assert_eq!(child.census(all::<F>()).leaves, 6);
}

fn sharing_for_good_leaves_the_access_and_stops_where_something_is<F: Format>() {
    let (slab, root) = Slab::with_root();
    let child = slab.new_table().expect("there is room");
    let (parent, child) = (mapper::<F>(&slab, root), mapper::<F>(&slab, child));
    let at = base::<F>() + 8 * 4096;
    map(&parent, Pages::new(va(at), 4)).expect("the pages are free");
    map(&child, Pages::new(va(at + 2 * 4096), 1)).expect("the page is free");
    let mut count = 0;
    // SAFETY: no CPU walks these tables.
    let shared = unsafe { parent.share_leaves(&child, all::<F>(), false, |_| count += 1) };
    assert_eq!(shared, Err(MapError::AlreadyMapped { at: va(at + 2 * 4096) }));
    assert_eq!(count, 2);
    assert_eq!(parent.translate(va(at)).expect("there").1.attributes, DATA);
    assert_eq!(child.translate(va(at)).expect("there").1.attributes, DATA);
}

fn sharing_without_memory_for_a_table_shares_nothing_there<F: Format>() {
    let (slab, root) = Slab::with_root();
    let child = slab.new_table().expect("there is room");
    let (parent, child) = (mapper::<F>(&slab, root), mapper::<F>(&slab, child));
    map_islands(&parent);
    slab.allow(0);
    // SAFETY: no CPU walks these tables.
    let shared = unsafe { parent.share_leaves(&child, all::<F>(), true, |_| panic!("nothing can be shared")) };
    assert!(matches!(shared, Err(MapError::NoTable { .. })));
}

fn parked_pages_come_back_or_are_taken<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let islands = map_islands(&mapper);
    // SAFETY: no CPU walks these tables.
    assert_eq!(unsafe { mapper.park_leaves(all::<F>()) }, 6);
    // SAFETY: as above.
    assert_eq!(unsafe { mapper.park_leaves(all::<F>()) }, 0);
    assert!(mapper.translate(va(islands[0])).is_none());
    // SAFETY: as above.
    unsafe { mapper.unpark(Pages::new(va(islands[0]), 2), DATA) }.expect("a run of pages");
    assert_eq!(mapper.translate(va(islands[0] + 4096)).expect("there again").1.frame, frame(1));
    let mut taken = Vec::new();
    // SAFETY: as above.
    unsafe { mapper.take_frames(all::<F>(), |frame| taken.push(frame)) };
    assert_eq!(taken, [0, 1, 2, 0, 1, 2].map(frame));
    let census = mapper.census(all::<F>());
    assert_eq!((census.leaves, census.parked), (0, 0));
}

fn protecting_asks_for_each_leaf_and_keeps_its_frame<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let islands = map_islands(&mapper);
    let even = |frame: vmstack::PhysAddr| (frame.get() / 4096).is_multiple_of(2);
    // SAFETY: no CPU walks these tables.
    unsafe {
        mapper.protect_leaves(all::<F>(), |leaf| {
            if even(leaf.frame) { leaf.attributes.with_access(Access::Read) } else { leaf.attributes }
        });
    }
    for page in 0..3 {
        let (found, leaf) = mapper.translate(va(islands[1] + page * 4096)).expect("there");
        assert_eq!(found, frame(page));
        assert_eq!(leaf.attributes.access().is_writable(), !even(found));
    }
}

fn moved_pages_are_there_and_not_here<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let [from, _] = map_islands(&mapper);
    let to = base::<F>() + GIB - 4096;
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.move_leaves(Pages::new(va(from), 4), va(to)) }.expect("there is room");
    for page in 0..3 {
        assert!(mapper.translate(va(from + page * 4096)).is_none());
        assert_eq!(mapper.translate(va(to + page * 4096)).expect("moved").0, frame(page));
    }
    slab.allow(0);
    // SAFETY: as above.
    let failed = unsafe { mapper.move_leaves(Pages::new(va(to), 3), va(from + GIB + 64 * MIB_2)) };
    assert!(matches!(failed, Err(MapError::NoTable { .. })));
    assert_eq!(mapper.translate(va(to)).expect("still there").0, frame(0));
}

fn what_was_moved_in_part_goes_back_past_what_stayed_without_memory<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let (from, to) = (base::<F>() + 4096, base::<F>() + GIB);
    map(&mapper, Pages::new(va(from), 4)).expect("the pages are free");
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.move_leaves(Pages::new(va(from), 2), va(to)) }.expect("there is room");
    slab.allow(0);
    // SAFETY: as above.
    unsafe { mapper.move_leaves(Pages::new(va(to), 4), va(from)) }.expect("its tables are there");
    for page in 0..4 {
        assert!(mapper.translate(va(to + page * 4096)).is_none());
        assert_eq!(mapper.translate(va(from + page * 4096)).expect("it is back").0, frame(page));
    }
}

/// The tables of `level` in `all`, each freed when it was found: how many were.
fn free_level<F: Format>(mapper: &vmstack_paging::Mapper<'_, F, Slab>, level: Level) -> usize {
    let (mut rest, mut freed) = (all::<F>(), 0);
    while let Some(part) = mapper.first_table(rest, level) {
        // SAFETY: no CPU walks these tables.
        freed += usize::from(unsafe { mapper.free_table(part, level) });
        let Some(left) = rest.end().offset_from(part.end()).filter(|&left| left != 0) else { break };
        rest = range(part.end().get(), left);
    }
    freed
}

fn tables_go_level_by_level_and_none_before_it_is_empty<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    map_islands(&mapper);
    let levels: Vec<Level> = (0..F::top().number()).map(Level::new).collect();
    assert!(levels.iter().all(|&level| free_level(&mapper, level) == 0), "pages are there");
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.take_frames(all::<F>(), |_| {}) };
    assert_eq!(free_level(&mapper, Level::new(1)), 0, "leaf tables are there");
    for &level in &levels {
        assert_ne!(free_level(&mapper, level), 0);
        assert_eq!(mapper.first_table(all::<F>(), level), None);
    }
    assert_eq!(slab.live(), 1);
    // SAFETY: as above.
    assert!(!unsafe { mapper.free_table(all::<F>(), F::top()) }, "the root is not a table below another");
}

fn leaf_tables_are_found_one_after_the_other_and_freed_when_empty<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let [low, high] = map_islands(&mapper);
    let first = mapper.first_leaf_table(all::<F>()).expect("there are three");
    assert_eq!((first.start(), first.end()), (va(base::<F>()), va(base::<F>() + MIB_2)));
    let second = mapper.first_leaf_table(range(low + 4096, 4096)).expect("it is there");
    assert_eq!((second.start(), second.bytes()), (va(low + 4096), 4096));
    let rest = range(base::<F>() + 2 * MIB_2, 3 * GIB - 2 * MIB_2);
    assert_eq!(mapper.first_leaf_table(rest).expect("far away").start(), va(high - 5 * 4096));
    assert_eq!(mapper.first_leaf_table(range(base::<F>() + GIB, GIB)), None);
    // SAFETY: no CPU walks these tables.
    assert!(!unsafe { mapper.free_table(first, Level::PAGE) });
    // SAFETY: as above.
    unsafe { mapper.take_frames(all::<F>(), |_| {}) };
    let before = slab.live();
    // SAFETY: as above.
    assert!(unsafe { mapper.free_table(first, Level::PAGE) });
    assert_eq!(slab.live(), before - 1);
    // SAFETY: as above.
    assert_ne!(unsafe { mapper.free_tables(all::<F>()) }, 0);
    assert_eq!(slab.live(), 1);
}

for_every_format! {
    sharing_makes_both_read_only_and_counts_each_frame_once
    sharing_for_good_leaves_the_access_and_stops_where_something_is
    sharing_without_memory_for_a_table_shares_nothing_there
    parked_pages_come_back_or_are_taken
    protecting_asks_for_each_leaf_and_keeps_its_frame
    moved_pages_are_there_and_not_here
    what_was_moved_in_part_goes_back_past_what_stayed_without_memory
    tables_go_level_by_level_and_none_before_it_is_empty
    leaf_tables_are_found_one_after_the_other_and_freed_when_empty
}
