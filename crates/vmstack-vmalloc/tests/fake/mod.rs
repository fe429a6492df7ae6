//! A platform that is made to catch mistakes, with real page tables.
//!
//! Frames have one word of contents each, which tests read and write through the page tables, as a CPU would ([`Fake::write`]). The range lies in host
//! memory that cannot be reached, but for what is mapped of the library's own records: a read of a record that was never made is a fault. Each CPU has a
//! TLB that remembers what it touched until it acknowledges a shootdown. What panics:
//!
//! - frames, or a leaf table, that come back while any TLB still knows them (INV-FRAME), or while they are mapped, or twice;
//! - pages that are mapped while any TLB knows what was there before: addresses that were handed out again too early;
//! - a mapping that crosses from one chunk to the next, or is made where something is;
//! - lent frames that are given to the allocator, and others that are not;
//! - a hint that outlives its leaf table;
//! - a method that wants a guard and is called without, and waiting for a flush under one.
//!
//! Any call that may fail can be told to fail: [`Failing`].

#![allow(dead_code, unused_imports, reason = "each test program uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "as above")]
#![allow(clippy::allow_attributes, reason = "an expectation would fail in the programs that use all of it")]

mod area;
#[path = "../../../vmstack/tests/fake/cpus.rs"]
pub(crate) mod cpus;
mod frames;
mod host;
mod pager;
mod tables;
mod tlb;

pub(crate) use area::{
    Expected, assert_nothing_left, assert_tables_agree, give_everything_back, note_records, vmalloc_of,
};
pub(crate) use frames::{FREED, LARGE, STALE, State};
pub(crate) use pager::guarded;
pub(crate) use tables::CHUNK;

use core::ops::ControlFlow;
use core::sync::atomic::{AtomicIsize, AtomicU32, AtomicUsize, Ordering};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use frames::Frames;
use host::Host;
use tables::Tables;
use tlb::Tlbs;
use vmstack::{PhysAddr, VirtAddr, VirtRange};
use vmstack_paging::{Access, Attributes, Leaf};

pub(crate) const PAGE: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FakeError {
    NoFrames,
    NoTables,
    LentTwice,
    /// It was told to.
    Told,
}

/// When CPUs acknowledge shootdowns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flush {
    /// At once, inside `shootdown`.
    Now,
    /// One CPU more each time somebody asks. One that is under a guard cannot.
    WhenAsked,
}

/// Which of the calls that may fail is to fail.
pub(crate) struct Failing(AtomicIsize);

impl Failing {
    const fn never() -> Self {
        Self(AtomicIsize::new(-1))
    }

    /// The `n`-th from now fails, counted from 0.
    pub(crate) fn after(&self, n: usize) {
        self.0.store(n as isize, Ordering::Relaxed);
    }

    /// None fails. Says whether one was still to.
    pub(crate) fn stop(&self) -> bool {
        self.0.swap(-1, Ordering::Relaxed) >= 0
    }

    fn now(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 0 && self.0.fetch_sub(1, Ordering::Relaxed) == 0
    }
}

struct Inner {
    frames: Frames,
    tlbs: Tlbs,
    depth: Vec<usize>,
    /// How often each CPU has asked for a flush since it has its guard.
    asked: Vec<usize>,
    /// What the library was told of the pages that begin at an address, and how often anything was told.
    hints: BTreeMap<usize, usize>,
    told: usize,
}

/// How much there is of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Supply {
    pub(crate) cpus: usize,
    /// Single frames.
    pub(crate) frames: usize,
    /// Blocks for large pages.
    pub(crate) large: usize,
    /// Frames that tests lend.
    pub(crate) lent: usize,
    /// Chunks in the range, those of records included.
    pub(crate) chunks: usize,
    /// Page tables, the root included.
    pub(crate) tables: usize,
    pub(crate) flush: Flush,
    /// Whether a frame may be lent twice.
    pub(crate) lent_twice: bool,
    /// Whether hints are told before anything is mapped.
    pub(crate) foresees: bool,
    /// Whether leaf tables are taken away.
    pub(crate) takes_tables: bool,
}

