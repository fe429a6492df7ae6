//! The text of a [`StackFault`]: the first lines of an oops.
//!
//! ```text
//! BUG: TASK stack guard page was hit at ffffc90000103ff8 (stack is ffffc90000104000..ffffc90000108000)
//! overflow, walked down: 8 bytes below the bottom of the stack of pid 7 (crash); stack pointer ffffc90000104000
//! cpu 1, instruction ffffffff80201234, slot 3 life 17, guard 16384 bytes
//! on the other side of the guard: ffffc900000fc000..ffffc90000100000, the stack of pid 6 (worker)
//! ```
//!
//! The first line has Linux's wording, so that what people grep for is found. Addresses are never hashed: a report with
//! hashed addresses cannot be used, and who may read it is the kernel's to decide.
//!
//! Rendering reads the record and calls [`Platform::write_owner`]; it takes no lock and allocates nothing, so it may run in
//! the fault path, but a kernel does better to print after the task was killed.

use core::fmt;

use crate::area::StackArea;
use crate::classify::Finding;
use crate::fault::{StackFault, StackView};
use crate::platform::Platform;

/// A [`StackFault`] with what is needed to name owners. Implements [`Display`](fmt::Display).
#[derive(Debug)]
pub struct Report<'a, P: Platform> {
    fault: &'a StackFault,
    platform: &'a P,
}

impl<P: Platform> StackArea<P> {
    /// The text of `fault`, without a line break at the end.
    pub const fn report<'a>(&'a self, fault: &'a StackFault) -> Report<'a, P> {
        Report { fault, platform: self.platform() }
    }
}

impl<P: Platform> fmt::Display for Report<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.headline(f)?;
        self.finding(f)?;
        self.place(f)?;
        self.neighbour(f)
    }
}

impl<P: Platform> Report<'_, P> {
    fn headline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StackFault { address, finding, .. } = *self.fault;
        let stack = self.fault.subject();
        let kind = stack.stack_kind().name();
        let what = if finding == Finding::InsideStack { "was touched" } else { "guard page was hit" };
        writeln!(f, "BUG: {kind} stack {what} at {address} (stack is {}..{})", stack.bottom, stack.top)
    }

    fn finding(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StackFault { finding, beyond, stack_pointer, address, .. } = *self.fault;
        let stack = self.fault.subject();
        write!(f, "{}: ", finding.name())?;
        match finding {
            Finding::InsideStack => f.write_str("in ")?,
            Finding::OtherGuard => write!(f, "{beyond} bytes past the end of it, touched on ")?,
            _ if address < stack.bottom => write!(f, "{beyond} bytes below the bottom of ")?,
            _ => write!(f, "{beyond} bytes above the top of ")?,
        }
        self.owned(stack, f)?;
        let nowhere = if self.fault.stack.exists() { "" } else { ", on no stack of the area" };
        writeln!(f, "; stack pointer {stack_pointer}{nowhere}")
    }

    fn place(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StackFault { cpu, instruction, guard_bytes, .. } = *self.fault;
        let stack = self.fault.subject();
        write!(f, "cpu {cpu}, instruction {instruction}, ")?;
        if stack.slot == u32::MAX {
            return write!(f, "registered stack, guard {guard_bytes} bytes");
        }
        write!(f, "slot {} life {}, guard {guard_bytes} bytes", stack.slot, stack.generation)
    }

    fn neighbour(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StackFault { stack, neighbour, finding, .. } = self.fault;
        if !(stack.exists() && neighbour.exists()) {
            return Ok(());
        }
        let place = if *finding == Finding::OtherGuard { "the guard is of" } else { "on the other side of the guard:" };
        write!(f, "\n{place} {}..{}, ", neighbour.bottom, neighbour.top)?;
        self.owned(neighbour, f)
    }

    /// "the stack of NAME", or what is known when there is no name.
    fn owned(&self, stack: &StackView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (stack.known, stack.phase) {
            (0, _) => f.write_str("a slot that was never used"),
            // Live and dead stacks have an owner.
            (_, 2 | 3) => {
                f.write_str("the stack of ")?;
                self.platform.write_owner(stack.owner, f)
            }
            _ => {
                f.write_str("a stack that nobody uses, last of ")?;
                self.platform.write_owner(stack.owner, f)
            }
        }
    }
}
