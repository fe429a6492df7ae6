//! Grace periods: the words, and nothing else. Tested with loom on the host (`kernel/host-tests/src/rcu.rs`).
//!
//! Periods are numbered, and one is under way at a time. A CPU *passes* where it is in no reader section: it copies the number of
//! the period that has begun into its own word. A period is over when every CPU's word has reached its number.
//!
//! ```text
//!   begun  ──────── 7 ───────────────────────── 8 ────────
//!   CPU 0  ── 6 ─[ reader ]─ 7 ──────────────────── 8 ────     passes at a switch, or where a tick finds it outside
//!   CPU 1  ── IDLE ───────────────────── 7 ─[ reader ]──       counts as passed, and is not woken
//!   over   ── 6 ──────────────── 7 ───────────────────────
//! ```
//!
//! What is to be freed is unpublished first, and then waits for the period [`number_after`](Periods::number_after): the CPU's own
//! word plus two.
//!
//! *Why plus two, and why nobody needs a fence for it.* Call the CPU's word `g`, read after the unpublishing. Period `g + 1` may have
//! begun already. But it cannot be over before this CPU reports it, which it does later, with Release; whoever ends the period reads that with
//! Acquire and begins `g + 2` afterwards, with Release. So a CPU that has read `g + 2` (Acquire) sees what was unpublished: a
//! reader that it starts later does not find it. Its readers before that are over when it reports `g + 2` (Release), and whoever ends
//! the period has seen that (Acquire). Waiting for `g + 1` would be enough where nothing is under way, and to know that would take a fence.
//!
//! *Why idleness takes one.* An idle CPU reports nothing, so its word must be seen to change back. [`leave_idle`](Periods::leave_idle)
//! stores its word, then has a full fence, and then reads; whoever [ends a period](Periods::end) has a full fence before it looks at the
//! words. Of the two fences one is first. If it is the looker's, the CPU that wakes sees everything that came before the period,
//! and the number of the period itself, which the argument above starts from. If it is the waking CPU's, the looker sees it awake.
//!
//! # Context
//!
//! Any in which the caller does not leave its CPU meanwhile.

use super::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

/// In a CPU's word: it idles, or it is not there. No period waits for it.
pub(crate) const IDLE: u64 = u64::MAX;

/// The words.
#[derive(Debug)]
pub(crate) struct Periods<const CPUS: usize> {
    /// The number of the last period that has begun.
    pub(super) begun: AtomicU64,
    /// The number of the last period that is over: the same, or one less.
    pub(super) over: AtomicU64,
    /// The number of the last period for which each CPU has passed.
    pub(super) passed: [AtomicU64; CPUS],
    /// How many CPUs have ever come: their numbers are below it.
    pub(super) known: AtomicUsize,
}

impl<const CPUS: usize> Periods<CPUS> {
    /// `cpu`, which runs this, is in no reader section.
    pub(crate) fn pass(&self, cpu: usize) {
        // Acquire: readers that start from here on see what was unpublished before the period began.
        let begun = self.begun.load(Ordering::Acquire);
        if self.passed[cpu].load(Ordering::Relaxed) != begun {
            // Release: readers that there were have ended.
            self.passed[cpu].store(begun, Ordering::Release);
        }
    }

    /// Whether `cpu`, which runs this, has passed for everything that has begun.
    pub(crate) fn has_passed(&self, cpu: usize) -> bool {
        self.passed[cpu].load(Ordering::Relaxed) >= self.begun.load(Ordering::Relaxed)
    }

    /// `cpu`, which runs this, reads nothing until [`leave_idle`](Self::leave_idle).
    pub(crate) fn enter_idle(&self, cpu: usize) {
        // Release: as for `pass`.
        self.passed[cpu].store(IDLE, Ordering::Release);
    }

    /// Whether `cpu` is where no period waits for it. For the CPU itself; of another one it may not be true any more.
    pub(crate) fn is_idle(&self, cpu: usize) -> bool {
        self.passed[cpu].load(Ordering::Relaxed) == IDLE
    }

    /// `cpu`, which runs this, comes for the first time, and may read from here on.
    pub(crate) fn come(&self, cpu: usize) {
        // The fence that follows makes it known as it makes the CPU's word known.
        self.known.fetch_max(cpu + 1, Ordering::Relaxed);
        self.leave_idle(cpu);
    }

    /// `cpu`, which runs this, may read again.
    pub(crate) fn leave_idle(&self, cpu: usize) {
        // Zero: whatever is under way waits for it.
        self.passed[cpu].store(0, Ordering::Relaxed);
        // Pairs with the fence in `end`.
        fence(Ordering::SeqCst);
        self.pass(cpu);
    }

    /// The number of a period that begins after everything that `cpu`, which runs this, has done so far.
    pub(crate) fn number_after(&self, cpu: usize) -> u64 {
        self.passed[cpu].load(Ordering::Relaxed) + 2
    }

    /// The number of the last period that is over. What it was for may be freed.
    pub(crate) fn over(&self) -> u64 {
        // Acquire: the readers of all CPUs have ended before.
        self.over.load(Ordering::Acquire)
    }

    /// Begins a period, if none is under way. False if one is.
    pub(crate) fn begin(&self) -> bool {
        let over = self.over();
        // Release: see the top. The numbers never come again, so an old `over` does no harm.
        self.begun.compare_exchange(over, over + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Ends the period that is under way, if all CPUs have passed. Each CPU asks after it has passed, so the last one finds it so.
    pub(crate) fn end(&self) -> bool {
        // Acquire: pairs with the Release of whoever began it.
        let begun = self.begun.load(Ordering::Acquire);
        let over = self.over.load(Ordering::Relaxed);
        if over == begun {
            return false;
        }
        // Pairs with the one in `leave_idle`, and with the same one of another CPU that has just passed: one of both sees the other's
        // word.
        fence(Ordering::SeqCst);
        let known = self.known.load(Ordering::Relaxed);
        let all = self.passed.iter().take(known).all(|passed| passed.load(Ordering::Acquire) >= begun);
        all && self.over.compare_exchange(begun - 1, begun, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}
