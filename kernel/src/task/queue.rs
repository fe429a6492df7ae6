//! The run queue: who is ready, who waits, and which CPUs have nothing to do. All of it is behind one lock (`sched`).

use super::list::{InQueue, List};
use super::lot::{Choice, Lot, Walk};
use super::sched::PIECE;
use super::timers::Timers;
use super::{Node, State, Woken};
use crate::arch::percpu::{self, MAX_CPUS};

/// What is behind the lock.
#[derive(Debug)]
pub(super) struct RunQueue {
    pub(super) ready: List<InQueue>,
    pub(super) lot: Lot,
    pub(super) timers: Timers,
    /// Tasks that were started and are not dead, idle ones apart. Each has a count of the scheduler's.
    pub(super) tasks: usize,
    /// The CPUs that found nothing to do and wait for an interrupt, by bit.
    pub(super) idle: u64,
}

const _: () = assert!(MAX_CPUS <= u64::BITS as usize);

impl RunQueue {
    pub(super) const fn new() -> Self {
        Self { ready: List::new(), lot: Lot::new(), timers: Timers::new(), tasks: 0, idle: 0 }
    }

    /// Takes the task of `node` off its CPU's hands, into the queue that its state names.
    pub(super) fn place(&mut self, node: Node) {
        match node.state.get() {
            State::Queued => self.ready.push(node),
            State::Sleeping => self.timers.insert(node),
            State::Parked => {
                self.lot.park(node, node.parked_on.get());
                self.timers.insert(node);
            }
            State::New | State::Running | State::Dead => {}
        }
    }

    /// Makes the task of `node`, which is on no queue, ready: its wait ended as `woken` says.
    fn ready(ready: &List<InQueue>, node: Node, woken: Woken) {
        node.state.set(State::Queued);
        node.woken.set(woken);
        ready.push(node);
    }

    /// Asks `choose` about a piece of those whom `walk` is to ask, and wakes or moves them. Whether that was all.
    pub(super) fn choose(&mut self, walk: &mut Walk, choose: impl FnMut(&Node) -> Choice) -> bool {
        let Self { ready, lot, timers, .. } = self;
        lot.choose(walk, PIECE, choose, |node| {
            timers.remove(node);
            Self::ready(ready, node, Woken::Called);
        })
    }

    /// Wakes a piece of those whose time has come by `now`, and says how many.
    pub(super) fn wake_due(&mut self, now: u64) -> usize {
        let Self { ready, lot, timers, .. } = self;
        let mut woken = 0;
        timers.advance(now, PIECE, |node| {
            if node.state.get() == State::Parked {
                lot.remove(node);
            }
            Self::ready(ready, node, Woken::TimedOut);
            woken += 1;
        });
        woken
    }

    /// Ends the wait of `node`, wherever it waits.
    pub(super) fn end_wait(&mut self, node: Node, woken: Woken) {
        if node.state.get() == State::Parked {
            self.lot.remove(node);
        }
        self.timers.remove(node);
        Self::ready(&self.ready, node, woken);
    }

    /// Idle CPUs for `tasks` more tasks that are ready, by bit: the caller pokes them. This CPU looks by itself.
    pub(super) fn take_idle(&mut self, tasks: usize) -> u64 {
        if tasks == 0 || self.idle == 0 {
            return 0;
        }
        let me = 1 << percpu::cpu_number().index();
        let mut wanted = tasks - usize::from(self.idle & me != 0);
        let mut taken = 0;
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
