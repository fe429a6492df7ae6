//! A chunk: some mappings in order, in a page.

use core::mem::MaybeUninit;
use core::slice;

use vmstack::VirtAddr;

use super::mapping::Mapping;
use super::page_box::PageBox;

/// How many mappings a chunk can hold.
pub(super) const CAPACITY: usize = 96;

/// What a chunk says of its entries.
#[derive(Debug)]
struct Head {
    count: usize,
    /// The largest hole before any of the mappings, in bytes, if it is known.
    hole: Option<usize>,
}

/// Mappings in the order of their addresses. The first `count` entries are there.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Chunk {
    head: Head,
    entries: [MaybeUninit<Mapping>; CAPACITY],
}

impl Chunk {
    /// An empty chunk, or `None` if there is no frame.
    pub(super) fn new() -> Option<PageBox<Self>> {
        let fill = |place: *mut Self| {
            // SAFETY: the place is a frame's, writable and aligned.
            unsafe { place.cast::<Head>().write(Head { count: 0, hole: None }) };
        };
        // SAFETY: with its head, which comes first, a chunk is whole: entries need not be there.
        unsafe { PageBox::new_with(fill) }
    }

    /// The largest hole before any of its mappings, in bytes, if it is known.
    pub(super) const fn hole(&self) -> Option<usize> {
        self.head.hole
    }

    pub(super) const fn set_hole(&mut self, hole: Option<usize>) {
        self.head.hole = hole;
    }

    /// Where its first mapping begins.
    pub(super) fn start(&self) -> VirtAddr {
        self.as_slice().first().map_or(VirtAddr::default(), |first| first.start)
    }

    pub(super) fn as_slice(&self) -> &[Mapping] {
        // SAFETY: the first `count` entries are there.
        unsafe { slice::from_raw_parts(self.entries.as_ptr().cast(), self.head.count) }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Mapping] {
        // SAFETY: as above, borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.entries.as_mut_ptr().cast(), self.head.count) }
    }

    /// Puts `mapping` before entry `index`. There is room.
    pub(super) fn insert(&mut self, index: usize, mapping: Mapping) {
        self.entries.copy_within(index..self.head.count, index + 1);
        self.entries[index] = MaybeUninit::new(mapping);
        self.head.count += 1;
    }

    /// Takes entry `index` out.
    pub(super) fn remove(&mut self, index: usize) -> Mapping {
        let mapping = self.as_slice()[index];
        self.entries.copy_within(index + 1..self.head.count, index);
        self.head.count -= 1;
        mapping
    }

    /// Moves the entries from `index` on to the end of `other`, which has room for them.
    pub(super) fn move_to(&mut self, index: usize, other: &mut Self) {
        let moved = self.head.count - index;
        other.entries[other.head.count..other.head.count + moved]
            .copy_from_slice(&self.entries[index..self.head.count]);
        other.head.count += moved;
        self.head.count = index;
    }
}
