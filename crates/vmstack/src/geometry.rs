//! The shape of an area: sizes, slots, guards, and the arithmetic from an address to a slot and back.
//!
//! ```text
//!  range.start                                                                                range.end
//!  | directory | slot records | per-CPU | hole | slot 0         | slot 1         | ... | trailing |
//!  |<---------- metadata, mapped on use ------>| gap  [ stack ] | gap  [ stack ] |     | guard    |
//!                                              ^base            ^base + stride
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

use core::fmt;

use crate::addr::{Pages, VirtAddr, VirtRange};

/// The smallest stack, in bytes.
pub const MIN_STACK_SIZE: usize = 4 << 10;
/// The largest stack, in bytes.
pub const MAX_STACK_SIZE: usize = 512 << 10;
/// The most slots in one area: one for each task number that Linux can give (22 bits).
pub const MAX_SLOTS: usize = 1 << 22;
/// The most CPUs.
pub const MAX_CPUS: usize = 4096;

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

/// What stacks of an area are for. It decides the word in a report, and who pays for an overflow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum StackKind {
    /// A task's kernel stack: an overflow costs that task.
    Task = 0,
    /// A CPU's interrupt stack: an overflow costs the handler.
    Interrupt = 1,
    /// A CPU's NMI stack: an overflow costs the handler.
    Nmi = 2,
    /// A stack on which faults are handled: an overflow stops the machine.
    Emergency = 3,
    /// A CPU's idle stack.
    Idle = 4,
    /// The stack on which a CPU came up.
    Boot = 5,
    /// A fiber's stack in user space.
    Fiber = 6,
    /// Anything else.
    Other = 7,
}

impl StackKind {
    /// The word that a report uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Task => "TASK",
            Self::Interrupt => "IRQ",
            Self::Nmi => "NMI",
            Self::Emergency => "EMERGENCY",
            Self::Idle => "IDLE",
            Self::Boot => "BOOT",
            Self::Fiber => "FIBER",
            Self::Other => "OTHER",
        }
    }

    pub(crate) const fn from_index(index: u8) -> Self {
        match index {
            0 => Self::Task,
            1 => Self::Interrupt,
            2 => Self::Nmi,
            3 => Self::Emergency,
            4 => Self::Idle,
            5 => Self::Boot,
            6 => Self::Fiber,
            _ => Self::Other,
        }
    }
}

/// What a kernel asks of an area. Sizes in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AreaConfig {
    range: VirtRange,
    slots: usize,
    reserved: usize,
    populated: usize,
    leading: Option<usize>,
    trailing: Option<usize>,
    stride: Option<usize>,
    cpus: usize,
    kind: StackKind,
}

impl AreaConfig {
    /// An area in `range`, of `slots` stacks of `stack_size` bytes, used by CPUs 0 to `cpus - 1`.
    ///
    /// Guards are one page and the stride is twice the stack size, unless said otherwise.
    #[must_use]
    pub const fn new(range: VirtRange, slots: usize, stack_size: usize, cpus: usize) -> Self {
        Self {
            range,
            slots,
            reserved: stack_size,
            populated: stack_size,
            leading: None,
            trailing: None,
            stride: None,
            cpus,
            kind: StackKind::Task,
        }
    }

    /// What the stacks are for. [`StackKind::Task`] unless said otherwise.
    #[must_use]
    pub const fn kind(self, kind: StackKind) -> Self {
        Self { kind, ..self }
    }

    /// How many bytes below each stack must stay unmapped: whole pages, at least one.
    #[must_use]
    pub const fn leading_guard(self, bytes: usize) -> Self {
        Self { leading: Some(bytes), ..self }
    }

    /// How many bytes above each stack must stay unmapped: whole pages, at least one.
    #[must_use]
    pub const fn trailing_guard(self, bytes: usize) -> Self {
        Self { trailing: Some(bytes), ..self }
    }

    /// The distance in bytes from one stack to the next: a power of two.
    #[must_use]
    pub const fn stride(self, bytes: usize) -> Self {
        Self { stride: Some(bytes), ..self }
    }

