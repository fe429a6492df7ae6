//! What the library asks for.

use super::frames::{self, Kind, STALE};
use super::tables::CHUNK;
use super::{DATA, Fake, FakeError, FakeGuard, Flush, Inner, LARGE, PAGE, cpus};
use core::sync::atomic::Ordering;
use std::collections::BTreeSet;
use vmstack::{Cpu, Hint, Mapping, NotMapped, Pages, PhysAddr, Platform, Unmapped, VirtAddr, VirtRange};
use vmstack_paging::{Attributes, Level};
use vmstack_vmalloc::Pager;

/// Frames, and tables, which have this bit.
pub(crate) struct FakeFrames(Vec<u32>);

const TABLE: u32 = 1 << 31;

fn chunk_of(addr: VirtAddr) -> usize {
    addr.get() & !(CHUNK - 1)
}

fn range_of(pages: Pages) -> VirtRange {
    VirtRange::new(pages.start(), pages.count() * PAGE).unwrap()
}

fn chunk_range(at: usize) -> VirtRange {
    VirtRange::new(VirtAddr::new(at), CHUNK).unwrap()
}

impl Fake {
    /// That `pages` lie in one chunk of the range, and nobody knows what was there.
    fn expect_mappable(&self, inner: &Inner, pages: Pages) {
        let range = range_of(pages);
        assert!(pages.count() > 0 && pages.start().is_aligned(PAGE), "{pages:?} are no pages");
        assert!(self.range.contains(range.start()) && range.end() <= self.range.end(), "{range:?} is out of range");
        assert_eq!(chunk_of(range.start()), chunk_of(range.end().wrapping_sub(1)), "{range:?} crosses chunks");
        let known = inner.tlbs.known_page(range.start().get(), range.end().get());
        assert_eq!(known, None, "{range:?} was mapped while a TLB still knew what was there");
    }

    /// That no CPU knows another leaf table of the chunk than the one that is there now.
    fn expect_known_table(&self, inner: &Inner, at: VirtAddr) {
        let other = inner.tlbs.knows_other_table(chunk_of(at), self.tables.walk(at).table);
        assert!(!other, "{at} was mapped while a CPU still knew an old table");
    }

    fn expect_hint(inner: &Inner, mapping: Mapping) {
        let known = inner.hints.get(&mapping.pages().start().get()).copied();
        let hint = mapping.hint().get();
        assert!(hint == 0 || Some(hint) == known, "{mapping:?} was asked for, and the hint is {known:x?}");
    }

    fn tell(inner: &mut Inner, start: VirtAddr) -> Hint {
        inner.told += 1;
        let told = inner.told;
        Hint::new(*inner.hints.entry(start.get()).or_insert(told))
    }

    fn make_reachable(&self, pages: Pages) {
        if pages.start().get() < self.records_end.load(Ordering::Relaxed) {
            self.host.map(pages.start().get(), pages.count() * PAGE);
        }
    }

    /// Maps `frames`, which no page table maps yet, by pages.
    fn map_pages(
        &self,
        inner: &mut Inner,
        pages: Pages,
        attributes: Attributes,
        frames: &[u32],
    ) -> Result<(), FakeError> {
        assert_eq!(pages.count(), frames.len(), "as many frames as pages");
        if self.tables.failing.now() {
            // As where only the last page cannot be mapped: tables that were made on the way are kept.
            let _ = self.tables.mapper().make_leaf_table(pages.start());
            return Err(FakeError::Told);
        }
        let given = frames.iter().copied().map(frames::phys);
        match unsafe { self.tables.mapper().map(pages, attributes, given) } {
            Ok(()) => {}
            Err(vmstack_paging::MapError::NoTable { .. }) => return Err(FakeError::NoTables),
            Err(error) => panic!("{pages:?} could not be mapped: {error}"),
        }
        self.expect_known_table(inner, pages.start());
        frames.iter().for_each(|&frame| inner.frames.map(frame));
        self.make_reachable(pages);
        Ok(())
    }

