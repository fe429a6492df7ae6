//! Faults in the vmalloc's range: which area it was about, and on which side of it.
//!
//! ```text
//!   BUG: AREA guard page was hit at ADDRESS (area is LOW..HIGH)
//!   1 byte above the end of a vmalloc area of 12288 bytes, src/fs/archive.rs:77
//!   cpu 1, instruction ADDRESS, in the range of the vmalloc
//!   on the other side of the guard: LOW..HIGH, a vmap area of 4096 bytes, src/...
//! ```
//!
//! HIGH is the first address behind what was asked for. Who touched it is the current task: it ends as after every stray access, and only it.
//!
//! # Context
//!
//! [`AreaFault::at`]: the fault path. It reads records that cannot fault, without a lock (INV-FAULT).

use core::fmt;

use vmstack::{StackFault, VirtAddr};
use vmstack_vmalloc::{AreaInfo, Found, Kind, Tag};

use crate::vmalloc::VMALLOC;

/// What was touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Touched {
    /// Nothing of the vmalloc's. Zero, as all of a record is that was never used.
    Nothing = 0,
    /// The guard above an area.
    Above,
    /// The guard below one.
    Below,
    /// Memory of an area that is free.
    Freed,
    /// An area, in a way that its pages do not permit, or addresses without pages.
    Inside,
    /// The vmalloc's own records.
    Records,
    /// Addresses that are no area's.
    Unused,
}

impl Touched {
    /// The word in facts.
    const fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Above => "area-above",
            Self::Below => "area-below",
            Self::Freed => "area-freed",
            Self::Inside => "area-inside",
            Self::Records => "area-records",
            Self::Unused => "area-unused",
        }
    }

    /// What the headline says of it.
    const fn headline(self) -> &'static str {
        match self {
            Self::Nothing | Self::Above | Self::Below => "guard page was hit",
            Self::Freed => "memory was touched that is free",
            Self::Inside => "memory was touched",
            Self::Records => "records were touched",
            Self::Unused => "addresses were touched that are nobody's",
        }
    }
}

/// One area, as a report names it. Zero from end to end where there is none.
#[derive(Clone, Copy, Debug)]
struct Party {
    low: VirtAddr,
    /// The first address behind what was asked for.
    high: VirtAddr,
    kind: Kind,
    tag: Option<Tag>,
}

impl Party {
    const NONE: Self = Self { low: VirtAddr::new(0), high: VirtAddr::new(0), kind: Kind::Memory, tag: None };

    fn of(area: &AreaInfo) -> Self {
        let low = area.range.start();
        Self { low, high: low.wrapping_add(area.bytes), kind: area.kind, tag: Some(area.tag) }
    }

    /// The whole range: where no area can be named.
    fn whole() -> Self {
        let range = VMALLOC.range();
        Self { low: range.start(), high: range.end(), ..Self::NONE }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tag {
            Some(tag) => write!(f, "a {} area of {} bytes, {tag}", self.kind.name(), self.high.distance(self.low)),
            None => write!(f, "no area"),
        }
    }
}

/// A fault in the vmalloc's range.
#[derive(Clone, Copy, Debug)]
pub(super) struct AreaFault {
    touched: Touched,
    subject: Party,
    other: Party,
    /// How far the address is past the end of the subject, in bytes: zero inside.
    beyond: usize,
}

impl AreaFault {
    /// No fault: zero from end to end.
    pub(super) const NONE: Self =
        Self { touched: Touched::Nothing, subject: Party::NONE, other: Party::NONE, beyond: 0 };

    /// What an access to `address` was, if that is in the vmalloc's range.
    pub(super) fn at(address: VirtAddr) -> Option<Self> {
        let inside = |touched, subject| Some(Self { touched, subject, ..Self::NONE });
        match VMALLOC.find(address) {
            Found::NotOurs => None,
            Found::Area(area) => inside(Touched::Inside, Party::of(&area)),
            Found::Freed(area) => inside(Touched::Freed, Party::of(&area)),
            Found::Guard { below, above } => Some(Self::in_guard(address, below.as_ref(), above.as_ref())),
            Found::Records => inside(Touched::Records, Party::whole()),
            _ => inside(Touched::Unused, Party::whole()),
        }
    }

    /// The guard is that of the nearer one.
    fn in_guard(address: VirtAddr, below: Option<&AreaInfo>, above: Option<&AreaInfo>) -> Self {
        let past_end = below.and_then(|area| area.above(address)).map(|bytes| bytes + 1);
        let before = above.and_then(|area| area.below(address));
        let [lower, upper] = [below, above].map(|area| area.map_or(Party::NONE, Party::of));
        match (past_end, before) {
            (Some(bytes), other) if other.is_none_or(|other| bytes <= other) => {
                Self { touched: Touched::Above, subject: lower, other: upper, beyond: bytes }
            }
            (_, bytes) => Self { touched: Touched::Below, subject: upper, other: lower, beyond: bytes.unwrap_or(0) },
        }
    }

    /// Whether there was one.
    pub(super) fn happened(&self) -> bool {
        self.touched != Touched::Nothing
    }

    /// The first lines of the report: of the moment that `fault` says.
    pub(super) fn write(&self, fault: &StackFault, f: &mut impl fmt::Write) -> fmt::Result {
        let Self { touched, subject, other, beyond } = self;
        let (what, address) = (touched.headline(), fault.address);
        writeln!(f, "BUG: AREA {what} at {address} (area is {}..{})", subject.low, subject.high)?;
        let bytes = if *beyond == 1 { "byte" } else { "bytes" };
        match touched {
            Touched::Above => writeln!(f, "{beyond} {bytes} above the end of {subject}")?,
            Touched::Below => writeln!(f, "{beyond} {bytes} below the start of {subject}")?,
            Touched::Freed => writeln!(f, "{} bytes into what was {subject}", address.distance(subject.low))?,
            Touched::Inside => writeln!(f, "{} bytes into {subject}", address.distance(subject.low))?,
            _ => {}
        }
        writeln!(f, "cpu {}, instruction {}, in the range of the vmalloc", fault.cpu, fault.instruction)?;
        if other.tag.is_some() {
            writeln!(f, "on the other side of the guard: {}..{}, {other}", other.low, other.high)?;
        }
        Ok(())
    }

    /// The words of the fact: what, about what sort of memory; and where that is.
    pub(super) fn words(&self) -> (&'static str, &'static str, VirtAddr, VirtAddr, usize) {
        (self.touched.word(), "AREA", self.subject.low, self.subject.high, self.beyond)
    }
}
