//! The shape of an area: sizes, slots, guards, and the arithmetic from an address to a slot and back.
//!
//! ```text
//!  range.start                                                                                range.end
//!  | directory, CPUs' lines, depots | slot records | hole | slot 0         | slot 1         | ... | trailing |
//!  |<------- made at once --------->|<-- on use -->|      | gap  [ stack ] | gap  [ stack ] |     | guard    |
//!                                                         ^base            ^base + stride
//! ```
//!
//! A *slot* is a fixed stride of the area: a gap that is never mapped, and above it one stack. The gap is the leading
//! guard of its own stack and the trailing guard of the stack below; behind the last slot there is a trailing guard of
//! its own. So every stack has unmapped neighbours on both sides, the first and the last included (INV-GUARD).
//!
//! The stride is a power of two and the base is a multiple of it. With the default stride of twice the stack size, one
//! bit of an address tells a stack from the gap under it: bit `log2(size)` is set in the stack and clear in the gap.
//! An architecture whose trap entry must decide before its first push tests that bit of `sp - frame`.
//!
//! Everything here is arithmetic on `Copy` values: any context, the fault path included.

use crate::addr::{Pages, VirtAddr, VirtRange};
use crate::config::{
    AreaConfig, GeometryError, MIN_STACK_SIZE, StackKind, check_counts, check_guards, check_page, check_stack,
    check_stride,
};

/// The number of a slot in its area, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct SlotIndex(u32);

impl SlotIndex {
    pub(crate) const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The number as an integer.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Where an address lies in an area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Not in the slots of the area.
    Outside,
    /// In the stack of this slot.
    Stack(SlotIndex),
    /// In the guard between two stacks. At least one of them exists.
    Guard { below: Option<SlotIndex>, above: Option<SlotIndex> },
}

/// The sizes of the metadata, in bytes, that [`Geometry`] lays out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MetadataSizes {
    pub(crate) record: usize,
    pub(crate) line: usize,
    pub(crate) depot: usize,
}

/// As many chunks of records as a directory may have: a byte for each, made at once.
const MOST_RECORD_CHUNKS: usize = 32 << 10;

/// The shape of an area, checked.
///
/// Having a `Geometry` means:
/// - all of the area lies in the range that the kernel gave, and no address of it overflows;
/// - `base` is a multiple of the stride, a power of two;
/// - every stack has at least the guards that were asked below and above it (INV-GUARD).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    page: usize,
    size: usize,
    /// Pages of a stack.
    pages: usize,
    /// Dirty pages that a stack may have before it is worth the trouble of taking their bits back: a quarter, or one.
    usual_pages: usize,
    stride_shift: u32,
    slots: u32,
    trailing: usize,
    cpus: u32,
    nodes: u32,
    kind: StackKind,
    metadata: VirtAddr,
    /// Bytes of the directory, up to where the lines begin.
    directory: usize,
    /// Pages that are made with the area.
    first_pages: usize,
    /// Pages of a chunk of metadata that is made on use: a power of two.
    chunk_pages: usize,
    /// How many records a chunk has room for, as a power of two.
    chunk_shift: u32,
    chunks: usize,
    lines: VirtAddr,
    records: VirtAddr,
    base: VirtAddr,
}

impl Geometry {
    pub(crate) const EMPTY: Self = Self {
        page: 4096,
        size: MIN_STACK_SIZE,
        pages: 1,
        usual_pages: 1,
        stride_shift: 13,
        slots: 0,
        trailing: 0,
        cpus: 0,
        nodes: 0,
        kind: StackKind::Other,
        metadata: VirtAddr::new(0),
        directory: 0,
        first_pages: 0,
        chunk_pages: 1,
        chunk_shift: 0,
        chunks: 0,
        lines: VirtAddr::new(0),
        records: VirtAddr::new(0),
        base: VirtAddr::new(0),
    };

    /// Checks `config` for pages of `page` bytes and lays the area out.
    ///
    /// # Errors
    ///
    /// A [`GeometryError`] of its own for each way in which the configuration can be wrong.
    pub(crate) fn new(config: &AreaConfig, page: usize, sizes: MetadataSizes) -> Result<Self, GeometryError> {
        let range = config.range;
        let shape = Self::shape(config, page, sizes)?;
        if !range.start().is_aligned(page) || !range.end().is_aligned(page) {
            return Err(GeometryError::RangeNotPages { range, page });
        }
        shape.placed_in(range)
    }