impl Supply {
    pub(crate) const fn plenty() -> Self {
        Self {
            cpus: 3,
            frames: 40_000,
            large: 16,
            lent: 2048,
            chunks: 96,
            tables: 400,
            flush: Flush::WhenAsked,
            lent_twice: false,
            foresees: false,
            takes_tables: true,
        }
    }
}

pub(crate) struct Fake {
    host: Host,
    range: VirtRange,
    supply: Supply,
    tables: Tables,
    cpu: AtomicU32,
    /// Where the records end. What is mapped below can be reached.
    records_end: AtomicUsize,
    inner: Mutex<Inner>,
}

pub(crate) struct FakeGuard<'a>(&'a Fake, usize);

impl Drop for FakeGuard<'_> {
    fn drop(&mut self) {
        self.0.inner().depth[self.1] -= 1;
        self.0.maybe_interrupt(self.1);
    }
}

impl core::fmt::Debug for Fake {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Fake").field("range", &self.range).field("supply", &self.supply).finish_non_exhaustive()
    }
}

impl Fake {
    pub(crate) fn new(supply: Supply) -> Self {
        let host = Host::new(supply.chunks * CHUNK);
        let range = VirtRange::new(VirtAddr::new(host.start()), supply.chunks * CHUNK).unwrap();
        let inner = Inner {
            frames: Frames::new(supply.frames, supply.large, supply.lent),
            tlbs: Tlbs::new(supply.cpus),
            depth: vec![0; supply.cpus],
            asked: vec![0; supply.cpus],
            hints: BTreeMap::new(),
            told: 0,
        };
        Self {
            host,
            range,
            supply,
            tables: Tables::new(supply.tables),
            cpu: AtomicU32::new(0),
            records_end: AtomicUsize::new(usize::MAX),
            inner: Mutex::new(inner),
        }
    }

    pub(crate) fn range(&self) -> VirtRange {
        self.range
    }

    pub(crate) fn supply(&self) -> Supply {
        self.supply
    }

    pub(crate) fn failing(&self) -> &Failing {
        &self.tables.failing
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn this_cpu(&self) -> usize {
        cpus::this_thread().unwrap_or_else(|| self.cpu.load(Ordering::Relaxed)) as usize
    }

    pub(crate) fn run_on(&self, cpu: usize) {
        self.cpu.store(cpu as u32, Ordering::Relaxed);
    }

    fn maybe_interrupt(&self, cpu: usize) {
        let depth = self.inner().depth.get(cpu).copied().unwrap_or(0);
        if depth == 0 {
            cpus::strike();
        }
    }

    fn entered(&self) -> MutexGuard<'_, Inner> {
        let inner = self.inner();
        let cpu = self.this_cpu();
        assert!(inner.depth[cpu] > 0, "a platform method that wants a guard was called without one");
        inner
    }

