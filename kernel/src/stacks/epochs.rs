//! Shootdowns: the words, and nothing else. Tested with loom on the host (`kernel/host-tests/src/models/epochs.rs`).
//!
//! Shootdowns are numbered. A CPU *passes* where it flushes its TLB: it copies the number that it read before it flushed into its own
//! word. A shootdown is over when every CPU's word has reached its number.
//!
//! ```text
//!   begun  ──────── 7 ───────────────────── 8 ─────────
//!   CPU 0  ── 6 ─── 7 (it has begun it) ──────── 8 ────
//!   CPU 1  ── 6 ────────── 7 ────────────────────── 8 ─     asked by a message, or where it switches tasks
//!   CPU 2  ── 6, AWAY ─────────────────── 6 ─ 8 ───────     counts as passed; flushes before it touches a stack again
//!   over   ── 6 ────────────────── 7 ────────────── 8 ─
//! ```
//!
//! *Why no translation is left.* Who begins a shootdown has changed the entries before, and bumps `begun` with Release. Who passes reads
//! `begun` with Acquire, and then flushes: what its TLB learns later, it learns from the new entries. What it did through the old ones
//! comes before it stores its word, with Release, and whoever finds the shootdown over has read that with Acquire (INV-FRAME).
//!
//! *Why coming back takes a fence.* A CPU that is away is not asked, so it must be seen to come back. [`come`](Epochs::come) takes the
//! mark off its word, then has a full fence, and then reads `begun`; [`begin`](Epochs::begin) bumps that, and then has a full fence before anybody
//! asks whether it is over. Of the two fences one is first. If it is the beginner's, the CPU that comes reads the new number, and flushes. If it is the
//! other's, the beginner sees its word without the mark, and waits for it.
//!
//! *Once over, always over*: also for a CPU that was away then and is on its way back, since what is over is written down.
//!
//! # Context
//!
//! What takes a `cpu` is for that CPU itself, with interrupts off. [`is_over`](Epochs::is_over): any.

use super::atomic::{AtomicU64, Ordering, fence};

/// In a CPU's word, beside the number: it is not there, or touches no stack but its own ones.
const AWAY: u64 = 1 << 63;

/// The words.
#[derive(Debug)]
pub(crate) struct Epochs<const CPUS: usize> {
    /// The number of the last shootdown that has begun.
    pub(super) begun: AtomicU64,
    /// The number of a shootdown that was found over: all before it are, too.
    pub(super) over: AtomicU64,
    /// The number of the last shootdown that each CPU has flushed for.
    pub(super) passed: [AtomicU64; CPUS],
}

impl<const CPUS: usize> Epochs<CPUS> {
    /// The word of a CPU that has never been there.
    pub(crate) const NEVER_CAME: u64 = AWAY;

    /// Begins a shootdown of entries that were changed before, and returns its number.
    pub(crate) fn begin(&self) -> u64 {
        // Release: pairs with the Acquire in `pass`.
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        // Pairs with the one in `come`.
        fence(Ordering::SeqCst);
        number
    }

    /// `cpu`, which began the shootdown `number`, has flushed the pages of that one, and nothing else. False if others have begun
    /// some that it has not passed for: then it is to [`pass`](Self::pass).
    #[must_use]
    pub(crate) fn pass_own(&self, cpu: usize, number: u64) -> bool {
        let word = &self.passed[cpu];
        let next = word.load(Ordering::Relaxed) + 1 == number;
        if next {
            // Release: as in `pass`.
            word.store(number, Ordering::Release);
        }
        next
    }

    /// Whether something has begun that `cpu` has not flushed for. It may not learn at once of what another CPU has just begun.
    #[inline]
    pub(crate) fn is_behind(&self, cpu: usize) -> bool {
        self.passed[cpu].load(Ordering::Relaxed) != self.begun.load(Ordering::Relaxed)
    }

    /// `cpu`, which is there, forgets everything by `flush`.
    pub(crate) fn pass(&self, cpu: usize, flush: impl FnOnce()) {
        // Acquire: pairs with the bump in `begin`: the entries were changed before what is read here, and so before the flush.
        let begun = self.begun.load(Ordering::Acquire);
        flush();
        // Release: pairs with the load in `is_over`: what was done through the old entries, and the flush, come before.
        self.passed[cpu].store(begun, Ordering::Release);
    }

    /// `cpu` touches no stack but its own ones until [`come`](Self::come).
    pub(crate) fn leave(&self, cpu: usize) {
        let word = self.passed[cpu].load(Ordering::Relaxed);
        // Release: as in `pass`.
        self.passed[cpu].store(word | AWAY, Ordering::Release);
    }

    /// Whether `cpu` is away.
    #[inline]
    pub(crate) fn is_away(&self, cpu: usize) -> bool {
        self.passed[cpu].load(Ordering::Relaxed) & AWAY != 0
    }

    /// `cpu` may touch any stack when this has returned: it forgets everything by `flush` if there was a shootdown since it left.
    pub(crate) fn come(&self, cpu: usize, flush: impl FnOnce()) {
        let word = self.passed[cpu].load(Ordering::Relaxed);
        self.passed[cpu].store(word & !AWAY, Ordering::Relaxed);
        // Pairs with the one in `begin`.
        fence(Ordering::SeqCst);
        if self.is_behind(cpu) {
            self.pass(cpu, flush);
        }
    }

    /// Whether all of the first `cpus` CPUs have flushed for the shootdown `number`. Once true, always true.
    pub(crate) fn is_over(&self, number: u64, cpus: usize) -> bool {
        // Acquire: whoever found it over had seen all words.
        if self.over.load(Ordering::Acquire) >= number {
            return true;
        }
        // Acquire: pairs with the Release of each CPU's word.
        let all = self.passed.iter().take(cpus).all(|passed| passed.load(Ordering::Acquire) >= number);
        if all {
            // Release: for whoever reads it above.
            self.over.fetch_max(number, Ordering::Release);
        }
        all
    }
}
