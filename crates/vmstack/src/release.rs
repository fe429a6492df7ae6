//! Giving a stack back: what every stack passes through when its owner is done with it.
//!
//! Nearly always nobody has a pin, nothing was noted, and the frames lie on this CPU's node. One comparison finds that, and the stack
//! goes into the loaded magazine. Everything else is odd, and takes its time.
//!
//! ```text
//!   plain ──> loaded magazine ──full──> previous ──full──> depot ──over budget──> batch
//!   odd:  pinned ──> left to the last pin
//!         written around ──> cleared whole, here
//!         of another node ──> away, a few at a time, to the depot of that node
//!         deep ──> set aside, until there are enough of them to take their dirty bits back
//! ```
//!
//! Nothing here sleeps, waits or needs memory (INV-FREE).
//!
//! Contexts: task and interrupt, under a guard. Never NMI, never the fault path.

use crate::area::StackArea;
use crate::cache::Line;
use crate::chain::Chain;
use crate::geometry::SlotIndex;
use crate::here::Here;
use crate::platform::{Node, Platform};
use crate::slots::{Hold, SlotRecord};

/// How many stacks of another node are sent home together.
const AWAY: u32 = 16;

impl<P: Platform> StackArea<P> {
    /// Takes back the stack in `slot`, which is dead: its owner has ended its life, and has had a full fence since.
    #[cold]
    #[inline(never)]
    pub(crate) fn take_back_odd(&self, guard: &P::Guard, slot: SlotIndex) {
        if self.numbers.lead() { self.take_back_numbered(guard, slot) } else { self.take_back_here(guard, slot) }
    }

    #[inline(always)]
    fn take_back_here(&self, guard: &P::Guard, slot: SlotIndex) {
        match self.here(guard) {
            // We run on it though nobody owns it, or on a CPU that the area does not know: never.
            Ok(mut here) if !self.stands_on(&here.meta, slot) => here.take_back(slot),
            _ => self.leak(slot),
        }
    }

    /// Does to a dead stack what was noted about it, and what the policy wants. None if it is left to its pins.
    #[inline]
    pub(crate) fn tidy(&self, line: &Line<P>, slot: SlotIndex, record: &SlotRecord) -> Option<Hold> {
        if record.hold().pinned && record.leave_to_pins() {
            return None;
        }
        let hold = record.hold();
        if hold.written {
            self.clear_whole(line, slot, record);
            record.unmark_written();
        }
        if self.scrubs_on_exit() {
            self.clear_written(line, slot, record);
        }
        Some(hold)
    }
}

impl<P: Platform> Here<'_, P> {
    fn take_back(&mut self, slot: SlotIndex) {
        let record = self.meta.known_record(slot);
        if record.is_plain(self.near.home) && !self.area.scrubs_on_exit() {
            self.line.counters.released.bump();
            record.make_ready();
            return self.keep(slot, record);
        }
        let Some(hold) = self.area.tidy(self.line, slot, record) else { return };
        self.line.counters.released.bump();
        record.make_ready();
        if hold.node != self.near.home.node() {
            self.send_away(slot, record);
        } else if hold.deep {
            self.set_aside(slot, record);
        } else {
            self.keep(slot, record);
        }
    }

    /// Puts a ready stack of this node into the loaded magazine, or into the depot.
    fn keep(&mut self, slot: SlotIndex, record: &SlotRecord) {
        if self.near.keeps_none() {
            return self.keep_none(slot, record);
        }
        if self.near.loaded.len() >= self.near.rounds {
            self.unload();
        }
        self.near.loaded.push(slot, record);
    }

    /// Puts a ready stack of this node into the depot, and whatever else there may be.
    fn keep_none(&mut self, slot: SlotIndex, record: &SlotRecord) {
        self.near.loaded.push(slot, record);
        self.visit_depot();
        self.leave_magazines();
        self.settle();
    }

    /// Makes room: the loaded magazine is full.
    fn unload(&mut self) {
        core::mem::swap(&mut self.near.loaded, &mut self.near.previous);
        self.fit_budget();
        if self.near.loaded.len() < self.near.rounds {
            return;
        }
        let full = self.near.loaded.take();
        self.visit_depot();
        self.leave(self.near.home.node(), full);
        self.settle();
    }

    /// Leaves the magazines in the depot.
    pub(crate) fn leave_magazines(&mut self) {
        for magazine in [self.near.loaded.take(), self.near.previous.take()] {
            self.leave(self.near.home.node(), magazine);
        }
    }

    /// Leaves a magazine in the depot of `node`.
    pub(crate) fn leave(&self, node: Node, magazine: Chain) {
        if !magazine.is_empty() {
            self.meta.depot(node).push(magazine, &self.meta);
            self.line.counters.returned.bump();
        }
    }

    /// Puts a ready stack of another node on its way there.
    fn send_away(&mut self, slot: SlotIndex, record: &SlotRecord) {
        let away = &mut self.far().away;
        away.push(slot, record);
        if away.len() >= AWAY {
            self.send_home();
            self.settle_depots();
        }
    }

    /// Leaves the stacks of other nodes in the depots of their nodes, one magazine for each node. Starts nothing that a CPU that leaves
    /// would have to wait for.
    pub(crate) fn send_home(&mut self) {
        let (meta, mut away) = (self.meta, self.far().away.take());
        while let Some(first) = away.pop(&meta) {
            let node = meta.known_record(first).hold().node;
            let (mut magazine, mut rest) = (Chain::new(), Chain::new());
            magazine.push(first, meta.known_record(first));
            while let Some(slot) = away.pop(&meta) {
                let record = meta.known_record(slot);
                let chain = if record.hold().node == node { &mut magazine } else { &mut rest };
                chain.push(slot, record);
            }
            self.leave(node, magazine);
            away = rest;
        }
    }
}
