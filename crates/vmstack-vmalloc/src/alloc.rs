//! From a request to an area of memory: the long way.
//!
//! ```text
//!   request ──> a slot of its class ──> frames in bulk ──> one batch of entries ──> Live
//!          └──> a run of chunks ─┬─> a large page, or frames and a leaf table ─┐
//!                                └────────────── for each chunk ──────────────┴──> Live
//! ```
//!
//! A slot takes one section under the platform's guard. Chunks take one each, so that interrupts are never off for longer than one chunk's frames take;
//! nobody else knows the addresses yet. What fails is undone: a slot was never mapped, and chunks that were are freed as an area is, by a shootdown.

use vmstack::{Hint, Mapping, Pages};

use crate::area::{Area, Place};
use crate::chunk::State;
use crate::class::Class;
use crate::error::AreaError;
use crate::here::Here;
use crate::layout::{ChunkIndex, Layout};
use crate::meta::Meta;
use crate::pager::Pager;
use crate::record::{Building, Record};
use crate::request::{Kind, Request};
use crate::runs::{Fit, Run};
use crate::size::Serving;
use crate::vmalloc::{NotHere, Vmalloc};

/// What an area gets, or why not.
pub type Made<P, T> = Result<T, AreaError<<P as vmstack::Platform>::Error>>;

impl<P: Pager> Vmalloc<P> {
    /// Allocates `bytes` bytes, which may hold anything, for the caller.
    ///
    /// # Context
    ///
    /// As [`alloc_waiting`](Self::alloc_waiting).
    ///
    /// # Errors
    ///
    /// As [`alloc_waiting`](Self::alloc_waiting).
    #[track_caller]
    pub fn vmalloc(&self, bytes: usize) -> Made<P, Area<'_, P>> {
        self.alloc_waiting(&Request::new(bytes))
    }

    /// Allocates `bytes` bytes, which read as zero, for the caller.
    ///
    /// # Context
    ///
    /// As [`alloc_waiting`](Self::alloc_waiting).
    ///
    /// # Errors
    ///
    /// As [`alloc_waiting`](Self::alloc_waiting).
    #[track_caller]
    pub fn vzalloc(&self, bytes: usize) -> Made<P, Area<'_, P>> {
        self.alloc_waiting(&Request::new(bytes).zeroed())
    }

    /// Allocates what `request` says, however that is served.
    #[cold]
    #[inline(never)]
    pub(crate) fn alloc_slowly(&self, request: &Request) -> Made<P, Area<'_, P>> {
        let meta = self.meta().ok_or(NotHere::NotInitialised)?;
        let (pages, serving) = meta.layout.serve(request)?;
        match serving {
            Serving::Slot(class) => {
                let memory = |here: &Here<'_, P>, record: &Record| here.map_memory(record, pages, request.zeroed);
                self.fill_slot(request, Kind::Memory, class, memory)
            }
            Serving::Chunks(fit) => self.fill_chunks(request, Kind::Memory, fit, |here, head, chunk, pages| {
                here.map_chunk(head, chunk, pages, request)
            }),
        }
    }

    /// Allocates as [`alloc`](Self::alloc) does, but before it says that there are no frames, records or addresses, gives back what lies unmapped, and
    /// waits for the shootdowns that this takes.
    ///
    /// # Context
    ///
    /// Task that may wait; not under a guard or a lock that other CPUs may wait for.
    ///
    /// # Errors
    ///
    /// [`AreaError`]; then nothing is kept.
    pub fn alloc_waiting(&self, request: &Request) -> Made<P, Area<'_, P>> {
        self.or_drained(|| self.alloc(request))
    }

    /// Does `attempt` once more, if it fails for want of what a drain may free.
    pub(crate) fn or_drained<T>(&self, attempt: impl Fn() -> Made<P, T>) -> Made<P, T> {
        attempt().or_else(|error| match error {
            AreaError::NoFrames(_) | AreaError::NoRecords(_) | AreaError::NotMapped(_) | AreaError::NoSpace { .. } => {
                self.pressure();
                self.drain();
                attempt()
            }
            error => Err(error),
        })
    }

    /// Allocates addresses alone, as `request` says, and maps nothing: for modules, I/O and the like. Whether it is to read as zero is not looked at.
    ///
    /// Whoever maps pages there unmaps and flushes them before the area is freed, and takes the page tables away that were made for them.
    ///
    /// # Context
    ///
    /// As [`alloc`](Self::alloc).
    ///
    /// # Errors
    ///
    /// [`AreaError`]; then nothing is kept.
    pub fn reserve(&self, request: &Request) -> Made<P, Area<'_, P>> {
        let meta = self.meta().ok_or(NotHere::NotInitialised)?;
        match meta.layout.serve(request)?.1 {
            Serving::Slot(class) => self.fill_slot(request, Kind::Reserved, class, |_, _| Ok(())),
            Serving::Chunks(fit) => self.fill_chunks(request, Kind::Reserved, fit, |_, _, _, _| Ok(())),
        }
    }

    /// An area in a slot of `class`, in which `map` maps what there is to map.
    #[inline]
    pub(crate) fn fill_slot(
        &self,
        request: &Request,
        kind: Kind,
        class: Class,
        map: impl FnOnce(&Here<'_, P>, &Record) -> Made<P, ()>,
    ) -> Made<P, Area<'_, P>> {
        let guard = self.pager().enter();
        let mut here = self.here(&guard)?;
        let (slot, record) = match here.take_slot(class) {
            Ok(taken) => taken,
            Err(no_room) => return Err(here.refused(no_room.of(request.bytes))),
        };
        let building = record.build(request.bytes, kind, class, request.tag);
        if let Err(error) = map(&here, record) {
            record.forget();
            here.keep(class, slot.get(), record);
            return Err(here.refused(error));
        }
        let life = record.set_live(building);
        here.count_allocated(kind, Meta::<P>::pages_of(record));
        let place = if kind == Kind::Memory { Place::Memory(slot) } else { Place::Slot(slot) };
        Ok(Area::new(self, here.meta.start(record), request.bytes, place, life))
    }

    /// An area of a run of chunks, in each of which `map` maps its piece.
    #[inline(never)]
    pub(crate) fn fill_chunks(
        &self,
        request: &Request,
        kind: Kind,
        fit: Fit,
        mut map: impl FnMut(&Here<'_, P>, &Record, ChunkIndex, Pages) -> Made<P, ()>,
    ) -> Made<P, Area<'_, P>> {
        let (run, meta, building) = self.begin_chunks(request, kind, fit)?;
        let head = &meta.known_chunk(run.start).record;
        for number in 0..run.len {
            let (guard, chunk) = (self.pager().enter(), run.start.up(number));
            let here = self.here(&guard)?;
            if let Err(error) = map(&here, head, chunk, meta.piece(chunk)) {
                let error = here.refused(error);
                drop(guard);
                self.give_up(run, number);
                return Err(error);
            }
        }
        let life = head.set_live(building);
        let guard = self.pager().enter();
        self.here(&guard)?.count_allocated(kind, Meta::<P>::pages_of(head));
        Ok(Area::new(self, meta.start(head), request.bytes, Place::Chunks(run.start), life))
    }

    /// Takes a run of chunks for an area that is on its way.
    fn begin_chunks(&self, request: &Request, kind: Kind, fit: Fit) -> Made<P, (Run, Meta<'_, P>, Building)> {
        let guard = self.pager().enter();
        let here = self.here(&guard)?;
        let meta = self.meta().ok_or(NotHere::NotInitialised)?;
        let run = here.take_run(fit).map_err(|no_room| here.refused(no_room.of(request.bytes)))?;
        let (first, pages) = (meta.known_chunk(run.start), request.bytes.div_ceil(P::PAGE_SIZE));
        first.record.lay_out(Layout::<P>::first_page(run.start), Hint::default());
        let building = first.record.build(request.bytes, kind, Class::new(0), request.tag);
        first.expect(run.len);
        for number in 0..run.len {
            let left = pages - number as usize * P::CHUNK_PAGES;
            let state = if number == 0 { State::Head } else { State::Body };
            meta.known_chunk(run.start.up(number)).join(run.start, left.min(P::CHUNK_PAGES), state);
        }
        Ok((run, meta, building))
    }
}