    /// The bytes that are enough for `config` with pages of `page` bytes, wherever its range starts.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), but for those that are about the range.
    pub(crate) fn bytes_needed(config: &AreaConfig, page: usize, sizes: MetadataSizes) -> Result<usize, GeometryError> {
        let shape = Self::shape(config, page, sizes)?;
        // A page boundary is at most this far below a multiple of the stride.
        let hole = shape.stride() - page;
        let slots = shape.slots().checked_mul(shape.stride());
        let bytes =
            slots.and_then(|slots| (shape.metadata_bytes() + hole).checked_add(slots)?.checked_add(shape.trailing));
        bytes.ok_or(GeometryError::RangeTooSmall { needed: None, have: config.range.bytes() })
    }

    /// Checks all of `config` but its range, and takes the sizes from it.
    fn shape(config: &AreaConfig, page: usize, sizes: MetadataSizes) -> Result<Self, GeometryError> {
        check_page(page)?;
        check_stack(config, page)?;
        let guard = check_guards(config, page)?;
        let stride = check_stride(config, guard)?;
        let (slots, cpus, nodes) = check_counts(config)?;
        let record_pages = (config.slots * sizes.record).div_ceil(page);
        let chunk_pages = record_pages.div_ceil(MOST_RECORD_CHUNKS).next_power_of_two();
        let chunks = record_pages.div_ceil(chunk_pages);
        let directory = chunks.next_multiple_of(sizes.line);
        let lines = config.cpus * sizes.line + config.nodes * sizes.depot;
        Ok(Self {
            page,
            size: config.reserved,
            pages: config.reserved / page,
            usual_pages: (config.reserved / page / 4).max(1),
            stride_shift: stride.trailing_zeros(),
            slots,
            trailing: config.trailing.unwrap_or(page),
            cpus,
            nodes,
            kind: config.kind,
            directory,
            first_pages: (directory + lines).div_ceil(page),
            chunk_pages,
            // Both are powers of two.
            chunk_shift: (chunk_pages * page / sizes.record).trailing_zeros(),
            chunks,
            ..Self::EMPTY
        })
    }

    const fn metadata_bytes(&self) -> usize {
        (self.first_pages + self.chunks * self.chunk_pages) * self.page
    }

    /// Finds the base for the slots, and checks that everything fits in `range`.
    fn placed_in(self, range: VirtRange) -> Result<Self, GeometryError> {
        let have = range.bytes();
        let too_small = GeometryError::RangeTooSmall { needed: None, have };
        let slots_at = range.start().checked_add(self.metadata_bytes()).ok_or(too_small)?;
        let base = slots_at.get().checked_next_multiple_of(self.stride()).ok_or(too_small)?;
        let slots = (self.slots as usize).checked_mul(self.stride()).ok_or(too_small)?;
        let end = base.checked_add(slots).and_then(|end| end.checked_add(self.trailing)).ok_or(too_small)?;
        if end > range.end().get() {
            return Err(GeometryError::RangeTooSmall { needed: end.checked_sub(range.start().get()), have });
        }
        let lines = range.start().wrapping_add(self.directory);
        let records = range.start().wrapping_add(self.first_pages * self.page);
        Ok(Self { metadata: range.start(), lines, records, base: VirtAddr::new(base), ..self })
    }

    /// The page size in bytes.
    #[must_use]
    pub const fn page_size(&self) -> usize {
        self.page
    }

    /// The size of a stack in bytes.
    #[must_use]
    pub const fn stack_size(&self) -> usize {
        self.size
    }

    /// The number of pages of a stack.
    #[must_use]
    pub const fn stack_pages(&self) -> usize {
        self.pages
    }

    #[inline]
    pub(crate) const fn usual_pages(&self) -> usize {
        self.usual_pages
    }

    /// The distance in bytes from one stack to the next.
    #[must_use]
    pub const fn stride(&self) -> usize {
        1 << self.stride_shift
    }

    /// The unmapped bytes below each stack.
    #[must_use]
    pub const fn guard(&self) -> usize {
        self.stride() - self.size
    }

