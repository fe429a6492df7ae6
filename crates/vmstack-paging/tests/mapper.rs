//! What the mapper promises of batches, parked entries and large pages, in every format.

mod common;

use common::{DATA, Slab, base, frame, map, map_large, mapper, park, range, slot, take, unmap, va};
use vmstack::{Pages, PhysAddr};
use vmstack_paging::{Access, Format, LeafError, Level, MapError};

const MIB_2: usize = 2 << 20;
const GIB: usize = 1 << 30;

fn a_batch_over_three_leaf_tables_is_mapped_in_order<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let start = base::<F>() + MIB_2 - 3 * 4096;
    map(&mapper, Pages::new(va(start), 518)).expect("the pages are free");
    for page in 0..518 {
        let (phys, leaf) = mapper.translate(va(start + page * 4096 + 0x123)).expect("the page is mapped");
        assert_eq!(phys.get(), frame(page).get() + 0x123);
        assert_eq!((leaf.level, leaf.attributes), (Level::PAGE, DATA));
    }
    assert!(mapper.translate(va(start - 1)).is_none());
    assert!(mapper.translate(va(start + 518 * 4096)).is_none());
    assert_eq!(mapper.census(range(base::<F>(), 2 * MIB_2 + GIB)).leaves, 518);
}

fn a_batch_that_fails_leaves_no_word_behind<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let start = base::<F>() + MIB_2 - 4 * 4096;
    let last = va(start + 7 * 4096);
    map(&mapper, Pages::new(last, 1)).expect("the page is free");
    assert_eq!(map(&mapper, Pages::new(va(start), 8)), Err(MapError::AlreadyMapped { at: last }));
    for page in 0..7 {
        assert_eq!(slot::<F>(&slab, root, start + page * 4096).raw(), 0);
    }
}

fn a_batch_runs_out_of_frames_or_finds_a_bad_one<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let pages = Pages::new(va(base::<F>()), 4);
    // SAFETY: no CPU walks these tables.
    let short = unsafe { mapper.map(pages, DATA, (0..3).map(frame)) };
    assert_eq!(short, Err(MapError::OutOfFrames { at: va(base::<F>() + 3 * 4096) }));
    let bad = PhysAddr::new(frame(2).get() + 0x800);
    // SAFETY: no CPU walks these tables.
    let misaligned = unsafe { mapper.map(pages, DATA, [frame(0), frame(1), bad, frame(3)]) };
    assert_eq!(misaligned, Err(MapError::BadFrame { frame: bad }));
    let high = PhysAddr::new(1 << F::PHYS_BITS);
    // SAFETY: no CPU walks these tables.
    let too_high = unsafe { mapper.map(pages, DATA, [high; 4]) };
    assert_eq!(too_high, Err(MapError::BadFrame { frame: high }));
    assert_eq!(mapper.census(range(base::<F>(), GIB)).leaves, 0);
}

fn a_batch_takes_no_more_frames_than_pages<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mut frames = (0..5).map(frame);
    // SAFETY: no CPU walks these tables.
    unsafe { mapper::<F>(&slab, root).map(Pages::new(va(base::<F>()), 3), DATA, &mut frames) }.expect("they are free");
    assert_eq!(frames.next(), Some(frame(3)));
}

fn without_table_memory_nothing_is_mapped_and_nothing_is_lost<F: Format>() {
    let pages = Pages::new(va(base::<F>() + GIB - 2 * 4096), 4);
    let needed = 2 * (usize::from(F::LEVELS) - 1) - (usize::from(F::LEVELS) - 3);
    for allowed in 0..needed {
        let (slab, root) = Slab::with_root();
        let mapper = mapper::<F>(&slab, root);
        slab.allow(allowed);
        let refused = map(&mapper, pages);
        assert!(matches!(refused, Err(MapError::NoTable { .. })), "{allowed} of {needed}: {refused:?}");
        let census = mapper.census(range(base::<F>(), 2 * GIB));
        assert_eq!((census.leaves, census.parked, census.tables), (0, 0, allowed));
        assert_eq!(slab.live(), 1 + allowed, "tables are kept, and known");
        slab.allow(needed - allowed);
        map(&mapper, pages).expect("what was made is used");
        assert_eq!(slab.live(), 1 + needed);
    }
}

