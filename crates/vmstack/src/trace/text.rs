//! The text of a [`Trace`].
//!
//! ```text
//! Call trace, 251 frames, 16224 bytes:
//!      64 bytes  recursive_loop+0x44  \ 120 turns of 2 frames, 128 bytes a turn
//!      64 bytes  other+0x31           /
//!     176 bytes  exception entry
//!       ? bytes  main+0x12
//! biggest frames: 1040 bytes in parse+0x11, 64 bytes in other+0x31 (120 times); 8720 bytes together
//! ```
//!
//! Names come from whoever knows them, through a function. Rendering takes no lock and allocates nothing of its own.

use core::fmt::{self, Write};

use super::{Call, CallGroup, Trace, TraceEnd};
use crate::addr::VirtAddr;

/// Writes the name of a place in the code.
pub(super) type Namer<'a> = &'a dyn Fn(VirtAddr, &mut dyn Write) -> fmt::Result;

/// Names longer than this are not padded.
const WIDEST: usize = 80;

/// A [`Trace`] with what is needed to name its calls. Its [`Display`](fmt::Display) ends with a line break.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "a function has nothing to show; the trace itself has")]
pub struct TraceText<'a> {
    trace: &'a Trace,
    name: Namer<'a>,
}

impl Trace {
    /// The text, lines that each end with a line break. `name` writes what is at an address: a function and an offset.
    #[must_use]
    pub const fn text<'a>(&'a self, name: &'a dyn Fn(VirtAddr, &mut dyn Write) -> fmt::Result) -> TraceText<'a> {
        TraceText { trace: self, name }
    }
}

impl fmt::Display for TraceText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace = self.trace;
        writeln!(f, "Call trace, {}, {} bytes:", Frames(trace.frames), trace.bytes())?;
        trace.groups().try_for_each(|group| self.group(&group, f))?;
        if trace.left_out != 0 {
            writeln!(f, "  and {} more", Frames(trace.left_out))?;
        }
        if trace.end != TraceEnd::Chain {
            writeln!(f, "  the trace ends here: {}", trace.end.name())?;
        }
        self.biggest(f)
    }
}

impl TraceText<'_> {
    fn group(&self, group: &CallGroup<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = group.calls.iter().map(|call| self.width(call)).max().unwrap_or(0).min(WIDEST);
        for (i, call) in group.calls.iter().enumerate() {
            self.call(call, f)?;
            if group.turns > 1 {
                let padding = widest.saturating_sub(self.width(call)) + 2;
                write!(f, "{:padding$}{}", "", bracket(i, group.calls.len()))?;
            }
            if group.turns > 1 && i == 0 {
                turns(group, f)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn call(&self, call: &Call, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match call.frame_bytes() {
            Some(bytes) => write!(f, "  {bytes:>6} bytes  ")?,
            None => write!(f, "  {:>6} bytes  ", '?')?,
        }
        (self.name)(call.address(), f)
    }

    /// How many characters the name of `call` has.
    fn width(&self, call: &Call) -> usize {
        let mut counter = Counter(0);
        // A name that fails to be written here fails again when it counts.
        (self.name)(call.address(), &mut counter).ok();
        counter.0
    }

    fn biggest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "biggest frames: ";
        for big in self.trace.biggest() {
            write!(f, "{separator}{} bytes in ", big.call.frame_bytes().unwrap_or(0))?;
            (self.name)(big.call.address(), f)?;
            if big.count > 1 {
                write!(f, " ({} times)", big.count)?;
            }
            separator = ", ";
        }
        match self.trace.biggest().map(|big| big.total()).reduce(usize::saturating_add) {
            Some(total) => writeln!(f, "; {total} bytes together"),
            None => Ok(()),
        }
    }
}

fn turns(group: &CallGroup<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, " {} turns of {}, ", group.turns, Frames(group.calls.len()))?;
    match group.turn_bytes() {
        Some(bytes) => write!(f, "{bytes} bytes a turn"),
        None => f.write_str("? bytes a turn"),
    }
}

/// What stands beside line `i` of a cycle of `lines` calls.
const fn bracket(i: usize, lines: usize) -> char {
    match i {
        _ if lines == 1 => '>',
        0 => '\\',
        _ if i + 1 == lines => '/',
        _ => '|',
    }
}

/// A number of frames, in words.
struct Frames(usize);

impl fmt::Display for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frame{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

/// Counts characters.
struct Counter(usize);

impl Write for Counter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.chars().count();
        Ok(())
    }
}
