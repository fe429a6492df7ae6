//! Who is ready to run, and where.
//!
//! Nearly everybody may run anywhere, and waits in one queue that all CPUs take from. Who may run on some CPUs only (`sched_setaffinity`)
//! waits in a queue of one of them: an idle one if there is one, else whichever is next in turn. A CPU for which somebody waits takes
//! from its own queue and from the common one by turns, so that neither starves.
//!
//! ```text
//!   anywhere ──────────────┬───────────┬──> whichever CPU has nothing better to do
//!   bound to CPU 0 ──> CPU 0           │
//!   bound to CPU 1 ───────────────> CPU 1
//! ```
//!
//! CPUs that are away, offline or on their way, are nobody's choice. Whoever may run on such CPUs only runs anywhere until one is back.
//!
//! All of it is behind the run queue's lock. The file knows neither locks nor CPUs: the tests of the host run it as it is.

use super::list::{InQueue, List};
use super::scheduling::{ANYWHERE, Node};

/// The most CPUs.
const CPUS: usize = u64::BITS as usize;

/// Who is ready.
#[derive(Debug)]
pub(crate) struct Ready {
    anywhere: List<InQueue>,
    bound: [List<InQueue>; CPUS],
    /// The CPUs that found nothing to do and wait for an interrupt, by bit.
    idle: u64,
    /// Of these, the ones that somebody waits for and that are not told yet.
    called: u64,
    /// The CPUs that take from their own queue next, by bit.
    own_turn: u64,
    /// The CPU that is next in turn.
    next: u32,
}

/// Whether whoever may run on `cpus` runs on those with the bits `here`.
pub(crate) const fn suits(cpus: u64, here: u64, away: u64) -> bool {
    cpus & here != 0 || cpus & !away == 0
}

impl Ready {
    pub(crate) const fn new() -> Self {
        let (anywhere, bound) = (List::new(), [const { List::new() }; CPUS]);
        Self { anywhere, bound, idle: 0, called: 0, own_turn: 0, next: 0 }
    }

    /// Puts `node`, which is on no queue, where it is to wait; the CPUs with the bits `away` cannot take it.
    pub(crate) fn push(&mut self, node: Node, away: u64) {
        let cpus = node.cpus.get();
        if cpus == ANYWHERE || cpus & !away == 0 {
            return self.anywhere.push(node);
        }
        let cpu = self.choose(cpus & !away);
        self.bound[cpu as usize].push(node);
        self.called |= self.idle & 1 << cpu;
    }

    /// One of `cpus`.
    fn choose(&mut self, cpus: u64) -> u32 {
        let best = if cpus & self.idle == 0 { cpus } else { cpus & self.idle };
        let cpu = (self.next + best.rotate_right(self.next).trailing_zeros()) % u64::BITS;
        self.next = (cpu + 1) % u64::BITS;
        cpu
    }

    /// Takes whom `cpu` is to run next.
    pub(crate) fn pop(&mut self, cpu: usize, away: u64) -> Option<Node> {
        loop {
            let node = self.pop_first(cpu)?;
            if suits(node.cpus.get(), 1 << cpu, away) {
                return Some(node);
            }
            // It was told so while it waited.
            self.push(node, away);
        }
    }

    fn pop_first(&mut self, cpu: usize) -> Option<Node> {
        let own = &self.bound[cpu];
        if own.is_empty() {
            return self.anywhere.pop();
        }
        self.own_turn ^= 1 << cpu;
        let (first, second) = if self.own_turn & 1 << cpu != 0 { (own, &self.anywhere) } else { (&self.anywhere, own) };
        first.pop().or_else(|| second.pop())
    }

    /// Whether nobody is ready whom `cpu` could run.
    pub(crate) fn is_empty(&self, cpu: usize) -> bool {
        self.anywhere.is_empty() && self.bound[cpu].is_empty()
    }

    /// Whether a CPU is to be told that somebody waits for it.
    pub(crate) const fn calls(&self) -> bool {
        self.called != 0
    }

    /// `cpu` waits for an interrupt from here on.
    pub(crate) const fn note_idle(&mut self, cpu: usize) {
        self.idle |= 1 << cpu;
    }

    /// `cpu` looks by itself.
    pub(crate) const fn note_busy(&mut self, cpu: usize) {
        self.idle &= !(1 << cpu);
        self.called &= !(1 << cpu);
    }

    /// Nobody waits for `cpu` any more, which goes away, as `away` says by now.
    pub(crate) fn leave(&mut self, cpu: usize, away: u64) {
        self.note_busy(cpu);
        while let Some(node) = self.bound[cpu].pop() {
            self.push(node, away);
        }
    }

    /// Idle CPUs for `tasks` more tasks that are ready, by bit, and those that somebody waits for: the caller, on `cpu`, pokes them. Its own
    /// looks by itself.
    pub(crate) fn take_idle(&mut self, cpu: usize, tasks: usize) -> u64 {
        let me = 1 << cpu;
        let mut taken = core::mem::take(&mut self.called) & !me;
        self.idle &= !taken;
        if tasks == 0 || self.idle == 0 {
            return taken;
        }
        let mut wanted = tasks - usize::from(self.idle & me != 0);
        self.idle &= !me;
        while wanted != 0 && self.idle != 0 {
            let lowest = self.idle & self.idle.wrapping_neg();
            self.idle &= !lowest;
            taken |= lowest;
            wanted -= 1;
        }
        taken
    }
}