fn what_no_root_translates_is_refused<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let at = va(1 << (F::HALF_BITS + 1));
    assert_eq!(map(&mapper, Pages::new(at, 1)), Err(MapError::NotCanonical { at }));
    assert_eq!(park(&mapper, Pages::new(at, 1)), Err(LeafError::NotCanonical { at }));
    assert!(mapper.translate(at).is_none());
    let odd = va(base::<F>() + 8);
    assert_eq!(map(&mapper, Pages::new(odd, 1)), Err(MapError::Misaligned { at: odd }));
    assert_eq!(map(&mapper, Pages::new(va(base::<F>()), 0)), Ok(()), "no pages are mapped easily");
    assert_eq!(slab.live(), 1);
}

fn a_parked_page_remembers_its_frame_and_is_not_mapped<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let start = base::<F>() + MIB_2 - 2 * 4096;
    let pages = Pages::new(va(start), 4);
    map(&mapper, pages).expect("the pages are free");
    park(&mapper, pages).expect("the pages are mapped");
    assert!(mapper.translate(va(start)).is_none());
    assert_eq!(slot::<F>(&slab, root, start).raw() & 1, 0, "the hardware sees nothing");
    assert_eq!(map(&mapper, pages), Err(MapError::Parked { at: va(start) }));
    assert_eq!(park(&mapper, pages), Err(LeafError::Parked { at: va(start) }));
    assert_eq!(mapper.census(range(base::<F>(), GIB)).parked, 4);
    assert_eq!(take(&mapper, pages), Ok((0..4).map(frame).collect()));
    assert_eq!(slot::<F>(&slab, root, start).raw(), 0);
    map(&mapper, pages).expect("the pages are free again");
}

fn parking_and_taking_are_all_or_nothing<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let start = base::<F>();
    let hole = va(start + 3 * 4096);
    map(&mapper, Pages::new(va(start), 3)).expect("the pages are free");
    assert_eq!(park(&mapper, Pages::new(va(start), 4)), Err(LeafError::NotMapped { at: hole }));
    assert_eq!(mapper.census(range(start, GIB)).leaves, 3);
    park(&mapper, Pages::new(va(start), 2)).expect("two are mapped");
    let third = va(start + 2 * 4096);
    assert_eq!(take(&mapper, Pages::new(va(start), 3)), Err(LeafError::NotParked { at: third }));
    assert_eq!(mapper.census(range(start, GIB)).parked, 2);
}

fn a_large_page_translates_to_its_last_byte<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let start = base::<F>();
    map_large(&mapper, start, 0x4000_0000, Level::HUGE).expect("the address is free");
    map_large(&mapper, start + GIB, 0x0020_0000, Level::LARGE).expect("the address is free");
    let (phys, leaf) = mapper.translate(va(start + GIB - 1)).expect("it is mapped");
    assert_eq!((phys.get(), leaf.level, leaf.at), (0x7fff_ffff, Level::HUGE, va(start)));
    let (phys, leaf) = mapper.translate(va(start + GIB + MIB_2 - 1)).expect("it is mapped");
    assert_eq!((phys.get(), leaf.level), (0x003f_ffff, Level::LARGE));
    assert!(mapper.translate(va(start + GIB + MIB_2)).is_none());
}

fn large_and_small_pages_do_not_replace_each_other<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let (start, inside) = (base::<F>(), va(base::<F>() + 5 * 4096));
    map_large(&mapper, start, 0x0020_0000, Level::LARGE).expect("the address is free");
    assert_eq!(map(&mapper, Pages::new(inside, 2)), Err(MapError::HugeInTheWay { at: inside }));
    assert_eq!(park(&mapper, Pages::new(inside, 2)), Err(LeafError::HugeInTheWay { at: inside }));
    let again = map_large(&mapper, start, 0x0020_0000, Level::LARGE);
    assert_eq!(again, Err(MapError::AlreadyMapped { at: va(start) }));
    map(&mapper, Pages::new(va(start + MIB_2), 1)).expect("the next 2 MiB are free");
    let over_table = map_large(&mapper, start + MIB_2, 0x0020_0000, Level::LARGE);
    assert_eq!(over_table, Err(MapError::TableInTheWay { at: va(start + MIB_2) }));
    let cut = unmap(&mapper, start, 4096);
    assert_eq!(cut, Err(LeafError::HugeInTheWay { at: va(start) }));
}