    /// The number of slots.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.slots as usize
    }

    /// The number of CPUs.
    #[must_use]
    pub const fn cpus(&self) -> usize {
        self.cpus as usize
    }

    /// The number of NUMA nodes.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.nodes as usize
    }

    /// What the stacks are for.
    #[must_use]
    pub const fn kind(&self) -> StackKind {
        self.kind
    }

    /// The addresses of all slots, gaps included, from the guard of the first stack to the trailing guard of the last.
    #[must_use]
    pub const fn slot_range(&self) -> VirtRange {
        let bytes = (self.slots as usize) * self.stride() + if self.slots == 0 { 0 } else { self.trailing };
        match VirtRange::new(self.base, bytes) {
            Some(range) => range,
            None => VirtRange::EMPTY,
        }
    }

    /// All addresses of the area, its records included.
    #[must_use]
    pub const fn whole_range(&self) -> VirtRange {
        let bytes = self.slot_range().end().get() - self.metadata.get();
        match VirtRange::new(self.metadata, bytes) {
            Some(range) => range,
            None => VirtRange::EMPTY,
        }
    }

    /// The bit that is set in every address of a stack and clear in the guard under it, if the stride is twice the size.
    #[must_use]
    pub const fn overflow_bit(&self) -> Option<u32> {
        if self.stride() == 2 * self.size { Some(self.size.trailing_zeros()) } else { None }
    }

    /// The lowest address of the stack in `slot`.
    #[must_use]
    pub const fn bottom(&self, slot: SlotIndex) -> VirtAddr {
        self.top(slot).wrapping_sub(self.size)
    }

    /// The first address above the stack in `slot`.
    #[must_use]
    pub const fn top(&self, slot: SlotIndex) -> VirtAddr {
        self.base.wrapping_add((slot.0 as usize + 1) << self.stride_shift)
    }

    /// The pages of the stack in `slot`.
    #[must_use]
    pub const fn pages(&self, slot: SlotIndex) -> Pages {
        Pages::new(self.bottom(slot), self.stack_pages())
    }

    /// The slot numbered `index`, if there is one.
    #[must_use]
    pub const fn slot(&self, index: usize) -> Option<SlotIndex> {
        if index < self.slots() { Some(SlotIndex(index as u32)) } else { None }
    }

    /// Whether `addr` lies in `slot`, its gap included.
    #[inline]
    pub(crate) const fn is_in(&self, addr: VirtAddr, slot: SlotIndex) -> bool {
        addr.get().wrapping_sub(self.base.get()) >> self.stride_shift == slot.0 as usize
    }

    /// The slot whose stack has all of these bytes; for none there is no such slot.
    #[inline]
    pub(crate) const fn slot_with(&self, addr: VirtAddr, bytes: usize) -> Option<SlotIndex> {
        let offset = addr.get().wrapping_sub(self.base.get());
        let (index, within) = (offset >> self.stride_shift, offset & (self.stride() - 1));
        let inside = index < self.slots() && within >= self.guard() && bytes != 0 && bytes <= self.stride() - within;
        if inside { Some(SlotIndex(index as u32)) } else { None }
    }

    /// Where `addr` lies: one subtraction, one shift, one mask.
    #[inline]
    pub(crate) const fn place(&self, addr: VirtAddr) -> Place {
        let offset = addr.get().wrapping_sub(self.base.get());
        let index = offset >> self.stride_shift;
        if index >= self.slots() {
            return self.place_above(addr);
        }
        let slot = SlotIndex(index as u32);
        if offset & (self.stride() - 1) >= self.guard() {
            return Place::Stack(slot);
        }
        let below = if index == 0 { None } else { Some(SlotIndex(slot.0 - 1)) };
        Place::Guard { below, above: Some(slot) }
    }

    /// Where `addr` lies, which is in no slot: in the trailing guard of the last, or nowhere.
    #[cold]
    const fn place_above(&self, addr: VirtAddr) -> Place {
        match self.slots {
            0 => Place::Outside,
            _ if !self.slot_range().contains(addr) => Place::Outside,
            slots => Place::Guard { below: Some(SlotIndex(slots - 1)), above: None },
        }
    }

    /// The pages of metadata that are made when the area is: the directory, then lines and depots.
    pub(crate) const fn first_pages(&self) -> Pages {
        Pages::new(self.metadata, self.first_pages)
    }

    /// Where the directory lies: a byte for each chunk.
    pub(crate) const fn directory(&self) -> VirtAddr {
        self.metadata
    }

    /// Where the lines of the CPUs lie, and after them the depots of the nodes.
    #[inline]
    pub(crate) const fn lines(&self) -> VirtAddr {
        self.lines
    }

    /// Where the record of slot 0 lies; the others follow.
    #[inline]
    pub(crate) const fn records(&self) -> VirtAddr {
        self.records
    }

    /// The number of chunks of records, which are made on use.
    pub(crate) const fn chunks(&self) -> usize {
        self.chunks
    }

    pub(crate) const fn chunk(&self, chunk: usize) -> Pages {
        Pages::new(self.records.wrapping_add(chunk * self.chunk_bytes()), self.chunk_pages)
    }

    const fn chunk_bytes(&self) -> usize {
        self.chunk_pages * self.page
    }

    /// The chunk that holds the record of `slot`.
    pub(crate) const fn record_chunk(&self, slot: SlotIndex) -> usize {
        slot.0 as usize >> self.chunk_shift
    }

    /// How many records a chunk has room for.
    pub(crate) const fn records_in_chunk(&self) -> usize {
        1 << self.chunk_shift
    }
}
