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
use crate::cache::Line;
use crate::geometry::SlotIndex;
use crate::metadata::Metadata;
use crate::platform::{Mapping, Platform};
use crate::slots::SlotRecord;
use crate::sync::Ordering;

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

impl<P: Platform> Metadata<'_, P> {
    #[inline]
    pub(crate) fn mapping(&self, slot: SlotIndex, record: &SlotRecord) -> Mapping {
        Mapping::new(self.geometry.pages(slot), record.hint())
    }
}

impl<P: Platform> StackArea<P> {
    pub(crate) fn scrubs_on_exit(&self) -> bool {
        self.scrub.load(Ordering::Relaxed) == Scrub::OnExit as u8
    }

    /// Does what the policy wants of the ready stack in `slot`, which is about to be handed out.
    #[inline(always)]
    pub(crate) fn scrub_for_use(&self, line: &Line<P>, slot: SlotIndex, record: &SlotRecord) {
        const DIRTY: u8 = Scrub::Dirty as u8;
        const WHOLE: u8 = Scrub::Whole as u8;
        match self.scrub.load(Ordering::Relaxed) {
            DIRTY => self.clear_written(line, slot, record),
            WHOLE => self.clear_whole(line, slot, record),
            _ => {}
        }
    }

    /// Clears the pages of a stack that may not be zero by now, and leaves their bits as they are. The caller holds the slot, and the
    /// stack is ready or dead.
    // Without a call: what is around the clearing itself is little, and paid for each stack.
    #[inline(always)]
    pub(crate) fn clear_written(&self, line: &Line<P>, slot: SlotIndex, record: &SlotRecord) {
        let meta = self.ready_metadata();
        // SAFETY: the caller holds the stack, which is mapped and which nobody uses.
        let cleared = unsafe { meta.platform.clear_written(meta.mapping(slot, record)) };
        line.counters.pages_cleared.add(cleared as u64);
        if P::HAS_DIRTY && cleared > meta.geometry.usual_pages() {
            record.mark_deep();
        }
    }

    /// As [`clear_written`](Self::clear_written), all pages.
    #[cold]
    pub(crate) fn clear_whole(&self, line: &Line<P>, slot: SlotIndex, record: &SlotRecord) {
        let meta = self.ready_metadata();
        // SAFETY: the caller holds the stack, which is mapped and which nobody uses.
        unsafe { meta.platform.clear(meta.mapping(slot, record)) };
        line.counters.pages_cleared.add(meta.geometry.stack_pages() as u64);
    }
}
