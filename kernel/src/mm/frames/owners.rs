//! Who has a frame: frames of users' memory can have several owners, after a fork, until one of them writes.
//!
//! A count for each frame, of one owner more than it says; without a lock.

use core::slice;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use vmstack::PhysAddr;

use super::number;

/// The owners that each frame has beside its first, and how many frames there are.
static OWNERS: (AtomicPtr<AtomicU32>, AtomicUsize) = (AtomicPtr::new(core::ptr::null_mut()), AtomicUsize::new(0));

/// Counts in `table` from here on, of as many frames as it is long.
pub(super) fn init(table: &'static mut [u32]) {
    table.fill(0);
    OWNERS.0.store(table.as_mut_ptr().cast(), Ordering::Relaxed);
    OWNERS.1.store(table.len(), Ordering::Release);
}

fn owners() -> &'static [AtomicU32] {
    let (counts, length) = (OWNERS.0.load(Ordering::Relaxed), OWNERS.1.load(Ordering::Acquire));
    if length == 0 {
        return &[];
    }
    // SAFETY: `init` stored a table of that many counts, which is used through atomics alone from then on, and never freed.
    unsafe { slice::from_raw_parts(counts, length) }
}

fn owners_of(frame: PhysAddr) -> &'static AtomicU32 {
    &owners()[number(frame)]
}

/// The counts of all frames' owners, for who has many to change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owners(&'static [AtomicU32]);

impl Owners {
    pub(crate) fn new() -> Self {
        Self(owners())
    }

    /// Counts one more owner of `frame`. The caller is one, or acts for one.
    #[inline]
    pub(crate) fn share(self, frame: PhysAddr) {
        // Relaxed: an owner gives its own on, nobody can take the frame meanwhile.
        self.0[number(frame)].fetch_add(1, Ordering::Relaxed);
    }

    /// Gives up one owner of `frame`. True for the last one, whose the frame is then.
    #[must_use = "the last owner gives the frame back"]
    #[inline]
    pub(crate) fn leave(self, frame: PhysAddr) -> bool {
        let owners = &self.0[number(frame)];
        if owners.load(Ordering::Acquire) == 0 {
            return true;
        }
        let last = owners.fetch_sub(1, Ordering::AcqRel) == 0;
        if last {
            // The other owner left between the two looks.
            owners.store(0, Ordering::Relaxed);
        }
        last
    }
}

/// Whether `frame` has more owners than the caller, who is one. If not, it stays so until the caller shares it.
pub(crate) fn is_shared(frame: PhysAddr) -> bool {
    // Acquire: pairs with `Owners::leave`: what other owners read comes before what the last one writes.
    owners_of(frame).load(Ordering::Acquire) != 0
}

/// The owners of all frames beside their first ones, found by looking at every frame (INV-COUNT).
pub(crate) fn recount_owners() -> usize {
    owners().iter().map(|owners| owners.load(Ordering::Relaxed) as usize).sum()
}
