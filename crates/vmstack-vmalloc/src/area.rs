//! [`Area`]: an area that somebody owns.

use core::fmt;
use core::mem::ManuallyDrop;

use vmstack::{VirtAddr, VirtRange};

use crate::info::AreaInfo;
use crate::layout::{ChunkIndex, SlotIndex};
use crate::pager::Pager;
use crate::record::Life;
use crate::vmalloc::Vmalloc;

/// Where the record of an area is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Of an area of memory.
    Memory(SlotIndex),
    /// Of another one.
    Slot(SlotIndex),
    /// From this chunk on.
    Chunks(ChunkIndex),
}

/// An area of a [`Vmalloc`].
///
/// Having an `Area` means:
/// - its pages are mapped, as was asked for, in every address space (those of a reservation are nobody else's);
/// - the pages below and above are not (INV-GUARD);
/// - nobody else frees it, unless by its address, which is a mistake of the kernel: then it is freed once.
///
/// Dropping it frees it: nobody must use the memory any more.
#[must_use = "an area is freed when it is dropped"]
pub struct Area<'v, P: Pager> {
    vmalloc: &'v Vmalloc<P>,
    start: VirtAddr,
    bytes: usize,
    place: Place,
    /// Of its record, while the area is alive: whoever has another one has another area.
    life: Life,
}

impl<'v, P: Pager> Area<'v, P> {
    #[inline]
    pub(crate) const fn new(vmalloc: &'v Vmalloc<P>, start: VirtAddr, bytes: usize, place: Place, life: Life) -> Self {
        Self { vmalloc, start, bytes, place, life }
    }

    /// Where it begins.
    #[must_use]
    #[inline]
    pub const fn start(&self) -> VirtAddr {
        self.start
    }

    /// How many bytes were asked for.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The pages that it has.
    #[must_use]
    pub fn range(&self) -> VirtRange {
        VirtRange::new(self.start, self.bytes.next_multiple_of(P::PAGE_SIZE)).unwrap_or(VirtRange::EMPTY)
    }

    /// A pointer to its first byte.
    #[must_use]
    #[inline]
    pub const fn as_mut_ptr(&self) -> *mut u8 {
        self.start.as_mut_ptr()
    }

    /// What a listing says of it. None if somebody has freed it by its address.
    #[must_use]
    pub fn info(&self) -> Option<AreaInfo> {
        self.vmalloc.info_at(self.place, self.life)
    }

    /// Gives the ownership up: whoever has the address frees it, by [`Vmalloc::free`].
    #[must_use = "nobody frees the area unless by its address"]
    pub fn into_raw(self) -> VirtAddr {
        ManuallyDrop::new(self).start
    }
}

impl<P: Pager> Drop for Area<'_, P> {
    #[inline]
    fn drop(&mut self) {
        self.vmalloc.end(self.place, self.life);
    }
}

impl<P: Pager> fmt::Debug for Area<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Area").field("start", &self.start).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
