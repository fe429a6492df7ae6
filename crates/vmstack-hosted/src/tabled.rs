//! [`Tabled`]: a vmalloc's page tables are ours, in plain memory, with no MMU behind them.
//!
//! The formats and the mapper are those that a kernel has (`vmstack-paging`, x86-64), and so are the writes to them, but nobody walks the
//! tables when an address is used: all of the range is readable and writable, always, and the frames are only counted. No guard is one, and
//! what is written at an address is not in the frame that is mapped there. That is good for one thing: to measure what a vmalloc does with its
//! locks, its records and its tables where the host's own mapping calls, which wait for each other, would hide it.
//!
//! # Flushing
//!
//! As a kernel does that lets CPUs flush when they come by. A shootdown makes a new *epoch*; a CPU notes the epoch when it enters; a
//! batch is flushed when every CPU that is awake has noted its epoch or a later one. A CPU that [idles](crate::AreaCpu::idle) notes the end of
//! time.
//!
//! ```text
//!   epoch  7 ──> 8                      CPU 0 shoots down: 8
//!   seen   CPU 0: 8   CPU 1: 7          not yet
//!   seen   CPU 0: 8   CPU 1: 8          CPU 1 has entered since: flushed
//! ```
//!
//! Contexts: as `paged`.

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use vmstack::{Cpu, Pages, PhysAddr, VirtAddr, VirtRange};
use vmstack_paging::{Access, Attributes, Mapper, Table, TableMemory, X86_64};

use crate::arch::PAGE_SIZE;
use crate::memory::Ram;
use crate::paged::{Backing, Entry, Lending, RamRef};
use crate::platform::HostedError;
use crate::sys::{Errno, Region};

/// What a CPU has noted that looks at no area.
const ASLEEP: u64 = u64::MAX;

/// Tables on the heap: the physical address of one is its address.
#[derive(Debug)]
struct Heap;

// SAFETY: (1) a table is where its address says, and is freed by `free_table` alone; (2) a box is aligned as its type, is ours alone, and an
// address of a process has fewer bits than the format; (3) nothing here unwinds but for want of memory, and no CPU walks these trees.
unsafe impl TableMemory for Heap {
    unsafe fn table(&self, at: PhysAddr) -> &Table {
        let table = ptr::with_exposed_provenance::<Table>(at.get() as usize);
        // SAFETY: a table that `new_table` leaked and nobody freed, by the caller's promise.
        unsafe { &*table }
    }

    fn new_table(&self) -> Option<PhysAddr> {
        let table = Box::<Table>::new_zeroed();
        // SAFETY: a table of zeroes is one whose entries are all absent.
        let table = unsafe { table.assume_init() };
        Some(PhysAddr::new(Box::into_raw(table).expose_provenance() as u64))
    }

    unsafe fn free_table(&self, at: PhysAddr) {
        let table = ptr::with_exposed_provenance_mut::<Table>(at.get() as usize);
        // SAFETY: leaked by `new_table`; the caller vouches that nothing leads to it.
        drop(unsafe { Box::from_raw(table) });
    }
}

/// What one CPU has noted, on cache lines of its own, and how often it had to flush for it.
#[derive(Debug)]
#[repr(align(128))]
struct Seen {
    epoch: AtomicU64,
    /// Changed by its CPU alone.
    flushes: AtomicU64,
}

/// The epoch alone on its cache lines: everybody reads it at each entry.
#[derive(Debug)]
#[repr(align(128))]
struct Epoch(AtomicU64);

/// Page tables in memory.
#[derive(Debug)]
pub struct Tabled {
    region: Region,
    root: PhysAddr,
    heap: Heap,
    epoch: Epoch,
    seen: Box<[Seen]>,
}

impl Tabled {
    /// Of `bytes` at a multiple of `align`, for `cpus` CPUs.
    pub(crate) fn new(bytes: usize, align: usize, cpus: usize) -> Result<Self, Errno> {
        let region = Region::reserve_aligned(bytes, align)?;
        region.open(0, bytes)?;
        let seen = || Seen { epoch: AtomicU64::new(ASLEEP), flushes: AtomicU64::new(0) };
        let root = Heap.new_table().unwrap_or_default();
        let seen = (0..cpus).map(|_| seen()).collect();
        Ok(Self { region, root, heap: Heap, epoch: Epoch(AtomicU64::new(0)), seen })
    }

