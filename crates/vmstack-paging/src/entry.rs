//! What an entry of a page table says, in no architecture's words.
//!
//! An entry is 64 bits that one [`Format`](crate::Format) decodes into an [`Entry`] and encodes from one. Its meaning
//! depends on the [`Level`] of the table that it is in, so the level always goes with it.
//!
//! ```text
//!              map                          park
//!   Absent ──────────> Leaf ───────────────────────────> Parked
//!     ^  ^               │ unmap_with                       │
//!     │  └───────────────┘                                  │ take_parked, after the flush
//!     └─────────────────────────────────────────────────────┘
//! ```
//!
//! *Parked* is a word of this crate: the hardware sees an absent entry, software finds in it the frame that it led to
//! and whether the page had been written. `Table` entries appear on first use and go only with `free_tables`.
//!
//! Plain values, usable in any context.

use vmstack::{PhysAddr, VirtAddr};

use crate::attributes::Attributes;

/// The level of a table, counted from the leaf tables up: entries of level 0 map pages.
///
/// (The manuals count otherwise: AArch64's level 3 is level 0 here, as are x86-64's "page table" and RISC-V's level 0.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Level(u8);

/// What an entry says.
///
/// Exhaustive on purpose: a format must say how it writes each of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Nothing: all 64 bits are zero.
    Absent,
    /// Nothing for the hardware; for software, what a leaf was until it was parked.
    Parked {
        /// The physical address of the frame that the leaf led to.
        frame: PhysAddr,
        /// Whether the page may have been written while it was mapped.
        dirty: bool,
    },
    /// The table one level down.
    Table {
        /// The physical address of that table.
        at: PhysAddr,
    },
    /// Mapped memory: a page at level 0, a large page above.
    Leaf {
        /// The physical address of its first byte.
        frame: PhysAddr,
        /// What it permits.
        attributes: Attributes,
        /// Whether it may have been written since it was mapped or last cleared.
        dirty: bool,
    },
    /// Bits that this crate does not write (writable and executable, or reserved by the manual). It is never changed
    /// and never translated.
    Foreign {
        /// The bits as they were found.
        raw: u64,
    },
}

/// Mapped memory as a visitor or a translation finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Leaf {
    /// The virtual address of its first byte.
    pub at: VirtAddr,
    /// The physical address of its first byte.
    pub frame: PhysAddr,
    /// The level of its entry, which gives its size: see [`Format::leaf_bytes`](crate::Format::leaf_bytes).
    pub level: Level,
    /// What it permits.
    pub attributes: Attributes,
    /// Whether it may have been written. Always `true` where the format has no dirty bit.
    pub dirty: bool,
}

impl Level {
    /// The level whose entries map single pages: 4 KiB where tables have 512 entries.
    pub const PAGE: Self = Self(0);
    /// The level whose leaves are 2 MiB where pages are 4 KiB.
    pub const LARGE: Self = Self(1);
    /// The level whose leaves are 1 GiB where pages are 4 KiB.
    pub const HUGE: Self = Self(2);

    /// The level `number` steps above the leaf tables.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// The number of steps above the leaf tables.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The level one step down, or `None` below the leaf tables.
    #[must_use]
    pub const fn down(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }
}

impl Entry {
    /// The leaf that the entry says is at `at`, if it is one.
    #[must_use]
    pub const fn leaf(self, at: VirtAddr, level: Level) -> Option<Leaf> {
        match self {
            Self::Leaf { frame, attributes, dirty } => Some(Leaf { at, frame, level, attributes, dirty }),
            _ => None,
        }
    }

    /// What a leaf becomes under other attributes. `None` for other entries.
    #[must_use]
    pub const fn with_attributes(self, attributes: Attributes) -> Option<Self> {
        match self {
            Self::Leaf { frame, dirty, .. } => Some(Self::Leaf { frame, attributes, dirty }),
            _ => None,
        }
    }

    /// What a leaf becomes when it is parked. `None` for other entries.
    #[must_use]
    pub const fn parked(self) -> Option<Self> {
        match self {
            Self::Leaf { frame, dirty, .. } => Some(Self::Parked { frame, dirty }),
            _ => None,
        }
    }

    /// The same entry with the dirty bit as given. Only leaves and parked entries have one.
    #[must_use]
    pub const fn with_dirty(self, dirty: bool) -> Self {
        match self {
            Self::Leaf { frame, attributes, .. } => Self::Leaf { frame, attributes, dirty },
            Self::Parked { frame, .. } => Self::Parked { frame, dirty },
            other => other,
        }
    }
}

impl Leaf {
    /// The physical address that `addr`, an address in this leaf, translates to.
    #[must_use]
    pub const fn phys(&self, addr: VirtAddr) -> PhysAddr {
        self.frame.wrapping_add(addr.get().wrapping_sub(self.at.get()) as u64)
    }
}
