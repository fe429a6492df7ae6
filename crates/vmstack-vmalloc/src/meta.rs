//! The records, found: what is mapped of them, and what is mapped when it is first needed.
//!
//! Chunks are used in order, so a number says which of them have records: [`Meta::try_chunk`] asks it first, and the fault path touches nothing
//! that was never made (INV-FAULT). A chunk that is [`Cut`](State::Cut) has the records of its slots. What was made is never unmapped.

use vmstack::{Hint, Mapping, Pages, VirtAddr};

use crate::chunk::{Chunk, State};
use crate::layout::{ChunkIndex, Layout, SlotIndex};
use crate::line::Line;
use crate::pager::Pager;
use crate::record::Record;
use crate::sync::{AtomicU32, Ordering};

/// Why a page of records could not be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MetaError<E> {
    NoFrames(E),
    NotMapped(E),
}

impl<E> MetaError<E> {
    /// The platform's reason.
    pub(crate) fn reason(self) -> E {
        match self {
            Self::NoFrames(error) | Self::NotMapped(error) => error,
        }
    }
}

/// Maps `pages` of records, which read as zero.
pub(crate) fn make_pages<P: Pager>(pager: &P, pages: Pages) -> Result<(), MetaError<P::Error>> {
    let frames = pager.take_frames(pages.count()).map_err(MetaError::NoFrames)?;
    // SAFETY: (1) pages of records lie in the range; (2) each is mapped once: by `init`, by whoever has the central lock, or by whoever has taken
    // the chunk that it is about; (3) `frames` holds as many frames as there are pages.
    let mapped = unsafe { pager.map(Mapping::new(pages, Hint::default()), frames) };
    mapped.map(|_| ()).map_err(|failed| {
        pager.give_frames(failed.frames);
        MetaError::NotMapped(failed.reason)
    })
}

/// The records of a vmalloc that was initialised.
///
/// Having a `Meta` means that the lines of its CPUs are mapped, for ever.
pub(crate) struct Meta<'a, P: Pager> {
    pub(crate) pager: &'a P,
    pub(crate) layout: &'a Layout<P>,
    /// Chunks with a lower number have records.
    pub(crate) made: &'a AtomicU32,
}

impl<P: Pager> Clone for Meta<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Pager> Copy for Meta<'_, P> {}

/// How the record of a chunk is found that was used before.
pub(crate) trait Chunks {
    /// The record of `chunk`.
    fn chunk(&self, chunk: ChunkIndex) -> &Chunk;
}