    fn map_block(&self, inner: &mut Inner, at: VirtAddr, frames: &[u32]) -> Result<(), FakeError> {
        if self.tables.failing.now() {
            return Err(FakeError::Told);
        }
        self.expect_known_table(inner, at);
        match unsafe { self.tables.mapper().map_large(at, frames::phys(frames[0]), Level::LARGE, DATA) } {
            Ok(()) => {}
            Err(vmstack_paging::MapError::NoTable { .. }) => return Err(FakeError::NoTables),
            Err(error) => panic!("a large page could not be mapped at {at}: {error}"),
        }
        frames.iter().for_each(|&frame| inner.frames.map(frame));
        Ok(())
    }

    /// Takes away whatever is mapped at `pages`, which is all of them.
    fn unmap_pages(&self, inner: &mut Inner, pages: Pages) -> Vec<u32> {
        let mut frames = Vec::new();
        let taken = unsafe {
            self.tables.mapper().unmap_with(range_of(pages), |leaf| {
                let first = frames::number(leaf.frame);
                let count = if leaf.level == Level::PAGE { 1 } else { LARGE as u32 };
                frames.extend(first..first + count);
            })
        };
        taken.unwrap_or_else(|error| panic!("{pages:?} could not be unmapped: {error}"));
        assert_eq!(frames.len(), pages.count(), "only mapped pages are unmapped, {pages:?}");
        frames.iter().for_each(|&frame| inner.frames.unmap(frame));
        if pages.start().get() < self.records_end.load(Ordering::Relaxed) {
            self.host.unmap(pages.start().get(), pages.count() * PAGE);
        }
        frames
    }

    /// Takes the leaf table of the chunk at `chunk` away, if there is one.
    fn unlink(&self, inner: &mut Inner, chunk: usize) -> Option<u32> {
        inner.hints.extract_if(chunk..chunk + CHUNK, |_, _| true).for_each(drop);
        self.tables.walk(VirtAddr::new(chunk)).table?;
        Some(self.tables.unlink(chunk_range(chunk)).expect("the table of an empty chunk is empty"))
    }

    fn give(&self, inner: &mut Inner, given: FakeFrames, lent: bool) {
        let (tables, frames): (Vec<u32>, Vec<u32>) = given.0.iter().partition(|&&number| number & TABLE != 0);
        for table in tables {
            assert!(!inner.tlbs.knows_table(table ^ TABLE), "INV-FRAME: a table came back that a CPU still knew");
            self.tables.give(table ^ TABLE);
        }
        // A frame that is mapped elsewhere too, as only a lent one can be, may be known there.
        let once: BTreeSet<u32> = frames.iter().copied().filter(|&frame| inner.frames.mappings(frame) <= 1).collect();
        let known = inner.tlbs.knowing(&once).next();
        assert_eq!(known, None, "INV-FRAME: a frame came back while a TLB still knew it, at this page");
        for frame in frames {
            if lent { inner.frames.give_lent(frame) } else { inner.frames.give(frame) }
        }
    }
}

unsafe impl<'f> Platform for &'f Fake {
    const PAGE_SIZE: usize = PAGE;
    type Frames = FakeFrames;
    type Ticket = usize;
    type Guard = FakeGuard<'f>;
    type Error = FakeError;

    fn take_frames(&self, count: usize) -> Result<FakeFrames, FakeError> {
        let mut inner = self.entered();
        if self.tables.failing.now() {
            return Err(FakeError::Told);
        }
        inner.frames.take(count, 0).map(FakeFrames)
    }

    fn give_frames(&self, frames: FakeFrames) {
        self.give(&mut self.entered(), frames, false);
    }

