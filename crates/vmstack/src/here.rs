//! One CPU's part of an area, entered, for what is more than a hit.
//!
//! Having a [`Here`] is having the platform's guard: this code stays on its CPU and is not re-entered there, so what the CPU
//! keeps is plain memory. An allocation that misses exchanges magazines, asks the depot, and only then builds a stack from frames. Before it says that there are no frames it looks at what other nodes have ready.
//!
//! Contexts: task and interrupt. Never NMI, never the fault path.

use crate::area::StackArea;
use crate::cache::{FEWEST_ROUNDS, Far, Line, Near, OFTEN, SELDOM};
use crate::chain::Chain;
use crate::error::AllocError;
use crate::geometry::SlotIndex;
use crate::hit::Allocated;
use crate::metadata::Metadata;
use crate::platform::{Hint, Node, Platform};
use crate::slots::SlotRecord;
use crate::stack::StackId;
use crate::sync::Ordering;

/// This CPU's part of an area, entered: nobody else is in it until this is dropped.
pub(crate) struct Here<'a, P: Platform> {
    pub(crate) area: &'a StackArea<P>,
    pub(crate) meta: Metadata<'a, P>,
    pub(crate) line: &'a Line<P>,
    pub(crate) near: &'a mut Near,
}

impl<P: Platform> StackArea<P> {
    /// A stack, when the loaded magazine is empty.
    #[cold]
    #[inline(never)]
    pub(crate) fn refill(&self, guard: &P::Guard, owner: usize) -> Allocated<P> {
        self.here(guard)?.refill(owner)
    }
}

