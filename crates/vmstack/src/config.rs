//! What a kernel asks of an area, and each way in which it can be wrong.
//!
//! A configuration is checked once, when the area is initialised; every calculation later relies on it. Each bad combination has
//! an error of its own, with the sizes in it, so that whoever reads it knows what to change.

use core::fmt;

use crate::addr::{Cpu, VirtRange};
use crate::numbers::Placement;
use crate::platform::Node;

/// The smallest stack, in bytes.
pub const MIN_STACK_SIZE: usize = 4 << 10;
/// The largest stack, in bytes.
pub const MAX_STACK_SIZE: usize = 512 << 10;
/// The most slots in one area: one for each task number that Linux can give (22 bits).
pub const MAX_SLOTS: usize = 1 << 22;
/// The most CPUs.
pub const MAX_CPUS: usize = 4096;
/// The most NUMA nodes.
pub const MAX_NODES: usize = 256;

/// What stacks of an area are for. It decides the word in a report, and who pays for an overflow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum StackKind {
    /// A task's kernel stack: an overflow costs that task.
    Task = 0,
    /// A CPU's interrupt stack: an overflow costs the handler.
    Interrupt = 1,
    /// A CPU's NMI stack: an overflow costs the handler. An area of its own for these, apart from the other stacks that
    /// the hardware switches to, is what lets the machine go on after one.
    Nmi = 2,
    /// A stack on which faults are handled, a double fault's for instance: an overflow stops the machine.
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
    pub(crate) range: VirtRange,
    pub(crate) slots: usize,
    pub(crate) reserved: usize,
    pub(crate) populated: usize,
    pub(crate) leading: Option<usize>,
    pub(crate) trailing: Option<usize>,
    pub(crate) stride: Option<usize>,
    pub(crate) cpus: usize,
    pub(crate) nodes: usize,
    pub(crate) kind: StackKind,
    pub(crate) placement: Placement,
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
            nodes: 1,
            kind: StackKind::Task,
            placement: Placement::Any,
        }
    }

    /// Which slot a stack gets. [`Placement::Any`] unless said otherwise.
    #[must_use]
    pub const fn placement(self, placement: Placement) -> Self {
        Self { placement, ..self }
    }

    /// What the stacks are for. [`StackKind::Task`] unless said otherwise.
    #[must_use]
    pub const fn kind(self, kind: StackKind) -> Self {
        Self { kind, ..self }
    }

    /// How many NUMA nodes the CPUs are on. One unless said otherwise.
    #[must_use]
    pub const fn nodes(self, nodes: usize) -> Self {
        Self { nodes, ..self }
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
    /// An area for no NUMA nodes.
    NoNodes,
    /// More NUMA nodes than an area can serve.
    TooManyNodes {
        /// The number asked.
        nodes: usize,
        /// The most that an area can serve.
        max: usize,
    },
    /// The platform says that a CPU is on a node that the area was not told of.
    UnknownNode {
        /// The CPU.
        cpu: Cpu,
        /// The node that the platform says.
        node: Node,
        /// How many nodes the area was told of.
        nodes: usize,
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
            Self::NoNodes => write!(f, "an area needs at least one NUMA node"),
            Self::TooManyNodes { nodes, max } => {
                write!(f, "{nodes} NUMA nodes are more than an area can serve, {max}")
            }
            Self::UnknownNode { cpu, node, nodes } => {
                write!(f, "CPU {cpu} is on NUMA node {node}, and the area was told of {nodes}")
            }
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

pub(crate) fn check_page(page: usize) -> Result<(), GeometryError> {
    if matches!(page, 4096 | 16_384 | 65_536) { Ok(()) } else { Err(GeometryError::PageSize { page }) }
}

pub(crate) fn check_stack(config: &AreaConfig, page: usize) -> Result<(), GeometryError> {
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
pub(crate) fn check_guards(config: &AreaConfig, page: usize) -> Result<usize, GeometryError> {
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

pub(crate) fn check_stride(config: &AreaConfig, guard: usize) -> Result<usize, GeometryError> {
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

/// The numbers of slots, CPUs and nodes.
pub(crate) fn check_counts(config: &AreaConfig) -> Result<(u32, u32, u32), GeometryError> {
    let (slots, cpus, nodes) = (config.slots, config.cpus, config.nodes);
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
    if nodes == 0 {
        return Err(GeometryError::NoNodes);
    }
    if nodes > MAX_NODES {
        return Err(GeometryError::TooManyNodes { nodes, max: MAX_NODES });
    }
    Ok((slots as u32, cpus as u32, nodes as u32))
}