fn a_large_page_must_be_aligned_and_exist<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let at = base::<F>() + 4096;
    assert_eq!(map_large(&mapper, at, 0, Level::LARGE), Err(MapError::Misaligned { at: va(at) }));
    let frame = PhysAddr::new(4096);
    assert_eq!(map_large(&mapper, base::<F>(), 4096, Level::LARGE), Err(MapError::BadFrame { frame }));
    let level = Level::new(200);
    assert_eq!(map_large(&mapper, base::<F>(), 0, level), Err(MapError::NoSuchLeaf { level }));
}

fn a_linear_mapping_translates_everywhere_or_nowhere<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let (lead, start) = (MIB_2 + 4096, base::<F>() + GIB - MIB_2 - 4096);
    let all = range(start, lead + GIB + 4096);
    let to = PhysAddr::new((3 * GIB - lead) as u64);
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.map_linear(all, to, DATA, Level::HUGE) }.expect("the range is free");
    for offset in [0, 4096, lead - 1, lead, lead + GIB - 1, lead + GIB + 4095] {
        let phys = mapper.translate(va(start + offset)).map(|(phys, _)| phys);
        assert_eq!(phys, Some(to.wrapping_add(offset as u64)));
    }
    let census = mapper.census(all);
    assert_eq!((census.leaves, census.bytes), (4, all.bytes()));

    let before = range(start - 4 * 4096, 8 * 4096);
    // SAFETY: no CPU walks these tables.
    let blocked = unsafe { mapper.map_linear(before, to, DATA, Level::HUGE) };
    assert_eq!(blocked, Err(MapError::AlreadyMapped { at: va(start) }));
    assert!(mapper.translate(va(start - 4096)).is_none());
    assert_eq!(mapper.census(before).parked, 0);
}

fn a_protected_page_changes_its_access_and_nothing_else<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let pages = Pages::new(va(base::<F>()), 2);
    let device = DATA.with_uncached(true);
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.map(pages, device, (0..).map(frame)) }.expect("free");
    for access in [Access::Read, Access::ReadExecute, Access::ReadWrite] {
        // SAFETY: no CPU walks these tables.
        unsafe { mapper.protect(pages, access) }.expect("the pages are mapped");
        let (phys, leaf) = mapper.translate(pages.start()).expect("it is mapped");
        assert_eq!((phys, leaf.attributes), (frame(0), device.with_access(access)));
    }
    let three = Pages::new(pages.start(), 3);
    // SAFETY: no CPU walks these tables.
    let refused = unsafe { mapper.protect(three, Access::Read) };
    assert_eq!(refused, Err(LeafError::NotMapped { at: va(base::<F>() + 2 * 4096) }));
    assert_eq!(mapper.translate(pages.start()).map(|(_, leaf)| leaf.attributes), Some(device));
}

for_every_format! {
    a_batch_over_three_leaf_tables_is_mapped_in_order
    a_batch_that_fails_leaves_no_word_behind
    a_batch_runs_out_of_frames_or_finds_a_bad_one
    a_batch_takes_no_more_frames_than_pages
    without_table_memory_nothing_is_mapped_and_nothing_is_lost
    what_no_root_translates_is_refused
    a_parked_page_remembers_its_frame_and_is_not_mapped
    parking_and_taking_are_all_or_nothing
    a_large_page_translates_to_its_last_byte
    large_and_small_pages_do_not_replace_each_other
    a_large_page_must_be_aligned_and_exist
    a_linear_mapping_translates_everywhere_or_nowhere
    a_protected_page_changes_its_access_and_nothing_else
}
