//! A platform that is made to catch mistakes: the first of the four on which the seam is proved.
//!
//! Physical frames are buffers of their own. Mapping copies a frame's contents into a reserved piece of host memory and
//! unmapping copies them back and poisons the memory, so whoever uses a page that is not mapped reads poison. Each CPU
//! has a TLB that remembers what it touched until it acknowledges a shootdown; frames that come back while any TLB still
//! knows them are an INV-FRAME violation, and panic. Any call that may fail can be told to fail. Dirty bits follow the
//! writes that tests make through [`Fake::write`]: a CPU whose TLB remembers a page as written does not set its bit again.

#![allow(dead_code, unused_imports, reason = "each test program uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]
#![allow(clippy::allow_attributes, reason = "an expectation would fail in the programs that use all of it")]

mod area;
pub(crate) mod cpus;
mod device;

pub(crate) use device::{Block, read};

pub(crate) use area::{
    Area, SIZE, Stack, area_of, assert_guarded, assert_held_is_right, give_everything_back, numbered_area_of,
};

use core::alloc::Layout;
use core::sync::atomic::{AtomicIsize, AtomicU32, Ordering};
use std::alloc::{alloc_zeroed, dealloc};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vmstack::{
    AreaConfig, Cpu, Hint, KernelStack, Mapping, Node, NotMapped, Pages, PhysAddr, Platform, StackArea, Unmapped,
    VirtAddr, VirtRange,
};

pub(crate) const UNMAPPED: u8 = 0xdd;
pub(crate) const FREED: u8 = 0xa5;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FakeError {
    NoFrames,
    NoTables,
}

/// When CPUs acknowledge shootdowns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flush {
    /// At once, inside `shootdown`.
    Now,
    /// One CPU more each time somebody asks.
    WhenAsked,
}

#[derive(Debug)]
struct Frame {
    bytes: Vec<u8>,
    free: bool,
    /// The page that it is mapped at.
    page: Option<usize>,
}

#[derive(Debug)]
struct Shootdown {
    pages: Vec<usize>,
    waiting: BTreeSet<usize>,
}

#[derive(Debug, Default)]
struct Inner {
    frames: Vec<Frame>,
    /// Page address to frame.
    mapped: BTreeMap<usize, usize>,
    dirty: BTreeSet<usize>,
    /// Per CPU: page address to the frame that it was when the CPU touched it. What is in it was written through, so the CPU
    /// does not set the dirty bit again.
    tlbs: Vec<BTreeMap<usize, usize>>,
    shootdowns: Vec<Shootdown>,
    depth: Vec<usize>,
    /// What the library was told of the pages that begin at an address.
    hints: BTreeMap<usize, usize>,
    foreseen: BTreeSet<usize>,
    /// Memory that is no stack's.
    blocks: Vec<Block>,
    work: Work,
}

/// What the platform was asked for since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Work {
    pub(crate) frames_taken: usize,
    /// Page-table entries, by mapping, unmapping, and taking dirty bits back.
    pub(crate) entries_written: usize,
}

/// With the page size that most have.
pub(crate) type Fake = FakeOf<4096>;

#[derive(Debug)]
pub(crate) struct FakeOf<const PAGE: usize> {
    memory: *mut u8,
    layout: Layout,
    cpu: AtomicU32,
    flush: Flush,
    /// CPUs take turns being on so many nodes, and so do frames.
    nodes: usize,
    /// A bug that the library must be able to show: dirty bits are taken back, and no TLB is told.
    forgets_to_flush: bool,
    /// Fallible calls until one fails; negative: never.
    pub(crate) fail_in: AtomicIsize,
    inner: Mutex<Inner>,
}

// The pointer is to memory that only mapped pages of this fake use.
unsafe impl<const PAGE: usize> Sync for FakeOf<PAGE> {}
unsafe impl<const PAGE: usize> Send for FakeOf<PAGE> {}

#[derive(Debug)]
pub(crate) struct FakeFrames(pub(crate) Vec<usize>);

#[derive(Debug)]
pub(crate) struct FakeGuard<'a, const PAGE: usize>(&'a FakeOf<PAGE>, usize);

impl<const PAGE: usize> Drop for FakeGuard<'_, PAGE> {
    fn drop(&mut self) {
        self.0.inner().depth[self.1] -= 1;
        self.0.maybe_interrupt(self.1);
    }
}

