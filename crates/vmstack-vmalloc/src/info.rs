//! What can be said of an area without holding it.

use core::fmt;

use vmstack::{VirtAddr, VirtRange};

use crate::request::Kind;
use crate::tag::Tag;

/// An area, as its record said at one moment: by now it may be free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct AreaInfo {
    /// Its pages, without guards.
    pub range: VirtRange,
    /// How many bytes were asked for.
    pub bytes: usize,
    /// What it is.
    pub kind: Kind,
    /// Who asked for it.
    pub tag: Tag,
    /// How many of its chunks are mapped by a large page each.
    pub large: usize,
}

/// What an address in the range of a vmalloc is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Found {
    /// It is outside the range.
    NotOurs,
    /// It lies where the vmalloc keeps its own records.
    Records,
    /// It lies in an area.
    Area(AreaInfo),
    /// It is a guard: of the area that ends below it, of the one that begins above it, or of both.
    Guard {
        /// The area that ends below it.
        below: Option<AreaInfo>,
        /// The area that begins above it.
        above: Option<AreaInfo>,
    },
    /// It lay in this area, which was freed, and whose addresses are nobody else's yet.
    Freed(AreaInfo),
    /// It is nobody's, and nobody is remembered.
    Unused,
}

impl AreaInfo {
    /// By how many bytes `addr` lies above the end of the area, counted from the last byte that was asked for. None if it does not.
    #[must_use]
    pub const fn above(&self, addr: VirtAddr) -> Option<usize> {
        addr.offset_from(self.range.start().wrapping_add(self.bytes))
    }

    /// By how many bytes `addr` lies below the start of the area. None if it does not.
    #[must_use]
    pub const fn below(&self, addr: VirtAddr) -> Option<usize> {
        self.range.start().offset_from(addr)
    }
}

impl fmt::Display for AreaInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { range, bytes, kind, tag, .. } = self;
        write!(f, "{}-{} ({} of {bytes} bytes, {tag})", range.start(), range.end(), kind.name())
    }
}