    /// Single frames and blocks that are free.
    pub(crate) fn free(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.frames.free(), inner.frames.free_large())
    }

    /// Mapped frames, but for lent ones.
    pub(crate) fn mapped(&self) -> usize {
        self.inner().frames.mapped
    }

    /// Frames in `state`, counted one by one, but for lent ones.
    pub(crate) fn count(&self, state: State) -> usize {
        self.inner().frames.count(state)
    }

    /// How often frames are lent now, and how often lent ones are mapped or held back.
    pub(crate) fn lent(&self) -> (u32, u32) {
        self.inner().frames.lent()
    }

    /// How many frames were taken since the beginning.
    pub(crate) fn taken(&self) -> usize {
        self.inner().frames.taken
    }

    /// Where the library keeps its own records.
    pub(crate) fn records(&self) -> VirtRange {
        let end = self.records_end.load(Ordering::Relaxed);
        VirtRange::new(self.range.start(), end - self.range.start().get()).unwrap()
    }

    /// Tables in use or held back, the root included.
    pub(crate) fn tables(&self) -> usize {
        self.tables.live()
    }

    /// Tables that the range's translations go through, the root included.
    pub(crate) fn linked_tables(&self) -> usize {
        self.tables.mapper().census(self.range).tables + 1
    }

    pub(crate) fn shootdowns(&self) -> usize {
        self.inner().tlbs.started()
    }

    /// The frame number `index` of those that are lent.
    pub(crate) fn lent_frame(&self, index: usize) -> PhysAddr {
        frames::phys(self.inner().frames.lent_frame(index))
    }

    /// What the hardware would translate `addr` to.
    pub(crate) fn frame_at(&self, addr: VirtAddr) -> Option<PhysAddr> {
        self.tables.walk(addr).leaf.map(|(at, _)| at)
    }

    /// The current CPU goes where `addr` is, or tries to: it remembers what it finds on the way. Says whether anything is mapped there.
    pub(crate) fn touch(&self, addr: VirtAddr) -> bool {
        let mut inner = self.inner();
        let walk = self.tables.walk(addr);
        let frame = walk.leaf.map(|(at, _)| frames::number(at));
        let (cpu, page) = (self.this_cpu(), addr.get() & !(PAGE - 1));
        let known = inner.tlbs.remembered(cpu, page);
        assert!(known.is_none() || frame.is_none() || known == frame, "a CPU knows an old frame of {addr}");
        inner.tlbs.remember(cpu, page, frame, walk.table);
        frame.is_some()
    }

    /// Writes the word of the page at `addr`.
    pub(crate) fn write(&self, addr: VirtAddr, word: u64) {
        assert!(self.touch(addr), "a write to {addr}, where nothing is mapped");
        let at = self.frame_at(addr).expect("it is mapped");
        self.inner().frames.set_word(frames::number(at), word);
    }

    /// The word of the page at `addr`.
    pub(crate) fn read(&self, addr: VirtAddr) -> u64 {
        assert!(self.touch(addr), "a read of {addr}, where nothing is mapped");
        self.word_of(self.frame_at(addr).expect("it is mapped"))
    }

    pub(crate) fn word_of(&self, frame: PhysAddr) -> u64 {
        self.inner().frames.word(frames::number(frame))
    }

    /// The words of all pages of `range`, without touching them.
    pub(crate) fn words(&self, range: VirtRange) -> Vec<u64> {
        let leaves = self.leaves(range);
        let inner = self.inner();
        let pages = leaves.iter().flat_map(|leaf| {
            let first = frames::number(leaf.frame);
            let count = if leaf.level == vmstack_paging::Level::PAGE { 1 } else { LARGE as u32 };
            first..first + count
        });
        pages.map(|frame| inner.frames.word(frame)).collect()
    }

    /// Asserts that no CPU knows anything of `range`, which is handed out anew.
    pub(crate) fn assert_unknown(&self, range: VirtRange) {
        let known = self.inner().tlbs.known_page(range.start().get(), range.end().get());
        assert_eq!(known, None, "{range:?} was handed out while a TLB knew what was there");
    }

    /// Every leaf in `range`.
    pub(crate) fn leaves(&self, range: VirtRange) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        let swept = self.tables.mapper().for_each_leaf(range, |leaf| {
            leaves.push(leaf);
            ControlFlow::<()>::Continue(())
        });
        assert!(swept.is_continue());
        leaves
    }

    /// The chunks of `range` that have a leaf table.
    pub(crate) fn leaf_tables(&self, range: VirtRange) -> Vec<VirtAddr> {
        let chunks = range.start().get() / CHUNK..range.end().get().div_ceil(CHUNK);
        let chunks = chunks.map(|chunk| VirtAddr::new(chunk * CHUNK));
        chunks.filter(|&chunk| self.tables.walk(chunk).table.is_some()).collect()
    }
}

/// What most is mapped with.
pub(crate) const DATA: Attributes = Attributes::kernel(Access::ReadWrite);
/// What lent frames may be mapped with instead.
pub(crate) const READ_ONLY: Attributes = Attributes::kernel(Access::Read);