    unsafe fn map(&self, mapping: Mapping, frames: FakeFrames) -> Result<Hint, NotMapped<Self>> {
        let mut inner = self.entered();
        let pages = mapping.pages();
        assert!(pages.count() <= LARGE / 2, "up to half a chunk of pages");
        self.expect_mappable(&inner, pages);
        Fake::expect_hint(&inner, mapping);
        match self.map_pages(&mut inner, pages, DATA, &frames.0) {
            Ok(()) => Ok(Fake::tell(&mut inner, pages.start())),
            Err(reason) => Err(NotMapped { frames, reason }),
        }
    }

    unsafe fn unmap(&self, mapping: Mapping) -> Unmapped<Self> {
        let mut inner = self.entered();
        assert!(mapping.pages().count() <= LARGE / 2, "up to half a chunk of pages");
        Fake::expect_hint(&inner, mapping);
        Unmapped::new(FakeFrames(self.unmap_pages(&mut inner, mapping.pages())))
    }

    fn shootdown(&self, batch: impl Iterator<Item = Pages> + Clone) -> usize {
        let mut inner = self.entered();
        for pages in batch.clone() {
            let mapped = self.leaves(range_of(pages));
            assert!(mapped.is_empty(), "only unmapped pages are flushed: {mapped:x?}");
        }
        assert!(batch.clone().next().is_some(), "a shootdown of nothing");
        let ticket = inner.tlbs.start(batch);
        if self.supply.flush == Flush::Now {
            inner.tlbs.acknowledge_all(ticket);
        }
        ticket
    }

    fn flushed(&self, ticket: &usize) -> bool {
        let mut inner = self.inner();
        let cpu = self.this_cpu();
        inner.asked[cpu] += 1;
        let waits = inner.depth[cpu] > 0 && inner.asked[cpu] > 10_000;
        assert!(!waits, "a CPU waits for a flush under a guard");
        // Whoever asks may flush what is its own. Others do so where they are not under a guard.
        let able = inner.tlbs.waiting(*ticket).iter().copied().find(|&other| other == cpu || inner.depth[other] == 0);
        if let Some(able) = able {
            inner.tlbs.acknowledge(*ticket, able);
        }
        inner.tlbs.waiting(*ticket).is_empty()
    }

    fn translate(&self, addr: VirtAddr) -> Option<PhysAddr> {
        self.tables.mapper().translate(addr).map(|(at, _)| at)
    }

    fn cpu(&self) -> Cpu {
        Cpu::new(self.this_cpu() as u32)
    }

    fn enter(&self) -> FakeGuard<'f> {
        let cpu = self.this_cpu();
        self.maybe_interrupt(cpu);
        let mut inner = self.inner();
        if cpu >= inner.depth.len() {
            inner.depth.resize(cpu + 1, 0);
            inner.asked.resize(cpu + 1, 0);
        }
        inner.depth[cpu] += 1;
        inner.asked[cpu] = 0;
        FakeGuard(self, cpu)
    }

    fn prepare(&self, range: VirtRange) -> Result<(), FakeError> {
        assert_eq!(range, self.range, "all of the range is prepared");
        if self.tables.failing.now() {
            return Err(FakeError::Told);
        }
        self.tables.mapper().ensure_top_level(range).map_err(|_| FakeError::NoTables)
    }

    /// Knows of all but the last.
    fn foresee(&self, first: Pages, stride: usize, count: usize) -> impl Iterator<Item = Hint> {
        let mut inner = self.entered();
        let made = self.supply.foresees && self.tables.mapper().make_leaf_table(first.start()).is_ok();
        let known = if made { count - 1 } else { 0 };
        let starts = (0..known).map(|index| first.start().wrapping_add(index * stride));
        starts.map(|start| Fake::tell(&mut inner, start)).collect::<Vec<_>>().into_iter()
    }
}

unsafe impl Pager for &Fake {
    type Attributes = Attributes;

    fn take_uncleared(&self, count: usize) -> Result<FakeFrames, FakeError> {
        let mut inner = self.entered();
        if self.tables.failing.now() {
            return Err(FakeError::Told);
        }
        inner.frames.take(count, STALE).map(FakeFrames)
    }

