//! Where things lie in the range.
//!
//! ```text
//!   start                                              first chunk                                      end
//!   ┌───────┬──────────────┬─────────────────────────┬─┬──────────────┬──────────────┬─────── ─ ─ ──────┐
//!   │ lines │ chunk records│ slot records            │ │ chunk        │ chunk        │ ...              │
//!   └───────┴──────────────┴─────────────────────────┴─┴──────────────┴──────────────┴─────── ─ ─ ──────┘
//!    CPUs    128 bytes each  64 for each slot that   at least one page that is never mapped: the first guard
//!                            a chunk may have
//! ```
//!
//! Chunks are numbered from the start of the range, so that arithmetic is a shift; the first ones are where the records lie, and are never
//! handed out. Records of chunks and slots are mapped when they are first needed, and stay.
//!
//! Arithmetic only, usable in any context.

use core::marker::PhantomData;

use vmstack::{Pages, VirtAddr, VirtRange};

use crate::chunk::Chunk;
use crate::error::InitError;
use crate::line::Line;
use crate::pager::Pager;
use crate::record::Record;

/// The most CPUs.
pub(crate) const MAX_CPUS: usize = 4096;

/// The number of a chunk in its range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub(crate) struct ChunkIndex(u32);

impl ChunkIndex {
    #[inline]
    pub(crate) const fn new(index: u32) -> Self {
        Self(index)
    }

    #[inline]
    pub(crate) const fn get(self) -> u32 {
        self.0
    }

    /// The chunk `count` further up.
    #[inline]
    pub(crate) const fn up(self, count: u32) -> Self {
        Self(self.0 + count)
    }
}

/// The number of a slot's record: its chunk's number times the most slots that a chunk has, and its own in there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct SlotIndex(u32);

impl SlotIndex {
    #[inline]
    pub(crate) const fn new(index: u32) -> Self {
        Self(index)
    }

    #[inline]
    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

/// Where things lie in the range of a vmalloc on `P`.
pub(crate) struct Layout<P> {
    start: VirtAddr,
    /// How many chunks the range has.
    pub(crate) chunks: u32,
    /// The first that can be handed out.
    pub(crate) first: u32,
    pub(crate) cpus: usize,
    chunk_records: VirtAddr,
    slot_records: VirtAddr,
    platform: PhantomData<fn() -> P>,
}

impl<P> Clone for Layout<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Layout<P> {}

impl<P: Pager> Layout<P> {
    pub(crate) const PAGE: usize = P::PAGE_SIZE;
    /// The bytes of a chunk.
    pub(crate) const CHUNK: usize = P::CHUNK_PAGES * P::PAGE_SIZE;
    /// The most slots of a chunk: a page and a guard each.
    pub(crate) const SLOTS: usize = P::CHUNK_PAGES / 2;
    /// As many chunks as numbers of slots can count.
    const MOST: usize = {
        assert!(P::CHUNK_PAGES.is_power_of_two() && P::CHUNK_PAGES >= 16 && P::CHUNK_PAGES <= 8192);
        assert!(
            (Self::SLOTS * size_of::<Record>()).is_multiple_of(Self::PAGE),
            "no two chunks share a page of records"
        );
        let by_slots = (u32::MAX as usize) / Self::SLOTS;
        let by_pages = (u32::MAX as usize) / P::CHUNK_PAGES;
        let most = if by_slots < by_pages { by_slots } else { by_pages };
        if most < 1 << 22 { most } else { 1 << 22 }
    };

    /// The bytes of the records of a chunk's slots: a power of two.
    const RECORDS: usize = Self::SLOTS * size_of::<Record>();

    /// Before there is a range: nothing lies in it.
    pub(crate) const EMPTY: Self = Self {
        start: VirtAddr::new(0),
        chunks: 0,
        first: 0,
        cpus: 0,
        chunk_records: VirtAddr::new(0),
        slot_records: VirtAddr::new(0),
        platform: PhantomData,
    };

    /// Lays `range` out for `cpus` CPUs.
    pub(crate) fn new(range: VirtRange, cpus: usize) -> Result<Self, InitError<P::Error>> {
        if !(1..=MAX_CPUS).contains(&cpus) {
            return Err(InitError::BadCpus { cpus, most: MAX_CPUS });
        }
        if !range.start().is_aligned(Self::CHUNK) || !range.end().is_aligned(Self::CHUNK) {
            return Err(InitError::Misaligned { chunk: Self::CHUNK });
        }
        let chunks = range.bytes() / Self::CHUNK;
        let records = Self::records(chunks, cpus);
        if chunks > Self::MOST || records >= chunks {
            let least = (1..).find(|&chunks| Self::records(chunks, cpus) < chunks).unwrap_or(usize::MAX);
            let (least, most) = (least * Self::CHUNK, Self::MOST * Self::CHUNK);
            return Err(InitError::BadRange { bytes: range.bytes(), least, most });
        }
        let chunk_records = range.start().wrapping_add(Self::lines_bytes(cpus));
        let slot_records = chunk_records.wrapping_add(Self::chunk_records_bytes(chunks));
        // No chunk's records lie on both sides of where one leaf table ends and the next begins.
        let slot_records = VirtAddr::new(slot_records.get().next_multiple_of(Self::RECORDS));
        let (first, chunks) = (records as u32, chunks as u32);
        Ok(Self { start: range.start(), chunks, first, cpus, chunk_records, slot_records, platform: PhantomData })
    }

