//! The text of a [`StackFault`]: the first lines of an oops.
//!
//! ```text
//! BUG: TASK stack guard page was hit at ffffc90000103ff8 (stack is ffffc90000104000..ffffc90000108000)
//! overflow, walked down: 8 bytes below the bottom of the stack of pid 7 (crash)
//! stack pointer ffffc90000104000, inside the stack, 0 bytes above its bottom
//! cpu 1, instruction ffffffff80201234, slot 3 life 17, guard 16384 bytes
//! on the other side of the guard: ffffc900000fc000..ffffc90000100000, the stack of pid 6 (worker)
//! ```
//!
//! The first line has Linux's wording, so that what people grep for is found. It names the stack whose guard was hit; the
//! second says what that was. Only the findings that begin with "overflow" say that a stack overflowed: who stands on
//! one stack and touches the guard of another has not overflowed, and the last line says where he stood.
//!
//! Addresses are never hashed: a report with hashed addresses cannot be used, and who may read it is the kernel's to decide.
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
        self.stack_pointer(f)?;
        self.place(f)?;
        self.other_stack(f)
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
        let StackFault { finding, beyond, address, .. } = *self.fault;
        let stack = self.fault.subject();
        write!(f, "{}: ", finding.name())?;
        match finding {
            Finding::InsideStack => f.write_str("in ")?,
            _ if address < stack.bottom => write!(f, "{} below the bottom of ", Bytes(beyond))?,
            _ => write!(f, "{} above the top of ", Bytes(beyond))?,
        }
        self.owned(stack, f)?;
        writeln!(f)
    }

    /// Where the stack pointer was, seen from the stack that it speaks for.
    fn stack_pointer(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StackFault { finding, stack_pointer: sp, stack: StackView { bottom, top, .. }, .. } = *self.fault;
        let whose = if finding == Finding::OtherGuard { "another" } else { "the" };
        write!(f, "stack pointer {sp}, ")?;
        if !self.fault.stack.exists() {
            writeln!(f, "on no stack of the area")
        } else if sp == top {
            writeln!(f, "at the top of {whose} stack")
        } else if bottom <= sp && sp < top {
            writeln!(f, "inside {whose} stack, {} above its bottom", Bytes(sp.distance(bottom)))
        } else if sp < bottom && bottom.distance(sp) <= self.fault.guard_bytes {
            writeln!(f, "in the guard of {whose} stack, {} below its bottom", Bytes(bottom.distance(sp)))
        } else if sp > top && sp.distance(top) <= self.fault.guard_bytes {
            writeln!(f, "in the guard of {whose} stack, {} above its top", Bytes(sp.distance(top)))
        } else {
            writeln!(f, "elsewhere")
        }
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

    /// The other stack that has to do with it, if there is one.
    fn other_stack(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StackFault { stack, neighbour, finding, .. } = self.fault;
        if !(stack.exists() && neighbour.exists()) {
            return Ok(());
        }
        let (words, other) = match finding {
            Finding::OtherGuard => ("touched by code on", stack),
            _ => ("on the other side of the guard:", neighbour),
        };
        write!(f, "\n{words} {}..{}, ", other.bottom, other.top)?;
        self.owned(other, f)
    }

    /// "the stack of NAME", or what is known when there is no name.
    fn owned(&self, stack: &StackView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (stack.known, stack.phase) {
            (0, _) => f.write_str("a slot that was never used"),
            // Beside a slot that was used: its record is there, and says nothing.
            (_, 0) if stack.generation == 0 => f.write_str("a slot that was never used"),
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

/// A number of bytes, in words.
struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} byte{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}
