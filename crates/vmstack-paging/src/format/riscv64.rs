//! RISC-V 64: Sv39, Sv48 and Sv57.
//!
//! Source: RISC-V privileged specification 1.13, chapter "Supervisor-Level ISA": "Sv32" (whose rules the others take
//! over), "Sv39", "Sv48", "Sv57", and the extensions Svade, Svadu, Svpbmt and Svvptc.
//!
//! ```text
//!    63 62..61 60..54 53 ................ 10   9    8    7   6   5   4   3   2   1   0
//!   ┌──┬──────┬──────┬──────────────────────┬────┬────┬───┬───┬───┬───┬───┬───┬───┬───┐
//!   │ N│ PBMT │  0   │ physical page number │  software│ D │ A │ G │ U │ X │ W │ R │ 1 │  leaf; a table if X=W=R=0
//!   ├──┴──────┴──────┼──────────────────────┼────┼────┼───┼───┴───┴───┴───┴───┴───┼───┤
//!   │        0       │ physical page number │  0 │  1 │ D │           0           │ 0 │  parked
//!   └────────────────┴──────────────────────┴────┴────┴───┴───────────────────────┴───┘
//!                                                  bit 8: the mark
//! ```
//!
//! **Not valid.** With V = 0 "all other bits in the PTE are don't-cares and may be used freely by software" ("Sv32").
//! A parked entry keeps page number and D where a leaf has them.
//!
//! **Dirty.** Under Svade a clear A or D is a page fault, under Svadu (menvcfg.ADUE set) the hardware sets it. The
//! format is one of the two: without `HARDWARE_DIRTY` every leaf is written with D set and reads as dirty. A is always
//! set.
//!
//! **Uncached** is decided by the physical memory attributes; without Svpbmt an entry cannot say it. Bit 9, which is
//! software's, keeps what was asked, so that a visitor reads back what was mapped. An entry that uses PBMT or N is
//! foreign.
//!
//! **Caching.** An implementation may remember that an entry was not valid (unless it has Svvptc), so filling one needs
//! an `SFENCE.VMA` on a hart that might have tried, or a fault handler that fences and tries again.

use super::{Format, Halves, bits, flag};
use crate::attributes::{Access, Attributes};
use crate::entry::{Entry, Level};
use crate::fault::{Fault, FaultKind};
use vmstack::PhysAddr;

const VALID: u64 = 1 << 0;
const READABLE: u64 = 1 << 1;
const WRITABLE: u64 = 1 << 2;
const EXECUTABLE: u64 = 1 << 3;
const USER: u64 = 1 << 4;
const GLOBAL: u64 = 1 << 5;
const ACCESSED: u64 = 1 << 6;
const DIRTY: u64 = 1 << 7;
/// The mark of a parked entry.
const PARKED: u64 = 1 << 8;
/// Uncached was asked for.
const UNCACHED: u64 = 1 << 9;
/// The physical page number.
const NUMBER: u64 = bits(10, 54);
/// Reserved bits, PBMT and N, which are zero in all that is written here.
const RESERVED: u64 = bits(54, 64);

/// The format of RISC-V with `LEVELS` levels: 3 is Sv39, 4 is Sv48, 5 is Sv57. A type without values.
///
/// `HARDWARE_DIRTY`: the harts have Svadu, and it is switched on.
#[derive(Clone, Copy, Debug)]
pub enum Riscv64<const LEVELS: u8, const HARDWARE_DIRTY: bool = false> {}

/// Sv39 under Svade.
pub type Sv39 = Riscv64<3>;

/// Sv48 under Svade.
pub type Sv48 = Riscv64<4>;

/// Sv57 under Svade.
pub type Sv57 = Riscv64<5>;

