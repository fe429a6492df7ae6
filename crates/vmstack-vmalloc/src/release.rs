//! Freeing: from an address or a handle to pieces that are unmapped and wait for a shootdown.
//!
//! ```text
//!   address ──> its chunk's state ──> record ──> does the area begin there? is it alive?
//!                                                    │ no: an error of its own, and nothing is done
//!                                    claim (one exchange) ──> unmap ──> pending
//! ```
//!
//! Nothing here sleeps, waits or needs memory: what must be remembered lies in the records (INV-FREE).
//!
//! Contexts: task and interrupt. Never NMI, never the fault path.

use vmstack::{Pages, VirtAddr};

use crate::area::Place;
use crate::chunk::State;
use crate::error::FreeError;
use crate::here::Here;
use crate::layout::{ChunkIndex, Layout, SlotIndex};
use crate::meta::Meta;
use crate::pager::Pager;
use crate::record::{Life, Phase, Record};
use crate::request::Kind;
use crate::runs::Run;
use crate::vmalloc::{NotHere, Vmalloc};

impl<P: Pager> Vmalloc<P> {
    /// Frees the area that begins at `addr`.
    ///
    /// Its pages are unmapped when this returns. They may be reached through a TLB until the shootdown of this CPU's batch; after that their frames go
    /// back, and then the addresses may be somebody else's (INV-FRAME).
    ///
    /// # Context
    ///
    /// Task or interrupt, with or without a guard. Does not sleep and needs no memory; never NMI.
    ///
    /// # Errors
    ///
    /// [`FreeError`], if no area begins there that is alive. Then nothing has changed; but who frees a wrong address may go on to use one, so a kernel
    /// may well stop.
    #[inline]
    pub fn free(&self, addr: VirtAddr) -> Result<(), FreeError> {
        if self.free_quickly(addr) { Ok(()) } else { self.free_slowly(addr) }
    }

    /// The same, for whatever it is.
    #[cold]
    #[inline(never)]
    fn free_slowly(&self, addr: VirtAddr) -> Result<(), FreeError> {
        let meta = self.meta().ok_or(FreeError::NotOurs { addr })?;
        let place = self.place_of(&meta, addr)?;
        let record = meta.record_of(place);
        let life = record.life();
        if life.phase() != Phase::Live || meta.start(record) != addr {
            return Err(self.why_not(addr));
        }
        let ended = self.end_life(place, life).map_err(|not_here| match not_here {
            NotHere::NotInitialised => FreeError::NotOurs { addr },
            NotHere::UnknownCpu { cpu, cpus } => FreeError::UnknownCpu { cpu, cpus },
        })?;
        if ended { Ok(()) } else { Err(self.why_not(addr)) }
    }

    /// Where the record is of an area that may begin at `addr`.
    #[inline]
    fn place_of(&self, meta: &Meta<'_, P>, addr: VirtAddr) -> Result<Place, FreeError> {
        let page = meta.layout.page_of(addr).ok_or(FreeError::NotOurs { addr })?;
        let (index, inside) = Layout::<P>::split(page);
        let chunk = meta.try_chunk(index).ok_or_else(|| self.why_not(addr))?;
        match chunk.state() {
            State::Cut(class) if class.slot_of(inside) < class.slots_in(P::CHUNK_PAGES) => {
                Ok(Place::Slot(Layout::<P>::slot(index, class.slot_of(inside))))
            }
            State::Head => Ok(Place::Chunks(index)),
            _ => Err(self.why_not(addr)),
        }
    }

    /// Ends the life of the area in `place`, which is alive if it has this `life`. False if it has not: somebody else has ended it.
    fn end_life(&self, place: Place, life: Life) -> Result<bool, NotHere> {
        match place {
            Place::Memory(slot) | Place::Slot(slot) => self.end_slot(slot, life),
            Place::Chunks(first) => self.end_chunks(first, life),
        }
    }

    fn end_slot(&self, slot: SlotIndex, life: Life) -> Result<bool, NotHere> {
        let guard = self.pager().enter();
        let mut here = self.here(&guard)?;
        let record = here.meta.slot(slot);
        let claimed = record.claim(life);
        if claimed {
            here.retire_slot(slot, record);
        }
        Ok(claimed)
    }

    /// The same for an area of chunks. One section under the guard for each, entered from one place: a stack that has room for the first, which ends the
    /// life, has room for all.
    #[inline(never)]
    fn end_chunks(&self, first: ChunkIndex, life: Life) -> Result<bool, NotHere> {
        let meta = self.meta().ok_or(NotHere::NotInitialised)?;
        let head = &meta.known_chunk(first).record;
        let (mut number, mut chunks) = (0, 1);
        while number < chunks {
            let guard = self.pager().enter();
            let mut here = self.here(&guard)?;
            if number == 0 {
                if !head.claim(life) {
                    return Ok(false);
                }
                chunks = Meta::<P>::chunks_for(Meta::<P>::pages_of(head)) as u32;
                here.line.counters.freed.bump();
            }
            here.retire_chunk(first.up(number), head.kind());
            number += 1;
        }
        Ok(true)
    }

