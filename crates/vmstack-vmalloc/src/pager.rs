//! The seam: what a kernel gives beside [`Platform`], so that it gets a vmalloc.
//!
//! Two methods are required, for frames that are somebody else's. The others make what a kernel can do better than the safe default: frames
//! that need not be cleared, large pages, whole leaf tables taken away at once.
//!
//! # Chunks
//!
//! The range of a [`Vmalloc`](crate::Vmalloc) is cut into *chunks*: what one leaf table maps, 2 MiB where pages have 4 KiB. A chunk is either cut
//! into equal slots for areas of about one size, or it belongs to one area alone, the last page of it being a guard at least. No mapping of an
//! area crosses from one chunk to the next.
//!
//! ```text
//!   a slot of a chunk      populate (take_uncleared | take_frames ──> map) ──> unmap ─> give_frames
//!   a chunk of one area    take_uncleared | take_frames ──> map_chunk ─> unmap_chunk ─> give_frames
//!                          take_large ────────────────────────┘
//!   an empty chunk         take_table ───────────────────────────────────────────────> give_frames
//!   lent frames            lend ──> map_lent ─────────────> unmap | unmap_chunk ──────> give_lent
//! ```

use core::fmt;

use vmstack::{Hint, Mapping, NotMapped, Pages, PhysAddr, Platform, Unmapped};

use crate::tag::Tag;

/// Why the pages of an area got no frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotPopulated<E> {
    /// There are none.
    NoFrames(E),
    /// They could not be mapped.
    NotMapped(E),
}

/// What a kernel provides to get a vmalloc, beside [`Platform`].
///
/// # Implementation safety
///
/// 1. All that [`Platform`] asks for holds, of the range of a [`Vmalloc`](crate::Vmalloc) as of that of a stack area, except that frames from
///    [`take_uncleared`](Self::take_uncleared) may hold anything.
/// 2. [`map`](Platform::map) and [`unmap`](Platform::unmap) take up to half a chunk of pages of an area, in one chunk; `map` also takes the pages of
///    records, which are never unmapped: those of all CPUs at once, when the vmalloc is initialised. What `unmap` gives is right for pages that
///    [`map_lent`](Self::map_lent) mapped, too.
/// 3. What [`map_chunk`](Self::map_chunk) maps is what it was given: exactly these pages, readable and writable and never executable, with the
///    frames that it was given and no others.
/// 4. After [`unmap_chunk`](Self::unmap_chunk) nothing is mapped in the chunk, and after [`take_table`](Self::take_table) neither.
/// 5. [`give_lent`](Self::give_lent) never gives the lent frames back to the frame allocator.
pub unsafe trait Pager: Platform {
    /// With which rights, and how cached, frames are mapped that somebody lends.
    type Attributes: Copy + Send;

    /// How many pages a chunk has, those that one leaf table maps: a power of two, and a 32nd of a page's bytes at least (128, where pages have 4 KiB), so that the
    /// records of its slots fill pages.
    const CHUNK_PAGES: usize = Self::PAGE_SIZE / 8;

    /// Takes `count` frames, which may hold anything. All of them or none. The default takes frames that read as zero.
    ///
    /// # Context
    ///
    /// Under a guard. Does not sleep.
    ///
    /// # Errors
    ///
    /// The platform's reason why there are not so many.
    fn take_uncleared(&self, count: usize) -> Result<Self::Frames, Self::Error> {
        self.take_frames(count)
    }

    /// Takes frames for the pages of `mapping`, which with `zeroed` read as zero, and maps them there: what [`take_uncleared`](Self::take_uncleared) or
    /// [`take_frames`](Platform::take_frames), and [`map`](Platform::map) do one after the other, as it does by default. To be provided where that is
    /// cheaper together.
    ///
    /// # Context
    ///
    /// Under a guard. Does not sleep.
    ///
    /// # Errors
    ///
    /// [`NotPopulated`]. Then nothing is mapped, and no frame is taken.
    ///
    /// # Safety
    ///
    /// As for [`map`](Platform::map).
    unsafe fn populate(&self, mapping: Mapping, zeroed: bool) -> Result<Hint, NotPopulated<Self::Error>> {
        let count = mapping.pages().count();
        let taken = if zeroed { self.take_frames(count) } else { self.take_uncleared(count) };
        // SAFETY: the caller's promise; as many frames were taken.
        unsafe { self.map(mapping, taken.map_err(NotPopulated::NoFrames)?) }.map_err(|failed| {
            self.give_frames(failed.frames);
            NotPopulated::NotMapped(failed.reason)
        })
    }

    /// Takes the frames of a whole chunk, side by side and aligned, so that they can be mapped by one large page. With `zeroed` they read as zero.
    /// None if there are none: then single ones are asked for. The default has none.
    ///
    /// # Context
    ///
    /// Under a guard. Does not sleep.
    fn take_large(&self, zeroed: bool) -> Option<Self::Frames> {
        let _ = zeroed;
        None
    }

