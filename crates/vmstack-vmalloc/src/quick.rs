//! The common case: an area of memory in a slot that this CPU keeps, made and freed.
//!
//! ```text
//!   alloc   class ─> pool ─> record ─> frames and entries, by one call of the platform ─> Live
//!   free    chunk's state ─> record: it begins there, and lives? one exchange ─> entries away ─> pending
//! ```
//!
//! Constant time, one locked instruction, no lock but the platform's own. Whatever is not so goes the long way (`alloc`, `release`), which looks at
//! everything again and says why.
//!
//! Contexts: task and interrupt. Never NMI, never the fault path.

use vmstack::{Mapping, Pages, VirtAddr};

use crate::alloc::Made;
use crate::area::{Area, Place};
use crate::chunk::State;
use crate::class::Class;
use crate::error::AreaError;
use crate::layout::{Layout, SlotIndex};
use crate::line::Line;
use crate::meta::Meta;
use crate::pager::{NotPopulated, Pager};
use crate::record::{Phase, Record};
use crate::request::{Kind, Request};
use crate::vmalloc::Vmalloc;

/// How many pages are asked for, and the class whose slots hold them. None if that takes a longer look.
#[inline]
fn class_of<P: Pager>(request: &Request) -> Option<(usize, Class)> {
    // Nothing at all becomes more than there is.
    let pages = request.bytes.wrapping_sub(1) / P::PAGE_SIZE + 1;
    let align = request.align;
    if pages >= P::CHUNK_PAGES / 2 || align > P::CHUNK_PAGES / 2 * P::PAGE_SIZE || !align.is_power_of_two() {
        return None;
    }
    if align <= P::PAGE_SIZE {
        return Some((pages, Class::holding(pages + 1)));
    }
    let stride = (pages + 1).max(align / P::PAGE_SIZE).next_power_of_two();
    Some((pages, Class::holding(stride)))
}

impl<P: Pager> Vmalloc<P> {
    /// Allocates what `request` says: whole pages, contiguous in virtual memory, with an unmapped page at least at either end (INV-GUARD).
    ///
    /// # Context
    ///
    /// Task or interrupt, with or without a guard. Does not sleep; never NMI.
    ///
    /// # Errors
    ///
    /// [`AreaError`]; then nothing is kept.
    pub fn alloc(&self, request: &Request) -> Made<P, Area<'_, P>> {
        let Some((pages, class)) = class_of::<P>(request) else { return self.alloc_slowly(request) };
        let guard = self.pager().enter();
        let Some((meta, line)) = self.line(&guard) else { return self.alloc_slowly(request) };
        // SAFETY: (1) it is the line of the CPU on which `guard` is held, which outlives the reference; (2) nothing below reaches it in another way: the
        // platform calls nothing here.
        let near = unsafe { line.near() };
        let pool = &mut near.pools[class.index()];
        let Some((slot, record)) = pool.free.pop(|slot| meta.slot(SlotIndex::new(slot))) else {
            drop(guard);
            return self.alloc_slowly(request);
        };
        pool.note_fewest();
        let building = record.build(request.bytes, Kind::Memory, class, request.tag);
        let mapping = Mapping::new(Pages::new(meta.start(record), pages), record.hint());
        // SAFETY: (1) the pages lie in a slot, which lies in one chunk; (2) the slot was free, so none of it is mapped, and no CPU remembers that it was (it
        // went to a pool after its shootdown).
        match unsafe { self.pager().populate(mapping, request.zeroed) } {
            Ok(hint) => {
                record.set_hint(hint);
                record.set_live(building);
                line.counters.allocated.bump();
                line.counters.mapped.add(pages as u64);
                Ok(Area::new(self, mapping.pages().start(), request.bytes, Place::Slot(SlotIndex::new(slot))))
            }
            Err(error) => {
                record.forget();
                pool.free.push(slot, record);
                line.counters.refused.bump();
                Err(error.into())
            }
        }
    }

    /// Frees the area that begins at `addr`, if it is one of memory in a slot, and alive. Else nothing is done, and false returned.
    #[inline(never)]
    pub(crate) fn free_quickly(&self, addr: VirtAddr) -> bool {
        let Some(meta) = self.meta() else { return false };
        // An address outside has a number that was never made.
        let (index, inside) = meta.layout.split_address(addr);
        let Some(State::Cut(class)) = meta.try_chunk(index).map(crate::chunk::Chunk::state) else { return false };
        let number = class.slot_of(inside);
        if number >= class.slots_in(P::CHUNK_PAGES) {
            return false;
        }
        self.end_quickly(&meta, Layout::<P>::slot(index, number), addr)
    }

    /// Ends the life of the area in `slot`, if it is one of memory, begins at `start`, and is alive. Else nothing is done, and false returned.
    #[inline(always)]
    pub(crate) fn end_quickly(&self, meta: &Meta<'_, P>, slot: SlotIndex, start: VirtAddr) -> bool {
        let guard = self.pager().enter();
        let Some((_, line)) = self.line(&guard) else { return false };
        let record = meta.slot(slot);
        let life = record.life();
        if life.phase() != Phase::Live || meta.start(record) != start || record.kind() != Kind::Memory {
            return false;
        }
        if !record.claim(life) {
            return false;
        }
        self.retire_quickly(meta, line, slot, record);
        // SAFETY: as in `alloc`.
        if unsafe { line.near() }.is_batch(&line.counters) {
            self.settle(&guard);
        }
        true
    }

    /// Unmaps the area of memory in `slot`, whose life this CPU has ended.
    #[inline(always)]
    fn retire_quickly(&self, meta: &Meta<'_, P>, line: &Line<P>, slot: SlotIndex, record: &Record) {
        let mapping = meta.mapping(record);
        // SAFETY: it was mapped by one call of `populate` when the area was made, and whoever frees it vouches that nobody uses it any more.
        let token = unsafe { self.pager().unmap(mapping) };
        // SAFETY: the claim made the record this CPU's.
        unsafe { record.frames.put(token) };
        line.counters.freed.bump();
        line.counters.unmapped.add(mapping.pages().count() as u64);
        // SAFETY: as in `alloc`: the caller has the guard.
        unsafe { line.near() }.pending.slots.push(slot.get(), record);
    }

    /// Sends off what is pending.
    #[cold]
    #[inline(never)]
    fn settle(&self, guard: &P::Guard) {
        if let Ok(mut here) = self.here(guard) {
            here.send_off();
        }
    }

    /// The line of this CPU, if there is one.
    #[inline]
    fn line<'a>(&'a self, _guard: &'a P::Guard) -> Option<(Meta<'a, P>, &'a Line<P>)> {
        let meta = self.meta()?;
        let cpu = self.pager().cpu().index();
        (cpu < meta.layout.cpus).then(|| (meta, meta.line(cpu)))
    }
}

impl<E> From<NotPopulated<E>> for AreaError<E> {
    fn from(not: NotPopulated<E>) -> Self {
        match not {
            NotPopulated::NoFrames(error) => Self::NoFrames(error),
            NotPopulated::NotMapped(error) => Self::NotMapped(error),
        }
    }
}
