//! An access to what no area of a vmalloc allows: a guard, a freed area, addresses that are nobody's.
//!
//! Plain data, as the signal handler leaves it: what [`Vmalloc::find`](vmstack_vmalloc::Vmalloc::find) said in that moment. Its
//! [`Display`](fmt::Display) is the oops: it names the area, and on whose account it is.
//!
//! Contexts: making one, the fault path; showing it too, but for the trace, whose names are looked up.

use core::fmt;

use vmstack::VirtAddr;
use vmstack_vmalloc::{AreaInfo, Found};

use crate::trace::Trace;

/// An access that faulted in the range of a vmalloc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Stray {
    /// What was accessed.
    pub address: VirtAddr,
    /// What that was.
    pub found: Found,
    /// The instruction that did it.
    pub instruction: VirtAddr,
    /// The calls that led there, if a task did it.
    pub trace: Option<Trace>,
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, instruction, .. } = *self;
        writeln!(f, "BUG: no access is allowed at {address}, instruction {instruction}")?;
        self.write_what(f)?;
        self.trace.map_or(Ok(()), |trace| write!(f, "\n{trace}"))
    }
}

impl Stray {
    fn write_what(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.found {
            Found::Area(area) => write!(f, "it lies in {area}, which does not allow it"),
            Found::Guard { below, above } => {
                f.write_str("a guard")?;
                below.map_or(Ok(()), |area| self.write_above(area, f))?;
                above.map_or(Ok(()), |area| self.write_below(area, f))
            }
            Found::Freed(area) => write!(f, "freed: it was {area}"),
            Found::Records => f.write_str("records of the vmalloc"),
            _ => f.write_str("no area's"),
        }
    }

    fn write_above(&self, area: AreaInfo, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", {} bytes above the end of {area}", area.above(self.address).unwrap_or(0))
    }

    fn write_below(&self, area: AreaInfo, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", {} bytes below the start of {area}", area.below(self.address).unwrap_or(0))
    }
}
