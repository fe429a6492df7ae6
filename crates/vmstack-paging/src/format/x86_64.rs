//! x86-64: 4-level and 5-level paging.
//!
//! Source: Intel SDM volume 3, chapter 4, "Paging" (5 in editions since the end of 2023): 4.5 (4-level and 5-level
//! paging, formats of the entries), 4.6 (access rights), 4.7 (page-fault exceptions), 4.8 (accessed and dirty flags),
//! 4.10 (caching of translations).
//!
//! ```text
//!    63  62..59 58..52 51 ............... 12 11..9   8   7   6   5   4   3   2   1   0
//!   ┌───┬──────┬──────┬─────────────────────┬─────┬───┬────┬───┬───┬───┬───┬───┬───┬───┐
//!   │ XD│ key  │  ign │ frame or table      │ ign │ G │ PS │ D │ A │PCD│PWT│U/S│R/W│ 1 │  present
//!   ├───┴──────┴──────┼─────────────────────┼──┬──┼───┴────┼───┼───┴───┴───┴───┴───┼───┤
//!   │        0        │ frame, inverted     │ 0│ 1│    0   │ D │         0         │ 0 │  parked
//!   └─────────────────┴─────────────────────┴──┴──┴────────┴───┴───────────────────┴───┘
//!                                       bit 9: the mark
//! ```
//!
//! **Not present.** With P = 0 the hardware ignores bits 63:1 (4.5): a parked entry may say what it likes there.
//! The frame is stored *inverted*: processors with the L1 terminal fault read the L1 cache speculatively at the address
//! in an entry that is not present, and an inverted one names memory that most machines do not have.
//!
//! **Caching.** An entry that is not present is in no TLB (4.10.2.3), so filling one needs no flush. Table entries
//! permit everything: the leaf decides, because the hardware takes the strictest of all levels (4.6.1).
//!
//! **Accessed** is always set: nothing here asks for it, and it spares the processor a locked write to the table.
//! **Uncached** is PCD and PWT, which is UC with the PAT as it is after reset; PAT itself stays clear, and an entry
//! that has it is foreign.

use super::{Format, Halves, bits, flag};
use crate::attributes::{Access, Attributes};
use crate::entry::{Entry, Level};
use crate::fault::{Fault, FaultKind};
use vmstack::PhysAddr;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLED: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// In a table above the leaf level: this entry is a leaf. At the leaf level: the PAT bit.
const PAGE_SIZE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
/// The mark of a parked entry.
const PARKED: u64 = 1 << 9;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = bits(12, 52);

/// The format of x86-64 with `LEVELS` levels, 4 or 5. A type without values.
#[derive(Clone, Copy, Debug)]
pub enum X86_64<const LEVELS: u8 = 4> {}

/// The format of x86-64 with 5 levels (CR4.LA57 set).
pub type X86_64La57 = X86_64<5>;

// SAFETY: (1) the bits are those of the formats in SDM 4.5, and every entry with P = 0 is ignored by
// the hardware; (2) and (3) are held by the round trips in `tests/round_trips.rs`: a parked entry has its mark, every
// other but `Absent` is present; (4) `is_clean` and `table_at` are compared with `decode` there.
unsafe impl<const N: u8> Format for X86_64<N> {
    const NAME: &'static str = if N == 5 { "x86-64, 5 levels" } else { "x86-64, 4 levels" };
    const LEVELS: u8 = {
        assert!(N == 4 || N == 5, "x86-64 has 4 or 5 levels");
        N
    };
    const HALF_BITS: u32 = 12 + 9 * (N as u32) - 1;
    const HALVES: Halves = Halves::Both;
    const PHYS_BITS: u32 = 52;
    const LARGEST_LEAF: Level = Level::HUGE;
    const HAS_DIRTY: bool = true;

    fn encode(entry: Entry, level: Level) -> u64 {
        match entry {
            Entry::Absent => 0,
            Entry::Parked { frame, dirty } => PARKED | (!frame.get() & ADDRESS) | flag(dirty, DIRTY),
            Entry::Table { at } => (at.get() & ADDRESS) | PRESENT | WRITABLE | USER | ACCESSED,
            Entry::Leaf { frame, attributes, dirty } => {
                let size = flag(level > Level::PAGE, PAGE_SIZE);
                (frame.get() & ADDRESS) | PRESENT | ACCESSED | size | flag(dirty, DIRTY) | encode_attributes(attributes)
            }
            Entry::Foreign { raw } => raw,
        }
    }

