//! How an architecture writes page tables: the contract that the three formats fulfil.
//!
//! A [`Format`] is a type without values. It says how many levels there are, which addresses they translate, and how an
//! [`Entry`] becomes 64 bits and back; all the rest (indices, sizes, which addresses are canonical) follows from its
//! constants. One module an architecture, all with the same set of names: the format's type and its aliases, and
//! `decode_fault`.
//!
//! ```text
//!             levels   bits of a half   halves           leaves                 dirty bit
//!   X86_64       4          47          both             4 KiB, 2 MiB, 1 GiB    D
//!   X86_64La57   5          56          both             4 KiB, 2 MiB, 1 GiB    D
//!   Aarch64      4          48          one each root    4 KiB, 2 MiB, 1 GiB    AP[2] under DBM, if there
//!   Sv39         3          38          both             4 KiB, 2 MiB, 1 GiB    D, if Svadu
//!   Sv48         4          47          both             4 KiB, 2 MiB, 1 GiB    D, if Svadu
//!   Sv57         5          56          both             4 KiB, 2 MiB, 1 GiB    D, if Svadu
//! ```
//!
//! Pages of 16 and 64 KiB fit the contract: they are other values of `PAGE_SHIFT` and `INDEX_BITS`. What they lack is a
//! [`Table`](crate::Table) with as many entries; until there is one, [`Mapper`](crate::Mapper) refuses such a format
//! when it is compiled.
//!
//! Arithmetic only, usable in any context.

use vmstack::{PhysAddr, VirtAddr};

use crate::entry::{Entry, Level};

pub mod aarch64;
pub mod riscv64;
pub mod x86_64;

/// Which halves of the virtual address space a root table translates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Halves {
    /// Both, in one table: its lower entries for the lower half, its upper entries for the upper.
    Both,
    /// The lower half only: addresses whose upper bits are all zero.
    Lower,
    /// The upper half only: addresses whose upper bits are all one.
    Upper,
}

impl Halves {
    /// Whether the lower half is translated.
    #[must_use]
    pub const fn has_lower(self) -> bool {
        !matches!(self, Self::Upper)
    }

    /// Whether the upper half is translated.
    #[must_use]
    pub const fn has_upper(self) -> bool {
        !matches!(self, Self::Lower)
    }
}