    fn take_large(&self, zeroed: bool) -> Option<FakeFrames> {
        let mut inner = self.entered();
        // Where tables are kept, one may be in the way.
        if !self.supply.takes_tables || self.tables.failing.now() {
            return None;
        }
        inner.frames.take_large(if zeroed { 0 } else { STALE }).map(FakeFrames)
    }

    unsafe fn map_chunk(&self, pages: Pages, frames: FakeFrames) -> Result<(), NotMapped<Self>> {
        let mut inner = self.entered();
        assert!(pages.start().is_aligned(CHUNK), "{pages:?} begin where a chunk does");
        self.expect_mappable(&inner, pages);
        let there = self.leaves(chunk_range(pages.start().get()));
        assert!(there.is_empty(), "the chunk is mapped already: {there:x?}");
        let known = inner.tlbs.known_page(pages.start().get(), pages.start().get() + CHUNK);
        assert_eq!(known, None, "a TLB still knew what was in the chunk");
        let mapped = match inner.frames.kind(frames.0[0]) {
            Kind::Large => {
                assert_eq!(pages.count(), LARGE, "a block is mapped whole");
                self.map_block(&mut inner, pages.start(), &frames.0)
            }
            _ => self.map_pages(&mut inner, pages, DATA, &frames.0),
        };
        mapped.map_err(|reason| NotMapped { frames, reason })
    }

    unsafe fn unmap_chunk(&self, pages: Pages) -> Unmapped<Self> {
        let mut inner = self.entered();
        assert!(pages.start().is_aligned(CHUNK) && pages.count() <= LARGE, "{pages:?} are those of a chunk");
        let mut frames = self.unmap_pages(&mut inner, pages);
        let left = self.leaves(chunk_range(pages.start().get()));
        assert!(left.is_empty(), "something else is mapped in the chunk: {left:x?}");
        if self.supply.takes_tables {
            frames.extend(self.unlink(&mut inner, pages.start().get()).map(|table| table | TABLE));
        }
        Unmapped::new(FakeFrames(frames))
    }

    unsafe fn take_table(&self, chunk: Pages) -> Option<Unmapped<Self>> {
        let mut inner = self.entered();
        assert!(chunk.start().is_aligned(CHUNK), "{chunk:?} is a chunk");
        assert_eq!(chunk.count(), LARGE, "{chunk:?} is a chunk");
        let left = self.leaves(range_of(chunk));
        assert!(left.is_empty(), "something is mapped in the chunk: {left:x?}");
        if !self.supply.takes_tables {
            return None;
        }
        let table = self.unlink(&mut inner, chunk.start().get())?;
        Some(Unmapped::new(FakeFrames(vec![table | TABLE])))
    }

    fn lend(&self, frame: PhysAddr) -> Result<(), FakeError> {
        let mut inner = self.entered();
        if self.tables.failing.now() {
            return Err(FakeError::Told);
        }
        inner.frames.lend(frames::number(frame), self.supply.lent_twice)
    }

    fn unlend(&self, frame: PhysAddr) {
        self.entered().frames.unlend(frames::number(frame));
    }

    unsafe fn map_lent(
        &self,
        mapping: Mapping,
        frames: impl Iterator<Item = PhysAddr>,
        attributes: Attributes,
    ) -> Result<Hint, FakeError> {
        let frames: Vec<u32> = frames.map(frames::number).collect();
        let mut inner = self.entered();
        self.expect_mappable(&inner, mapping.pages());
        Fake::expect_hint(&inner, mapping);
        self.map_pages(&mut inner, mapping.pages(), attributes, &frames)?;
        Ok(Fake::tell(&mut inner, mapping.pages().start()))
    }

    fn give_lent(&self, frames: FakeFrames) {
        self.give(&mut self.entered(), frames, true);
    }
}

/// Runs `run` under a guard of the current CPU.
pub(crate) fn guarded<R>(fake: &Fake, run: impl FnOnce() -> R) -> R {
    let _guard = (&fake).enter();
    run()
}
