//! Small blocks: from slabs, one for each power of two from 64 to 1,024 bytes.
//!
//! A block that is at hand costs a few dozen instructions, where `talc` and its lock take hundreds; and what is counted is short-lived, as
//! what a thread has. Blocks are aligned to 64 bytes. Nobody is killed in here, so nothing here is ever retired.
//!
//! If there is no frame for a slab the arena serves: it keeps a reserve.

use core::alloc::Layout;
use core::ptr::NonNull;

use crate::mm::slab::{ALIGN, Slab, Store};
use crate::sync::{AnyLock, Section, VitalLock};

const CLASSES: usize = 5;
const LARGEST: usize = ALIGN << (CLASSES - 1);

static SLABS: [Slab; CLASSES] = [const { Slab::new(VitalLock::new("heap-small", Store::new())) }; CLASSES];

/// The lock of the slab for the smallest blocks, which stands for all.
pub(crate) fn lock() -> &'static dyn AnyLock {
    SLABS[0].lock()
}

/// Says how large the blocks are, once.
pub(super) fn init() {
    for (class, slab) in SLABS.iter().enumerate() {
        let fits = slab.set_size(ALIGN << class);
        debug_assert!(fits, "a frame holds some of each");
    }
}

/// The slab for `layout`, if it is small.
#[inline]
fn slab(layout: Layout) -> Option<&'static Slab> {
    if layout.size() > LARGEST || layout.align() > ALIGN {
        return None;
    }
    let class = (layout.size().max(ALIGN) - 1).ilog2() + 1 - ALIGN.ilog2();
    SLABS.get(class as usize)
}

/// A block for `layout`, if it is small and there is memory.
#[inline]
pub(super) fn take(layout: Layout, section: &Section) -> Option<NonNull<u8>> {
    slab(layout)?.take(section)
}

/// Takes back a block that [`take`] returned for `layout`.
///
/// # Safety
///
/// Nobody uses it.
#[inline]
pub(super) unsafe fn give(block: NonNull<u8>, layout: Layout, section: &Section) {
    if let Some(slab) = slab(layout) {
        // SAFETY: the caller's promise; the slab is that of the layout.
        unsafe { slab.give(block, section) };
    }
}

/// How many frames the slabs have, counted by looking at them.
pub(super) fn frames() -> usize {
    SLABS.iter().map(Slab::frames).sum()
}
