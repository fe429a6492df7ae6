//! The mapper against a model: any sequence of operations, with table memory that ends at any point, gives the same
//! answers and leaves the same tree as a map from addresses to what should be there.
//!
//! The model knows which tables exist, so it foresees each error exactly, and a table that was leaked, lost or made
//! without need shows at once: in the count of live tables, and in the census.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Slab, base, frame, range, va};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vmstack::{Pages, PhysAddr};
use vmstack_paging::{Access, Attributes, Format, LeafError, Level, MapError, Mapper};

const PAGE: usize = 4096;
const LARGE: usize = 2 << 20;
const HUGE: usize = 1 << 30;
const LARGE_FRAME: u64 = 0x0020_0000;

/// Pages are numbered 0 to 15: 0 to 7 lie across a boundary of 2 MiB, 8 to 15 across one of 1 GiB.
const PAGES: usize = 16;

#[derive(Clone, Debug)]
enum Op {
    Map { first: usize, count: usize, frames: usize, access: Access },
    MapLarge { page: usize },
    Park { first: usize, count: usize },
    TakeParked { first: usize, count: usize },
    Protect { first: usize, count: usize, access: Access },
    Unmap { first: usize, count: usize },
    FreeTables,
}

/// Operations, and how many tables each may make at most.
fn ops() -> impl Strategy<Value = Vec<(Op, usize)>> {
    let run = || (0..PAGES, 1..=8_usize).prop_map(|(first, count)| (first, count.min(8 - first % 8)));
    let access = || prop_oneof![Just(Access::Read), Just(Access::ReadWrite), Just(Access::ReadExecute)];
    let map = (run(), 0..12_usize, access());
    let op = prop_oneof![
        6 => map.prop_map(|((first, count), frames, access)| Op::Map { first, count, frames, access }),
        1 => (0..PAGES).prop_map(|page| Op::MapLarge { page }),
        4 => run().prop_map(|(first, count)| Op::Park { first, count }),
        4 => run().prop_map(|(first, count)| Op::TakeParked { first, count }),
        2 => (run(), access()).prop_map(|((first, count), access)| Op::Protect { first, count, access }),
        2 => run().prop_map(|(first, count)| Op::Unmap { first, count }),
        2 => Just(Op::FreeTables),
    ];
    let budget = prop_oneof![0..6_usize, Just(usize::MAX)];
    vec((op, budget), 1..40)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Page {
    Mapped { frame: PhysAddr, attributes: Attributes },
    Parked { frame: PhysAddr },
}

/// What should be there.
struct Model {
    base: usize,
    levels: u8,
    pages: BTreeMap<usize, Page>,
    large: BTreeMap<usize, Attributes>,
    /// Tables below the root: level, and the first address that they cover.
    tables: BTreeSet<(u8, usize)>,
}

/// The start of what a table of `level` that covers `at` covers.
fn table_start(level: u8, at: usize) -> usize {
    at >> (21 + 9 * u32::from(level)) << (21 + 9 * u32::from(level))
}

impl Model {
    fn new<F: Format>() -> Self {
        let (pages, large, tables) = Default::default();
        Self { base: base::<F>(), levels: F::LEVELS, pages, large, tables }
    }

    fn at(&self, page: usize) -> usize {
        let boundary = if page < 8 { LARGE } else { HUGE };
        self.base + boundary + (page % 8) * PAGE - 4 * PAGE
    }

    /// The tables above `at` down to `level` are made, as far as the budget goes.
    fn make_tables(&mut self, at: usize, level: u8, budget: &mut usize) -> Result<(), MapError> {
        for level in (level..self.levels - 1).rev() {
            if level == 0 && self.large.contains_key(&table_start(0, at)) {
                return Err(MapError::HugeInTheWay { at: va(at) });
            }
            if self.tables.insert((level, table_start(level, at))) {
                let Some(left) = budget.checked_sub(1) else {
                    self.tables.remove(&(level, table_start(level, at)));
                    return Err(MapError::NoTable { at: va(at) });
                };
                *budget = left;
            }
        }
        Ok(())
    }

    fn map(
        &mut self,
        first: usize,
        count: usize,
        frames: usize,
        access: Access,
        budget: usize,
    ) -> Result<(), MapError> {
        let mut budget = budget;
        for (index, page) in (first..first + count).enumerate() {
            let at = self.at(page);
            self.make_tables(at, 0, &mut budget)?;
            match self.pages.get(&at) {
                _ if index >= frames => return Err(MapError::OutOfFrames { at: va(at) }),
                Some(Page::Mapped { .. }) => return Err(MapError::AlreadyMapped { at: va(at) }),
                Some(Page::Parked { .. }) => return Err(MapError::Parked { at: va(at) }),
                None => {}
            }
        }
        for (index, page) in (first..first + count).enumerate() {
            let mapped = Page::Mapped { frame: frame(index), attributes: Attributes::kernel(access) };
            self.pages.insert(self.at(page), mapped);
        }
        Ok(())
    }

    fn map_large(&mut self, page: usize, attributes: Attributes, mut budget: usize) -> Result<(), MapError> {
        let at = table_start(0, self.at(page));
        self.make_tables(at, 1, &mut budget)?;
        if self.tables.contains(&(0, at)) {
            return Err(MapError::TableInTheWay { at: va(at) });
        }
        if self.large.insert(at, attributes).is_some() {
            return Err(MapError::AlreadyMapped { at: va(at) });
        }
        Ok(())
    }

    /// The first of the pages that `wrong` finds wrong, large pages being wrong always.
    fn first_wrong(
        &self,
        (first, count): (usize, usize),
        wrong: impl Fn(Option<&Page>) -> Option<fn(usize) -> LeafError>,
    ) -> Result<(), LeafError> {
        (first..first + count).map(|page| self.at(page)).try_for_each(|at| {
            if self.large.contains_key(&table_start(0, at)) {
                return Err(LeafError::HugeInTheWay { at: va(at) });
            }
            wrong(self.pages.get(&at)).map_or(Ok(()), |error| Err(error(at)))
        })
    }

    fn expect_mapped(&self, run: (usize, usize)) -> Result<(), LeafError> {
        self.first_wrong(run, |page| match page {
            Some(Page::Mapped { .. }) => None,
            Some(Page::Parked { .. }) => Some(|at| LeafError::Parked { at: va(at) }),
            None => Some(|at| LeafError::NotMapped { at: va(at) }),
        })
    }

    fn park(&mut self, first: usize, count: usize) -> Result<(), LeafError> {
        self.expect_mapped((first, count))?;
        for at in (first..first + count).map(|page| self.at(page)).collect::<Vec<_>>() {
            let Some(Page::Mapped { frame, .. }) = self.pages.get(&at).copied() else { unreachable!("it was checked") };
            self.pages.insert(at, Page::Parked { frame });
        }
        Ok(())
    }

    fn take_parked(&mut self, first: usize, count: usize) -> Result<Vec<PhysAddr>, LeafError> {
        self.first_wrong((first, count), |page| match page {
            Some(Page::Parked { .. }) => None,
            Some(Page::Mapped { .. }) => Some(|at| LeafError::NotParked { at: va(at) }),
            None => Some(|at| LeafError::NotMapped { at: va(at) }),
        })?;
        let addresses: Vec<_> = (first..first + count).map(|page| self.at(page)).collect();
        let taken = addresses.iter().filter_map(|at| self.pages.remove(at)).map(|page| match page {
            Page::Mapped { frame, .. } | Page::Parked { frame } => frame,
        });
        Ok(taken.collect())
    }

    fn protect(&mut self, first: usize, count: usize, access: Access) -> Result<(), LeafError> {
        self.expect_mapped((first, count))?;
        for at in (first..first + count).map(|page| self.at(page)).collect::<Vec<_>>() {
            if let Some(Page::Mapped { attributes, .. }) = self.pages.get_mut(&at) {
                *attributes = attributes.with_access(access);
            }
        }
        Ok(())
    }

    /// Takes the mapped pages of a range away. A range of at most 8 pages always cuts a large page that it touches.
    fn unmap(&mut self, first: usize, count: usize) -> Result<Vec<PhysAddr>, LeafError> {
        for end in [self.at(first), self.at(first + count - 1) + PAGE - 1] {
            if self.large.contains_key(&table_start(0, end)) {
                return Err(LeafError::HugeInTheWay { at: va(end) });
            }
        }
        let mut frames = Vec::new();
        for at in (first..first + count).map(|page| self.at(page)).collect::<Vec<_>>() {
            if let Some(Page::Mapped { frame, .. }) = self.pages.get(&at).copied() {
                self.pages.remove(&at);
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    fn free_tables(&mut self) -> usize {
        let before = self.tables.len();
        for (level, start) in self.tables.clone() {
            let inside = |at: &usize| table_start(level, *at) == start;
            let below = |&(lower, at): &(u8, usize)| lower < level && table_start(level, at) == start;
            let used = self.pages.keys().any(inside) || self.large.keys().any(inside) || self.tables.iter().any(below);
            if !used {
                self.tables.remove(&(level, start));
            }
        }
        before - self.tables.len()
    }
}

/// Does `op` on both, and compares what they answer.
fn step<F: Format>(
    mapper: &Mapper<'_, F, Slab>,
    model: &mut Model,
    op: &Op,
    budget: usize,
) -> Result<(), TestCaseError> {
    mapper.memory().allow(budget);
    let pages = |model: &Model, first, count| Pages::new(va(model.at(first)), count);
    match *op {
        Op::Map { first, count, frames, access } => {
            let (pages, attributes) = (pages(model, first, count), Attributes::kernel(access));
            // SAFETY: no CPU walks these tables.
            let done = unsafe { mapper.map(pages, attributes, (0..frames).map(frame)) };
            prop_assert_eq!(done, model.map(first, count, frames, access, budget));
        }
        Op::MapLarge { page } => {
            let (at, attributes) = (table_start(0, model.at(page)), Attributes::kernel(Access::Read));
            // SAFETY: no CPU walks these tables.
            let done = unsafe { mapper.map_large(va(at), PhysAddr::new(LARGE_FRAME), Level::LARGE, attributes) };
            let expected = model.map_large(page, attributes, budget);
            prop_assert_eq!(done, expected);
        }
        Op::Park { first, count } => {
            // SAFETY: no CPU walks these tables.
            let done = unsafe { mapper.park(pages(model, first, count)) };
            prop_assert_eq!(done, model.park(first, count));
        }
        Op::TakeParked { first, count } => {
            let mut frames = Vec::new();
            // SAFETY: no CPU walks these tables.
            let done = unsafe { mapper.take_parked(pages(model, first, count), |frame, _| frames.push(frame)) };
            prop_assert_eq!(done.map(|()| frames), model.take_parked(first, count));
        }
        Op::Protect { first, count, access } => {
            // SAFETY: no CPU walks these tables.
            let done = unsafe { mapper.protect(pages(model, first, count), access) };
            prop_assert_eq!(done, model.protect(first, count, access));
        }
        Op::Unmap { first, count } => {
            let mut frames = Vec::new();
            let range = range(model.at(first), count * PAGE);
            // SAFETY: no CPU walks these tables.
            let done = unsafe { mapper.unmap_with(range, |leaf| frames.push(leaf.frame)) };
            prop_assert_eq!(done.map(|()| frames), model.unmap(first, count));
        }
        Op::FreeTables => {
            // SAFETY: no CPU walks these tables, and they are shared with nobody.
            let freed = unsafe { mapper.free_tables(range(0, usize::MAX)) };
            prop_assert_eq!(freed, model.free_tables());
        }
    }
    Ok(())
}

/// Compares the tree with the model: every page, and all the tables.
fn compare<F: Format>(mapper: &Mapper<'_, F, Slab>, model: &Model) -> Result<(), TestCaseError> {
    for at in (0..PAGES).map(|page| model.at(page)) {
        let found = mapper.translate(va(at)).map(|(phys, leaf)| (phys, leaf.attributes));
        let large = model
            .large
            .get(&table_start(0, at))
            .map(|attributes| (PhysAddr::new(LARGE_FRAME + (at % LARGE) as u64), *attributes));
        let small = model.pages.get(&at).and_then(|page| match *page {
            Page::Mapped { frame, attributes } => Some((frame, attributes)),
            Page::Parked { .. } => None,
        });
        prop_assert_eq!(found, small.or(large), "at {:x}", at);
    }
    let census = mapper.census(range(0, usize::MAX));
    let parked = model.pages.values().filter(|page| matches!(page, Page::Parked { .. })).count();
    prop_assert_eq!(census.parked, parked);
    prop_assert_eq!(census.leaves, model.pages.len() - parked + model.large.len());
    prop_assert_eq!((census.tables, census.foreign), (model.tables.len(), 0));
    prop_assert_eq!(mapper.memory().live(), 1 + model.tables.len(), "no table is leaked or lost");
    Ok(())
}

fn any_sequence_of_operations_gives_what_the_model_says<F: Format>() {
    let run = |ops: Vec<(Op, usize)>| {
        let (slab, root) = Slab::with_root();
        // SAFETY: the root is a live table of this slab, and only mappers change what is in it.
        let mapper = unsafe { Mapper::<F, _>::new(root, &slab) };
        let mut model = Model::new::<F>();
        for (op, budget) in &ops {
            step(&mapper, &mut model, op, *budget)?;
            compare(&mapper, &model)?;
        }
        Ok(())
    };
    let config = Config { cases: 128, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&ops(), run).expect("they agree");
}

for_every_format! {
    any_sequence_of_operations_gives_what_the_model_says
}
