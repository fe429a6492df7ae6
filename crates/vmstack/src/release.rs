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

use crate::chain::Chain;
use crate::geometry::SlotIndex;
use crate::here::Here;
use crate::platform::{Node, Platform};
use crate::slots::SlotRecord;

/// How many stacks of another node are sent home together.
const AWAY: u32 = 16;

impl<P: Platform> Here<'_, P> {
    /// Takes back the stack in `slot`, which is dead: its owner has ended its life, and has had a full fence since.
    #[inline]
    pub(crate) fn take_back(&mut self, slot: SlotIndex, record: &SlotRecord) {
        if record.is_plain(self.near.home) {
            self.scrub_after_use(slot, record);
            self.line.counters.released.bump();
            record.make_ready();
            self.keep(slot, record);
        } else {
            self.take_back_odd(slot, record);
        }
    }

    /// Puts a ready stack of this node into the loaded magazine.
    #[inline]
    fn keep(&mut self, slot: SlotIndex, record: &SlotRecord) {
        if self.near.loaded.len() >= self.near.rounds {
            self.unload();
        }
        self.near.loaded.push(slot, record);
    }

    /// Makes room: the loaded magazine is full.
    #[cold]
    #[inline(never)]
    fn unload(&mut self) {
        core::mem::swap(&mut self.near.loaded, &mut self.near.previous);
        if self.near.loaded.len() < self.near.rounds {
            return;
        }
        let full = self.near.loaded.take();
        self.visit_depot();
        self.leave(self.near.home.node(), full);
        self.settle();
    }

    /// Leaves a magazine in the depot of `node`.
    pub(crate) fn leave(&self, node: Node, magazine: Chain) {
        if !magazine.is_empty() {
            self.meta.depot(node).push(magazine, &self.meta);
            self.line.counters.returned.bump();
        }
    }

    #[cold]
    #[inline(never)]
    fn take_back_odd(&mut self, slot: SlotIndex, record: &SlotRecord) {
        if record.hold().pinned && record.leave_to_pins() {
            return;
        }
        let hold = record.hold();
        if hold.written {
            self.clear_whole(slot, record);
        }
        self.scrub_after_use(slot, record);
        self.line.counters.released.bump();
        record.make_ready();
        record.unmark_written();
        if hold.node != self.near.home.node() {
            self.send_away(slot, record);
        } else if hold.deep {
            self.set_aside(slot, record);
        } else {
            self.keep(slot, record);
        }
    }

    /// Puts a ready stack of another node on its way there.
    fn send_away(&mut self, slot: SlotIndex, record: &SlotRecord) {
        let away = &mut self.far().away;
        away.push(slot, record);
        if away.len() >= AWAY {
            self.send_home();
        }
    }

    /// Leaves the stacks of other nodes in the depots of their nodes, one magazine for each node.
    pub(crate) fn send_home(&mut self) {
        let (meta, mut away) = (self.meta, self.far().away.take());
        while let Some((first, record)) = away.pop(&meta) {
            let (node, mut magazine, mut rest) = (record.hold().node, Chain::new(), Chain::new());
            magazine.push(first, record);
            while let Some((slot, record)) = away.pop(&meta) {
                let chain = if record.hold().node == node { &mut magazine } else { &mut rest };
                chain.push(slot, record);
            }
            self.leave(node, magazine);
            self.settle_depot(node);
            away = rest;
        }
    }
}
