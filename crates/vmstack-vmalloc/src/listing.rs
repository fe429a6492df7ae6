//! What there is, all of it: areas one by one, totals, and how addresses are used. By walking the records, not by asking counters (INV-COUNT).
//!
//! A walk takes no lock. Each area is told as it was at one moment; the whole is exact when nothing runs, and a snapshot otherwise. Its time grows with the
//! chunks that were ever used.

use crate::chunk::{Chunk, State};
use crate::class::Class;
use crate::info::AreaInfo;
use crate::layout::{ChunkIndex, Layout};
use crate::meta::Meta;
use crate::pager::Pager;
use crate::record::{Phase, Record};
use crate::request::Kind;
use crate::usage::{Fragmentation, Recount, Usage};
use crate::vmalloc::Vmalloc;

impl<P: Pager> Vmalloc<P> {
    /// Calls `visit` with every area that is alive, lowest address first.
    ///
    /// # Context
    ///
    /// Any but NMI and the fault path, for its time.
    pub fn for_each(&self, mut visit: impl FnMut(&AreaInfo)) {
        let Some(meta) = self.meta() else { return };
        meta.records(|_, record| {
            if let Some(info) = meta.live(record) {
                visit(&info);
            }
        });
    }

    /// The counters, summed over all CPUs. Any context.
    pub fn usage(&self) -> Usage {
        let mut sum = Usage::default();
        if let Some(meta) = self.meta() {
            (0..meta.layout.cpus).for_each(|cpu| meta.line(cpu).counters.add_to(&mut sum));
        }
        sum
    }

    /// Counts what there is by walking all records.
    ///
    /// # Context
    ///
    /// As [`for_each`](Self::for_each).
    pub fn recount(&self) -> Recount {
        let mut recount = Recount::default();
        let Some(meta) = self.meta() else { return recount };
        meta.records(|_, record| match meta.live(record) {
            Some(info) => recount.note(&info, P::PAGE_SIZE),
            None => recount.dying += u64::from(record.life().phase() == Phase::Dying),
        });
        recount.record_pages = meta.record_pages();
        recount
    }

    /// How the addresses are used.
    ///
    /// # Context
    ///
    /// As [`for_each`](Self::for_each); takes the central lock while free runs are counted.
    pub fn fragmentation(&self) -> Fragmentation {
        let mut sum = Fragmentation::default();
        let Some(meta) = self.meta() else { return sum };
        let pages = P::CHUNK_PAGES as u64;
        sum.range = u64::from(meta.layout.chunks) * pages;
        sum.records = u64::from(meta.layout.first) * pages;
        for (index, chunk, state) in meta.chunks() {
            meta.add_chunk(&mut sum, index, chunk, state);
        }
        let guard = self.pager().enter();
        let central = self.central.lock(&guard);
        sum.fresh = u64::from(meta.layout.chunks - central.fresh) * pages;
        let (longest, runs) = central.runs.measure(&meta);
        (sum.longest_run, sum.runs) = (u64::from(longest) * pages, u64::from(runs));
        sum
    }
}

impl Recount {
    fn note(&mut self, info: &AreaInfo, page: usize) {
        let pages = (info.range.bytes() / page) as u64;
        self.areas += 1;
        self.bytes += info.bytes as u64;
        self.pages += pages;
        self.reserved_pages += if info.kind == Kind::Reserved { pages } else { 0 };
    }
}

impl<P: Pager> Meta<'_, P> {
    /// Calls `visit` with the record of every slot of a chunk that is cut, and of every chunk that is the first of an area.
    fn records(&self, mut visit: impl FnMut(ChunkIndex, &Record)) {
        for (index, chunk, state) in self.chunks() {
            match state {
                State::Cut(class) => {
                    let slots = 0..class.slots_in(P::CHUNK_PAGES);
                    slots.for_each(|number| visit(index, self.slot(Layout::<P>::slot(index, number))));
                }
                State::Head => visit(index, &chunk.record),
                _ => (),
            }
        }
    }

    /// Pages of records that exist.
    fn record_pages(&self) -> u64 {
        let chunks = self.chunks().map(|(_, chunk, _)| chunk.record_pages.load(crate::sync::Ordering::Relaxed));
        let slots: u32 = chunks.sum();
        self.layout.lines().count() as u64 + self.chunk_record_pages() + u64::from(slots)
    }

    fn add_chunk(&self, sum: &mut Fragmentation, index: ChunkIndex, chunk: &Chunk, state: State) {
        let pages = P::CHUNK_PAGES as u64;
        match state {
            State::Fresh => (),
            State::Free => sum.free_runs += pages,
            State::Taken => sum.waiting += pages,
            State::Cut(class) => self.add_slots(sum, index, class),
            State::Head | State::Body => {
                let head = self.known_chunk(chunk.head());
                match self.live(&head.record) {
                    Some(_) => {
                        sum.whole_chunks += 1;
                        sum.large_chunks += u64::from(chunk.is_large());
                        let used = chunk.pages() as u64;
                        let guard = u64::from(used != pages);
                        sum.used += used;
                        // The last of an area's chunks has the guard.
                        sum.guards += guard;
                        sum.padding += pages - used - guard;
                    }
                    None => sum.waiting += pages,
                }
            }
        }
    }

    fn add_slots(&self, sum: &mut Fragmentation, index: ChunkIndex, class: Class) {
        let (stride, slots) = (class.stride(), class.slots_in(P::CHUNK_PAGES));
        sum.cut_chunks += 1;
        sum.padding += (P::CHUNK_PAGES - slots * stride) as u64;
        for number in 0..slots {
            let record = self.slot(Layout::<P>::slot(index, number));
            match record.life().phase() {
                Phase::Live => {
                    let used = Self::pages_of(record).min(stride - 1) as u64;
                    sum.used += used;
                    sum.guards += 1;
                    sum.padding += stride as u64 - used - 1;
                }
                Phase::Free => sum.free_slots += stride as u64,
                Phase::Building | Phase::Dying => sum.waiting += stride as u64,
            }
        }
    }
}