impl<const PAGE: usize> FakeOf<PAGE> {
    pub(crate) fn new(cpus: usize, frames: usize, memory: usize, flush: Flush) -> Self {
        let layout = Layout::from_size_align(memory, 1 << 20).unwrap();
        // Unmapped memory reads as poison, from the start.
        let memory_ptr = unsafe { alloc_zeroed(layout) };
        unsafe { memory_ptr.write_bytes(UNMAPPED, memory) };
        let _ = memory_ptr.expose_provenance();
        let inner = Inner {
            frames: (0..frames).map(|_| Frame { bytes: vec![FREED; PAGE], free: true, page: None }).collect(),
            tlbs: vec![BTreeMap::new(); cpus],
            depth: vec![0; cpus],
            ..Inner::default()
        };
        Self {
            memory: memory_ptr,
            layout,
            cpu: AtomicU32::new(0),
            nodes: 1,
            flush,
            forgets_to_flush: false,
            fail_in: AtomicIsize::new(-1),
            inner: Mutex::new(inner),
        }
    }

    /// With `nodes` nodes: CPU and frame number *n* are on node *n* modulo that.
    pub(crate) fn on_nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    pub(crate) fn that_forgets_to_flush(mut self) -> Self {
        self.forgets_to_flush = true;
        self
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn this_cpu(&self) -> usize {
        cpus::this_thread().unwrap_or_else(|| self.cpu.load(Ordering::Relaxed)) as usize
    }

    fn maybe_interrupt(&self, cpu: usize) {
        let depth = self.inner().depth[cpu];
        if depth == 0 {
            cpus::strike();
        }
    }

    /// The node of the frame that `addr` is mapped to.
    pub(crate) fn node_of(&self, addr: VirtAddr) -> Node {
        Node::new((self.inner().mapped[&page_of::<PAGE>(addr)] % self.nodes) as u8)
    }

    pub(crate) fn range(&self) -> VirtRange {
        VirtRange::new(VirtAddr::of(self.memory), self.layout.size()).unwrap()
    }

    pub(crate) fn config(&self, slots: usize, stack_size: usize) -> AreaConfig {
        let cpus = self.inner().tlbs.len();
        AreaConfig::new(self.range(), slots, stack_size, cpus).nodes(self.nodes)
    }

    pub(crate) fn run_on(&self, cpu: usize) {
        self.cpu.store(cpu as u32, Ordering::Relaxed);
    }

    pub(crate) fn frames_free(&self) -> usize {
        self.inner().frames.iter().filter(|frame| frame.free).count()
    }

    pub(crate) fn stacks_foreseen(&self) -> usize {
        self.inner().foreseen.len()
    }

    pub(crate) fn work(&self) -> Work {
        self.inner().work
    }

    pub(crate) fn mapped_pages(&self) -> usize {
        self.inner().mapped.len()
    }

    pub(crate) fn is_mapped(&self, addr: VirtAddr) -> bool {
        self.inner().mapped.contains_key(&page_of::<PAGE>(addr))
    }

    /// A write by code that runs on the current CPU: fills its TLB and sets the dirty bit.
    pub(crate) fn write(&self, addr: VirtAddr, byte: u8) {
        let page = page_of::<PAGE>(addr);
        let mut inner = self.inner();
        let frame = inner.mapped[&page];
        let cpu = self.this_cpu();
        if inner.tlbs[cpu].insert(page, frame).is_none() {
            inner.dirty.insert(page);
        }
        unsafe { addr.as_mut_ptr::<u8>().write(byte) };
    }

    /// A write around the mapping: no dirty bit, no TLB.
    pub(crate) fn write_around(&self, addr: VirtAddr, byte: u8) {
        assert!(self.is_mapped(addr));
        unsafe { addr.as_mut_ptr::<u8>().write(byte) };
    }

    pub(crate) fn reads_zero(&self, start: VirtAddr, bytes: usize) -> bool {
        let memory = unsafe { core::slice::from_raw_parts(start.as_mut_ptr::<u8>(), bytes) };
        is_all(memory, 0)
    }

    fn take(&self, count: usize, wanted: impl Fn(usize) -> bool) -> Result<FakeFrames, FakeError> {
        let mut inner = self.entered();
        let free: Vec<usize> =
            (0..inner.frames.len()).filter(|&i| inner.frames[i].free && wanted(i)).take(count).collect();
        if free.len() < count || self.fails() {
            return Err(FakeError::NoFrames);
        }
        inner.work.frames_taken += count;
        for &i in &free {
            assert!(is_all(&inner.frames[i].bytes, FREED), "frame {i} was written while it was free");
            inner.frames[i].free = false;
            inner.frames[i].bytes.fill(0);
        }
        Ok(FakeFrames(free))
    }

    fn fails(&self) -> bool {
        self.fail_in.load(Ordering::Relaxed) >= 0 && self.fail_in.fetch_sub(1, Ordering::Relaxed) == 0
    }

    fn entered(&self) -> MutexGuard<'_, Inner> {
        let inner = self.inner();
        let cpu = self.this_cpu();
        assert!(inner.depth[cpu] > 0, "a platform method that wants a guard was called without one");
        inner
    }