    /// Ends the `life` of an area whose owner lets go of it.
    #[inline]
    pub(crate) fn end(&self, place: Place, life: Life) {
        if let Place::Memory(slot) = place
            && self.end_quickly(slot, life)
        {
            return;
        }
        self.end_slowly(place, life);
    }

    #[cold]
    #[inline(never)]
    fn end_slowly(&self, place: Place, life: Life) {
        // Somebody may have freed it by its address, and was told that it is theirs; or this CPU is none of ours, and the area is leaked.
        let _ = self.end_life(place, life);
    }

    /// Frees what could be had of an area that cannot be had whole: the first `mapped` chunks of `run`.
    // In the frame of whoever mapped them: as in `end_chunks`.
    #[inline(always)]
    pub(crate) fn give_up(&self, run: Run, mapped: u32) {
        let Some(meta) = self.meta() else { return };
        let head = &meta.known_chunk(run.start).record;
        let kind = head.kind();
        head.set_dying();
        for number in 0..run.len {
            let guard = self.pager().enter();
            let Ok(mut here) = self.here(&guard) else { return };
            let chunk = run.start.up(number);
            if number >= mapped {
                let state = meta.known_chunk(chunk).state();
                meta.known_chunk(chunk).join(run.start, 0, state);
            }
            if number == mapped {
                here.retire_table(chunk, kind);
                continue;
            }
            here.line.counters.mapped.add(meta.piece(chunk).count() as u64);
            here.retire_chunk(chunk, kind);
        }
    }
}

impl<'a, P: Pager> Meta<'a, P> {
    /// The record of the area in `place`.
    #[inline]
    pub(crate) fn record_of(&self, place: Place) -> &'a Record {
        match place {
            Place::Memory(slot) | Place::Slot(slot) => self.slot(slot),
            Place::Chunks(chunk) => &self.known_chunk(chunk).record,
        }
    }
}

impl<P: Pager> Here<'_, P> {
    /// Tells the platform of the frames at `pages` of an area of `kind` that they are not lent any more, if they were.
    fn unlend(&self, kind: Kind, pages: Pages) {
        if kind.is_lent() {
            let pager = self.meta.pager;
            pages
                .addresses(P::PAGE_SIZE)
                .filter_map(|page| pager.translate(page))
                .for_each(|frame| pager.unlend(frame));
        }
    }

    /// Unmaps the area in `slot`, whose life this CPU has ended.
    #[inline]
    fn retire_slot(&mut self, slot: SlotIndex, record: &Record) {
        let (kind, mapping) = (record.kind(), self.meta.mapping(record));
        let pages = mapping.pages().count();
        self.line.counters.freed.bump();
        if kind != Kind::Reserved {
            self.unlend(kind, mapping.pages());
            self.line.counters.unmapped.add(pages as u64);
            // SAFETY: it was mapped by one call of `map` or `map_lent` when the area was made, and whoever frees it vouches that nobody uses it any more.
            let token = unsafe { self.meta.pager.unmap(mapping) };
            // SAFETY: the claim made the record this CPU's.
            unsafe { record.frames.put(token) };
        }
        let pending = &mut self.near.pending;
        pending.slots.push(slot.get(), record);
        pending.lent |= kind.is_lent();
        self.settle_pending(pages);
    }

    /// Unmaps one chunk of an area of `kind`, whose life has ended.
    fn retire_chunk(&mut self, index: ChunkIndex, kind: Kind) {
        let (chunk, pages) = (self.meta.known_chunk(index), self.meta.piece(index));
        if pages.count() == 0 {
            // Nothing is mapped there, so there is nothing to flush.
            return self.free_chunk(index);
        }
        if kind != Kind::Reserved {
            self.unlend(kind, pages);
            self.line.counters.unmapped.add(pages.count() as u64);
            // SAFETY: as in `retire_slot`, by `map_chunk` or `map_lent`.
            let token = unsafe { self.meta.pager.unmap_chunk(pages) };
            // SAFETY: the chunks of an area that has ended are those of whoever ended it.
            unsafe { chunk.record.frames.put(token) };
        }
        let pending = &mut self.near.pending;
        pending.chunks.push(index.get(), &chunk.record);
        pending.lent |= kind.is_lent();
        self.settle_pending(pages.count());
    }

    /// Takes away what the platform may have made in a chunk of an area of `kind` before it could not map there.
    #[cold]
    fn retire_table(&mut self, index: ChunkIndex, kind: Kind) {
        let (meta, chunk) = (self.meta, self.meta.known_chunk(index));
        // SAFETY: the chunk is whole; it was free, and nothing was mapped in it since; it is this CPU's until it is free again.
        let table = unsafe { meta.pager.take_table(meta.layout.chunk_pages(index, P::CHUNK_PAGES)) };
        let Some(table) = table else { return self.free_chunk(index) };
        chunk.join(chunk.head(), P::CHUNK_PAGES, chunk.state());
        // SAFETY: as in `retire_chunk`.
        unsafe { chunk.record.frames.put(table) };
        self.near.pending.chunks.push(index.get(), &chunk.record);
        self.near.pending.lent |= kind.is_lent();
        self.settle_pending(0);
    }
}
