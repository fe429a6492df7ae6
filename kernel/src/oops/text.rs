//! The text of a report: the first line in Linux's words, then what Linux does not say.
//!
//! ```text
//!   BUG: TASK stack guard page was hit at ADDRESS (stack is LOW..HIGH)     or of an area of the vmalloc: `area.rs`
//!   what it was, how far past the end, where the stack pointer is, who was on the other side      (the library's lines)
//!   Oops: stack guard page [#N] at FUNCTION
//!   state: where, current task, interrupts, preemption, interrupt depth, locks held
//!   registers, code bytes
//!   the trace, with each frame's size
//!   done: what was done about it, and what is lost
//! ```

use core::fmt::{self, Write};

use vmstack::{Finding, VirtRange};

use super::record::{Aftermath, Fate, Oops};
use crate::console::Console;
use crate::mm::heap::Amount;
use crate::stacks::TASKS;
use crate::symbols::Code;
use crate::task::names;
use crate::trace;

/// Prints a report, whole, with its facts; or, not in full, the lines that say what happened to whom.
pub(super) fn print(oops: &Oops, aftermath: &Aftermath, in_full: bool, console: &mut Console) {
    let written = oops.write(console, in_full).and_then(|()| oops.write_end(console, aftermath));
    debug_assert!(written.is_ok());
}

/// Writes a report from the ring, in full. What was done about it is not in the ring.
pub(super) fn write_again(oops: &Oops, out: &mut impl Write) -> fmt::Result {
    oops.write(out, true)?;
    writeln!(out, "fate: {}", oops.fate.name())?;
    writeln!(out, "---[ end trace {:016x} ]---", oops.number)
}

impl Oops {
    fn write(&self, f: &mut impl Write, in_full: bool) -> fmt::Result {
        let what = match (self.area.happened(), self.fault.finding) {
            (true, _) => "area",
            (false, Finding::InsideStack) => "stack",
            (false, _) => "stack guard page",
        };
        match self.area.happened() {
            true => self.area.write(&self.fault, f)?,
            false => writeln!(f, "{}", TASKS.report(&self.fault))?,
        }
        writeln!(f, "Oops: {what} [#{}] at {}", self.number, Code(self.frame.instruction()))?;
        self.write_state(f)?;
        if !in_full {
            return writeln!(f, "(many reports a second: registers and trace stay in the ring)");
        }
        writeln!(f, "{:?}", self.frame)?;
        self.write_code(f)?;
        write!(f, "{}", self.trace.text(&trace::name))
    }

    /// What the CPU was in the middle of.
    fn write_state(&self, f: &mut impl Write) -> fmt::Result {
        let on = |is: bool| if is { "on" } else { "off" };
        let (interrupts, preemption) = (on(self.frame.interrupts_on()), on(self.preempt_count == 0));
        write!(f, "state: {}, current task ", self.place.name())?;
        match self.task {
            0 => f.write_str("idle or none")?,
            id => names::write(id, f)?,
        }
        write!(f, ", interrupts {interrupts}, preemption {preemption}, interrupt depth {}", self.irq_depth)?;
        for (index, name) in self.locks.iter().enumerate() {
            write!(f, "{} {name}", if index == 0 { ", holding" } else { "," })?;
        }
        match self.vital {
            0 => writeln!(f)?,
            depth => writeln!(f, ", {depth} sections deep that must not be cut short")?,
        }
        self.write_stranger(f)
    }

    /// Says whose stack it is not: the stack pointer speaks for a stack, and the task that ran has another.
    fn write_stranger(&self, f: &mut impl Write) -> fmt::Result {
        let (stack, own) = (&self.fault.stack, self.own_stack);
        if own == VirtRange::EMPTY || !stack.exists() || stack.bottom == own.start() {
            return Ok(());
        }
        write!(
            f,
            "the task that ran has another stack, {}..{}: its stack pointer had left it. It is ",
            own.start(),
            own.end()
        )?;
        names::write(self.task, f)?;
        writeln!(f)
    }

    /// The code, the instruction's first byte in brackets: the form that Linux's tools read.
    fn write_code(&self, f: &mut impl Write) -> fmt::Result {
        let (before, after) = self.code.parts();
        let Some((first, rest)) = after.split_first() else {
            return writeln!(f, "Code: not in the kernel's image");
        };
        f.write_str("Code:")?;
        before.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?;
        write!(f, " <{first:02x}>")?;
        rest.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?;
        writeln!(f)
    }

    /// What was done, what is lost, and the fact for the host.
    fn write_end(&self, f: &mut impl Write, aftermath: &Aftermath) -> fmt::Result {
        match self.fate {
            Fate::Killed => write!(f, "done: pid {} is killed; everything else goes on", self.task)?,
            Fate::Abandoned => write!(f, "done: the handler is abandoned; what it interrupted goes on")?,
            Fate::Replaced => write!(f, "done: CPU {} idles anew, from an empty stack", self.fault.cpu)?,
            Fate::Stopped => write!(f, "done: nothing; nobody can be ended for it")?,
        }
        if aftermath.served != 0 {
            write!(f, "; {} interrupts that were being delivered were served", aftermath.served)?;
        }
        if !aftermath.locks.is_empty() {
            write!(f, "; {}", aftermath.locks)?;
        }
        if !aftermath.kept.is_empty() {
            write!(f, "; {}", aftermath.kept)?;
        }
        if aftermath.heap.objects != 0 {
            let Amount { bytes, objects } = aftermath.heap;
            write!(f, "; its frames may have owned {bytes} bytes of the heap in {objects} objects: lost")?;
        }
        if aftermath.cut_short {
            write!(f, "; it was dying already: what it had not given back is lost")?;
        }
        writeln!(f)?;
        writeln!(f, "---[ end trace {:016x} ]---", self.number)?;
        self.write_fact(f)
    }

    fn write_fact(&self, f: &mut impl Write) -> fmt::Result {
        let fault = &self.fault;
        let stack = fault.subject();
        let (finding, kind, low, high, beyond) = match self.area.happened() {
            true => self.area.words(),
            false => (fault.finding.word(), stack.stack_kind().name(), stack.bottom, stack.top, fault.beyond),
        };
        write!(f, "fact oops {} {finding} {kind} {}", self.number, self.fate.name())?;
        write!(f, " {:#x} {:#x} {:#x}", fault.address.get(), low.get(), high.get())?;
        write!(f, " {:#x} {:#x}", fault.stack_pointer.get(), fault.instruction.get())?;
        writeln!(f, " {} {} {beyond}", fault.cpu, self.task)
    }
}