impl<P: Pager> Here<'_, P> {
    fn count_allocated(&self, kind: Kind, pages: usize) {
        let counters = &self.line.counters;
        counters.allocated.bump();
        if kind != Kind::Reserved {
            counters.mapped.add(pages as u64);
        }
    }

    #[cold]
    pub(crate) fn refused(&self, error: AreaError<P::Error>) -> AreaError<P::Error> {
        self.line.counters.refused.bump();
        error
    }

    /// Maps frames for the `pages` pages of a slot.
    fn map_memory(&self, record: &Record, pages: usize, zeroed: bool) -> Made<P, ()> {
        let mapping = Mapping::new(Pages::new(self.meta.start(record), pages), record.hint());
        // SAFETY: as in `Vmalloc::alloc`: the slot was free.
        record.set_hint(unsafe { self.meta.pager.populate(mapping, zeroed) }?);
        Ok(())
    }

    /// Maps frames for the pages of one chunk of the area of `head`.
    fn map_chunk(&self, head: &Record, chunk: ChunkIndex, pages: Pages, request: &Request) -> Made<P, ()> {
        let pager = self.meta.pager;
        if pages.count() == 0 {
            return Ok(());
        }
        let whole = pages.count() == P::CHUNK_PAGES && !request.small_pages;
        let large = if whole { pager.take_large(request.zeroed) } else { None };
        let is_large = large.is_some();
        let frames = large.map_or_else(|| take(pager, pages.count(), request.zeroed), Ok)?;
        // SAFETY: (1) the pages are the first of one chunk; (2) the chunk was free, so nothing is mapped in it, and no CPU remembers that anything was (it
        // became free after its shootdown); (3) as many frames were taken.
        match unsafe { pager.map_chunk(pages, frames) } {
            Ok(()) if is_large => {
                self.meta.known_chunk(chunk).set_large();
                head.note_large();
                Ok(())
            }
            Ok(()) => Ok(()),
            Err(failed) => {
                pager.give_frames(failed.frames);
                Err(AreaError::NotMapped(failed.reason))
            }
        }
    }
}

#[inline]
fn take<P: Pager>(pager: &P, count: usize, zeroed: bool) -> Made<P, P::Frames> {
    let taken = if zeroed { pager.take_frames(count) } else { pager.take_uncleared(count) };
    taken.map_err(AreaError::NoFrames)
}
