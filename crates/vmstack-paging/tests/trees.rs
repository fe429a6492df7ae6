//! What the mapper promises of sweeps, of tables and of what it did not write, in every format.

mod common;

use core::ops::ControlFlow;
use core::sync::atomic::Ordering;

use common::{Slab, base, frame, map, mapper, park, range, slot, take, unmap, va, word};
use vmstack::Pages;
use vmstack_paging::{Format, LeafError, MapError};

const GIB: usize = 1 << 30;

fn unmapping_a_range_skips_holes_and_parked_pages<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let start = base::<F>();
    map(&mapper, Pages::new(va(start), 4)).expect("free");
    map(&mapper, Pages::new(va(start + 2 * GIB), 2)).expect("free");
    park(&mapper, Pages::new(va(start + 4096), 1)).expect("mapped");
    let leaves = unmap(&mapper, start, 3 * GIB).expect("no large page is cut");
    let pages: Vec<_> = leaves.iter().map(|leaf| (leaf.at.get() - start) / 4096).collect();
    assert_eq!(pages, [0, 2, 3, 2 * GIB / 4096, 2 * GIB / 4096 + 1]);
    let census = mapper.census(range(start, 3 * GIB));
    assert_eq!((census.leaves, census.parked), (0, 1));
}

fn a_visit_ends_when_the_visitor_has_seen_enough<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    map(&mapper, Pages::new(va(base::<F>()), 8)).expect("free");
    let third = mapper.for_each_leaf(range(base::<F>(), GIB), |leaf| {
        if leaf.frame == frame(2) { ControlFlow::Break(leaf.at) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(third, ControlFlow::Break(va(base::<F>() + 2 * 4096)));
    let mut seen = 0;
    let all: ControlFlow<()> = mapper.for_each_leaf(range(0, usize::MAX), |_| {
        seen += 1;
        ControlFlow::Continue(())
    });
    assert!(all.is_continue());
    assert_eq!(seen, 8);
}

fn tables_are_freed_when_nothing_is_left_in_them<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let start = base::<F>();
    map(&mapper, Pages::new(va(start), 2)).expect("free");
    map(&mapper, Pages::new(va(start + GIB), 2)).expect("free");
    park(&mapper, Pages::new(va(start + GIB), 1)).expect("mapped");
    unmap(&mapper, start, 2 * GIB).expect("no large page is cut");
    let before = slab.live();
    // SAFETY: no CPU walks these tables, and they are shared with nobody.
    let freed = unsafe { mapper.free_tables(range(start, 2 * GIB)) };
    assert_eq!((freed, slab.live()), (2, before - 2), "the tables above a parked page stay");
    assert_eq!(take(&mapper, Pages::new(va(start + GIB), 1)), Ok(vec![frame(0)]));
    // SAFETY: no CPU walks these tables, and they are shared with nobody.
    let freed = unsafe { mapper.free_tables(range(start, 2 * GIB)) };
    assert_eq!((freed, slab.live()), (before - 3, 1), "only the root is left");
}

fn what_is_mapped_later_appears_in_every_tree_that_shares_the_top_level<F: Format>() {
    let (slab, root) = Slab::with_root();
    let kernel = mapper::<F>(&slab, root);
    let area = range(base::<F>(), 2 * GIB);
    kernel.ensure_top_level(area).expect("there is memory");
    let other = vmstack_paging::TableMemory::new_table(&slab).expect("there is memory");
    let process = mapper::<F>(&slab, other);
    // SAFETY: neither tree is freed before the other.
    unsafe { kernel.share_top_level(&process, area) }.expect("the other root is empty");
    let live = slab.live();
    let page = Pages::new(va(base::<F>()), 1);
    map(&kernel, page).expect("free");
    assert_eq!(process.translate(page.start()), kernel.translate(page.start()));
    assert!(slab.live() > live || F::LEVELS == 3);
    // SAFETY: as above.
    assert_eq!(unsafe { kernel.share_top_level(&process, area) }, Ok(()), "to share again changes nothing");
}

fn a_root_that_has_its_own_entry_is_not_overwritten<F: Format>() {
    let (slab, root) = Slab::with_root();
    let kernel = mapper::<F>(&slab, root);
    let other = vmstack_paging::TableMemory::new_table(&slab).expect("there is memory");
    let process = mapper::<F>(&slab, other);
    let page = Pages::new(va(base::<F>()), 1);
    map(&kernel, page).expect("free");
    map(&process, page).expect("free");
    // SAFETY: neither tree is freed.
    let refused = unsafe { kernel.share_top_level(&process, range(base::<F>(), 4096)) };
    assert_eq!(refused, Err(MapError::TableInTheWay { at: va(base::<F>()) }));
}

fn a_foreign_entry_is_never_changed_and_never_translated<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let (start, pages) = (base::<F>(), Pages::new(va(base::<F>()), 1));
    map(&mapper, pages).expect("free");
    let foreign = 0b1100_0000_0000_0000_0000_0000_0000_0000;
    word(slot::<F>(&slab, root, start)).store(foreign, Ordering::Relaxed);
    assert!(mapper.translate(va(start)).is_none());
    assert_eq!(map(&mapper, pages), Err(MapError::AlreadyMapped { at: va(start) }));
    assert_eq!(park(&mapper, pages), Err(LeafError::NotMapped { at: va(start) }));
    assert_eq!(unmap(&mapper, start, 4096).map(|leaves| leaves.len()), Ok(0));
    assert_eq!(mapper.census(range(start, 4096)).foreign, 1);
    assert_eq!(slot::<F>(&slab, root, start).raw(), foreign);
}

fn the_last_page_of_a_half_is_a_page_like_any_other<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let last = if F::HALVES.has_upper() { usize::MAX - 4095 } else { (1 << F::HALF_BITS) - 4096 };
    let pages = Pages::new(va(last), 1);
    map(&mapper, pages).expect("free");
    assert_eq!(mapper.translate(va(last + 4095)).map(|(phys, _)| phys.get()), Some(frame(0).get() + 4095));
    assert_eq!(mapper.census(range(last, 4095)).leaves, 1);
    park(&mapper, pages).expect("mapped");
    assert_eq!(take(&mapper, pages), Ok(vec![frame(0)]));
}

for_every_format! {
    unmapping_a_range_skips_holes_and_parked_pages
    a_visit_ends_when_the_visitor_has_seen_enough
    tables_are_freed_when_nothing_is_left_in_them
    what_is_mapped_later_appears_in_every_tree_that_shares_the_top_level
    a_root_that_has_its_own_entry_is_not_overwritten
    a_foreign_entry_is_never_changed_and_never_translated
    the_last_page_of_a_half_is_a_page_like_any_other
}
