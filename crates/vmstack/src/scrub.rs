//! Scrubbing: making a stack read as zero before its next life (INV-ZERO), at the cost of what the last one used.
//!
//! A page whose dirty bit is clear was not written since it was mapped zeroed, so it is zero. A page whose bit is set is cleared, and
//! keeps its bit: to take it back takes a shootdown. So a stack that once went deep is dear in every life that follows. It is marked
//! when that is seen, and set aside when it is given back (`recover`).
//!
//! What went around the mapping (a device, the direct map) left no bit. It is noted in the record beforehand, and cleared when the
//! stack is given back (`release`).
//!
//! Contexts: task and interrupt, under a guard.

use crate::area::StackArea;
use crate::geometry::SlotIndex;
use crate::here::Here;
use crate::metadata::Metadata;
use crate::platform::{Mapping, Platform};
use crate::slots::SlotRecord;

/// When and how much of a stack is cleared between two owners.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
#[non_exhaustive]
pub enum Scrub {
    /// When it is handed out, the pages that may have been written.
    #[default]
    Dirty = 0,
    /// When it is handed out, from end to end.
    Whole = 1,
    /// When it is given back, the pages that may have been written: what a task leaves on its stack is gone with it.
    OnExit = 2,
    /// Not at all: a task finds what the last owner left. For kernels that have decided so, and for comparison.
    None = 3,
}

impl Scrub {
    pub(crate) const fn from_index(index: u8) -> Self {
        match index {
            1 => Self::Whole,
            2 => Self::OnExit,
            3 => Self::None,
            _ => Self::Dirty,
        }
    }
}

impl<P: Platform> Metadata<'_, P> {
    #[inline]
    pub(crate) fn mapping(&self, slot: SlotIndex, record: &SlotRecord) -> Mapping {
        Mapping::new(self.geometry.pages(slot), record.hint())
    }
}

impl<P: Platform> StackArea<P> {
    /// Does what the policy wants of the ready stack in `slot`, which is about to be handed out.
    #[cold]
    #[inline(never)]
    pub(crate) fn scrub(&self, guard: &P::Guard, slot: SlotIndex) {
        if let Ok(here) = self.here(guard) {
            here.scrub_for_use(slot, here.meta.known_record(slot));
        }
    }
}

impl<P: Platform> Here<'_, P> {
    /// Does what the policy wants of a ready stack that is about to be handed out.
    pub(crate) fn scrub_for_use(&self, slot: SlotIndex, record: &SlotRecord) {
        match self.area.scrub_policy() {
            Scrub::Dirty => self.clear_dirty_pages(slot, record),
            Scrub::Whole => self.clear_whole(slot, record),
            Scrub::OnExit | Scrub::None => {}
        }
    }

    /// Does what the policy wants of a stack that was given back.
    pub(crate) fn scrub_after_use(&self, slot: SlotIndex, record: &SlotRecord) {
        if self.area.scrub_policy() == Scrub::OnExit {
            self.clear_dirty_pages(slot, record);
        }
    }

    fn clear_dirty_pages(&self, slot: SlotIndex, record: &SlotRecord) {
        let mapping = self.meta.mapping(slot, record);
        let dirty = self.meta.platform.dirty(mapping);
        if dirty != 0 {
            let cleared = self.clear(mapping, dirty);
            if P::HAS_DIRTY && cleared > usual(mapping.pages().count()) {
                record.mark_deep();
            }
        }
    }

    /// Clears the pages of a stack that may not be zero by now, and leaves their bits for `clear_dirty` to take back.
    pub(crate) fn clear_for_recovery(&self, slot: SlotIndex, record: &SlotRecord) {
        let mapping = self.meta.mapping(slot, record);
        let dirty = self.meta.platform.dirty(mapping);
        self.clear(mapping, dirty);
    }

    pub(crate) fn clear_whole(&self, slot: SlotIndex, record: &SlotRecord) {
        self.clear(self.meta.mapping(slot, record), u128::MAX);
    }

    /// Clears the pages of `mapping` whose bits are set, and counts them.
    fn clear(&self, mapping: Mapping, mut dirty: u128) -> usize {
        let mut cleared = 0;
        while dirty != 0 {
            let page = dirty.trailing_zeros() as usize;
            if page >= mapping.pages().count() {
                break;
            }
            dirty &= dirty - 1;
            // SAFETY: the caller holds the stack, which is mapped and which nobody uses, and it has that page.
            unsafe { self.meta.platform.zero(mapping, page) };
            cleared += 1;
        }
        self.line.counters.pages_cleared.add(cleared as u64);
        cleared
    }
}

/// How many dirty pages a stack of `pages` may have before it is worth the trouble of taking them back: a quarter.
const fn usual(pages: usize) -> usize {
    if pages < 8 { 1 } else { pages / 4 }
}