impl<P: Platform> Here<'_, P> {
    /// A stack on this CPU's node if there is one, else on any.
    fn refill(&mut self, owner: usize) -> Allocated<P> {
        match self.refill_here(owner) {
            Err(error) => {
                let allocated = self.steal(owner).ok_or(error);
                self.count_refused(allocated)
            }
            allocated => allocated,
        }
    }

    /// A stack on this CPU's node: the loaded magazine is empty.
    fn refill_here(&mut self, owner: usize) -> Allocated<P> {
        core::mem::swap(&mut self.near.loaded, &mut self.near.previous);
        if let Some(slot) = self.near.loaded.pop(&self.meta) {
            return Ok(self.hit(slot, owner));
        }
        self.settle_flights();
        // What is too much there is for whoever gives something back: an allocation that takes a ready stack unmaps none.
        if self.meta.depot(self.near.home.node()).held() != 0
            && let Some(slot) = self.load_from_depot()
        {
            return Ok(self.reuse(slot, owner));
        }
        if let Some(slot) = self.take_deep() {
            return Ok(self.reuse(slot, owner));
        }
        self.populate(self.near.home.node(), owner)
    }

    pub(crate) fn count_refused(&self, allocated: Allocated<P>) -> Allocated<P> {
        allocated.inspect_err(|_| self.line.counters.refused.bump())
    }

    /// A ready stack that this CPU kept.
    fn hit(&self, slot: SlotIndex, owner: usize) -> StackId {
        self.line.counters.hits.bump();
        self.reuse(slot, owner)
    }

    /// Hands out a ready stack, made to read as zero.
    fn reuse(&self, slot: SlotIndex, owner: usize) -> StackId {
        let record = self.meta.known_record(slot);
        self.area.scrub_for_use(self.line, slot, record);
        self.hand_out(slot, record, owner)
    }

    fn hand_out(&self, slot: SlotIndex, record: &SlotRecord, owner: usize) -> StackId {
        StackId::new(slot, record.hand_out(owner))
    }

    /// Loads a magazine from this node's depot, and takes its first stack.
    pub(crate) fn load_from_depot(&mut self) -> Option<SlotIndex> {
        let depot = self.meta.depot(self.near.home.node());
        if depot.held() == 0 {
            return None;
        }
        if self.near.keeps_none() {
            return self.ready_on(self.near.home.node());
        }
        self.near.loaded = depot.pop(&self.meta)?;
        // Small ones are put together, so that the next visit is no sooner than after a full one.
        while self.near.loaded.len() < self.near.rounds
            && let Some(more) = depot.pop(&self.meta)
        {
            depot.push(self.load(more), &self.meta);
        }
        depot.note_need();
        self.visit_depot();
        self.line.counters.from_depot.bump();
        self.near.loaded.pop(&self.meta)
    }

    /// Fills the loaded magazine up from `more`, and returns the rest.
    fn load(&mut self, mut more: Chain) -> Chain {
        while self.near.loaded.len() < self.near.rounds
            && let Some(slot) = more.pop(&self.meta)
        {
            self.near.loaded.push(slot, self.meta.known_record(slot));
        }
        more
    }

    /// Adapts the size of the magazines to how many operations the last visit to the depot was ago.
    pub(crate) fn visit_depot(&mut self) {
        let counters = &self.line.counters;
        let operations = (counters.hits.get() + counters.released.get()) as u32;
        let magazines = operations.wrapping_sub(self.near.visited) / self.near.rounds.max(1);
        self.near.visited = operations;
        let rounds = match magazines {
            0..OFTEN => (2 * self.near.rounds).max(1),
            OFTEN..=SELDOM => self.near.rounds,
            _ => (self.near.rounds / 2).max(FEWEST_ROUNDS),
        };
        self.near.rounds = rounds;
        self.fit_budget();
    }

    /// Makes the magazines no larger than the budget allows, which may be another than it was.
    pub(crate) fn fit_budget(&mut self) {
        self.near.rounds = self.near.rounds.min(self.area.most_rounds());
    }

    /// A stack of any node, where this CPU's has no memory left for a new one: a ready one, or else a new one.
    fn steal(&mut self, owner: usize) -> Option<StackId> {
        self.send_home();
        let slot = self.meta.nodes().find_map(|node| self.ready_on(node));
        slot.map(|slot| self.reuse(slot, owner)).or_else(|| {
            let home = self.near.home.node();
            let mut others = self.meta.nodes().filter(|&node| node != home);
            others.find_map(|node| self.populate(node, owner).ok())
        })
    }

    /// One stack from the depot of `node`. The rest of its magazine goes back.
    fn ready_on(&self, node: Node) -> Option<SlotIndex> {
        let depot = self.meta.depot(node);
        let mut magazine = depot.pop(&self.meta)?;
        let slot = magazine.pop(&self.meta)?;
        depot.push(magazine, &self.meta);
        depot.note_need();
        self.line.counters.from_depot.bump();
        Some(slot)
    }

    /// A stack whose frames are on `node` and on no other.
    pub(crate) fn alloc_on(&mut self, node: Node, owner: usize) -> Allocated<P> {
        let allocated = self.find_on(node, owner);
        self.count_refused(allocated)
    }

    fn find_on(&mut self, node: Node, owner: usize) -> Allocated<P> {
        if node.index() >= self.meta.geometry.nodes() {
            return Err(AllocError::UnknownNode { node, nodes: self.meta.geometry.nodes() });
        }
        if node != self.near.home.node() {
            return self.find_elsewhere(node, owner);
        }
        match self.near.loaded.pop(&self.meta) {
            Some(slot) => Ok(self.hit(slot, owner)),
            None => self.refill_here(owner),
        }
    }

    /// A stack of `node`, another one than this CPU's.
    fn find_elsewhere(&mut self, node: Node, owner: usize) -> Allocated<P> {
        self.settle();
        if let Some(slot) = self.ready_on(node) {
            return Ok(self.reuse(slot, owner));
        }
        self.populate(node, owner).or_else(|error| {
            // Some may be on their way there.
            self.send_home();
            self.ready_on(node).map(|slot| self.reuse(slot, owner)).ok_or(error)
        })
    }

    /// Cold: a free slot, frames in bulk, one batch of page-table entries. The frames read as zero.
    fn populate(&self, node: Node, owner: usize) -> Allocated<P> {
        let slot = self.take_slot()?;
        match self.map_stack(slot, node) {
            Ok(()) => {
                self.line.counters.populated.bump();
                Ok(self.hand_out(slot, self.meta.known_record(slot), owner))
            }
            Err(error) => {
                self.area.free_list().push(slot, &self.meta);
                Err(error)
            }
        }
    }

    fn map_stack(&self, slot: SlotIndex, node: Node) -> Result<(), AllocError<P::Error>> {
        let record = self.meta.known_record(slot);
        let hint = self.map_frames(slot, record, node)?;
        record.set_mapped(node, hint);
        Ok(())
    }

    /// Maps frames of `node`, which read as zero, as the stack in `slot`: nobody else has that, and nothing is mapped there.
    pub(crate) fn map_frames(
        &self,
        slot: SlotIndex,
        record: &SlotRecord,
        node: Node,
    ) -> Result<Hint, AllocError<P::Error>> {
        let platform = self.meta.platform;
        let mapping = self.meta.mapping(slot, record);
        let frames = platform.take_frames_on(node, mapping.pages().count()).map_err(AllocError::NoFrames)?;
        // SAFETY: (1) the pages lie in this area; (2) the slot was free, so none of it is mapped, and no CPU remembers that
        // it was (it went to the free list after its shootdown); (3) as many frames were taken.
        unsafe { platform.map(mapping, frames) }.map_err(|failed| {
            platform.give_frames(failed.frames);
            AllocError::NotMapped(failed.reason)
        })
    }

    /// A free slot with a record: one that was used before, or else the next fresh one.
    fn take_slot(&self) -> Result<SlotIndex, AllocError<P::Error>> {
        if let Some(slot) = self.area.free_list().pop(&self.meta) {
            return Ok(slot);
        }
        let mut fresh = self.area.fresh.load(Ordering::Relaxed);
        loop {
            let slots = self.meta.geometry.slots();
            let slot = self.meta.geometry.slot(fresh as usize).ok_or_else(|| self.area.no_slot(slots))?;
            self.meta.ensure_record(slot)?;
            // Relaxed: the index is all that is taken; `ensure_record` has ordered the record itself.
            match self.area.fresh.compare_exchange_weak(fresh, fresh + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(slot),
                Err(now) => fresh = now,
            }
        }
    }

    /// What this CPU has beside its magazines.
    pub(crate) fn far(&mut self) -> &mut Far<P> {
        // SAFETY: (1) these are the lines of the CPU whose guard a `Here` stands for; (2) the reference borrows `self` exclusively, and
        // there is no other way to it.
        unsafe { self.line.far() }
    }
}
