//! AArch64: VMSAv8-64 stage 1, EL1&0 regime, 4 KiB granule, 48-bit addresses.
//!
//! Source: Arm ARM (DDI 0487) D8.3 (descriptor formats), D8.4 (memory access control), D8.5 (hardware updates of the
//! access flag and the dirty state), and "Using break-before-make when updating translation table entries".
//!
//! ```text
//!    63..59 58..56     55    54  53  52  51 50..48 47 ....... 12 11   10  9:8   7     6    5  4..2  1   0
//!   ┌──────┬─────┬─────────┬───┬───┬────┬───┬─────┬─────────────┬────┬──┬────┬─────┬─────┬──┬──────┬───┬───┐
//!   │  ign │ sw  │ sw      │UXN│PXN│Cont│DBM│  0  │ frame       │ nG │AF│ SH │AP[2]│AP[1]│NS│ Attr │1/0│ 1 │  leaf
//!   ├──────┴──┬──┼─────────┼───┴───┴────┴───┴─────┼─────────────┼────┴──┴────┴─────┴─────┴──┴──────┴───┼───┤
//!   │     0   │ D│ 1, mark │           0          │ frame       │                   0                  │ 0 │  parked
//!   └─────────┴──┴─────────┴──────────────────────┴─────────────┴──────────────────────────────────────┴───┘
//!          bit 56: dirty, as seen by software
//! ```
//!
//! **Invalid descriptors.** With bit 0 clear the hardware ignores bits 63:1 (D8.3), so a parked entry keeps its frame
//! where a page descriptor has it. The mark is bit 55, one of those reserved for software in valid ones too.
//!
//! **Two roots.** TTBR0 translates the lower half, TTBR1 the upper, each with 48 bits of its own: a format is one of
//! the two ([`Aarch64User`], [`Aarch64Kernel`]), so an address of the wrong half is refused and not taken for another.
//!
//! **Dirty state.** Without FEAT_HAFDBS there is none, and every leaf reads as dirty. With it (`HARDWARE_DIRTY`, to be
//! used only with TCR_EL1.HD set) a writable page is written as read-only with DBM set, and the hardware clears AP\[2\]
//! on the first write. A page that is then made read-only keeps its dirty state in bit 56.
//!
//! **Caching.** An invalid descriptor is in no TLB, so filling one needs no TLBI, but the walker may see the store
//! late: `DSB ISHST; ISB` before the mapping is used. `AF` is always set. Only the access changes in a live leaf,
//! which needs no break-before-make. Attribute index 0 is normal write-back memory, 1 is Device-nGnRnE: load [`MAIR`].

use super::{Format, Halves, bits, flag};
use crate::attributes::{Access, Attributes};
use crate::entry::{Entry, Level};
use crate::fault::{Fault, FaultKind};
use vmstack::PhysAddr;

/// What MAIR_EL1 must hold: index 0 normal memory, write-back, allocating; index 1 Device-nGnRnE.
pub const MAIR: u64 = 0x00ff;

const VALID: u64 = 1 << 0;
/// Above the leaf level: a table and not a block. At the leaf level: always set.
const TABLE_OR_PAGE: u64 = 1 << 1;
const ATTRIBUTE_INDEX: u64 = bits(2, 5);
const DEVICE: u64 = 1 << 2;
/// AP\[1\]: EL0 has access.
const USER: u64 = 1 << 6;
/// AP\[2\].
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = bits(8, 10);
const ACCESS_FLAG: u64 = 1 << 10;
const NOT_GLOBAL: u64 = 1 << 11;
const ADDRESS: u64 = bits(12, 48);
/// Dirty bit modifier: the hardware may clear `READ_ONLY` on the first write.
const DBM: u64 = 1 << 51;
const KERNEL_NO_EXECUTE: u64 = 1 << 53;
const USER_NO_EXECUTE: u64 = 1 << 54;
/// The mark of a parked entry.
const PARKED: u64 = 1 << 55;
/// Dirty, in a parked entry or in one that is not writable any more.
const SOFTWARE_DIRTY: u64 = 1 << 56;

/// The format of AArch64 for one of its two roots. A type without values.
///
/// `UPPER`: for TTBR1, else for TTBR0. `HARDWARE_DIRTY`: the processor has FEAT_HAFDBS and TCR_EL1.HD is set.
#[derive(Clone, Copy, Debug)]
pub enum Aarch64<const UPPER: bool, const HARDWARE_DIRTY: bool = false> {}

/// The tables of TTBR0, without hardware dirty state.
pub type Aarch64User = Aarch64<false>;

/// The tables of TTBR1, without hardware dirty state.
pub type Aarch64Kernel = Aarch64<true>;

// SAFETY: (1) the bits are those of the sections in the Arm ARM that the essay names, and every descriptor with bit 0
// clear is invalid; (2) and (3) are held by the round trips in `tests/round_trips.rs`: a parked entry has its mark,
// every other but `Absent` is valid; (4) nothing is overridden.
unsafe impl<const UPPER: bool, const DIRTY: bool> Format for Aarch64<UPPER, DIRTY> {
    const NAME: &'static str = if UPPER { "AArch64, TTBR1" } else { "AArch64, TTBR0" };
    const LEVELS: u8 = 4;
    const HALF_BITS: u32 = 48;
    const HALVES: Halves = if UPPER { Halves::Upper } else { Halves::Lower };
    const PHYS_BITS: u32 = 48;
    const LARGEST_LEAF: Level = Level::HUGE;
    const HAS_DIRTY: bool = DIRTY;