    /// How many bytes of each stack have frames. For now this must be the stack size.
    #[must_use]
    pub const fn populated(self, bytes: usize) -> Self {
        Self { populated: bytes, ..self }
    }
}

/// Why an area cannot have the shape that was asked. Sizes in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum GeometryError {
    /// The platform's page size is none of 4, 16 and 64 KiB.
    PageSize {
        /// The platform's page size.
        page: usize,
    },
    /// The stack is smaller than 4 KiB, or than a page.
    StackTooSmall {
        /// The size asked.
        size: usize,
        /// The smallest size on this platform.
        min: usize,
    },
    /// The stack is larger than 512 KiB.
    StackTooLarge {
        /// The size asked.
        size: usize,
        /// The largest size.
        max: usize,
    },
    /// The stack size is not a power of two.
    StackNotPowerOfTwo {
        /// The size asked.
        size: usize,
    },
    /// The populated size differs from the stack size, which is not supported yet.
    PartlyPopulated {
        /// The size asked.
        size: usize,
        /// The populated size asked.
        populated: usize,
    },
    /// A leading guard of no bytes: an overflow would not be caught.
    NoLeadingGuard,
    /// A trailing guard of no bytes: an underflow would not be caught.
    NoTrailingGuard,
    /// The leading guard is not whole pages.
    LeadingGuardNotPages {
        /// The width asked.
        guard: usize,
        /// The page size.
        page: usize,
    },
    /// The trailing guard is not whole pages.
    TrailingGuardNotPages {
        /// The width asked.
        guard: usize,
        /// The page size.
        page: usize,
    },
    /// The stride is not a power of two.
    StrideNotPowerOfTwo {
        /// The stride asked.
        stride: usize,
    },
    /// The stride does not hold the stack and its guard.
    StrideTooSmall {
        /// The stride asked.
        stride: usize,
        /// The least that is needed.
        needed: usize,
    },
    /// An area of no slots.
    NoSlots,
    /// More slots than an area can have.
    TooManySlots {
        /// The number asked.
        slots: usize,
        /// The most that an area can have.
        max: usize,
    },
    /// An area for no CPUs.
    NoCpus,
    /// More CPUs than an area can serve.
    TooManyCpus {
        /// The number asked.
        cpus: usize,
        /// The most that an area can serve.
        max: usize,
    },
    /// The range does not start and end on page boundaries.
    RangeNotPages {
        /// The range given.
        range: VirtRange,
        /// The page size.
        page: usize,
    },
    /// The range has too little address space for so many slots.
    RangeTooSmall {
        /// The bytes needed, from the start of the range; `None` if no address space could hold it.
        needed: Option<usize>,
        /// The bytes in the range.
        have: usize,
    },
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::PageSize { page } => write!(f, "a page of {page} bytes is none of 4, 16 and 64 KiB"),
            Self::StackTooSmall { size, min } => write!(f, "a stack of {size} bytes is below the smallest, {min}"),
            Self::StackTooLarge { size, max } => write!(f, "a stack of {size} bytes is above the largest, {max}"),
            Self::StackNotPowerOfTwo { size } => write!(f, "a stack of {size} bytes is not a power of two"),
            Self::PartlyPopulated { size, populated } => {
                write!(f, "populating {populated} of {size} bytes is not supported: populate the whole stack")
            }
            Self::NoLeadingGuard => write!(f, "without a leading guard no overflow is caught: give it a page"),
            Self::NoTrailingGuard => write!(f, "without a trailing guard no underflow is caught: give it a page"),
            Self::LeadingGuardNotPages { guard, page } => {
                write!(f, "a leading guard of {guard} bytes is not whole pages of {page}")
            }
            Self::TrailingGuardNotPages { guard, page } => {
                write!(f, "a trailing guard of {guard} bytes is not whole pages of {page}")
            }
            Self::StrideNotPowerOfTwo { stride } => write!(f, "a stride of {stride} bytes is not a power of two"),
            Self::StrideTooSmall { stride, needed } => {
                write!(f, "a stride of {stride} bytes does not hold a stack and its guard, {needed} bytes")
            }
            Self::NoSlots => write!(f, "an area needs at least one slot"),
            Self::TooManySlots { slots, max } => write!(f, "{slots} slots are more than an area can have, {max}"),
            Self::NoCpus => write!(f, "an area needs at least one CPU"),
            Self::TooManyCpus { cpus, max } => write!(f, "{cpus} CPUs are more than an area can serve, {max}"),
            Self::RangeNotPages { range, page } => {
                write!(f, "the range {}..{} is not whole pages of {page} bytes", range.start(), range.end())
            }
            Self::RangeTooSmall { needed: Some(needed), have } => {
                write!(f, "the address range has {have} bytes and the slots need {needed}")
            }
            Self::RangeTooSmall { needed: None, .. } => write!(f, "no address space holds so many slots of this size"),
        }
    }
}

