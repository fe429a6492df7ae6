//! Records: what is remembered of a slot, or of a chunk that belongs to one area.
//!
//! A record is a cache line of atomics, all of them valid as zero. It is never unmapped, so any context may read one.
//!
//! ```text
//!               alloc                mapped             free                  flushed
//!   Free ──────────────> Building ───────────> Live ───────────> Dying ─────────────────> Free
//!                            │ no memory                            (frames in the record)
//!                            └───────────────> Free or Dying
//! ```
//!
//! Whoever holds a slot writes to its record by plain stores. `Live` to `Dying` is what two CPUs may want at once, by a mistake of the kernel: it
//! is one exchange of the `life` word, which counts generations, and who comes second is told so ([`Record::claim`]).

use vmstack::{Hint, Retiring};

use crate::class::{CLASSES, Class};
use crate::request::Kind;
use crate::sync::{AtomicU32, AtomicUsize, Ordering};
use crate::tag::Tag;

/// A phase in the life of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Phase {
    /// No area is there. What the last one was is remembered.
    Free = 0,
    /// An area is on its way.
    Building = 1,
    /// An area is there.
    Live = 2,
    /// It was freed, and not every CPU has forgotten it.
    Dying = 3,
}

const PHASE_MASK: u32 = 3;
/// One generation, in the life word. They count modulo 2^30.
const GENERATION: u32 = PHASE_MASK + 1;

/// The life word of a record at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Life(u32);

impl Life {
    /// The life `word`.
    #[inline]
    pub(crate) const fn new(word: u32) -> Self {
        Self(word)
    }

    /// As a word.
    #[inline]
    pub(crate) const fn get(self) -> u32 {
        self.0
    }

    #[inline]
    pub(crate) const fn phase(self) -> Phase {
        match self.0 & PHASE_MASK {
            0 => Phase::Free,
            1 => Phase::Building,
            2 => Phase::Live,
            _ => Phase::Dying,
        }
    }

    const fn with(self, phase: Phase) -> Self {
        Self(self.0 & !PHASE_MASK | phase as u32)
    }
}

/// The right to say that the area is there, of whoever [builds](Record::build) it.
#[derive(Debug)]
pub(crate) struct Building(Life);

/// What a record says of its area.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) life: Life,
    /// The number of its first page in the range.
    pub(crate) page: u32,
    pub(crate) bytes: usize,
    pub(crate) kind: Kind,
    /// How many of its chunks are mapped by a large page.
    pub(crate) large: usize,
    pub(crate) tag: Tag,
}

const KIND_MASK: u32 = 0xf;
const CLASS_SHIFT: u32 = 4;
const LARGE_SHIFT: u32 = 10;
const LARGE: u32 = 1 << LARGE_SHIFT;
const _: () = assert!(CLASSES <= 1 << (LARGE_SHIFT - CLASS_SHIFT), "a class fits between the kind and the large pages");

/// The record of one slot, or of one chunk.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Record {
    life: AtomicU32,
    page: AtomicU32,
    bytes: AtomicUsize,
    tag: AtomicUsize,
    /// The next one of the chain that this one is on, plus one.
    pub(crate) next: AtomicU32,
    /// The kind; the class, of a slot; how many chunks are large.
    detail: AtomicU32,
    hint: AtomicUsize,
    /// What was mapped, while not every CPU has forgotten it.
    pub(crate) frames: Retiring,
}

impl Record {
    #[cfg(all(loom, test))]
    fn new() -> Self {
        Self {
            life: AtomicU32::new(0),
            page: AtomicU32::new(0),
            bytes: AtomicUsize::new(0),
            tag: AtomicUsize::new(0),
            next: AtomicU32::new(0),
            detail: AtomicU32::new(0),
            hint: AtomicUsize::new(0),
            frames: Retiring::new(),
        }
    }

    #[inline]
    pub(crate) fn life(&self) -> Life {
        // Acquire: pairs with the Release of every transition: whoever sees a phase sees what led to it.
        Life(self.life.load(Ordering::Acquire))
    }

