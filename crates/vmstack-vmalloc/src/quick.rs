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
use crate::record::{Life, Phase, Record};
use crate::request::{Kind, Request};
use crate::tag::Tag;
use crate::vmalloc::Vmalloc;

/// How many pages are asked for, and the class whose slots hold them. None if that takes a longer look.
#[inline(always)]
fn class_of<P: Pager>(bytes: usize, align_bits: u32) -> Option<(usize, Class)> {
    // Nothing at all becomes more than there is.
    let pages = bytes.wrapping_sub(1) / P::PAGE_SIZE + 1;
    if pages >= P::CHUNK_PAGES / 2 {
        return None;
    }
    let page_bits = P::PAGE_SIZE.trailing_zeros();
    if align_bits <= page_bits {
        return Some((pages, Class::holding(pages + 1)));
    }
    if align_bits > page_bits + (P::CHUNK_PAGES / 2).trailing_zeros() {
        return None;
    }
    let stride = (pages + 1).max(1 << (align_bits - page_bits)).next_power_of_two();
    Some((pages, Class::holding(stride)))
}

/// The alignment as a power of two. One that is none is more than there is.
#[inline(always)]
const fn bits_of(align: usize) -> u32 {
    if align.is_power_of_two() { align.trailing_zeros() } else { usize::BITS }
}

/// An area that was made quickly: where it begins, its slot and its life. In two registers.
#[derive(Clone, Copy)]
struct Begun {
    /// Zero: it was not.
    start: usize,
    /// The slot, and the life above it.
    slot: u64,
}

/// There is none.
const NOT_BEGUN: Begun = Begun { start: 0, slot: 0 };

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
    #[inline]
    pub fn alloc(&self, request: &Request) -> Made<P, Area<'_, P>> {
        let &Request { bytes, align, zeroed, tag, .. } = request;
        let mut trouble = None;
        // Here, where the compiler knows it, nearly always.
        let begun = self.alloc_quickly(bytes, bits_of(align), zeroed, tag, &mut trouble);
        if begun.start != 0 {
            let (place, life) =
                (Place::Memory(SlotIndex::new(begun.slot as u32)), Life::new((begun.slot >> 32) as u32));
            return Ok(Area::new(self, VirtAddr::new(begun.start), bytes, place, life));
        }
        match trouble {
            Some(trouble) => Err(trouble.into()),
            None => self.alloc_slowly(request),
        }
    }

    /// Makes an area, if this CPU has kept a slot for it. Why it could not be populated, if that was the reason, is left in `trouble`.
    #[inline(never)]
    fn alloc_quickly(
        &self,
        bytes: usize,
        align_bits: u32,
        zeroed: bool,
        tag: Tag,
        trouble: &mut Option<NotPopulated<P::Error>>,
    ) -> Begun {
        let Some((pages, class)) = class_of::<P>(bytes, align_bits) else { return NOT_BEGUN };
        let guard = self.pager().enter();
        let Some((meta, line)) = self.line(&guard) else { return NOT_BEGUN };
        // SAFETY: (1) it is the line of the CPU on which `guard` is held, which outlives the reference; (2) nothing below reaches it in another way: the
        // platform calls nothing here.
        let near = unsafe { line.near() };
        let pool = &mut near.pools[class.index()];
        let Some(slot) = pool.first() else { return NOT_BEGUN };
        let record = meta.slot(SlotIndex::new(slot));
        pool.pop_first(record);
        let building = record.build(bytes, Kind::Memory, class, tag);
        let mapping = Mapping::new(Pages::new(meta.start(record), pages), record.hint());
        // SAFETY: (1) the pages lie in a slot, which lies in one chunk; (2) the slot was free, so none of it is mapped, and no CPU remembers that it was (it
        // went to a pool after its shootdown).
        match unsafe { self.pager().populate(mapping, zeroed) } {
            Ok(hint) => {
                record.set_hint(hint);
                let life = record.set_live(building);
                line.counters.allocated.bump();
                line.counters.mapped.add(pages as u64);
                let slot = u64::from(slot) | u64::from(life.get()) << 32;
                Begun { start: mapping.pages().start().get(), slot }
            }
            Err(error) => {
                record.forget();
                pool.push(slot, record);
                line.counters.refused.bump();
                *trouble = Some(error);
                NOT_BEGUN
            }
        }
    }

    /// Frees the area that begins at `addr`, if it is one of memory in a slot, and alive. Else nothing is done, and false returned.
    #[inline(never)]
    pub(crate) fn free_quickly(&self, addr: VirtAddr) -> bool {
        let Some(meta) = self.meta() else { return false };
        let offset = addr.get().wrapping_sub(meta.layout.range_start().get());
        let (number, inside) = (offset / Layout::<P>::CHUNK, offset / P::PAGE_SIZE % P::CHUNK_PAGES);
        // An address outside has a number that was never made.
        let Some((index, chunk)) = meta.try_number(number) else { return false };
        let State::Cut(class) = chunk.state() else { return false };
        let number = class.slot_of(inside);
        if number >= class.slots_in(P::CHUNK_PAGES) {
            return false;
        }
        let slot = Layout::<P>::slot(index, number);
        let record = meta.slot(slot);
        let life = record.life();
        let is_there = life.phase() == Phase::Live && meta.start(record) == addr && record.kind() == Kind::Memory;
        is_there && self.end_quickly(slot, life)
    }

    /// Ends the life of the area of memory in `slot`, if it is this one. Else nothing is done, and false returned.
    #[inline(always)]
    pub(crate) fn end_quickly(&self, slot: SlotIndex, life: Life) -> bool {
        let guard = self.pager().enter();
        let Some((meta, line)) = self.line(&guard) else { return false };
        let record = meta.slot(slot);
        if !record.claim(life) {
            return false;
        }
        let is_enough = self.retire_quickly(&meta, line, slot, record);
        drop(guard);
        if is_enough {
            self.settle();
        }
        true
    }

    /// Unmaps the area of memory in `slot`, whose life this CPU has ended. True if there is enough for a batch.
    #[inline(always)]
    fn retire_quickly(&self, meta: &Meta<'_, P>, line: &Line<P>, slot: SlotIndex, record: &Record) -> bool {
        let mapping = meta.mapping(record);
        // SAFETY: it was mapped by one call of `populate` when the area was made, and whoever frees it vouches that nobody uses it any more.
        let token = unsafe { self.pager().unmap(mapping) };
        // SAFETY: the claim made the record this CPU's.
        unsafe { record.frames.put(token) };
        line.counters.freed.bump();
        line.counters.unmapped.add(mapping.pages().count() as u64);
        // SAFETY: as in `alloc_quickly`: the caller has the guard.
        let near = unsafe { line.near() };
        near.pending.slots.push(slot.get(), record);
        near.add_weight(mapping.pages().count())
    }

    /// Sends off what is pending.
    #[cold]
    #[inline(never)]
    fn settle(&self) {
        let guard = self.pager().enter();
        if let Ok(mut here) = self.here(&guard) {
            here.send_off();
        }
    }

    /// The line of this CPU, if there is one.
    #[inline(always)]
    fn line<'a>(&'a self, _guard: &'a P::Guard) -> Option<(Meta<'a, P>, &'a Line<P>)> {
        let cpu = self.pager().cpu().index();
        let meta = self.meta_for(cpu)?;
        Some((meta, meta.line(cpu)))
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
