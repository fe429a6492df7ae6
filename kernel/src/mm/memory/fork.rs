//! A copy of a memory for a forked child: all mappings, and all pages that are there, which both have from then on and neither may write to.
//!
//! Page tables are shared by whole leaf tables, so a fork costs what is there and not what is mapped.

use alloc::sync::Arc;

use super::{Memory, Unfinished};
use crate::mm::space::SpaceError;
use crate::mm::{frames, shortage};
use crate::sync::Section;
use crate::task::kept::{self, Keep, Kept};

/// How many frames a fork wants to see free: parent and child both write to some of the pages that they share at once.
const LEFT_FOR_PAGES: usize = 128;

impl Keep for Arc<Memory> {
    /// A memory that nobody uses, a refused child's, is taken apart piece by piece.
    fn settle(&self) {
        if Self::strong_count(self) == 1 {
            self.clear();
        }
    }
}

impl Memory {
    /// A copy, kept, so that nothing of it is lost if the parent is killed while it copies.
    ///
    /// # Context
    ///
    /// Tasks, interrupts on.
    pub(crate) fn fork(&self) -> Result<Kept<Arc<Self>>, SpaceError> {
        // Who has no memory left for a page that it writes to is killed: a fork that leaves none is refused instead.
        if frames::free() < LEFT_FOR_PAGES {
            shortage::note();
            return Err(SpaceError::OutOfMemory);
        }
        let mut from = self.lock();
        // The root is the allocator's or the child's: nobody is killed in between.
        let section = Section::enter();
        let child = kept::keep(&"memory", Self::new()?, &section);
        drop(section);
        let mut to = child.lock();
        to.heap = from.heap;
        to.mappings.copy_from(&from.mappings).map_err(|_| SpaceError::OutOfMemory)?;
        from.unfinished = Unfinished::Flush;
        let copied = from.mappings.iter().try_for_each(|mapping| {
            let mut pieces = from.space.pieces(mapping.range());
            pieces.try_for_each(|piece| from.space.share(&to.space, piece, !mapping.is_shared()))
        });
        // Also after a failure: what was shared before it cannot be written to any more.
        self.flush_changed(&mut from);
        copied?;
        drop(to);
        Ok(child)
    }
}
