//! The hand: it goes over the numbers, round and round, and takes the memory of idle stacks back.
//!
//! Where numbers lead to slots, idle stacks are on no list. Who wants their memory looks at the records, a *stretch* at a time, as the
//! hand of a clock goes over pages. What is above the budget goes if it was idle since the hand last came by: the generation of
//! a slot tells, so whoever uses stacks writes nothing for it. Memory pressure takes whatever is idle, and so does
//! [`StackArea::drain`]; [`StackArea::trim`] takes what was idle since it last came by itself.
//!
//! The hand moves once for a few tens of stacks that are given back, and at each [`StackArea::answer_pressure`]. On its way
//! it takes the dirty bits of stacks back that went deep, where there are a few in one stretch to share a shootdown (`recover`).
//!
//! A slot that the hand has claimed is nobody's until every CPU has flushed it. Whoever comes with its number meanwhile is told so.
//!
//! Contexts: task and interrupt, under a guard. Never NMI, never the fault path.

use crate::area::StackArea;
use crate::chain::Chain;
use crate::geometry::{Geometry, SlotIndex};
use crate::here::Here;
use crate::platform::Platform;
use crate::reclaim::BATCH;
use crate::recover::{FEW, TOGETHER};
use crate::slots::claim::Passer;
use crate::slots::{Phase, SlotRecord};

/// How many numbers the hand goes over at once: with pages of 4 KiB, those whose records share a page.
const STRETCH: u32 = 64;
/// How many stretches follow each other at once, while there is too much.
const AT_ONCE: usize = 4;

impl<P: Platform> Here<'_, P> {
    /// Moves the hand on, further if there is too much. Nothing where numbers do not lead to slots.
    pub(crate) fn settle_numbers(&mut self) {
        if !self.area.numbers.lead() {
            return;
        }
        for _ in 0..AT_ONCE {
            if !self.move_hand() {
                return;
            }
        }
    }

    /// Moves the hand over one stretch. True if there is still too much, and something can be done about it.
    fn move_hand(&mut self) -> bool {
        let from = self.area.numbers.hand();
        self.recover_some(from);
        let (excess, owed) = (self.excess(), self.area.numbers.owed());
        if excess == 0 {
            self.area.numbers.put_hand(from + STRETCH);
            return false;
        }
        let goes = |record: &SlotRecord| record.idle_since(Passer::Hand) || owed != 0;
        let Some(next) = self.unmap_stretch(from, excess, goes) else { return false };
        self.area.numbers.put_hand(next);
        true
    }

    /// How many idle stacks are too many.
    fn excess(&self) -> usize {
        let (budget, owed) = (self.area.budget(), self.area.numbers.owed());
        if budget == u32::MAX && owed == 0 {
            return 0;
        }
        let idle = self.area.idle();
        idle.saturating_sub(budget as usize).max(idle.min(owed as usize))
    }

    /// All idle stacks have to go: memory is short.
    pub(crate) fn owe_idle(&self) {
        if self.area.numbers.lead() {
            self.area.numbers.owe(self.area.idle() as u32);
        }
    }

    /// The used slots of a stretch, and their records.
    fn stretch(&self, from: u32) -> impl Iterator<Item = (SlotIndex, &SlotRecord)> {
        let to = from.saturating_add(STRETCH).min(self.area.numbers.used());
        (from..to).map(SlotIndex::new).filter_map(|slot| self.meta.try_record(slot).map(|record| (slot, record)))
    }

    /// Unmaps up to `most` idle stacks of a stretch, those that `goes` says, and starts their shootdown. Says where the next
    /// stretch begins; none if a batch is in flight on this CPU.
    fn unmap_stretch(&mut self, from: u32, most: usize, goes: impl Fn(&SlotRecord) -> bool) -> Option<u32> {
        if !self.retire_due() {
            return None;
        }
        let (mut idle, mut next) = (Chain::new(), from + STRETCH);
        for (slot, record) in self.stretch(from) {
            if idle.len() as usize == most.min(BATCH) {
                next = slot.get();
                break;
            }
            if record.phase() == Phase::Ready && goes(record) && record.claim(Phase::Ready, Phase::Retiring) {
                idle.push(slot, record);
            }
        }
        let gone = self.unmap_batch(&mut idle, BATCH);
        self.area.numbers.pay(gone as u32);
        self.retire_due();
        Some(next)
    }

    /// Takes the dirty bits of the deep stacks of a stretch back, if there are a few of them and no CPU is long in flushing.
    fn recover_some(&mut self, from: u32) {
        let is_deep = |record: &SlotRecord| record.hold().deep && record.phase() == Phase::Ready;
        let few = self.stretch(from).filter(|(_, record)| is_deep(record)).count() < FEW as usize;
        if few || !self.recovered() {
            return;
        }
        let mut deep = Chain::new();
        for (slot, record) in self.stretch(from) {
            if deep.len() < TOGETHER && is_deep(record) && record.claim(Phase::Ready, Phase::Recovering) {
                deep.push(slot, record);
            }
        }
        self.far().deep = deep;
        self.recover();
    }

    /// Stacks that were recovered are ready again, where they are.
    pub(crate) fn back_to_their_slots(&self, mut clean: Chain) {
        while let Some(slot) = clean.pop(&self.meta) {
            self.meta.known_record(slot).set_phase(Phase::Ready);
        }
    }
}

impl<P: Platform> StackArea<P> {
    /// How many mapped stacks are nobody's. A moment's answer.
    fn idle(&self) -> usize {
        let size = self.geometry().map_or(1, Geometry::stack_size);
        self.counters().held as usize / size
    }

    /// Unmaps what is idle, all of it.
    pub(crate) fn drain_numbers(&self) {
        let mut at = 0;
        self.step_by_step(|here| {
            at = here.unmap_stretch(at, BATCH, |_| true).unwrap_or(at);
            at >= here.area.numbers.used()
        });
    }

    /// Unmaps what was idle since this was last called, as far as that goes without waiting.
    pub(crate) fn trim_numbers(&self) {
        let mut at = 0;
        self.step_by_step(|here| match here.unmap_stretch(at, BATCH, |record| record.idle_since(Passer::Trim)) {
            Some(next) => {
                at = next;
                at >= here.area.numbers.used()
            }
            None => true,
        });
    }
}