    fn encode(entry: Entry, level: Level) -> u64 {
        match entry {
            Entry::Absent => 0,
            Entry::Parked { frame, dirty } => PARKED | (frame.get() & ADDRESS) | flag(dirty, SOFTWARE_DIRTY),
            Entry::Table { at } => (at.get() & ADDRESS) | VALID | TABLE_OR_PAGE,
            Entry::Leaf { frame, attributes, dirty } => {
                let page = flag(level == Level::PAGE, TABLE_OR_PAGE);
                let base = (frame.get() & ADDRESS) | VALID | ACCESS_FLAG | page;
                base | encode_attributes(attributes) | encode_write(attributes.access(), dirty, DIRTY)
            }
            Entry::Foreign { raw } => raw,
        }
    }

    fn decode(raw: u64, level: Level) -> Entry {
        match (raw & VALID != 0, raw & TABLE_OR_PAGE != 0) {
            _ if raw == 0 => Entry::Absent,
            (false, _) => decode_parked(raw),
            (true, true) if level > Level::PAGE => Entry::Table { at: PhysAddr::new(raw & ADDRESS) },
            (true, page) if page == (level == Level::PAGE) => decode_leaf::<Self>(raw, level),
            _ => Entry::Foreign { raw },
        }
    }
}

/// What an entry that is neither zero nor valid says.
const fn decode_parked(raw: u64) -> Entry {
    match raw & PARKED {
        0 => Entry::Foreign { raw },
        _ => Entry::Parked { frame: PhysAddr::new(raw & ADDRESS), dirty: raw & SOFTWARE_DIRTY != 0 },
    }
}

/// What a valid page or block descriptor says.
fn decode_leaf<F: Format>(raw: u64, level: Level) -> Entry {
    let frame = PhysAddr::new(raw & ADDRESS);
    match decode_attributes(raw, F::HAS_DIRTY) {
        Some(attributes) if level <= F::LARGEST_LEAF && F::can_hold(frame, level) => {
            Entry::Leaf { frame, attributes, dirty: !F::HAS_DIRTY || is_dirty(raw, attributes.access()) }
        }
        _ => Entry::Foreign { raw },
    }
}

/// The bits of a leaf that say whether it may be written and whether it was.
const fn encode_write(access: Access, dirty: bool, hardware: bool) -> u64 {
    match (access.is_writable(), hardware) {
        (true, false) => 0,
        (true, true) => DBM | flag(!dirty, READ_ONLY),
        (false, _) => READ_ONLY | flag(dirty, SOFTWARE_DIRTY),
    }
}

/// Whether a leaf was written, where the hardware records it.
const fn is_dirty(raw: u64, access: Access) -> bool {
    if access.is_writable() { raw & READ_ONLY == 0 } else { raw & SOFTWARE_DIRTY != 0 }
}

/// The bits of `attributes` in a leaf, but for those that say whether it may be written.
const fn encode_attributes(attributes: Attributes) -> u64 {
    let no_execute = match (attributes.access().is_executable(), attributes.is_user()) {
        (true, true) => KERNEL_NO_EXECUTE,
        (true, false) => USER_NO_EXECUTE,
        (false, _) => KERNEL_NO_EXECUTE | USER_NO_EXECUTE,
    };
    no_execute
        | flag(attributes.is_user(), USER)
        | flag(!attributes.is_global(), NOT_GLOBAL)
        | if attributes.is_uncached() { DEVICE } else { INNER_SHAREABLE }
}

/// The attributes that a leaf's bits say, or `None` if it is both writable and executable.
fn decode_attributes(raw: u64, hardware_dirty: bool) -> Option<Attributes> {
    let user = raw & USER != 0;
    let writable = raw & READ_ONLY == 0 || (hardware_dirty && raw & DBM != 0);
    let no_execute = if user { USER_NO_EXECUTE } else { KERNEL_NO_EXECUTE };
    let executable = raw & no_execute == 0;
    let access = Access::from_flags(writable, executable).ok()?;
    let base = if user { Attributes::user(access) } else { Attributes::kernel(access) };
    Some(base.with_global(raw & NOT_GLOBAL == 0).with_uncached(raw & ATTRIBUTE_INDEX == DEVICE))
}

/// What ESR_EL1 says about an instruction or data abort, or `None` if it is about something else (an alignment fault,
/// an external abort, no abort at all).
///
/// Source: Arm ARM, register ESR_EL1: EC in bits 31:26, the fault status in bits 5:0, WnR in bit 6, CM in bit 8 (a
/// cache maintenance instruction, which reads whatever WnR says).
#[must_use]
pub const fn decode_fault(esr: u64) -> Option<Fault> {
    let (user, fetch) = match (esr >> 26) & 0x3f {
        0x20 => (true, true),
        0x21 => (false, true),
        0x24 => (true, false),
        0x25 => (false, false),
        _ => return None,
    };
    let (present, malformed) = match (esr >> 2) & 0xf {
        0b0000 => (Some(true), true),
        0b0001 => (Some(false), false),
        0b0010 | 0b0011 => (Some(true), false),
        _ => return None,
    };
    let kind = match (fetch, esr & (1 << 6) != 0 && esr & (1 << 8) == 0) {
        (true, _) => FaultKind::Fetch,
        (false, true) => FaultKind::Write,
        (false, false) => FaultKind::Read,
    };
    Some(Fault { present, user: Some(user), malformed, ..Fault::new(kind) })
}
