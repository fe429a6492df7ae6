//! The calls that led to a fault.
//!
//! Taken in two steps. In the signal handler, [`RawTrace`] walks the frame pointers on the task's own stack, in bounds
//! that are known to be mapped, into a fixed record: calls that repeat themselves become one entry with a count, so a
//! recursion that filled the stack fits. Later, when the task is dead, [`Trace`] gives the addresses names.
//!
//! The walk needs code that is compiled with frame pointers (`-C force-frame-pointers=yes`). Without them the register
//! holds anything: that is found out by looking at our own code, and the trace then has the instruction alone and says why.
//!
//! Contexts: [`RawTrace`], the fault path; the rest, task.

use core::fmt;

use vmstack::{VirtAddr, VirtRange};
use vmstack_arch::{Frame, frame_pointer, frames};

/// How many different entries are kept.
const RUNS: usize = 64;
/// The largest distance in bytes between the frames of two small functions that call each other.
const SMALL_FRAME: usize = 4096;

/// Calls in a row that return to the same place and take equally much of the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Run {
    /// Where the calls return to, in the function that made them.
    pub return_address: VirtAddr,
    /// How much of the stack each frame of that function takes, in bytes; zero if that is not known.
    pub frame_bytes: usize,
    /// How many there are in a row.
    pub count: usize,
}

/// A trace as the fault path takes it.
#[derive(Debug)]
pub(crate) struct RawTrace {
    instruction: VirtAddr,
    runs: [Run; RUNS],
    len: usize,
    frames: usize,
    has_frame_pointers: bool,
}

impl RawTrace {
    /// The calls that led to `instruction`, from the frame at `start` up the task's `stack`.
    ///
    /// # Safety
    ///
    /// Every byte of `stack` can be read.
    pub(crate) unsafe fn take(instruction: VirtAddr, start: VirtAddr, stack: VirtRange) -> Self {
        let has_frame_pointers = has_frame_pointers();
        let mut trace = Self { instruction, runs: [Run::default(); RUNS], len: 0, frames: 0, has_frame_pointers };
        if has_frame_pointers {
            // SAFETY: the caller vouches for the range.
            unsafe { frames(start, stack.start(), stack.end()) }.for_each(|frame| trace.add(frame));
        }
        trace
    }

    fn add(&mut self, frame: Frame) {
        self.frames += 1;
        let run = Run { return_address: frame.return_address, frame_bytes: frame.caller_bytes, count: 1 };
        if let Some(last) = self.len.checked_sub(1).and_then(|last| self.runs.get_mut(last))
            && (last.return_address, last.frame_bytes) == (run.return_address, run.frame_bytes)
        {
            last.count += 1;
        } else if let Some(place) = self.runs.get_mut(self.len) {
            *place = run;
            self.len += 1;
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

/// The calls that led to a fault, innermost first. Its [`Display`](fmt::Display) looks names up, as far as there are any.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Trace {
    /// The instruction that faulted.
    pub instruction: VirtAddr,
    /// The calls. Empty if the code was compiled without frame pointers.
    pub runs: Vec<Run>,
    /// How many frames there were, those included that did not fit in `runs`.
    pub frames: usize,
    /// Whether the code was compiled with frame pointers, so that there is something to walk.
    pub has_frame_pointers: bool,
}

impl From<&RawTrace> for Trace {
    fn from(raw: &RawTrace) -> Self {
        Self {
            instruction: raw.instruction,
            runs: raw.runs.iter().take(raw.len).copied().collect(),
            frames: raw.frames,
            has_frame_pointers: raw.has_frame_pointers,
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  at {}", Place::at(self.instruction))?;
        for run in &self.runs {
            write!(f, "\n  in {}", Place::before(run.return_address))?;
            if run.count > 1 {
                write!(f, "  (x {} frames of {} bytes)", run.count, run.frame_bytes)?;
            }
        }
        let shown: usize = self.runs.iter().map(|run| run.count).sum();
        match self.frames - shown {
            _ if !self.has_frame_pointers => write!(f, "\n  no calls: compiled without -C force-frame-pointers=yes"),
            0 => Ok(()),
            more => write!(f, "\n  and {more} frames more"),
        }
    }
}

/// A place in the program, with a name if it has one.
struct Place {
    address: VirtAddr,
    /// Where to look: the call is before the address to which it returns.
    look_at: VirtAddr,
}

impl Place {
    const fn at(address: VirtAddr) -> Self {
        Self { address, look_at: address }
    }

    const fn before(address: VirtAddr) -> Self {
        Self { address, look_at: address.wrapping_sub(1) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Vec::new();
        backtrace::resolve(self.look_at.as_mut_ptr(), |symbol| names.push(describe(symbol)));
        // Inlined functions come innermost first; the last is the one that has the frame.
        match names.iter().flatten().last() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.address),
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
