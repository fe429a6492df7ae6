//! Looking at another task's stack: by a pin, which can fail, and which keeps that stack alone.
//!
//! Nothing else of the task is kept: it goes on, and may end. Its stack then goes back when the pin does, and its struct when the
//! grace period is over. What is read may change under the reader, so a trace is what the words say: it can be wrong, and cannot
//! fault, for the walk stays between the stack's ends.
//!
//! # Context
//!
//! Tasks.

use core::fmt::{self, Write};

use vmstack::{Pin, Trace, VirtAddr};
use vmstack_arch::{Context, Frame, frames};

use super::{Task, kept, table};
use crate::stacks::{self, Kernel};
use crate::symbols::Code;
use crate::sync::{Section, rcu};

impl kept::Keep for Pin<'static, Kernel> {}

/// Whether the task of this number is there, and no fault has killed it: whether it goes on where it was. A moment's answer, unless nobody
/// else can end it.
pub(crate) fn goes_on(id: usize) -> bool {
    let guard = rcu::read();
    table::find(id, &guard).is_some_and(|task| !task.was_killed())
}

/// A task's stack, kept for a while, and where a walk of it starts.
#[derive(Debug)]
pub(crate) struct Look {
    pin: kept::Kept<Pin<'static, Kernel>>,
    start: VirtAddr,
}

impl Look {
    /// A look at the stack of task `id`. `None`: there is no such task, or it is running, or its stack is not there any more.
    pub(crate) fn at(id: usize) -> Option<Self> {
        let (stack, start) = {
            let guard = rcu::read();
            let task = table::find(id, &guard)?;
            if task.flags().cpu().is_some() {
                return None;
            }
            (task.stack_id?, task.suspended_at())
        };
        // A pin is the list's or nobody's: nobody is killed in between.
        let section = Section::enter();
        let pin = kept::keep(&"pin", stacks::TASKS.pin(stack).ok()?, &section);
        drop(section);
        Some(Self { pin, start })
    }

    /// The calls that are on it.
    pub(crate) fn trace(&self) -> Trace {
        // SAFETY: the pin keeps all of the stack mapped.
        let walk = unsafe { frames(self.start, self.pin.bottom(), self.pin.top()) };
        Trace::take(walk.map(|frame| Frame::call(&frame)))
    }

    /// Writes them as `/proc/PID/stack` of Linux has them, one on a line.
    pub(crate) fn write(&self, out: &mut dyn Write) -> fmt::Result {
        // SAFETY: as in `trace`.
        let walk = unsafe { frames(self.start, self.pin.bottom(), self.pin.top()) };
        walk.into_iter().try_for_each(|frame| writeln!(out, "[<0>] {}", Code(frame.return_address)))
    }
}

impl Task {
    /// Where a walk of the suspended task's frames starts. Of a task that runs meanwhile: where it was suspended once.
    fn suspended_at(&self) -> VirtAddr {
        // SAFETY: the field is there; another CPU may write it at the same time, and any word is an answer (see the top).
        let context: Context = unsafe { self.context.get().read_volatile() };
        context.frame_pointer()
    }
}
