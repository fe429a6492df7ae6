//! Mappers on several CPUs work in one tree without a lock, as long as no two name the same pages.

mod common;

use std::sync::Barrier;

use common::{Slab, base, frame, range, va};
use vmstack::{Pages, PhysAddr};
use vmstack_paging::{Access, Attributes, Format, Mapper};

const CPUS: usize = 4;
const PAGES: usize = 8;

/// Maps, parks and takes this CPU's own pages, which lie between those of the others, and leaves them mapped.
fn churn<F: Format>(slab: &Slab, root: PhysAddr, cpu: usize) {
    // SAFETY: the root is a live table of this slab, and only mappers change what is in it.
    let mapper = unsafe { Mapper::<F, _>::new(root, slab) };
    let across_leaf_tables = base::<F>() + (2 << 20) - CPUS * PAGES / 2 * 4096;
    let pages = Pages::new(va(across_leaf_tables + cpu * PAGES * 4096), PAGES);
    let frames = || (cpu * PAGES..).map(frame);
    let attributes = Attributes::kernel(Access::ReadWrite);
    for _ in 0..50 {
        // SAFETY: no CPU walks these tables, and the pages are this thread's.
        unsafe { mapper.map(pages, attributes, frames()) }.expect("the pages are free");
        // SAFETY: as above.
        unsafe { mapper.park(pages) }.expect("the pages are mapped");
        let mut taken = Vec::new();
        // SAFETY: as above.
        unsafe { mapper.take_parked(pages, |frame, _| taken.push(frame)) }.expect("the pages are parked");
        assert_eq!(taken, frames().take(PAGES).collect::<Vec<_>>());
    }
    // SAFETY: as above.
    unsafe { mapper.map(pages, attributes, frames()) }.expect("the pages are free");
}

fn tables_made_at_the_same_time_are_neither_lost_nor_doubled<F: Format>() {
    for _ in 0..20 {
        let (slab, root) = Slab::with_root();
        let together = Barrier::new(CPUS);
        std::thread::scope(|scope| {
            for cpu in 0..CPUS {
                let (slab, together) = (&slab, &together);
                scope.spawn(move || {
                    together.wait();
                    churn::<F>(slab, root, cpu);
                });
            }
        });
        // SAFETY: the root is a live table of this slab, and only mappers change what is in it.
        let mapper = unsafe { Mapper::<F, _>::new(root, &slab) };
        let census = mapper.census(range(base::<F>(), 1 << 30));
        assert_eq!((census.leaves, census.parked), (CPUS * PAGES, 0));
        assert_eq!(census.tables, usize::from(F::LEVELS), "one a level below the root, and a second leaf table");
        assert_eq!(slab.live(), 1 + census.tables);
    }
}

for_every_format! {
    tables_made_at_the_same_time_are_neither_lost_nor_doubled
}