    /// Maps `frames` at `pages`, the first of a chunk, in which nothing else is mapped or will be before [`unmap_chunk`](Self::unmap_chunk).
    ///
    /// Frames from [`take_large`](Self::take_large) come with all of a chunk's pages. The default is [`map`](Platform::map).
    ///
    /// # Context
    ///
    /// Under a guard. Does not sleep.
    ///
    /// # Errors
    ///
    /// [`NotMapped`], with the frames, if page-table memory cannot be had. Then nothing is mapped.
    ///
    /// # Safety
    ///
    /// The pages lie in the range of a vmalloc on this platform, in one chunk, from its beginning; nothing is mapped in the chunk, and no CPU remembers that
    /// there was; `frames` holds as many frames.
    unsafe fn map_chunk(&self, pages: Pages, frames: Self::Frames) -> Result<(), NotMapped<Self>> {
        // SAFETY: the caller's promise.
        unsafe { self.map(Mapping::new(pages, Hint::default()), frames) }.map(drop)
    }

    /// Takes away what [`map_chunk`](Self::map_chunk), or [`map_lent`](Self::map_lent) for the first pages of a chunk that belongs to one area, mapped:
    /// with it the leaf table of the chunk, if the platform wishes. What it returns holds all of that back. The default is [`unmap`](Platform::unmap).
    ///
    /// # Context
    ///
    /// Under a guard. Does not sleep, does not fail, does not need memory (INV-FREE).
    ///
    /// # Safety
    ///
    /// It was mapped so, and nobody uses the memory any more.
    unsafe fn unmap_chunk(&self, pages: Pages) -> Unmapped<Self> {
        // SAFETY: the caller's promise.
        unsafe { self.unmap(Mapping::new(pages, Hint::default())) }
    }

    /// Takes the leaf table of `chunk` away, in which nothing is mapped. None if it is to stay, as by default.
    ///
    /// What the platform said of the chunk's pages in a [`Hint`] is forgotten with it: it is asked again before it hears of any of them.
    ///
    /// # Context
    ///
    /// As [`unmap_chunk`](Self::unmap_chunk).
    ///
    /// # Safety
    ///
    /// `chunk` is a whole chunk in the range of a vmalloc on this platform. Nothing is mapped in it, nothing that was is still held back, and nobody maps anything there
    /// before what is returned was given back.
    unsafe fn take_table(&self, chunk: Pages) -> Option<Unmapped<Self>> {
        let _ = chunk;
        None
    }

    /// Notes that `frame` is about to be mapped by [`Vmalloc::vmap`](crate::Vmalloc::vmap) or the like. Refused where the kernel forbids that: because the frame is lent
    /// already and must not be mapped twice, for instance. The default refuses none.
    ///
    /// # Context
    ///
    /// Under a guard. Does not sleep.
    ///
    /// # Errors
    ///
    /// The platform's reason.
    fn lend(&self, frame: PhysAddr) -> Result<(), Self::Error> {
        let _ = frame;
        Ok(())
    }

    /// Takes back what [`lend`](Self::lend) noted of a frame: it was not mapped after all, or its area is being freed. It may be lent again from here on, though a
    /// TLB may still know the way to it.
    ///
    /// # Context
    ///
    /// As [`lend`](Self::lend).
    fn unlend(&self, frame: PhysAddr) {
        let _ = frame;
    }

    /// Maps frames that somebody lends at the pages of `mapping`, one each, in order. All or nothing. Returns what [`map`](Platform::map) would.
    ///
    /// # Context
    ///
    /// Under a guard. Does not sleep.
    ///
    /// # Errors
    ///
    /// The platform's reason: page-table memory cannot be had, or there is no mapping a frame so. Then nothing is mapped.
    ///
    /// # Safety
    ///
    /// The pages lie in the range of a vmalloc on this platform, in one chunk, and none of them is mapped; `frames` gives as many frames, which
    /// their owner allows to be used as `attributes` say until they come back by [`give_lent`](Self::give_lent).
    unsafe fn map_lent(
        &self,
        mapping: Mapping,
        frames: impl Iterator<Item = PhysAddr>,
        attributes: Self::Attributes,
    ) -> Result<Hint, Self::Error>;

    /// Hears that no CPU has a translation of these lent frames any more. They stay their owner's; what else the token held, a leaf table for instance, goes
    /// back to where it came from.
    ///
    /// # Context
    ///
    /// Under a guard. Does not sleep, does not fail, does not need memory (INV-FREE).
    fn give_lent(&self, frames: Self::Frames);

    /// Writes the tag of an area, for a listing or a report. The default writes the file and the line of the caller.
    ///
    /// # Context
    ///
    /// Fault path: takes no lock, touches only memory that cannot fault.
    ///
    /// # Errors
    ///
    /// Only the error of `out`.
    fn write_tag(&self, tag: Tag, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{tag}")
    }
}
