//! One CPU's part of an area, entered: where stacks are made, handed out and taken back.
//!
//! Having a [`Here`] is having the platform's guard: this code stays on its CPU and is not re-entered there, so what the CPU
//! caches is plain memory. The cold path builds a stack from frames; the warm one scrubs a stack from the cache.
//!
//! Contexts: task and interrupt. Never NMI, never the fault path.

use crate::area::{AllocError, StackArea};
use crate::cache::{CpuBlock, Local};
use crate::geometry::SlotIndex;
use crate::metadata::Metadata;
use crate::platform::Platform;
use crate::slots::{Records, SlotRecord};
use crate::stack::{KernelStack, StackId};
use crate::sync::Ordering;

/// This CPU's part of an area, entered: nobody else is in it until this is dropped.
pub(crate) struct Here<'a, P: Platform> {
    pub(crate) area: &'a StackArea<P>,
    pub(crate) meta: Metadata<'a, P>,
    pub(crate) block: &'a CpuBlock<P>,
    pub(crate) local: &'a mut Local<P>,
    pub(crate) _guard: P::Guard,
}

impl<'a, P: Platform> Here<'a, P> {
    /// Cold: a free slot, frames in bulk, one batch of page-table entries. The frames read as zero.
    pub(crate) fn populate(&mut self, owner: usize) -> Result<KernelStack<'a, P>, AllocError<P::Error>> {
        let slot = self.take_slot()?;
        let mapped = self.map_stack(slot);
        match mapped {
            Ok(()) => {
                self.block.counters.populated.bump();
                Ok(self.hand_out(slot, self.meta.record(slot), owner))
            }
            Err(error) => {
                self.area.free_list().push(slot, &self.meta);
                Err(error)
            }
        }
    }

    fn map_stack(&self, slot: SlotIndex) -> Result<(), AllocError<P::Error>> {
        let platform = self.meta.platform;
        let pages = self.meta.geometry.pages(slot);
        let frames = platform.take_frames(pages.count()).map_err(AllocError::NoFrames)?;
        // SAFETY: (1) the pages lie in this area; (2) the slot was free, so none of it is mapped, and no CPU remembers that
        // it was (it went to the free list after its shootdown); (3) as many frames were taken.
        unsafe { platform.map(pages, frames) }.map_err(|failed| {
            platform.give_frames(failed.frames);
            AllocError::NotMapped(failed.reason)
        })
    }

    /// A free slot with a record: one that was used before, or else the next fresh one.
    fn take_slot(&self) -> Result<SlotIndex, AllocError<P::Error>> {
        if let Some(slot) = self.area.free_list().pop(&self.meta) {
            return Ok(slot);
        }
        let mut fresh = self.area.fresh.load(Ordering::Relaxed);
        loop {
            let slots = self.meta.geometry.slots();
            let slot = self.meta.geometry.slot(fresh as usize).ok_or(AllocError::OutOfSlots { slots })?;
            self.meta.ensure_record(slot)?;
            // Relaxed: the index is all that is taken; `ensure_record` has ordered the record itself.
            match self.area.fresh.compare_exchange_weak(fresh, fresh + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(slot),
                Err(now) => fresh = now,
            }
        }
    }

    /// Warm: a stack from the cache, made to read as zero again.
    #[inline]
    pub(crate) fn reuse(&self, slot: SlotIndex, owner: usize) -> KernelStack<'a, P> {
        self.block.counters.hits.bump();
        let record = self.meta.record(slot);
        self.scrub(slot, record);
        self.hand_out(slot, record, owner)
    }

    /// Clears the pages of `slot` that may not be zero (INV-ZERO).
    #[inline]
    fn scrub(&self, slot: SlotIndex, record: &SlotRecord) {
        let pages = self.meta.geometry.pages(slot);
        let mut dirty = if record.take_written() { u128::MAX } else { self.meta.platform.dirty(pages) };
        let mut cleared = 0;
        while dirty != 0 {
            let page = dirty.trailing_zeros() as usize;
            if page >= pages.count() {
                break;
            }
            dirty &= dirty - 1;
            // SAFETY: the slot came from the cache, so it is mapped and nobody uses it.
            unsafe { self.meta.platform.zero(pages.start().wrapping_add(page * P::PAGE_SIZE)) };
            cleared += 1;
        }
        self.block.counters.pages_cleared.add(cleared);
        self.block.counters.pages_clean.add(pages.count() as u64 - cleared);
    }

    #[inline]
    fn hand_out(&self, slot: SlotIndex, record: &SlotRecord, owner: usize) -> KernelStack<'a, P> {
        let generation = record.hand_out(owner);
        self.block.counters.allocated.bump();
        KernelStack::new(self.area, StackId::new(slot, generation))
    }

    /// The last reference is gone: into the cache with it.
    pub(crate) fn release(&mut self, slot: SlotIndex) {
        self.block.counters.released.bump();
        self.cache(slot);
    }
}