impl<'a, P: Pager> Meta<'a, P> {
    /// The record of `chunk`, or `None` if it was never made. Any context, the fault path included.
    #[inline]
    pub(crate) fn try_chunk(&self, chunk: ChunkIndex) -> Option<&'a Chunk> {
        self.try_number(chunk.get() as usize).map(|(_, chunk)| chunk)
    }

    /// The chunk number `number`, and its record, or `None` if it was never made. Any context, the fault path included.
    #[inline]
    pub(crate) fn try_number(&self, number: usize) -> Option<(ChunkIndex, &'a Chunk)> {
        // Acquire: pairs with the Release in `make_chunks`.
        let made = self.made.load(Ordering::Acquire) as usize;
        if number < self.layout.first as usize || number >= made {
            return None;
        }
        let index = ChunkIndex::new(number as u32);
        // SAFETY: it was made.
        Some((index, unsafe { self.chunk_unchecked(index) }))
    }

    /// The record of `chunk`, which was used before: it is on a list, in a chain, or has a slot that is.
    #[inline]
    pub(crate) fn known_chunk(&self, chunk: ChunkIndex) -> &'a Chunk {
        debug_assert!(self.try_chunk(chunk).is_some(), "chunk {} has no record", chunk.get());
        // SAFETY: a chunk is used only after `make_chunks` made its record.
        unsafe { self.chunk_unchecked(chunk) }
    }

    /// The record of `chunk`.
    ///
    /// # Safety
    ///
    /// It was made.
    #[inline]
    unsafe fn chunk_unchecked(&self, chunk: ChunkIndex) -> &'a Chunk {
        let record = self.layout.chunk_record(chunk).as_mut_ptr::<Chunk>();
        // SAFETY: (1) it was made, so it is mapped for ever; (2) it is aligned to its size, for the records of chunks begin at a page;
        // (3) it holds atomics only, of which zero is a valid value, and a cell with rules of its own.
        unsafe { &*record }
    }

    /// The record of `slot`, whose chunk is or was cut: it is in a chain, or its chunk's state says so.
    #[inline]
    pub(crate) fn slot(&self, slot: SlotIndex) -> &'a Record {
        let record = self.layout.slot_record(slot).as_mut_ptr::<Record>();
        // SAFETY: (1) a chunk is cut after the records of its slots were made, which are mapped for ever; (2) and (3) as above.
        unsafe { &*record }
    }

    /// The line of CPU number `cpu`, one of those that this was initialised for.
    #[inline]
    pub(crate) fn line(&self, cpu: usize) -> &'a Line<P> {
        debug_assert!(cpu < self.layout.cpus);
        // SAFETY: (1) lines are made with the vmalloc, and never unmapped; (2) shared access only: what one CPU owns in them is in a cell
        // that wants a guard.
        unsafe { &*self.layout.line(cpu).as_mut_ptr::<Line<P>>() }
    }

    /// Makes the records of all chunks below number `end`. For whoever has the central lock.
    pub(crate) fn make_chunks(&self, end: u32) -> Result<(), MetaError<P::Error>> {
        let mut made = self.made.load(Ordering::Relaxed);
        while made < end {
            let page = made / Layout::<P>::CHUNKS_A_PAGE * Layout::<P>::CHUNKS_A_PAGE;
            make_pages(self.pager, Pages::new(self.layout.chunk_record(ChunkIndex::new(page)), 1))?;
            made = page + Layout::<P>::CHUNKS_A_PAGE;
            // Release: the mapping before the number that announces it.
            self.made.store(made.min(self.layout.chunks), Ordering::Release);
        }
        Ok(())
    }

    /// Makes the records of the first `slots` slots of `chunk`. For whoever has taken it.
    pub(crate) fn make_slots(&self, chunk: ChunkIndex, slots: usize) -> Result<(), MetaError<P::Error>> {
        let pages = &self.known_chunk(chunk).record_pages;
        let made = pages.load(Ordering::Relaxed) as usize;
        let Some(more) = self.layout.slot_record_pages(chunk, slots, made) else { return Ok(()) };
        make_pages(self.pager, more)?;
        pages.store((made + more.count()) as u32, Ordering::Relaxed);
        Ok(())
    }

    /// How many pages the area of `record` has.
    #[inline]
    pub(crate) fn pages_of(record: &Record) -> usize {
        record.bytes().div_ceil(P::PAGE_SIZE)
    }

    /// The pages of the area in a slot.
    #[inline]
    pub(crate) fn mapping(&self, record: &Record) -> Mapping {
        let pages = Pages::new(self.layout.address(record.page()), Self::pages_of(record));
        Mapping::new(pages, record.hint())
    }

    /// The address at which the area of `record` begins.
    #[inline]
    pub(crate) fn start(&self, record: &Record) -> VirtAddr {
        self.layout.address(record.page())
    }

    /// How many chunks an area of `pages` pages has: its guard is in the last one.
    pub(crate) const fn chunks_for(pages: usize) -> usize {
        (pages + 1).div_ceil(P::CHUNK_PAGES)
    }

    /// The pages of the chunk's piece of whatever area has it.
    pub(crate) fn piece(&self, chunk: ChunkIndex) -> Pages {
        self.layout.chunk_pages(chunk, self.known_chunk(chunk).pages())
    }

    /// How many pages of chunks' records there are.
    pub(crate) fn chunk_record_pages(&self) -> u64 {
        let made = self.made.load(Ordering::Acquire);
        let each = Layout::<P>::CHUNKS_A_PAGE;
        if made == self.layout.first { 0 } else { u64::from(made.div_ceil(each) - self.layout.first / each) }
    }

    /// The chunks that have records, and were used.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (ChunkIndex, &'a Chunk, State)> + use<'a, P> {
        let meta = *self;
        let all = (self.layout.first..self.made.load(Ordering::Acquire)).map(ChunkIndex::new);
        all.map(move |index| (index, meta.known_chunk(index))).map(|(index, chunk)| (index, chunk, chunk.state()))
    }
}

impl<P: Pager> Chunks for Meta<'_, P> {
    #[inline]
    fn chunk(&self, chunk: ChunkIndex) -> &Chunk {
        self.known_chunk(chunk)
    }
}