    const fn mapper(&self) -> Mapper<'_, X86_64, Heap> {
        // SAFETY: the root is a table of this heap, only this mapper and its copies change what is below it, and every table below
        // is of this heap too.
        unsafe { Mapper::new(self.root, &self.heap) }
    }

    fn seen(&self, cpu: Cpu) -> Option<&Seen> {
        self.seen.get(cpu.index())
    }
}

impl Drop for Tabled {
    fn drop(&mut self) {
        // SAFETY: nobody walks these tables any more, and no other mapper is left.
        let _ = unsafe { self.mapper().free_tables(self.region.range()) };
        // SAFETY: the root came from this heap, and nothing leads to it.
        unsafe { self.heap.free_table(self.root) };
    }
}

/// How a frame is mapped: a lent one uncached, which is how the tables remember that it is lent.
const fn attributes(lent: Option<Lending>) -> Attributes {
    match lent {
        None => Attributes::kernel(Access::ReadWrite),
        Some(Lending::ReadWrite) => Attributes::kernel(Access::ReadWrite).with_uncached(true),
        Some(Lending::Read) => Attributes::kernel(Access::Read).with_uncached(true),
    }
}

fn lent(attributes: Attributes) -> Option<Lending> {
    let how = if attributes.access().is_writable() { Lending::ReadWrite } else { Lending::Read };
    attributes.is_uncached().then_some(how)
}

fn number(frame: PhysAddr) -> u32 {
    (frame.get() / PAGE_SIZE as u64) as u32
}

// SAFETY: (1) the mapper's batches are all or nothing; (2) nobody reaches a frame by a page here at all.
unsafe impl Backing for Tabled {
    type Ticket = u64;

    fn range(&self) -> VirtRange {
        self.region.range()
    }

    fn map(&self, page: VirtAddr, _ram: &RamRef<'_>, first: Entry, count: usize) -> Result<(), HostedError> {
        let frames = (first.frame..).take(count).map(|frame| PhysAddr::new(Ram::physical(frame)));
        // SAFETY: the pages are the vmalloc's, by `Platform::map`, and no access goes through these tables.
        let mapped = unsafe { self.mapper().map(Pages::new(page, count), attributes(first.lent), frames) };
        mapped.map_err(HostedError::Tables)
    }

    fn take(&self, pages: Pages, mut take: impl FnMut(Entry)) {
        let range = VirtRange::new(pages.start(), pages.count() * PAGE_SIZE).unwrap_or(VirtRange::EMPTY);
        let entry = |leaf: vmstack_paging::Leaf| Entry { frame: number(leaf.frame), lent: lent(leaf.attributes) };
        // SAFETY: nobody uses the pages, by `Platform::unmap`, and they are the vmalloc's; their frames come out after the flush.
        let taken = unsafe { self.mapper().unmap_with(range, |leaf| take(entry(leaf))) };
        debug_assert!(taken.is_ok(), "{taken:?}");
    }

    fn undo(&self, _pages: Pages) {}

    fn shootdown(&self, cpu: Cpu, _batch: impl Iterator<Item = Pages> + Clone) -> u64 {
        // SeqCst, here and in `entered`: a CPU that wakes up sees this epoch, or what it has noted is seen to be old.
        let epoch = self.epoch.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.entered(cpu);
        epoch
    }

    fn flushed(&self, ticket: &u64) -> bool {
        self.seen.iter().all(|seen| seen.epoch.load(Ordering::SeqCst) >= *ticket)
    }

    fn frame(&self, addr: VirtAddr) -> Option<u32> {
        self.mapper().translate(addr).map(|(at, _)| number(at))
    }

    fn prepare(&self, range: VirtRange) -> Result<(), HostedError> {
        self.mapper().ensure_top_level(range).map_err(HostedError::Tables)
    }

    #[inline]
    fn entered(&self, cpu: Cpu) {
        let Some(seen) = self.seen(cpu) else { return };
        let epoch = self.epoch.0.load(Ordering::Relaxed);
        let before = seen.epoch.load(Ordering::Relaxed);
        if before == epoch {
            return;
        }
        // Awake, in everybody's eyes, before it looks which epoch it is; then it notes that one.
        seen.epoch.store(if before == ASLEEP { 0 } else { before }, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        seen.epoch.store(self.epoch.0.load(Ordering::SeqCst), Ordering::SeqCst);
        seen.flushes.store(seen.flushes.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn idles(&self, cpu: Cpu) {
        if let Some(seen) = self.seen(cpu) {
            seen.epoch.store(ASLEEP, Ordering::SeqCst);
        }
    }
}
