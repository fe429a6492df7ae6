//! Chunks: what one is cut into, or whose it is.
//!
//! ```text
//!   Fresh ──> Taken ──> Cut(class) ──all slots free──> Taken ──(its table goes)──> Free
//!               │  └──> Head, Body, Body ... (one area) ──all flushed──────────────> Free
//!               ^                                                                      │
//!               └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A chunk's record is two cache lines, of atomics that are valid as zero. The first is a [`Record`]: of the area, if one begins in this chunk
//! and has it alone; and of the frames of this chunk, while they wait for a flush. What the second says belongs to whoever has the central lock,
//! but for `state`, which any context may read.

use crate::class::Class;
use crate::layout::ChunkIndex;
use crate::record::Record;
use crate::sync::{AtomicU32, Ordering};

/// What a chunk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Never used.
    Fresh,
    /// Nobody's.
    Free,
    /// On its way from one thing to another.
    Taken,
    /// Cut into slots.
    Cut(Class),
    /// The first of an area.
    Head,
    /// One of an area, but not the first.
    Body,
}

const FRESH: u32 = 0;
const FREE: u32 = 1;
const TAKEN: u32 = 2;
const HEAD: u32 = 3;
const BODY: u32 = 4;
const CUT: u32 = 5;
const CLASS_SHIFT: u32 = 8;

impl State {
    const fn pack(self) -> u32 {
        match self {
            Self::Fresh => FRESH,
            Self::Free => FREE,
            Self::Taken => TAKEN,
            Self::Head => HEAD,
            Self::Body => BODY,
            Self::Cut(class) => CUT | (class.index() as u32) << CLASS_SHIFT,
        }
    }

    #[inline]
    const fn unpack(word: u32) -> Self {
        match word & ((1 << CLASS_SHIFT) - 1) {
            FRESH => Self::Fresh,
            FREE => Self::Free,
            HEAD => Self::Head,
            BODY => Self::Body,
            CUT => Self::Cut(Class::new((word >> CLASS_SHIFT) as usize)),
            _ => Self::Taken,
        }
    }
}

/// The record of one chunk.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The area that begins here, if it has the chunk alone; and the frames of this chunk on their way.
    pub(crate) record: Record,
    state: AtomicU32,
    /// In an area of several chunks: the first of them.
    head: AtomicU32,
    /// In an area's first chunk: how many of its chunks are not flushed yet.
    left: AtomicU32,
    /// How many pages of slot records there are: they stay.
    pub(crate) record_pages: AtomicU32,
    /// In the first and the last chunk of a free run: how long that is.
    pub(crate) run: AtomicU32,
    /// The neighbours on a list: of free runs of one size, or of chunks of one class that have free slots. Plus one; zero: none.
    pub(crate) next: AtomicU32,
    pub(crate) previous: AtomicU32,
    /// Cut: the first of the free slots that no CPU keeps, plus one; and how many they are.
    pub(crate) free: AtomicU32,
    pub(crate) free_slots: AtomicU32,
    /// How many pages of this chunk an area maps, and whether by a large one.
    pages: AtomicU32,
}

/// The chunk is mapped by a large page.
const IS_LARGE: u32 = 1 << 31;

impl Chunk {
    /// Any context.
    #[inline]
    pub(crate) fn state(&self) -> State {
        // Acquire: pairs with the Release in `set_state`: whoever sees a chunk cut sees its slots' records.
        State::unpack(self.state.load(Ordering::Acquire))
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state.pack(), Ordering::Release);
    }

    /// The first chunk of the area that this one belongs to.
    #[inline]
    pub(crate) fn head(&self) -> ChunkIndex {
        ChunkIndex::new(self.head.load(Ordering::Relaxed))
    }

    /// Makes it one of the area that begins with `head`, which maps `pages` pages of it.
    pub(crate) fn join(&self, head: ChunkIndex, pages: usize, state: State) {
        self.head.store(head.get(), Ordering::Relaxed);
        self.pages.store(pages as u32, Ordering::Relaxed);
        self.set_state(state);
    }

    /// How many pages of this chunk an area maps.
    pub(crate) fn pages(&self) -> usize {
        (self.pages.load(Ordering::Relaxed) & !IS_LARGE) as usize
    }

    /// Notes that a large page maps it.
    pub(crate) fn set_large(&self) {
        self.pages.store(self.pages.load(Ordering::Relaxed) | IS_LARGE, Ordering::Relaxed);
    }

    /// Whether a large page maps it.
    pub(crate) fn is_large(&self) -> bool {
        self.pages.load(Ordering::Relaxed) & IS_LARGE != 0
    }

    /// So many chunks of the area that begins here will each say [`one_is_flushed`](Self::one_is_flushed).
    pub(crate) fn expect(&self, chunks: u32) {
        self.left.store(chunks, Ordering::Relaxed);
    }

    /// Counts off a chunk of the area that begins here. True for the last one.
    pub(crate) fn one_is_flushed(&self) -> bool {
        // AcqRel: what was done for the other chunks, on whichever CPU, comes before what the last one does.
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }
}
