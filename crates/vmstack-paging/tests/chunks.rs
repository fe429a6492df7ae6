//! Many pages at once: what runs, unused pages and whole tables do is what a mapper does one page at a time.

mod common;

use common::{DATA, Slab, base, frame, map, map_large, mapper, park, slot, va, word};
use core::sync::atomic::Ordering;
use vmstack::{Pages, PhysAddr};
use vmstack_paging::{Detached, Entry, Format, Group, Level, MapError, Mapper, Table, TableMemory as _, Taken};

/// What one leaf table maps, in bytes.
const CHUNK: usize = Table::ENTRIES * 4096;

type Run = (PhysAddr, usize);

/// The runs of frames that the tests map: of seven pages in all.
fn runs() -> Vec<Run> {
    vec![(frame(8), 4), (frame(4), 2), (frame(12), 1)]
}

/// The frames of `runs`, one by one.
fn each(runs: &[Run]) -> Vec<PhysAddr> {
    runs.iter().flat_map(|&(first, count)| (0..count).map(move |page| first.wrapping_add(4096 * page as u64))).collect()
}

fn chunk<F: Format>(pages: usize) -> Pages {
    Pages::new(va(base::<F>()), pages)
}

fn group<'a, F: Format>(mapper: &Mapper<'a, F, Slab>, pages: Pages) -> Group<'a, F> {
    let table = mapper.make_leaf_table(pages.start()).expect("there is room for a table");
    table.group(pages).expect("the table has all of them")
}

fn map_runs<F: Format>(group: Group<'_, F>, runs: &[Run]) -> bool {
    // SAFETY: no CPU walks these tables.
    unsafe { group.map_runs(DATA, runs.iter().copied()) }
}

fn map_table<F: Format>(mapper: &Mapper<'_, F, Slab>, pages: Pages, runs: &[Run]) -> Result<(), MapError> {
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.map_table(pages, DATA, runs.iter().copied()) }
}

fn detach<F: Format>(mapper: &Mapper<'_, F, Slab>, at: usize) -> Option<Detached> {
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.detach(va(at)) }
}

fn free_detached<F: Format>(mapper: &Mapper<'_, F, Slab>, table: PhysAddr, pages: usize) -> Vec<Run> {
    let mut runs = Vec::new();
    // SAFETY: no CPU walks these tables; the callers detached it, and nothing else is in it.
    let taken = unsafe { mapper.empty_detached(table, pages, |first, count| runs.push((first, count))) };
    assert_eq!(taken, each(&runs).len());
    // SAFETY: it is detached and empty, and nothing refers to it.
    unsafe { mapper.memory().free_table(table) };
    runs
}

/// Takes the mapping away, and then the frames.
fn take<F: Format>(group: Group<'_, F>, pages: usize) -> Vec<Run> {
    // SAFETY: no CPU walks these tables.
    let unused = unsafe { group.unused() };
    let mut runs = Vec::new();
    match unused.take().expect("all pages are mapped") {
        Taken::Run(first) => runs.push((first, pages)),
        Taken::Parked => assert!(unused.take_parked(|first, count| runs.push((first, count)))),
    }
    runs
}

/// What is still mapped, taken as a detached table's is.
fn take_mapped<F: Format>(group: Group<'_, F>) -> Vec<Run> {
    let mut runs = Vec::new();
    // SAFETY: no CPU walks these tables.
    let taken = unsafe { group.unused() }.take_mapped(|first, count| runs.push((first, count)));
    assert_eq!(taken, each(&runs).len());
    runs
}

/// The words of the pages, read by a walk that shares no code with what is tested.
fn words<F: Format>(slab: &Slab, root: PhysAddr, pages: Pages) -> Vec<u64> {
    pages.addresses(4096).map(|at| word(slot::<F>(slab, root, at.get())).load(Ordering::Relaxed)).collect()
}

fn runs_are_mapped_as_their_frames_are<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let pages = chunk::<F>(7);
    let group = group(&mapper, pages);
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.map(pages, DATA, each(&runs())) }.expect("the pages are free");
    let expected = words::<F>(&slab, root, pages);
    common::unmap(&mapper, base::<F>(), 7 * 4096).expect("the pages are mapped");
    assert!(map_runs(group, &runs()));
    assert_eq!(words::<F>(&slab, root, pages), expected);
    assert!(!map_runs(group, &runs()), "they are mapped");
}

fn a_whole_table_is_a_group<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let group = group(&mapper, chunk::<F>(Table::ENTRIES));
    assert!(map_runs(group, &[(frame(0), 511), (frame(1000), 1)]));
    assert_eq!(group.frames().last(), Some(frame(1000)));
    assert_eq!(take(group, Table::ENTRIES), [(frame(0), 511), (frame(1000), 1)]);
    assert!(words::<F>(&slab, root, chunk::<F>(Table::ENTRIES)).iter().all(|&word| word == 0));
}