    /// Starts a shootdown of `pages`.
    fn start(&self, inner: &mut Inner, pages: Vec<usize>) -> usize {
        let cpus = inner.tlbs.len();
        inner.shootdowns.push(Shootdown { pages, waiting: (0..cpus).collect() });
        let ticket = inner.shootdowns.len() - 1;
        if self.flush == Flush::Now {
            (0..cpus).for_each(|cpu| acknowledge(inner, ticket, cpu));
        }
        ticket
    }

    /// The pages of `mapping` with their dirty bits set.
    fn written(&self, inner: &Inner, mapping: Mapping) -> Vec<usize> {
        let pages = mapping.pages();
        assert_eq!(mapping.hint().get(), pages.start().get() / PAGE, "the hint that was given with these pages");
        pages.addresses(PAGE).map(VirtAddr::get).filter(|page| inner.dirty.contains(page)).collect()
    }

    fn host(&self, page: usize) -> *mut u8 {
        self.memory.wrapping_add(page - self.memory.addr())
    }
}

impl<const PAGE: usize> Drop for FakeOf<PAGE> {
    fn drop(&mut self) {
        unsafe { dealloc(self.memory, self.layout) };
    }
}

/// Whether every one of `bytes` is `byte`. By comparing memory with itself, which is quick in a debug build too.
fn is_all(bytes: &[u8], byte: u8) -> bool {
    bytes.first().is_none_or(|&first| first == byte) && bytes.get(1..).is_none_or(|rest| rest == &bytes[..rest.len()])
}

fn page_of<const PAGE: usize>(addr: VirtAddr) -> usize {
    addr.get() & !(PAGE - 1)
}

fn acknowledge(inner: &mut Inner, which: usize, cpu: usize) {
    let pages = inner.shootdowns[which].pages.clone();
    for page in pages {
        inner.tlbs[cpu].remove(&page);
    }
    inner.shootdowns[which].waiting.remove(&cpu);
}

unsafe impl<'f, const PAGE: usize> Platform for &'f FakeOf<PAGE> {
    const PAGE_SIZE: usize = PAGE;
    type Frames = FakeFrames;
    type Ticket = usize;
    type Guard = FakeGuard<'f, PAGE>;
    type Error = FakeError;

    fn take_frames(&self, count: usize) -> Result<FakeFrames, FakeError> {
        self.take(count, |_| true)
    }

    fn take_frames_on(&self, node: Node, count: usize) -> Result<FakeFrames, FakeError> {
        self.take(count, |frame| frame % self.nodes == node.index())
    }

    fn node(&self, cpu: Cpu) -> Node {
        Node::new((cpu.index() % self.nodes) as u8)
    }

    fn give_frames(&self, frames: FakeFrames) {
        let mut inner = self.entered();
        for i in frames.0 {
            assert!(!inner.frames[i].free, "frame {i} came back twice");
            let known = inner.tlbs.iter().any(|tlb| tlb.values().any(|&frame| frame == i));
            assert!(!known, "INV-FRAME: frame {i} came back while a TLB still knew it");
            assert!(inner.frames[i].page.is_none(), "frame {i} came back while it was mapped");
            inner.frames[i].free = true;
            inner.frames[i].bytes.fill(FREED);
        }
    }

    unsafe fn map(&self, mapping: Mapping, frames: FakeFrames) -> Result<Hint, NotMapped<Self>> {
        let mut inner = self.entered();
        let start = mapping.pages().start().get();
        let known = inner.hints.get(&start).copied().unwrap_or(0);
        assert_eq!(mapping.hint().get(), known, "what was said of {start:#x} last");
        assert_eq!(mapping.pages().count(), frames.0.len(), "as many frames as pages");
        if self.fails() {
            return Err(NotMapped { frames, reason: FakeError::NoTables });
        }
        inner.work.entries_written += mapping.pages().count();
        for (page, i) in mapping.pages().addresses(PAGE).zip(frames.0) {
            assert!(inner.mapped.insert(page.get(), i).is_none(), "{page} is mapped already");
            let stale = inner.tlbs.iter().any(|tlb| tlb.contains_key(&page.get()));
            assert!(!stale, "{page} was mapped while a TLB still knew its last mapping");
            inner.dirty.remove(&page.get());
            inner.frames[i].page = Some(page.get());
            unsafe { self.host(page.get()).copy_from_nonoverlapping(inner.frames[i].bytes.as_ptr(), PAGE) };
        }
        inner.hints.insert(start, start / PAGE);
        Ok(Hint::new(start / PAGE))
    }

