//! A stack trace that is taken without printing: bounded in time and space, runs of equal frames folded.
//!
//! A recursion makes hundreds of equal frames. They are one entry here, with a count, so that the trace of a 16 KiB stack fits in
//! a record and on a screen, and whoever reads it sees where the bytes went.

use core::fmt;

use vmstack::{VirtAddr, VirtRange};
use vmstack_arch::frames;

use crate::arch::frame::TrapFrame;
use crate::symbols::Code;

/// How many different frames are kept.
const ENTRIES: usize = 32;

/// Equal frames, one after the other.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// Where the calls return to.
    address: VirtAddr,
    /// The size of each frame, in bytes: what the function at `address` takes of the stack.
    bytes: usize,
    count: usize,
}

/// A trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace {
    runs: [Run; ENTRIES],
    len: usize,
    /// Frames that found no place.
    left_out: usize,
    /// Bytes of all frames that were walked.
    bytes: usize,
}

impl Trace {
    /// The calls that led to `frame`, on the stack in `bounds`. Any context, the fault path included.
    pub(crate) fn of(frame: &TrapFrame, bounds: VirtRange) -> Self {
        let mut trace = Self { runs: [Run::default(); ENTRIES], len: 0, left_out: 0, bytes: 0 };
        // SAFETY: callers give the bounds of a stack that is mapped, or an empty range.
        let walk = unsafe { frames(frame.frame_pointer(), bounds.start(), bounds.end()) };
        walk.for_each(|call| trace.add(call.return_address, call.caller_bytes));
        trace
    }

    fn add(&mut self, address: VirtAddr, bytes: usize) {
        self.bytes += bytes;
        if let Some(last) = self.len.checked_sub(1).and_then(|last| self.runs.get_mut(last))
            && last.address == address
            && last.bytes == bytes
        {
            last.count += 1;
            return;
        }
        match self.runs.get_mut(self.len) {
            Some(run) => {
                *run = Run { address, bytes, count: 1 };
                self.len += 1;
            }
            None => self.left_out += 1,
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Call trace, {} bytes of frames:", self.bytes)?;
        for run in &self.runs[..self.len] {
            write!(f, "  {:>5} bytes  {}", run.bytes, Code(run.address))?;
            if run.count > 1 {
                write!(f, "  ({} frames, {} bytes)", run.count, run.count * run.bytes)?;
            }
            writeln!(f)?;
        }
        match self.left_out {
            0 => Ok(()),
            frames => writeln!(f, "  and {frames} frames more"),
        }
    }
}
