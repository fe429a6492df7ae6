//! The words of a task's flags, and of a CPU's, and how one gets to the other. Tested with loom on the host
//! (`kernel/host-tests/src/flags.rs`).
//!
//! ```text
//!   task:  home     what is raised for the task, wherever it is
//!          on_cpu   the CPU that runs it, plus one; zero: none
//!   CPU:   flags    what the entry code looks at: of the running task, and of the CPU itself
//!
//!   raise      home |= flag │ fence │ on_cpu? ── some ──> that CPU's flags |= RELOOK, and a message
//!   switch     on_cpu = me  │ fence │ flags |= home
//! ```
//!
//! *No flag is lost.* Both sides write one word, then have a full fence, then read the other's. Of the two fences one is first. If it is
//! the raiser's, the switch reads the flag in `home`. If it is the switch's, the raiser reads the CPU in `on_cpu`, or that of a later
//! switch, and marks its word; the CPU then reads `home` before it returns to user mode. By then the task may be gone
//! from there: the mark makes the CPU look at another task's `home` for nothing, and the switch to wherever the task went had its own
//! fence, after the raiser's, and has read the flag. A switch clears the CPU's word before it stores `on_cpu`, so what is marked
//! for the new task is not cleared.

use super::atomic::{AtomicU32, Ordering, fence};

/// The CPU's word: look at the running task's home.
pub(crate) const RELOOK: u32 = 1 << 31;
/// The CPU's word: another task is due. Of the CPU, not of its task: a switch leaves it alone.
pub(crate) const RESCHED: u32 = 1;

/// No CPU.
const NONE: u32 = 0;

/// A task's part.
#[derive(Debug)]
pub(crate) struct TaskWords {
    pub(super) home: AtomicU32,
    pub(super) on_cpu: AtomicU32,
}

impl TaskWords {
    /// What is raised for the task.
    pub(crate) fn raised(&self) -> u32 {
        self.home.load(Ordering::Acquire)
    }

    /// Raises `flags` for the task, and says which CPU runs it and has to be told to look.
    #[must_use]
    pub(crate) fn raise(&self, flags: u32) -> Option<u32> {
        // Release: whoever sees the flag sees why it was raised.
        self.home.fetch_or(flags, Ordering::Release);
        // Pairs with the fence in `arrive`.
        fence(Ordering::SeqCst);
        // Acquire: what the CPU has cleared of its word came before.
        self.on_cpu.load(Ordering::Acquire).checked_sub(NONE + 1)
    }

    /// The CPU that runs the task: of the moment.
    pub(crate) fn cpu(&self) -> Option<u32> {
        self.on_cpu.load(Ordering::Relaxed).checked_sub(NONE + 1)
    }

    /// The task leaves its CPU.
    pub(crate) fn leave(&self) {
        self.on_cpu.store(NONE, Ordering::Relaxed);
    }

    /// The task comes to `cpu`, whose word is `flags`.
    pub(crate) fn arrive(&self, cpu: u32, flags: &AtomicU32) {
        if flags.load(Ordering::Relaxed) & !RESCHED != 0 {
            flags.fetch_and(RESCHED, Ordering::Relaxed);
        }
        // Release: pairs with the Acquire in `raise`: the word was cleared before.
        self.on_cpu.store(cpu + 1, Ordering::Release);
        // Pairs with the fence in `raise`.
        fence(Ordering::SeqCst);
        self.look(flags);
    }

    /// Takes what is raised for the task over into its CPU's word.
    pub(crate) fn look(&self, flags: &AtomicU32) {
        let raised = self.raised();
        if raised != 0 {
            flags.fetch_or(raised, Ordering::Relaxed);
        }
    }

    /// As [`look`](Self::look), if somebody asked for it. For the task's own CPU.
    pub(crate) fn look_again(&self, flags: &AtomicU32) {
        // Acquire: pairs with the marking; the flag was raised before.
        if flags.fetch_and(!RELOOK, Ordering::Acquire) & RELOOK != 0 {
            self.look(flags);
        }
    }

    /// Takes `flags_down` back, for the task itself: what they were raised for is looked at afterwards, not before.
    pub(crate) fn lower(&self, flags_down: u32, flags: &AtomicU32) {
        flags.fetch_and(!flags_down, Ordering::Relaxed);
        // Acquire: what the flag was raised for is seen by who looks now.
        self.home.fetch_and(!flags_down, Ordering::AcqRel);
    }
}

/// Makes a CPU look at its task's home: the CPU's word is `flags`. A message must follow, in case it is in user mode.
pub(crate) fn mark(flags: &AtomicU32) {
    flags.fetch_or(RELOOK, Ordering::Release);
}
