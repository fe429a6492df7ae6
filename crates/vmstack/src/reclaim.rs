//! From a ready stack to free frames and a free slot: unmap, shoot down, and only then give back.
//!
//! The order is INV-FRAME. A CPU unmaps a *batch* of stacks and starts one shootdown for all of them; the tokens hold the
//! frames until the platform says that every CPU has flushed. Nobody waits for that: whoever next exchanges a magazine on
//! this CPU looks whether the ticket is due, and retires the batch: frames first, then slots. While a batch is in
//! flight, what should follow it stays in the depot, ready, where any CPU may take it.
//!
//! What goes: what a depot has above the budget; what nobody would have missed for a while ([`StackArea::trim`]); and everything, when
//! memory is short ([`StackArea::pressure`]) or a caller would rather wait than fail ([`StackArea::alloc_waiting`]).
//!
//! [`StackArea::alloc_waiting`]: crate::StackArea::alloc_waiting
//! [`StackArea::pressure`]: crate::StackArea::pressure
//! [`StackArea::trim`]: crate::StackArea::trim

use crate::chain::Chain;
use crate::geometry::SlotIndex;
use crate::here::Here;
use crate::platform::{Node, Platform};
use crate::slots::Phase;
use crate::sync::Ordering;

/// How many stacks share one shootdown.
pub(crate) const BATCH: usize = 32;

impl<P: Platform> Here<'_, P> {
    /// Does what is due: for a CPU that has left its fast path anyway.
    #[inline]
    pub(crate) fn settle(&mut self) {
        if !self.far().recovering.is_empty() {
            self.recovered();
        }
        if !self.answer_pressure() && self.area.budget() != u32::MAX {
            self.shrink();
        }
    }

    /// Unmaps what the depot of this node has above its share of the budget, as long as no CPU is long in flushing.
    #[inline]
    fn shrink(&mut self) {
        let nodes = self.meta.geometry.nodes() as u32;
        let share = if nodes == 1 { self.area.budget() } else { self.area.budget() / nodes };
        let node = self.near.home.node();
        while self.meta.depot(node).held() > share && self.unmap_from(node, BATCH) != 0 {}
    }

    /// Gives back what this CPU keeps, and what it can of the depots, if memory pressure was announced since it last did so.
    #[inline]
    pub(crate) fn answer_pressure(&mut self) -> bool {
        // Acquire: pairs with the Release of the announcement.
        let announced = self.area.pressure.load(Ordering::Acquire);
        if announced == self.near.answered {
            return false;
        }
        self.near.answered = announced;
        self.drain_step();
        true
    }

    /// Unmaps up to `most` stacks of a magazine of `node`'s depot, and no more than a batch, and starts their shootdown. Says how
    /// many: none if the depot has none, or a batch is in flight on this CPU.
    pub(crate) fn unmap_from(&mut self, node: Node, most: usize) -> usize {
        if !self.retire_due() {
            return 0;
        }
        let depot = self.meta.depot(node);
        let Some(mut magazine) = depot.pop(&self.meta) else { return 0 };
        let count = self.unmap_batch(&mut magazine, most.min(BATCH));
        if !magazine.is_empty() {
            depot.push(magazine, &self.meta);
        }
        self.retire_due();
        count
    }

    /// Unmaps up to `most` stacks of `magazine` and starts their shootdown.
    fn unmap_batch(&mut self, magazine: &mut Chain, most: usize) -> usize {
        let mut batch = Chain::new();
        while (batch.len() as usize) < most
            && let Some(slot) = magazine.pop(&self.meta)
        {
            self.unmap(slot);
            batch.push(slot, self.meta.known_record(slot));
        }
        if !batch.is_empty() {
            self.line.counters.unmapped.add(u64::from(batch.len()));
            self.line.counters.shootdowns.bump();
            let pages = batch.slots(&self.meta).map(|slot| self.meta.geometry.pages(slot));
            let ticket = self.meta.platform.shootdown(pages);
            let far = self.far();
            (far.batch, far.batch_ticket) = (batch, Some(ticket));
        }
        batch.len() as usize
    }

    /// Unmaps a ready stack, and puts its frames down in its record.
    fn unmap(&self, slot: SlotIndex) {
        let record = self.meta.known_record(slot);
        record.set_phase(Phase::Retiring);
        // SAFETY: (1) the stack was mapped by one call of `map` when it was populated; (2) it came from the depot: no
        // CPU runs on it, nobody holds a pin (INV-LIVE), and nobody can get either while it is retiring.
        let token = unsafe { self.meta.platform.unmap(self.meta.mapping(slot, record)) };
        // SAFETY: this CPU holds the slot, as above.
        unsafe { record.put_frames(token.into_frames()) };
    }

    /// Gives back the frames and the slots of the batch in flight, if every CPU has flushed. True if none is in flight.
    pub(crate) fn retire_due(&mut self) -> bool {
        let platform = self.meta.platform;
        let far = self.far();
        if far.batch_ticket.as_ref().is_some_and(|ticket| !platform.flushed(ticket)) {
            return false;
        }
        if far.batch.is_empty() {
            return true;
        }
        far.batch_ticket = None;
        let batch = far.batch.take();
        self.retire(batch);
        true
    }

    /// The frames to the platform, then the slots to the free list: every CPU has flushed them (INV-FRAME).
    fn retire(&mut self, mut batch: Chain) {
        self.line.counters.retired.add(u64::from(batch.len()));
        // SAFETY: the slots are retiring, in this CPU's batch; `unmap` has put their frames there, and each is taken once.
        let frames = |slot| unsafe { self.meta.known_record(slot).take_frames::<P::Frames>() };
        self.meta.platform.give_batch(batch.slots(&self.meta).map(frames));
        while let Some(slot) = batch.pop(&self.meta) {
            self.meta.known_record(slot).set_phase(Phase::Free);
            self.area.free_list().push(slot, &self.meta);
        }
    }

    /// Leaves everything that this CPU keeps in the depots.
    fn empty_magazines(&mut self) {
        let node = self.near.home.node();
        for magazine in [self.near.loaded.take(), self.near.previous.take()] {
            self.leave(node, magazine);
        }
        let far = self.far();
        let (deep, away, away_to) = (far.deep.take(), far.away.take(), far.away_to);
        self.leave(node, deep);
        self.leave(away_to, away);
    }

    /// Leaves everything that this CPU keeps to others. True once nothing of it waits for other CPUs.
    pub(crate) fn leave_step(&mut self) -> bool {
        self.empty_magazines();
        self.recovered() & self.retire_due()
    }

    /// Leaves what this CPU keeps in the depots, and unmaps a batch of what they have. True once nothing is left, nor in flight here.
    pub(crate) fn drain_step(&mut self) -> bool {
        if !self.leave_step() {
            return false;
        }
        let mut nodes = (0..self.meta.geometry.nodes() as u8).map(Node::new);
        let unmapped = nodes.any(|node| self.unmap_from(node, BATCH) != 0);
        !unmapped && self.meta.depots().all(|depot| depot.held() == 0)
    }
}