/// A page-table format.
///
/// # Implementation safety
///
/// 1. The hardware that walks a table of this format agrees with [`decode`](Self::decode): what is `Absent` or `Parked`
///    it does not translate, what is a `Leaf` or a `Table` it follows to the same address.
/// 2. `decode(encode(entry, level), level) == entry` for every entry that the format can hold at that level, where
///    leaves of a format without [`HAS_DIRTY`](Self::HAS_DIRTY) read as dirty.
/// 3. `encode` gives 0 for `Absent` and for nothing else.
/// 4. Of what is provided, only [`is_clean`](Self::is_clean), [`frame_at`](Self::frame_at), [`park`](Self::park),
///    [`parked_frame`](Self::parked_frame), [`table_at`](Self::table_at), [`NEIGHBOURS`](Self::NEIGHBOURS) and
///    [`SURELY_CLEAN`](Self::SURELY_CLEAN) are overridden, and say no other than `decode` and `encode` do.
pub unsafe trait Format: 'static {
    /// What the manuals call the format.
    const NAME: &'static str;

    /// The number of levels of tables, the root's included.
    const LEVELS: u8;

    /// The number of address bits that are the same in virtual and physical address: a page has `1 << PAGE_SHIFT`
    /// bytes.
    const PAGE_SHIFT: u32 = 12;

    /// The number of address bits that index one table.
    const INDEX_BITS: u32 = 9;

    /// The number of address bits in one half of the address space; all above are equal in a canonical address.
    const HALF_BITS: u32;

    /// Which halves a root translates.
    const HALVES: Halves;

    /// The number of bits of a physical address that an entry can hold.
    const PHYS_BITS: u32;

    /// The highest level whose entries may be leaves.
    const LARGEST_LEAF: Level;

    /// Whether the hardware sets a dirty bit on the first write. If not, every leaf reads as dirty.
    const HAS_DIRTY: bool;

    /// The 64 bits of `entry` in a table of `level`.
    ///
    /// Addresses that the format cannot hold are cut: [`can_hold`](Self::can_hold) says which it can.
    #[must_use]
    fn encode(entry: Entry, level: Level) -> u64;

    /// What the 64 bits `raw` say in a table of `level`. Defined for all values.
    #[must_use]
    fn decode(raw: u64, level: Level) -> Entry;

    /// Whether the 64 bits `raw` in a table of the lowest level say a leaf that nobody has written through.
    ///
    /// To be overridden where that takes fewer instructions than decoding all of it: it is asked for each page of each stack.
    #[must_use]
    fn is_clean(raw: u64) -> bool {
        matches!(Self::decode(raw, Level::PAGE), Entry::Leaf { dirty: false, .. })
    }

    /// The frame of the leaf that the 64 bits `raw` in a table of the lowest level say, if they say one.
    ///
    /// To be overridden where that takes fewer instructions than decoding all of it.
    #[must_use]
    fn frame_at(raw: u64) -> Option<PhysAddr> {
        match Self::decode(raw, Level::PAGE) {
            Entry::Leaf { frame, .. } => Some(frame),
            _ => None,
        }
    }

    /// What the 64 bits `raw` of a leaf in a table of the lowest level become when it is parked; none if they say something else.
    ///
    /// To be overridden where that takes fewer instructions than decoding and encoding all of it.
    #[must_use]
    fn park(raw: u64) -> Option<u64> {
        match Self::decode(raw, Level::PAGE) {
            entry @ Entry::Leaf { .. } => Some(Self::encode(entry.parked()?, Level::PAGE)),
            _ => None,
        }
    }

    /// The frame that the 64 bits `raw` of a parked entry in a table of the lowest level remember; none if they say something else.
    ///
    /// To be overridden where that takes fewer instructions than decoding all of it.
    #[must_use]
    fn parked_frame(raw: u64) -> Option<PhysAddr> {
        match Self::decode(raw, Level::PAGE) {
            Entry::Parked { frame, .. } => Some(frame),
            _ => None,
        }
    }

    /// By how much the 64 bits of two leaves in tables of the lowest level differ whose frames are neighbours, and the bits in which they
    /// may differ besides, because the hardware sets them. None if that is not so simple.
    const NEIGHBOURS: Option<(u64, u64)> = None;

    /// The bits of an entry in a table of the lowest level that say for sure that it is a leaf which nobody has written through, and
    /// what they are then: for a first look. None if no such bits are known.
    const SURELY_CLEAN: Option<(u64, u64)> = None;

    /// Where the table lies that the 64 bits `raw` in a table of `level`, which is not the lowest, lead to, if they do.
    ///
    /// To be overridden where that takes fewer instructions than decoding all of it: it is asked at each level of each walk.
    #[must_use]
    fn table_at(raw: u64, level: Level) -> Option<PhysAddr> {
        match Self::decode(raw, level) {
            Entry::Table { at } => Some(at),
            _ => None,
        }
    }

    /// The level of the root table.
    #[must_use]
    fn top() -> Level {
        Level::new(Self::LEVELS.saturating_sub(1))
    }

    /// The size of a page in bytes.
    #[must_use]
    fn page_bytes() -> usize {
        1 << Self::PAGE_SHIFT
    }

    /// The number of bytes that one entry of `level`, at most the top level, covers.
    #[must_use]
    fn entry_bytes(level: Level) -> usize {
        1 << entry_shift::<Self>(level)
    }

    /// The size in bytes of the leaves of `level`, or `None` if it has none.
    #[must_use]
    fn leaf_bytes(level: Level) -> Option<usize> {
        (level <= Self::LARGEST_LEAF).then(|| Self::entry_bytes(level))
    }

    /// The index of the entry for `addr` in a table of `level`.
    #[must_use]
    fn index(addr: VirtAddr, level: Level) -> usize {
        (addr.get() >> entry_shift::<Self>(level)) & ((1 << Self::INDEX_BITS) - 1)
    }

    /// Whether a root of this format translates `addr`: its bits from `HALF_BITS` up are equal, and its half is one of
    /// [`HALVES`](Self::HALVES).
    #[must_use]
    fn is_canonical(addr: VirtAddr) -> bool {
        let upper = addr.get() >> Self::HALF_BITS;
        (upper == 0 && Self::HALVES.has_lower()) || (upper == usize::MAX >> Self::HALF_BITS && Self::HALVES.has_upper())
    }

    /// Whether an entry of `level` can hold `frame`: aligned to what the entry covers, and not too high.
    #[must_use]
    fn can_hold(frame: PhysAddr, level: Level) -> bool {
        let below = Self::entry_bytes(level) as u64 - 1;
        frame.get() & below == 0 && frame.get() >> Self::PHYS_BITS == 0
    }
}

/// The number of address bits below those that index a table of `level`.
const fn entry_shift<F: Format + ?Sized>(level: Level) -> u32 {
    F::PAGE_SHIFT + F::INDEX_BITS * level.number() as u32
}

/// `bits` if `on`, else none: how the formats spell a flag.
const fn flag(on: bool, bits: u64) -> u64 {
    if on { bits } else { 0 }
}

/// The address bits from `low` up to but not including `high`.
const fn bits(low: u32, high: u32) -> u64 {
    (u64::MAX >> (64 - (high - low))) << low
}

#[cfg(test)]
mod tests;