    fn decode(raw: u64, level: Level) -> Entry {
        match raw {
            0 => Entry::Absent,
            _ if raw & PRESENT == 0 => decode_parked(raw),
            _ if level == Level::PAGE || raw & PAGE_SIZE != 0 => decode_leaf::<Self>(raw, level),
            _ => Entry::Table { at: PhysAddr::new(raw & ADDRESS) },
        }
    }

    #[inline]
    fn is_clean(raw: u64) -> bool {
        // At this level PAGE_SIZE is the PAT bit, which makes an entry foreign, as does being writable and executable.
        raw & (PRESENT | DIRTY | PAGE_SIZE) == PRESENT && raw & (WRITABLE | NO_EXECUTE) != WRITABLE
    }

    #[inline]
    fn frame_at(raw: u64) -> Option<PhysAddr> {
        // What is foreign: see `is_clean`.
        let leaf = raw & (PRESENT | PAGE_SIZE) == PRESENT && raw & (WRITABLE | NO_EXECUTE) != WRITABLE;
        leaf.then_some(PhysAddr::new(raw & ADDRESS))
    }

    #[inline]
    fn park(raw: u64) -> Option<u64> {
        Self::frame_at(raw)?;
        Some(PARKED | (!raw & ADDRESS) | (raw & DIRTY))
    }

    #[inline]
    fn parked_frame(raw: u64) -> Option<PhysAddr> {
        (raw & (PRESENT | PARKED) == PARKED).then_some(PhysAddr::new(!raw & ADDRESS))
    }

    const NEIGHBOURS: Option<(u64, u64)> = Some((1 << 12, ACCESSED | DIRTY));

    const SURELY_CLEAN: Option<(u64, u64)> = Some((PRESENT | DIRTY | PAGE_SIZE | NO_EXECUTE, PRESENT | NO_EXECUTE));

    #[inline]
    fn table_at(raw: u64, _level: Level) -> Option<PhysAddr> {
        (raw & (PRESENT | PAGE_SIZE) == PRESENT).then_some(PhysAddr::new(raw & ADDRESS))
    }
}

/// What an entry that is neither zero nor present says.
const fn decode_parked(raw: u64) -> Entry {
    match raw & PARKED {
        0 => Entry::Foreign { raw },
        _ => Entry::Parked { frame: PhysAddr::new(!raw & ADDRESS), dirty: raw & DIRTY != 0 },
    }
}

/// What a present entry that is no table says.
fn decode_leaf<F: Format>(raw: u64, level: Level) -> Entry {
    let frame = PhysAddr::new(raw & ADDRESS);
    let pat = level == Level::PAGE && raw & PAGE_SIZE != 0;
    match decode_attributes(raw) {
        Some(attributes) if level <= F::LARGEST_LEAF && F::can_hold(frame, level) && !pat => {
            Entry::Leaf { frame, attributes, dirty: raw & DIRTY != 0 }
        }
        _ => Entry::Foreign { raw },
    }
}

/// The bits of `attributes` in a leaf.
const fn encode_attributes(attributes: Attributes) -> u64 {
    flag(attributes.access().is_writable(), WRITABLE)
        | flag(!attributes.access().is_executable(), NO_EXECUTE)
        | flag(attributes.is_user(), USER)
        | flag(attributes.is_global(), GLOBAL)
        | flag(attributes.is_uncached(), CACHE_DISABLED | WRITE_THROUGH)
}

/// The attributes that a leaf's bits say, or `None` if it is both writable and executable.
fn decode_attributes(raw: u64) -> Option<Attributes> {
    let access = Access::from_flags(raw & WRITABLE != 0, raw & NO_EXECUTE == 0).ok()?;
    let base = if raw & USER != 0 { Attributes::user(access) } else { Attributes::kernel(access) };
    Some(base.with_global(raw & GLOBAL != 0).with_uncached(raw & CACHE_DISABLED != 0))
}

/// What the error code of a page fault (#PF, vector 14) says.
///
/// Source: Intel SDM volume 3, section 4.7: bit 0 P, 1 W/R, 2 U/S, 3 RSVD, 4 I/D.
#[must_use]
pub const fn decode_fault(error_code: u64) -> Fault {
    let kind = match (error_code & (1 << 4) != 0, error_code & (1 << 1) != 0) {
        (true, _) => FaultKind::Fetch,
        (false, true) => FaultKind::Write,
        (false, false) => FaultKind::Read,
    };
    Fault {
        present: Some(error_code & (1 << 0) != 0),
        user: Some(error_code & (1 << 2) != 0),
        malformed: error_code & (1 << 3) != 0,
        ..Fault::new(kind)
    }
}
