//! Why a mapping could not be made, or was not what its caller took it for.
//!
//! Two small enums with the address in question in each variant, because a kernel that is told "already mapped" asks
//! "where?" next. Two enums and not one, because what can go wrong when entries are filled and when they are taken is
//! not the same.
//!
//! Plain values, usable in any context.

use core::fmt;

use vmstack::{PhysAddr, VirtAddr};

use crate::entry::Level;

/// Why nothing was mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MapError {
    /// The pages do not lie in a part of the address space that the format translates with this root.
    NotCanonical {
        /// The first byte of the run.
        at: VirtAddr,
    },
    /// An address or a length is not a multiple of the page size (or of the size of the large page asked for).
    Misaligned {
        /// The first byte of the run.
        at: VirtAddr,
    },
    /// A page is mapped already.
    AlreadyMapped {
        /// The page.
        at: VirtAddr,
    },
    /// A page is parked: its frame has not been taken out since it was unmapped.
    Parked {
        /// The page.
        at: VirtAddr,
    },
    /// A large page covers a page that was to be mapped.
    HugeInTheWay {
        /// The page that was to be mapped.
        at: VirtAddr,
    },
    /// A large page was to be mapped where there is a table, perhaps an empty one.
    TableInTheWay {
        /// The large page.
        at: VirtAddr,
    },
    /// There was no memory for a table.
    NoTable {
        /// The page that needed the table.
        at: VirtAddr,
    },
    /// Fewer frames than pages were given.
    OutOfFrames {
        /// The first page without a frame.
        at: VirtAddr,
    },
    /// A physical address is not aligned as the page needs it, or has more bits than an entry can hold.
    BadFrame {
        /// The physical address.
        frame: PhysAddr,
    },
    /// The format has no leaves of this size.
    NoSuchLeaf {
        /// The level that was asked for.
        level: Level,
    },
}

/// Why mapped pages were left as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LeafError {
    /// The pages do not lie in a part of the address space that the format translates with this root.
    NotCanonical {
        /// The first byte of the run.
        at: VirtAddr,
    },
    /// The address is not a multiple of the page size.
    Misaligned {
        /// The first byte of the run.
        at: VirtAddr,
    },
    /// A page is not mapped, and not parked either.
    NotMapped {
        /// The page.
        at: VirtAddr,
    },
    /// A page is parked where a mapped one was expected.
    Parked {
        /// The page.
        at: VirtAddr,
    },
    /// A page is mapped where a parked one was expected.
    NotParked {
        /// The page.
        at: VirtAddr,
    },
    /// A page is part of a large page, which would have to be split.
    HugeInTheWay {
        /// The page.
        at: VirtAddr,
    },
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCanonical { at } => write!(f, "{at}: not an address that this page table can translate"),
            Self::Misaligned { at } => write!(f, "{at}: address or length is not a multiple of the page size"),
            Self::AlreadyMapped { at } => write!(f, "{at}: already mapped; unmap it first"),
            Self::Parked { at } => write!(f, "{at}: unmapped but its frame not yet taken; flush and take it first"),
            Self::HugeInTheWay { at } => write!(f, "{at}: covered by a large page"),
            Self::TableInTheWay { at } => write!(f, "{at}: a table is where the large page should be; use small pages"),
            Self::NoTable { at } => write!(f, "{at}: no memory for a page table"),
            Self::OutOfFrames { at } => write!(f, "{at}: fewer frames than pages"),
            Self::BadFrame { frame } => write!(f, "physical {:#x}: misaligned or too high for an entry", frame.get()),
            Self::NoSuchLeaf { level } => write!(f, "level {}: no leaves at this level", level.number()),
        }
    }
}

impl fmt::Display for LeafError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCanonical { at } => write!(f, "{at}: not an address that this page table can translate"),
            Self::Misaligned { at } => write!(f, "{at}: not a multiple of the page size"),
            Self::NotMapped { at } => write!(f, "{at}: not mapped"),
            Self::Parked { at } => write!(f, "{at}: parked already"),
            Self::NotParked { at } => write!(f, "{at}: still mapped; park it and flush first"),
            Self::HugeInTheWay { at } => write!(f, "{at}: part of a large page, which is not split"),
        }
    }
}

impl core::error::Error for MapError {}

impl core::error::Error for LeafError {}