    /// Knows of all stacks but the last.
    fn foresee(&self, first: Pages, stride: usize, count: usize) -> impl Iterator<Item = Hint> {
        let mut inner = self.entered();
        let starts = (0..count).map(|index| first.start().get() + index * stride);
        for start in starts.clone() {
            assert!(inner.foreseen.insert(start), "{start:#x} is foreseen once");
            assert!(!inner.hints.contains_key(&start), "{start:#x} is foreseen before it is mapped");
        }
        let known: Vec<_> = starts.take(count - 1).collect();
        inner.hints.extend(known.iter().map(|&start| (start, start / PAGE)));
        known.into_iter().map(|start| Hint::new(start / PAGE))
    }

    unsafe fn unmap(&self, mapping: Mapping) -> Unmapped<Self> {
        let mut inner = self.entered();
        let mut frames = Vec::new();
        inner.work.entries_written += mapping.pages().count();
        for page in mapping.pages().addresses(PAGE) {
            let i = inner.mapped.remove(&page.get()).expect("only mapped pages are unmapped");
            let host = self.host(page.get());
            unsafe { host.copy_to_nonoverlapping(inner.frames[i].bytes.as_mut_ptr(), PAGE) };
            unsafe { host.write_bytes(UNMAPPED, PAGE) };
            inner.frames[i].page = None;
            frames.push(i);
        }
        Unmapped::new(FakeFrames(frames))
    }

    fn shootdown(&self, batch: impl Iterator<Item = Pages> + Clone) -> usize {
        let mut inner = self.entered();
        let pages: Vec<usize> = batch.flat_map(|pages| pages.addresses(PAGE)).map(VirtAddr::get).collect();
        assert!(!pages.is_empty(), "a shootdown of nothing");
        assert!(pages.iter().all(|page| !inner.mapped.contains_key(page)), "only unmapped pages are flushed");
        self.start(&mut inner, pages)
    }

    fn flushed(&self, ticket: &usize) -> bool {
        let mut inner = self.inner();
        if let Some(cpu) = inner.shootdowns[*ticket].waiting.first().copied() {
            acknowledge(&mut inner, *ticket, cpu);
        }
        inner.shootdowns[*ticket].waiting.is_empty()
    }

    fn translate(&self, addr: VirtAddr) -> Option<PhysAddr> {
        let inner = self.inner();
        let offset = addr.get() % PAGE;
        let frame = inner.mapped.get(&page_of::<PAGE>(addr)).map(|&i| PhysAddr::new((i * PAGE + offset) as u64));
        frame.or_else(|| inner.blocks.iter().find_map(|block| block.translate(addr)))
    }

    fn direct(&self, addr: VirtAddr, bytes: usize) -> Option<PhysAddr> {
        self.inner().blocks.iter().find_map(|block| block.direct(addr, bytes))
    }

    fn cpu(&self) -> Cpu {
        Cpu::new(self.this_cpu() as u32)
    }

    fn enter(&self) -> FakeGuard<'f, PAGE> {
        let cpu = self.this_cpu();
        self.maybe_interrupt(cpu);
        self.inner().depth[cpu] += 1;
        FakeGuard(self, cpu)
    }

    const HAS_DIRTY: bool = true;

    unsafe fn clear_written(&self, mapping: Mapping) -> usize {
        let written = self.written(&self.entered(), mapping);
        written.iter().for_each(|&page| unsafe { self.host(page).write_bytes(0, PAGE) });
        written.len()
    }

    unsafe fn clear(&self, mapping: Mapping) {
        drop(self.entered());
        mapping.pages().addresses(PAGE).for_each(|page| unsafe { self.host(page.get()).write_bytes(0, PAGE) });
    }

    fn take_dirty_bits(&self, stacks: impl Iterator<Item = Mapping> + Clone) -> Option<usize> {
        let mut inner = self.entered();
        let mut pages: Vec<usize> = stacks.flat_map(|stack| stack.pages().addresses(PAGE)).map(VirtAddr::get).collect();
        inner.work.entries_written += pages.len();
        for page in &pages {
            assert!(inner.mapped.contains_key(page), "only mapped pages have dirty bits");
            inner.dirty.remove(page);
        }
        if self.forgets_to_flush {
            pages.clear();
        }
        Some(self.start(&mut inner, pages))
    }

    fn write_owner(&self, owner: usize, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        write!(out, "task {owner}")
    }
}