// SAFETY: (1) the bits are those of the sections in the privileged specification that the essay names, and an entry
// with V = 0 is not translated; (2) and (3) are held by the round trips in `tests/round_trips.rs`: a parked entry has
// its mark, every other but `Absent` is valid; (4) nothing is overridden.
unsafe impl<const N: u8, const HARDWARE_DIRTY: bool> Format for Riscv64<N, HARDWARE_DIRTY> {
    const NAME: &'static str = match N {
        3 => "RISC-V, Sv39",
        4 => "RISC-V, Sv48",
        _ => "RISC-V, Sv57",
    };
    const LEVELS: u8 = {
        assert!(N >= 3 && N <= 5, "RISC-V has 3 (Sv39), 4 (Sv48) or 5 (Sv57) levels");
        N
    };
    const HALF_BITS: u32 = 12 + 9 * (N as u32) - 1;
    const HALVES: Halves = Halves::Both;
    const PHYS_BITS: u32 = 56;
    const LARGEST_LEAF: Level = Level::HUGE;
    const HAS_DIRTY: bool = HARDWARE_DIRTY;

    fn encode(entry: Entry, _level: Level) -> u64 {
        match entry {
            Entry::Absent => 0,
            Entry::Parked { frame, dirty } => PARKED | encode_number(frame) | flag(dirty, DIRTY),
            Entry::Table { at } => encode_number(at) | VALID,
            Entry::Leaf { frame, attributes, dirty } => {
                let dirty = flag(dirty || !HARDWARE_DIRTY, DIRTY);
                encode_number(frame) | VALID | ACCESSED | dirty | encode_attributes(attributes)
            }
            Entry::Foreign { raw } => raw,
        }
    }

    fn decode(raw: u64, level: Level) -> Entry {
        match raw {
            0 => Entry::Absent,
            _ if raw & VALID == 0 => decode_parked(raw),
            _ if raw & RESERVED != 0 => Entry::Foreign { raw },
            _ if raw & (READABLE | WRITABLE | EXECUTABLE) != 0 => decode_leaf::<Self>(raw, level),
            _ => decode_table(raw, level),
        }
    }
}

/// The page number of `frame`, where an entry has it.
const fn encode_number(frame: PhysAddr) -> u64 {
    (frame.get() >> 12 << 10) & NUMBER
}

/// The physical address whose page number an entry has.
const fn decode_number(raw: u64) -> PhysAddr {
    PhysAddr::new((raw & NUMBER) >> 10 << 12)
}

/// What an entry that is neither zero nor valid says.
const fn decode_parked(raw: u64) -> Entry {
    match raw & PARKED {
        0 => Entry::Foreign { raw },
        _ => Entry::Parked { frame: decode_number(raw), dirty: raw & DIRTY != 0 },
    }
}

/// What a valid entry with R, W and X clear says. D, A and U are reserved in it.
fn decode_table(raw: u64, level: Level) -> Entry {
    let reserved = raw & (DIRTY | ACCESSED | USER) != 0;
    if level == Level::PAGE || reserved { Entry::Foreign { raw } } else { Entry::Table { at: decode_number(raw) } }
}

/// What a valid entry with one of R, W and X set says. Without R it is reserved, or execute-only.
fn decode_leaf<F: Format>(raw: u64, level: Level) -> Entry {
    let frame = decode_number(raw);
    match decode_attributes(raw) {
        Some(attributes) if level <= F::LARGEST_LEAF && F::can_hold(frame, level) && raw & READABLE != 0 => {
            Entry::Leaf { frame, attributes, dirty: !F::HAS_DIRTY || raw & DIRTY != 0 }
        }
        _ => Entry::Foreign { raw },
    }
}

/// The bits of `attributes` in a leaf.
const fn encode_attributes(attributes: Attributes) -> u64 {
    READABLE
        | flag(attributes.access().is_writable(), WRITABLE)
        | flag(attributes.access().is_executable(), EXECUTABLE)
        | flag(attributes.is_user(), USER)
        | flag(attributes.is_global(), GLOBAL)
        | flag(attributes.is_uncached(), UNCACHED)
}

/// The attributes that a leaf's bits say, or `None` if it is both writable and executable.
fn decode_attributes(raw: u64) -> Option<Attributes> {
    let access = Access::from_flags(raw & WRITABLE != 0, raw & EXECUTABLE != 0).ok()?;
    let base = if raw & USER != 0 { Attributes::user(access) } else { Attributes::kernel(access) };
    Some(base.with_global(raw & GLOBAL != 0).with_uncached(raw & UNCACHED != 0))
}

/// What `scause` says about a page fault, or `None` if it is about something else.
///
/// Source: RISC-V privileged specification, table of `scause` values: 12 fetch, 13 load, 15 store or atomic. Whether
/// there was a translation it does not say, and who ran is in `sstatus.SPP`.
#[must_use]
pub const fn decode_fault(scause: u64) -> Option<Fault> {
    match scause {
        12 => Some(Fault::new(FaultKind::Fetch)),
        13 => Some(Fault::new(FaultKind::Read)),
        15 => Some(Fault::new(FaultKind::Write)),
        _ => None,
    }
}