impl core::error::Error for GeometryError {}

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
#[derive(Clone, Copy, Debug)]
pub(crate) struct MetadataSizes {
    pub(crate) record: usize,
    pub(crate) cpu_block: usize,
}

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
    stride_shift: u32,
    slots: u32,
    trailing: usize,
    cpus: u32,
    kind: StackKind,
    metadata: VirtAddr,
    directory_pages: usize,
    record_pages: usize,
    records_per_page: usize,
    cpu_pages: usize,
    blocks_per_page: usize,
    base: VirtAddr,
}

impl Geometry {
    pub(crate) const EMPTY: Self = Self {
        page: 4096,
        size: MIN_STACK_SIZE,
        stride_shift: 13,
        slots: 0,
        trailing: 0,
        cpus: 0,
        kind: StackKind::Other,
        metadata: VirtAddr::new(0),
        directory_pages: 0,
        record_pages: 0,
        records_per_page: 1,
        cpu_pages: 0,
        blocks_per_page: 1,
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
        let (slots, cpus) = check_counts(config)?;
        let records_per_page = page / sizes.record;
        let blocks_per_page = page / sizes.cpu_block;
        let record_pages = config.slots.div_ceil(records_per_page);
        let cpu_pages = config.cpus.div_ceil(blocks_per_page);
        let directory_pages = (record_pages + cpu_pages).div_ceil(page);
        Ok(Self {
            page,
            size: config.reserved,
            stride_shift: stride.trailing_zeros(),
            slots,
            trailing: config.trailing.unwrap_or(page),
            cpus,
            kind: config.kind,
            directory_pages,
            record_pages,
            records_per_page,
            cpu_pages,
            blocks_per_page,
            ..Self::EMPTY
        })
    }

    const fn metadata_bytes(&self) -> usize {
        (self.directory_pages + self.record_pages + self.cpu_pages) * self.page
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
        Ok(Self { metadata: range.start(), base: VirtAddr::new(base), ..self })
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
        self.size / self.page
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
        self.base.wrapping_add(((slot.0 as usize) << self.stride_shift).wrapping_add(self.guard()))
    }

