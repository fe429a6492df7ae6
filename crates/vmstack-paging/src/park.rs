//! Unmapping in two steps, so that frames are remembered without memory.
//!
//! ```text
//!           park                flush                 take_parked
//!   Leaf ──────────> Parked ─ ─ ─ ─ ─ ─ ─> Parked ──────────────────> Absent
//!                    not mapped,           no TLB knows               the frames are
//!                    frame remembered      the frame                  the caller's again
//! ```
//!
//! Between unmapping and the end of the shootdown somebody has to remember the frames of a dead stack. Memory for that
//! could not be had where stacks die (INV-FREE). But the entry that led to a frame still has room for it: the hardware
//! ignores all other bits of an entry that is not present. So `park` replaces each leaf by an entry that says the same
//! to software and nothing to the hardware, and `take_parked` gives the frames out once every CPU has flushed
//! (INV-FRAME).
//!
//! While a page is parked, mapping it is refused ([`MapError::Parked`](crate::MapError::Parked)), and a fault on it is
//! a fault on an unmapped page: [`translate`](Mapper::translate) says `None`.

use vmstack::{Pages, PhysAddr, VirtAddr};

use crate::entry::{Entry, Level};
use crate::error::LeafError;
use crate::format::Format;
use crate::mapper::Mapper;
use crate::memory::TableMemory;
use crate::run::Run;

impl<F: Format, M: TableMemory> Mapper<'_, F, M> {
    /// Takes the mapping of `pages` away and keeps their frames and dirty bits in their entries. All or nothing.
    ///
    /// Each leaf goes by one compare-and-exchange, which takes along a dirty bit that the hardware set at that moment.
    /// What is in TLBs stays there: the caller flushes `pages` on every CPU, and then calls
    /// [`take_parked`](Self::take_parked).
    ///
    /// # Context
    ///
    /// Any but NMI. Takes no lock, does not sleep, needs no memory (INV-FREE).
    ///
    /// # Errors
    ///
    /// A page is not mapped by a leaf of its own. Then all are as they were.
    ///
    /// # Safety
    ///
    /// 1. Nobody uses the memory at `pages` any more.
    /// 2. The pages are the caller's, and no other mapper works on them at the same time.
    pub unsafe fn park(&self, pages: Pages) -> Result<(), LeafError> {
        let run = Run::check::<F>(pages)?;
        self.expect_leaves(run)?;
        for (_, slot) in self.slots(run).flatten() {
            slot.change::<F>(Level::PAGE, Entry::parked);
        }
        Ok(())
    }

    /// Clears the parked entries of `pages` and gives their frames to `take`, in order, each with whether the page may
    /// have been written. All or nothing.
    ///
    /// # Context
    ///
    /// Any but NMI, and that of `take`. Takes no lock, does not sleep, needs no memory (INV-FREE).
    ///
    /// # Errors
    ///
    /// A page is not parked. Then all are as they were, and `take` was not called.
    ///
    /// # Safety
    ///
    /// 1. Since the pages were parked, every CPU that could hold a translation of them has flushed it (INV-FRAME).
    /// 2. The pages are the caller's, and no other mapper works on them at the same time.
    pub unsafe fn take_parked(&self, pages: Pages, mut take: impl FnMut(PhysAddr, bool)) -> Result<(), LeafError> {
        let run = Run::check::<F>(pages)?;
        self.expect_parked(run)?;
        for (_, slot) in self.slots(run).flatten() {
            if let Entry::Parked { frame, dirty } = slot.take::<F>(Level::PAGE) {
                take(frame, dirty);
            }
        }
        Ok(())
    }

    /// Whether every page of `run` has a leaf of its own.
    pub(crate) fn expect_leaves(&self, run: Run) -> Result<(), LeafError> {
        self.slots(run).try_for_each(|slot| {
            let (at, slot) = slot?;
            match slot.read::<F>(Level::PAGE) {
                Entry::Leaf { .. } => Ok(()),
                Entry::Parked { .. } => Err(LeafError::Parked { at }),
                _ => Err(LeafError::NotMapped { at }),
            }
        })
    }

    /// Whether every page of `run` is parked.
    fn expect_parked(&self, run: Run) -> Result<(), LeafError> {
        self.slots(run).try_for_each(|slot| {
            let (at, slot) = slot?;
            match slot.read::<F>(Level::PAGE) {
                Entry::Parked { .. } => Ok(()),
                found => Err(not_parked(found, at)),
            }
        })
    }
}

/// Why `found` is not a parked entry.
const fn not_parked(found: Entry, at: VirtAddr) -> LeafError {
    match found {
        Entry::Leaf { .. } => LeafError::NotParked { at },
        _ => LeafError::NotMapped { at },
    }
}