fn runs_that_do_not_fit_map_nothing<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let (pages, elsewhere) = (chunk::<F>(4), Pages::new(va(base::<F>() + CHUNK), 4));
    let group = group(&mapper, pages);
    let highest = PhysAddr::new((1_u64 << F::PHYS_BITS) - 4096);
    let refused: [&[Run]; 8] = [
        &[],
        &[(frame(0), 3)],
        &[(frame(0), 5)],
        &[(frame(0), 2), (frame(8), 3)],
        &[(frame(0), 4), (frame(8), 0)],
        &[(frame(0), usize::MAX)],
        &[(frame(0), 2), (highest, 2)],
        &[(frame(0), 3), (PhysAddr::new(0x1234), 1)],
    ];
    let before = slab.live();
    for runs in refused {
        assert!(!map_runs(group, runs), "{runs:?}");
        assert!(map_table(&mapper, elsewhere, runs).is_err(), "{runs:?}");
    }
    assert_eq!(words::<F>(&slab, root, pages), [0; 4]);
    assert_eq!(slab.live(), before, "no table was made in vain");
    for odd in pages.addresses(4096).map(|at| Pages::new(at, 1)) {
        map(&mapper, odd).expect("the page is free");
        assert!(!map_runs(group, &[(frame(40), 4)]), "a page is not free");
        park(&mapper, odd).expect("the page is mapped");
        assert!(!map_runs(group, &[(frame(40), 4)]), "a page is parked");
        common::take(&mapper, odd).expect("the page is parked");
    }
}

fn what_nobody_uses_comes_out_in_runs<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let pages = chunk::<F>(7);
    let group = group(&mapper, pages);
    for _ in 0..2 {
        assert!(map_runs(group, &runs()));
        // SAFETY: no CPU walks these tables.
        assert_eq!(unsafe { group.unused() }.take(), Some(Taken::Parked));
        assert_eq!(group.frames().count(), 0, "nothing is mapped");
        assert!(!map_runs(group, &runs()), "the entries remember their frames");
        let mut taken = Vec::new();
        // SAFETY: as above.
        assert!(unsafe { group.unused() }.take_parked(|first, count| taken.push((first, count))));
        assert_eq!(taken, runs());
        assert_eq!(words::<F>(&slab, root, pages), [0; 7]);
    }
    // SAFETY: as above.
    assert!(!unsafe { group.unused() }.take_parked(|_, _| panic!("nothing is parked")));
    assert_eq!(take_mapped(group), []);
}

fn neighbours_come_out_as_one_run<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let group = group(&mapper, chunk::<F>(8));
    // Two runs that follow each other; one that follows from above; one frame twice.
    let given = [(frame(0), 2), (frame(2), 2), (frame(5), 1), (frame(4), 1), (frame(9), 1), (frame(9), 1)];
    let expected = [(frame(0), 4), (frame(5), 1), (frame(4), 1), (frame(9), 1), (frame(9), 1)];
    for way in 0..3 {
        assert!(map_runs(group, &given));
        let taken = match way {
            0 => take(group, 8),
            1 => take_mapped(group),
            _ => take_runs(group),
        };
        assert_eq!(taken, expected);
    }
}

/// What `group` gives at once.
fn take_runs<F: Format>(group: Group<'_, F>) -> Vec<(PhysAddr, usize)> {
    let mut taken = Vec::new();
    // SAFETY: no CPU walks these tables.
    assert!(unsafe { group.unused() }.take_runs(|first, count| taken.push((first, count))));
    assert_eq!(group.frames().count(), 0, "nothing is mapped");
    taken
}

fn a_single_run_leaves_nothing_in_its_entries<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    for pages in [1, 2, 4, 255] {
        let group = group(&mapper, chunk::<F>(pages));
        assert!(map_runs(group, &[(frame(3), pages)]));
        // SAFETY: no CPU walks these tables.
        assert_eq!(unsafe { group.unused() }.take(), Some(Taken::Run(frame(3))));
        assert!(words::<F>(&slab, root, chunk::<F>(pages)).iter().all(|&word| word == 0));
    }
}

fn a_page_that_is_missing_is_noticed<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let group = group(&mapper, chunk::<F>(7));
    for missing in 0..7 {
        assert!(map_runs(group, &runs()));
        common::unmap(&mapper, base::<F>() + missing * 4096, 4096).expect("the page is mapped");
        // SAFETY: no CPU walks these tables.
        assert_eq!(unsafe { group.unused() }.take(), None, "{missing}");
        for at in chunk::<F>(7).addresses(4096) {
            word(slot::<F>(&slab, root, at.get())).store(0, Ordering::Relaxed);
        }
    }
}

