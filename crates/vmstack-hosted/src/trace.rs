//! The calls that led to a fault.
//!
//! Taken in the signal handler: [`Trace::take`] walks the frame pointers on the task's own stack, in bounds that are known to
//! be mapped, into the library's [`vmstack::Trace`], plain data of a fixed size. The addresses get names when it is shown,
//! long after the task is dead.
//!
//! The walk needs code that is compiled with frame pointers (`-C force-frame-pointers=yes`). Without them the register
//! holds anything: that is found out by looking at our own code, and the trace then has the instruction alone and says why.
//!
//! Contexts: taking one, the fault path; the rest, task.

use core::fmt;

use vmstack::{VirtAddr, VirtRange};
use vmstack_arch::{Frame, frame_pointer, frames};

/// The largest distance in bytes between the frames of two small functions that call each other.
const SMALL_FRAME: usize = 4096;

/// Where a fault found the code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) instruction: VirtAddr,
    pub(crate) stack_pointer: VirtAddr,
    pub(crate) frame_pointer: VirtAddr,
}

/// The calls that led to a fault. Its [`Display`](fmt::Display) looks names up, as far as there are any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Trace {
    /// The instruction that faulted.
    pub instruction: VirtAddr,
    /// The calls, the instruction's own frame first. Empty if the code was compiled without frame pointers.
    pub calls: vmstack::Trace,
    /// Whether the code was compiled with frame pointers, so that there is something to walk.
    pub has_frame_pointers: bool,
}

impl Trace {
    /// The calls that led to `at`, up the task's `stack`.
    ///
    /// # Safety
    ///
    /// Every byte of `stack` can be read.
    pub(crate) unsafe fn take(at: Position, stack: VirtRange) -> Self {
        let has_frame_pointers = has_frame_pointers();
        let mut trace = Self { instruction: at.instruction, calls: vmstack::Trace::empty(), has_frame_pointers };
        if has_frame_pointers {
            // SAFETY: the caller vouches for the range.
            let mut walk = unsafe { frames(at.frame_pointer, stack.start(), stack.end()) };
            let innermost = walk.innermost(at.instruction, at.stack_pointer);
            let calls = core::iter::once(innermost).chain(walk.by_ref().map(|frame| Frame::call(&frame)));
            trace.calls = vmstack::Trace::take(calls).ended(walk.end());
        }
        trace
    }

    /// Writes the name of the place of a call. A call is before the address to which it returns.
    fn write_name(&self, address: VirtAddr, out: &mut dyn fmt::Write) -> fmt::Result {
        let look_at = if address == self.instruction { address } else { address.wrapping_sub(1) };
        let mut names = Vec::new();
        backtrace::resolve(look_at.as_mut_ptr(), |symbol| names.push(describe(symbol)));
        // Inlined functions come innermost first; the last is the one that has the frame.
        match names.iter().flatten().last() {
            Some(name) => out.write_str(name),
            None => write!(out, "{address}"),
        }
    }
}

/// Whether this crate was compiled with frame pointers: then a callee's is below its caller's.
fn has_frame_pointers() -> bool {
    let ours = frame_pointer();
    let distance = ours.offset_from(callee_frame_pointer());
    distance.is_some_and(|bytes| bytes != 0 && bytes < SMALL_FRAME)
}

#[inline(never)]
fn callee_frame_pointer() -> VirtAddr {
    frame_pointer()
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("at ")?;
        self.write_name(self.instruction, f)?;
        if self.has_frame_pointers {
            write!(f, "\n{}", self.calls.text(&|address, out| self.write_name(address, out)))
        } else {
            writeln!(f, "\nno calls: compiled without -C force-frame-pointers=yes")
        }
    }
}

fn describe(symbol: &backtrace::Symbol) -> Option<String> {
    let name = format!("{:#}", symbol.name()?);
    let file = symbol.filename().and_then(|path| path.file_name());
    Some(match (file, symbol.lineno()) {
        (Some(file), Some(line)) => format!("{name} ({}:{line})", file.display()),
        _ => name,
    })
}
