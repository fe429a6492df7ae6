//! The run queue: who is ready, who waits, and which CPUs have nothing to do. All of it is behind one lock (`sched`).

use super::lot::{Choice, Lot, Walk};
use super::ready::Ready;
use super::sched::PIECE;
use super::timers::Timers;
use super::{Node, State, Woken};
use crate::arch::percpu::{self, MAX_CPUS};
use crate::hotplug;

/// What is behind the lock.
#[derive(Debug)]
pub(super) struct RunQueue {
    pub(super) ready: Ready,
    pub(super) lot: Lot,
    pub(super) timers: Timers,
    /// Tasks that were started and are not dead, idle ones apart. Each has a count of the scheduler's.
    pub(super) tasks: usize,
}

const _: () = assert!(MAX_CPUS <= u64::BITS as usize);

impl RunQueue {
    pub(super) const fn new() -> Self {
        Self { ready: Ready::new(), lot: Lot::new(), timers: Timers::new(), tasks: 0 }
    }

    /// Takes the task of `node` off its CPU's hands, into the queue that its state names.
    pub(super) fn place(&mut self, node: Node) {
        match node.state.get() {
            State::Queued => self.ready.push(node, hotplug::away()),
            State::Sleeping => self.timers.insert(node),
            State::Parked => {
                self.lot.park(node, node.parked_on.get());
                self.timers.insert(node);
            }
            State::New | State::Running | State::Dead => {}
        }
    }

    /// Makes the task of `node`, which is on no queue, ready: its wait ended as `woken` says.
    fn make_ready(ready: &mut Ready, node: Node, woken: Woken) {
        node.state.set(State::Queued);
        node.woken.set(woken);
        ready.push(node, hotplug::away());
    }

    /// Asks `choose` about a piece of those whom `walk` is to ask, and wakes or moves them. Whether that was all.
    pub(super) fn choose(&mut self, walk: &mut Walk, choose: impl FnMut(&Node) -> Choice) -> bool {
        let Self { ready, lot, timers, .. } = self;
        lot.choose(walk, PIECE, choose, |node| {
            timers.remove(node);
            Self::make_ready(ready, node, Woken::Called);
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
            Self::make_ready(ready, node, Woken::TimedOut);
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
        Self::make_ready(&mut self.ready, node, woken);
    }

    /// Idle CPUs for `tasks` more tasks that are ready, by bit: the caller pokes them. This CPU looks by itself.
    pub(super) fn take_idle(&mut self, tasks: usize) -> u64 {
        self.ready.take_idle(percpu::cpu_number().index(), tasks)
    }
}