    const fn lines_bytes(cpus: usize) -> usize {
        (cpus * size_of::<Line<P>>()).next_multiple_of(Self::PAGE)
    }

    const fn chunk_records_bytes(chunks: usize) -> usize {
        (chunks * size_of::<Chunk>()).next_multiple_of(Self::PAGE)
    }

    /// How many chunks the records of `chunks` chunks take, and the first guard.
    const fn records(chunks: usize, cpus: usize) -> usize {
        let slots = chunks * Self::RECORDS;
        let before = Self::lines_bytes(cpus) + Self::chunk_records_bytes(chunks) + Self::RECORDS;
        (before + slots + Self::PAGE).div_ceil(Self::CHUNK)
    }

    /// All of it.
    pub(crate) fn range(&self) -> VirtRange {
        VirtRange::new(self.start, self.chunks as usize * Self::CHUNK).unwrap_or(VirtRange::EMPTY)
    }

    /// The pages of the lines of all CPUs.
    pub(crate) fn lines(&self) -> Pages {
        Pages::new(self.start, Self::lines_bytes(self.cpus) / Self::PAGE)
    }

    /// Where the line of CPU number `cpu` lies.
    #[inline]
    pub(crate) fn line(&self, cpu: usize) -> VirtAddr {
        self.start.wrapping_add(cpu * size_of::<Line<P>>())
    }

    /// How many chunks' records lie in a page.
    pub(crate) const CHUNKS_A_PAGE: u32 = (Self::PAGE / size_of::<Chunk>()) as u32;

    /// Where the record of `chunk` lies.
    #[inline]
    pub(crate) fn chunk_record(&self, chunk: ChunkIndex) -> VirtAddr {
        self.chunk_records.wrapping_add(chunk.0 as usize * size_of::<Chunk>())
    }

    /// Where the record of `slot` lies.
    #[inline]
    pub(crate) fn slot_record(&self, slot: SlotIndex) -> VirtAddr {
        self.slot_records.wrapping_add(slot.0 as usize * size_of::<Record>())
    }

    /// The pages in which the first `slots` records of `chunk` lie, but for the first `made`. None if there are no more.
    pub(crate) fn slot_record_pages(&self, chunk: ChunkIndex, slots: usize, made: usize) -> Option<Pages> {
        let wanted = (slots * size_of::<Record>()).div_ceil(Self::PAGE);
        let start = self.slot_record(Self::slot(chunk, 0)).wrapping_add(made * Self::PAGE);
        (wanted > made).then(|| Pages::new(start, wanted - made))
    }

    /// Slot number `number` of `chunk`.
    #[inline]
    pub(crate) const fn slot(chunk: ChunkIndex, number: usize) -> SlotIndex {
        SlotIndex(chunk.0 * Self::SLOTS as u32 + number as u32)
    }

    /// The chunk that `slot` is in.
    #[inline]
    pub(crate) const fn chunk_of(slot: SlotIndex) -> ChunkIndex {
        ChunkIndex(slot.0 / Self::SLOTS as u32)
    }

    /// The number of the page at which `chunk` begins.
    #[inline]
    pub(crate) const fn first_page(chunk: ChunkIndex) -> u32 {
        chunk.0 * P::CHUNK_PAGES as u32
    }

    /// The address of page number `page`.
    #[inline]
    pub(crate) fn address(&self, page: u32) -> VirtAddr {
        self.start.wrapping_add(page as usize * Self::PAGE)
    }

    /// The first `count` pages of `chunk`.
    pub(crate) fn chunk_pages(&self, chunk: ChunkIndex, count: usize) -> Pages {
        Pages::new(self.address(Self::first_page(chunk)), count)
    }

    /// The number of the page that `addr` lies in, if it is in the range.
    #[inline]
    pub(crate) fn page_of(&self, addr: VirtAddr) -> Option<u32> {
        let page = addr.get().wrapping_sub(self.start.get()) / Self::PAGE;
        (page < self.chunks as usize * P::CHUNK_PAGES).then_some(page as u32)
    }

    /// The chunk of page number `page`, and the page's number in it.
    #[inline]
    pub(crate) const fn split(page: u32) -> (ChunkIndex, usize) {
        (ChunkIndex(page / P::CHUNK_PAGES as u32), page as usize % P::CHUNK_PAGES)
    }

    /// Where the range begins.
    #[inline]
    pub(crate) const fn range_start(&self) -> VirtAddr {
        self.start
    }

    /// How many chunks can be handed out.
    pub(crate) fn usable(&self) -> u32 {
        self.chunks - self.first
    }
}