    /// The first address above the stack in `slot`.
    #[must_use]
    pub const fn top(&self, slot: SlotIndex) -> VirtAddr {
        self.bottom(slot).wrapping_add(self.size)
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

    /// Where `addr` lies: one subtraction, one shift, one mask.
    pub(crate) const fn place(&self, addr: VirtAddr) -> Place {
        let range = self.slot_range();
        if !range.contains(addr) {
            return Place::Outside;
        }
        let offset = addr.get() - self.base.get();
        let index = offset >> self.stride_shift;
        if index < self.slots() && offset & (self.stride() - 1) >= self.guard() {
            return Place::Stack(SlotIndex(index as u32));
        }
        let below = if index == 0 { None } else { self.slot(index - 1) };
        Place::Guard { below, above: self.slot(index) }
    }

    pub(crate) const fn directory(&self) -> Pages {
        Pages::new(self.metadata, self.directory_pages)
    }

    /// The number of metadata pages that are made on use: records first, then per-CPU blocks.
    pub(crate) const fn chunks(&self) -> usize {
        self.record_pages + self.cpu_pages
    }

    pub(crate) const fn chunk(&self, chunk: usize) -> VirtAddr {
        self.metadata.wrapping_add((self.directory_pages + chunk) * self.page)
    }

    /// The chunk that holds the record of `slot`, and the record's index in it.
    pub(crate) const fn record_place(&self, slot: SlotIndex) -> (usize, usize) {
        let index = slot.0 as usize;
        (index / self.records_per_page, index % self.records_per_page)
    }

    /// The chunk that holds the block of CPU `cpu`, and the block's index in it.
    pub(crate) const fn block_place(&self, cpu: usize) -> (usize, usize) {
        (self.record_pages + cpu / self.blocks_per_page, cpu % self.blocks_per_page)
    }

    pub(crate) const fn records_per_page(&self) -> usize {
        self.records_per_page
    }

    pub(crate) const fn record_pages(&self) -> usize {
        self.record_pages
    }
}

fn check_page(page: usize) -> Result<(), GeometryError> {
    if matches!(page, 4096 | 16_384 | 65_536) { Ok(()) } else { Err(GeometryError::PageSize { page }) }
}

fn check_stack(config: &AreaConfig, page: usize) -> Result<(), GeometryError> {
    let size = config.reserved;
    let min = page.max(MIN_STACK_SIZE);
    if size < min {
        return Err(GeometryError::StackTooSmall { size, min });
    }
    if size > MAX_STACK_SIZE {
        return Err(GeometryError::StackTooLarge { size, max: MAX_STACK_SIZE });
    }
    if !size.is_power_of_two() {
        return Err(GeometryError::StackNotPowerOfTwo { size });
    }
    if config.populated != size {
        return Err(GeometryError::PartlyPopulated { size, populated: config.populated });
    }
    Ok(())
}

/// The width that the gap between two stacks must have, in bytes: it serves both as a guard.
fn check_guards(config: &AreaConfig, page: usize) -> Result<usize, GeometryError> {
    let leading = config.leading.unwrap_or(page);
    let trailing = config.trailing.unwrap_or(page);
    if leading == 0 {
        return Err(GeometryError::NoLeadingGuard);
    }
    if trailing == 0 {
        return Err(GeometryError::NoTrailingGuard);
    }
    if !leading.is_multiple_of(page) {
        return Err(GeometryError::LeadingGuardNotPages { guard: leading, page });
    }
    if !trailing.is_multiple_of(page) {
        return Err(GeometryError::TrailingGuardNotPages { guard: trailing, page });
    }
    Ok(leading.max(trailing))
}

fn check_stride(config: &AreaConfig, guard: usize) -> Result<usize, GeometryError> {
    let have = config.range.bytes();
    let needed = config.reserved.checked_add(guard).ok_or(GeometryError::RangeTooSmall { needed: None, have })?;
    match config.stride {
        Some(stride) if !stride.is_power_of_two() => Err(GeometryError::StrideNotPowerOfTwo { stride }),
        Some(stride) if stride < needed => Err(GeometryError::StrideTooSmall { stride, needed }),
        Some(stride) => Ok(stride),
        None => needed
            .max(2 * config.reserved)
            .checked_next_power_of_two()
            .ok_or(GeometryError::RangeTooSmall { needed: None, have }),
    }
}

fn check_counts(config: &AreaConfig) -> Result<(u32, u32), GeometryError> {
    let (slots, cpus) = (config.slots, config.cpus);
    if slots == 0 {
        return Err(GeometryError::NoSlots);
    }
    if slots > MAX_SLOTS {
        return Err(GeometryError::TooManySlots { slots, max: MAX_SLOTS });
    }
    if cpus == 0 {
        return Err(GeometryError::NoCpus);
    }
    if cpus > MAX_CPUS {
        return Err(GeometryError::TooManyCpus { cpus, max: MAX_CPUS });
    }
    Ok((slots as u32, cpus as u32))
}
