//! What a task stands on: one of the kinds of stacks that a boot can be for, and how a new task gets one.
//!
//! What may not enter: how a stack is made (`stacks`, `control`), and when a dead task's goes back (`switch`).

use core::sync::atomic::{AtomicBool, Ordering};

use vmstack::VirtAddr;

use crate::control::DirectStack;
use crate::mm::inject;
use crate::stacks::{self, Stack};
use crate::sync::Section;

/// What a task stands on.
#[derive(Debug)]
pub(crate) enum TaskStack {
    /// Mapped page by page between guards.
    Mapped(Stack),
    /// Contiguous frames in the direct map, no guards: the control.
    Direct(DirectStack),
    /// Handed over by a task that is dead.
    Gone,
}

/// Whether new tasks of processes stand on direct stacks: what `stacks=direct` asks.
static DIRECT_STACKS: AtomicBool = AtomicBool::new(false);

/// Makes the stacks of processes contiguous and unguarded from here on.
pub(crate) fn use_direct_stacks() {
    DIRECT_STACKS.store(true, Ordering::Relaxed);
}

impl TaskStack {
    /// A stack for task `id`, of the kind that this boot is for; `None` if there is no memory.
    pub(crate) fn new(id: usize) -> Option<Self> {
        if DIRECT_STACKS.load(Ordering::Relaxed) {
            return DirectStack::new().map(Self::Direct);
        }
        stacks::TASKS.alloc_waiting(id).ok().map(Self::Mapped)
    }

    /// As [`new`](Self::new), in a section, which begins before there is a stack: it is the area's or a task's, and nobody is killed
    /// in between. If there is none at once, waiting may make one.
    pub(crate) fn in_section(id: usize) -> Option<(Self, Section)> {
        if inject::fails() {
            return None;
        }
        let section = Section::enter();
        if let Some(stack) = Self::at_once(id, &section) {
            return Some((stack, section));
        }
        drop(section);
        drop(Self::new(id));
        let section = Section::enter();
        Some((Self::at_once(id, &section)?, section))
    }

    /// As [`new`](Self::new), without waiting for stacks that are on their way back.
    #[inline]
    pub(crate) fn at_once(id: usize, section: &Section) -> Option<Self> {
        if DIRECT_STACKS.load(Ordering::Relaxed) {
            return DirectStack::new().map(Self::Direct);
        }
        stacks::TASKS.alloc_in(section, id).ok().map(Self::Mapped)
    }

    pub(crate) fn top(&self) -> VirtAddr {
        match self {
            Self::Mapped(stack) => stack.top(),
            Self::Direct(stack) => stack.top(),
            Self::Gone => VirtAddr::default(),
        }
    }

    pub(crate) fn bottom(&self) -> VirtAddr {
        match self {
            Self::Mapped(stack) => stack.bottom(),
            Self::Direct(stack) => stack.bottom(),
            Self::Gone => VirtAddr::default(),
        }
    }
}

/// Whether a dead task's stack waits for the grace period with its struct.
static LATE_STACKS: AtomicBool = AtomicBool::new(false);

/// Makes stacks of dead tasks wait for the grace period: what `stacks=rcu` asks, to see what comes of it.
pub(crate) fn free_stacks_late() {
    LATE_STACKS.store(true, Ordering::Relaxed);
}

/// Whether they do.
pub(super) fn are_freed_late() -> bool {
    LATE_STACKS.load(Ordering::Relaxed)
}