    /// The number of its first page in the range. It changes only when its chunk does.
    #[inline]
    pub(crate) fn page(&self) -> u32 {
        self.page.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn kind(&self) -> Kind {
        Kind::from_index(self.detail.load(Ordering::Relaxed) & KIND_MASK)
    }

    /// The class of the chunk, of a slot that has or had an area.
    #[inline]
    pub(crate) fn class(&self) -> Class {
        Class::new((self.detail.load(Ordering::Relaxed) >> CLASS_SHIFT) as usize)
    }

    #[inline]
    pub(crate) fn hint(&self) -> Hint {
        Hint::new(self.hint.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn set_hint(&self, hint: Hint) {
        self.hint.store(hint.get(), Ordering::Relaxed);
    }

    /// Everything, of one moment. None if no area was ever there, or one is just coming or going.
    pub(crate) fn said(&self) -> Option<Said> {
        let life = self.life();
        let (page, bytes) = (self.page(), self.bytes());
        let (tag, detail) = (self.tag.load(Ordering::Relaxed), self.detail.load(Ordering::Relaxed));
        // Acquire: what was read above is read before this. If no life ended or began between, it belongs together.
        crate::sync::fence(Ordering::Acquire);
        if self.life.load(Ordering::Relaxed) != life.0 || life.phase() == Phase::Building {
            return None;
        }
        // SAFETY: whatever was written there is a tag's word, or zero.
        let tag = unsafe { Tag::from_word(tag) }?;
        let (kind, large) = (Kind::from_index(detail & KIND_MASK), (detail >> LARGE_SHIFT) as usize);
        Some(Said { life, page, bytes, kind, large, tag })
    }

    /// Makes it that of a slot or chunk from page number `page` on, of which the platform says `hint`, with no area, and none remembered. For whoever holds the chunk.
    #[inline]
    pub(crate) fn lay_out(&self, page: u32, hint: Hint) {
        let life = Life(self.life.load(Ordering::Relaxed));
        self.life.store(life.with(Phase::Building).0.wrapping_add(GENERATION), Ordering::Relaxed);
        // Release, here and in `build`: whoever sees what is written from here on sees that something is being written.
        crate::sync::fence(Ordering::Release);
        self.page.store(page, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.tag.store(0, Ordering::Relaxed);
        self.detail.store(0, Ordering::Relaxed);
        self.set_hint(hint);
        self.set_free();
    }

    /// Begins an area, in a slot of `class` if it is a slot. For whoever holds the slot or chunk.
    #[inline]
    pub(crate) fn build(&self, bytes: usize, kind: Kind, class: Class, tag: Tag) -> Building {
        let life = Life(self.life.load(Ordering::Relaxed));
        debug_assert_eq!(life.phase(), Phase::Free);
        let building = Life(life.0.wrapping_add(GENERATION + Phase::Building as u32));
        self.life.store(building.0, Ordering::Relaxed);
        crate::sync::fence(Ordering::Release);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.tag.store(tag.word(), Ordering::Relaxed);
        self.detail.store(kind as u32 | (class.index() as u32) << CLASS_SHIFT, Ordering::Relaxed);
        Building(building)
    }

    /// Counts a chunk that is mapped by a large page.
    pub(crate) fn note_large(&self) {
        let detail = self.detail.load(Ordering::Relaxed);
        self.detail.store(detail + LARGE, Ordering::Relaxed);
    }

    #[inline]
    fn store(&self, phase: Phase) {
        let life = Life(self.life.load(Ordering::Relaxed));
        // Release: as said in `life`.
        self.life.store(life.with(phase).0, Ordering::Release);
    }

    /// The area is there. Returns its life.
    #[inline]
    pub(crate) fn set_live(&self, building: Building) -> Life {
        let live = Life(building.0.0 + (Phase::Live as u32 - Phase::Building as u32));
        // Release: as said in `life`.
        self.life.store(live.0, Ordering::Release);
        live
    }

    /// What was there is not any more: unmapped, but not forgotten by every CPU. For whoever builds it, and cannot.
    #[inline]
    pub(crate) fn set_dying(&self) {
        // No area was ever there that somebody could ask for, or free.
        self.tag.store(0, Ordering::Relaxed);
        self.store(Phase::Dying);
    }

    /// No area is there, and every CPU has forgotten the last one.
    #[inline]
    pub(crate) fn set_free(&self) {
        self.store(Phase::Free);
    }

    /// There was never an area: what was begun could not be had. For whoever builds it.
    #[cold]
    pub(crate) fn forget(&self) {
        self.tag.store(0, Ordering::Relaxed);
        self.set_free();
    }

    /// Ends the life of the area that the record had at `life`, which was live. False if it has ended already: by somebody else, who came first.
    #[inline]
    #[must_use]
    pub(crate) fn claim(&self, life: Life) -> bool {
        let dying = life.with(Phase::Dying).0;
        // AcqRel: what the area's owner did comes before; whoever frees it later sees that it is dying.
        self.life.compare_exchange(life.0, dying, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(all(loom, test))]
mod models;