/// As the hardware does: it sets its bits at any moment, each in its own page.
fn what_the_hardware_noted_is_no_obstacle<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let group = group(&mapper, chunk::<F>(7));
    for marked in 0..14 {
        assert!(map_runs(group, &runs()));
        let entry = word(slot::<F>(&slab, root, base::<F>() + marked % 7 * 4096));
        let Entry::Leaf { frame, attributes, .. } = F::decode(entry.load(Ordering::Relaxed), Level::PAGE) else {
            panic!("the page is mapped")
        };
        entry.store(F::encode(Entry::Leaf { frame, attributes, dirty: true }, Level::PAGE), Ordering::Relaxed);
        let taken = if marked < 7 { take(group, 7) } else { take_mapped(group) };
        assert_eq!(taken, runs());
    }
}

fn a_table_appears_and_goes_as_a_whole<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let pages = chunk::<F>(7);
    mapper.make_leaf_table(va(base::<F>() + CHUNK)).expect("there is room for tables");
    let with_table = slab.live() + 1;
    map_table(&mapper, pages, &runs()).expect("nothing is there");
    assert_eq!(slab.live(), with_table);
    let mapped: Vec<_> = pages.addresses(4096).filter_map(|at| mapper.translate(at)).map(|(to, _)| to).collect();
    assert_eq!(mapped, each(&runs()));
    assert!(matches!(map_table(&mapper, pages, &runs()), Err(MapError::TableInTheWay { .. })));
    let Some(Detached::Table(table)) = detach(&mapper, base::<F>()) else { panic!("there is a table") };
    assert_eq!(mapper.translate(pages.start()), None);
    assert_eq!((detach(&mapper, base::<F>()), slab.live()), (None, with_table), "it lives until it is freed");
    assert_eq!(free_detached(&mapper, table, 7), runs());
    assert_eq!(slab.live(), with_table - 1);
    map_table(&mapper, pages, &runs()).expect("nothing is there again");
}

fn an_empty_table_goes_too<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    mapper.make_leaf_table(va(base::<F>())).expect("there is room for a table");
    let before = slab.live();
    let Some(Detached::Table(table)) = detach(&mapper, base::<F>()) else { panic!("there is a table") };
    assert_eq!(free_detached(&mapper, table, 0), []);
    assert_eq!(slab.live(), before - 1);
}

fn a_large_leaf_goes_as_it_came<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    map_large(&mapper, base::<F>(), 0x4020_0000, Level::LARGE).expect("nothing is there");
    assert!(map_table(&mapper, chunk::<F>(7), &runs()).is_err(), "there is a leaf");
    assert_eq!(detach(&mapper, base::<F>()), Some(Detached::Leaf(PhysAddr::new(0x4020_0000))));
    assert_eq!(mapper.translate(va(base::<F>())), None);
    map_table(&mapper, chunk::<F>(7), &runs()).expect("nothing is there again");
}

fn what_is_no_chunk_is_refused<F: Format>() {
    let (slab, root) = Slab::with_root();
    let mapper = mapper::<F>(&slab, root);
    let at = base::<F>();
    assert_eq!(detach(&mapper, at), None, "nothing is there");
    map_table(&mapper, chunk::<F>(7), &runs()).expect("nothing is there");
    for wrong in [at + 4096, at + CHUNK - 4096, at + 8, 1 << 60] {
        assert_eq!(detach(&mapper, wrong), None, "{wrong:#x}");
        assert!(map_table(&mapper, Pages::new(va(wrong), 7), &runs()).is_err(), "{wrong:#x}");
    }
    let too_many = Pages::new(va(at + CHUNK), Table::ENTRIES + 1);
    assert!(map_table(&mapper, too_many, &[(frame(0), Table::ENTRIES + 1)]).is_err());
}

fn without_memory_for_tables_nothing_is_mapped<F: Format>() {
    // The tables above may be missing, too; each of them is kept.
    for budget in 0..usize::from(F::LEVELS) - 1 {
        let (slab, root) = Slab::with_root();
        let mapper = mapper::<F>(&slab, root);
        slab.allow(budget);
        let refused = map_table(&mapper, chunk::<F>(7), &runs());
        assert!(matches!(refused, Err(MapError::NoTable { .. })), "{budget}: {refused:?}");
        assert_eq!(slab.live(), 1 + budget);
        assert_eq!(mapper.translate(va(base::<F>())), None);
    }
}

for_every_format! {
    runs_are_mapped_as_their_frames_are
    a_whole_table_is_a_group
    runs_that_do_not_fit_map_nothing
    what_nobody_uses_comes_out_in_runs
    neighbours_come_out_as_one_run
    a_single_run_leaves_nothing_in_its_entries
    a_page_that_is_missing_is_noticed
    what_the_hardware_noted_is_no_obstacle
    a_table_appears_and_goes_as_a_whole
    an_empty_table_goes_too
    a_large_leaf_goes_as_it_came
    what_is_no_chunk_is_refused
    without_memory_for_tables_nothing_is_mapped
}
