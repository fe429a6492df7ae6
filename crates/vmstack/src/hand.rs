//! The hand: it goes over the records of numbered slots, and takes the memory of idle stacks back.
//!
//! Where numbers lead to slots, idle stacks are on no list. Who wants their memory looks at the records, a chunk of them at a time. The
//! directory says in which chunks there may be any, so that a table of which little is used is not gone through.
//!
//! - *Too many*: more than the budget. The hand goes down from the highest number, for kernels that hand out low numbers first do
//!   not come there soon; it comes back when there are too many again. Memory pressure makes all of them too many.
//! - *Idle for long*: [`StackArea::trim`] takes what had no owner since it last came by, and [`StackArea::drain`] takes everything.
//! - *Deep*: dirty bits are taken back where a few stacks of one chunk went deep, so that they share a shootdown (`recover`).
//!
//! A CPU looks after this once in a few tens of stacks that it gives back, and at each [`StackArea::answer_pressure`]. A slot that was
//! claimed for any of it is nobody's until every CPU has flushed it. Whoever comes with its number meanwhile is told so.
//!
//! Contexts: task and interrupt, under a guard. Never NMI, never the fault path.

use crate::area::StackArea;
use crate::chain::Chain;
use crate::geometry::Geometry;
use crate::here::Here;
use crate::platform::Platform;
use crate::reclaim::BATCH;
use crate::recover::{FEW, TOGETHER};
use crate::slots::{Phase, SlotRecord};

/// How many batches follow each other at once, while there is too much.
const AT_ONCE: usize = 4;
/// How many chunks and records the hand passes over in search of one batch, because interrupts may be off.
const PASSED: usize = 1024;

impl<P: Platform> Here<'_, P> {
    /// Does what is due about idle stacks. Nothing where numbers do not lead to slots.
    pub(crate) fn settle_numbers(&mut self) {
        if !self.area.numbers.lead() {
            return;
        }
        self.recover_some();
        for _ in 0..AT_ONCE {
            let excess = self.excess();
            if excess == 0 {
                self.area.numbers.put_hand(0);
            }
            if excess == 0 || !self.move_hand(excess) {
                return;
            }
        }
    }

    /// How many idle stacks are too many.
    fn excess(&self) -> usize {
        let (budget, owed) = (self.area.budget(), self.area.numbers.owed());
        if budget == u32::MAX as usize && owed == 0 {
            return 0;
        }
        let idle = self.area.idle();
        idle.saturating_sub(budget).max(idle.min(owed))
    }

    /// All idle stacks have to go: memory is short.
    pub(crate) fn owe_idle(&self) {
        if self.area.numbers.lead() {
            self.area.numbers.owe_all(self.area.idle());
        }
    }

    /// Moves the hand down until it has a batch of idle stacks, and no more than `most`, and unmaps them. True if there were any.
    fn move_hand(&mut self, most: usize) -> bool {
        if !self.retire_due() {
            return false;
        }
        let (mut batch, top) = (Chain::new(), self.area.numbers.hand());
        let (mut hand, mut passed) = (top, 0);
        while hand != 0 && passed < PASSED && (batch.len() as usize) < most.min(BATCH) {
            (hand, passed) = (hand - 1, passed + 1);
            if !self.meta.take_idle(hand) {
                continue;
            }
            passed += self.meta.geometry.records_in_chunk();
            // What is left of a chunk is for the next time.
            if self.claim_idle(hand, 0, &mut batch, most.min(BATCH), |_| true).is_some() {
                hand += 1;
                break;
            }
        }
        self.area.numbers.put_hand(hand);
        self.unmap_claimed(batch)
    }

    /// Claims the idle stacks of `chunk` that `goes` says, from the last record but `from` down, until `batch` has `most`. Says where the
    /// next one is, if there is one.
    fn claim_idle(
        &self,
        chunk: usize,
        from: usize,
        batch: &mut Chain,
        most: usize,
        goes: impl Fn(&SlotRecord) -> bool,
    ) -> Option<usize> {
        let mut stays = false;
        for (index, (slot, record)) in self.meta.records_of(chunk).rev().enumerate().skip(from) {
            let phase = record.phase();
            if phase == Phase::Ready && batch.len() as usize == most {
                self.meta.note_idle(chunk);
                return Some(index);
            }
            if phase == Phase::Ready && goes(record) && record.claim(Phase::Ready, Phase::Retiring) {
                batch.push(slot, record);
            } else {
                stays |= phase.is_idle_soon();
            }
        }
        if stays {
            self.meta.note_idle(chunk);
        }
        None
    }

    /// Unmaps a batch that was claimed, and starts its shootdown: there is none in flight on this CPU. True if there were any.
    fn unmap_claimed(&mut self, mut claimed: Chain) -> bool {
        let mut batch = Chain::new();
        self.unmap_into(&mut batch, &mut claimed, BATCH);
        let gone = batch.len();
        self.start_shootdown(batch);
        self.area.numbers.pay(gone);
        self.retire_due();
        gone != 0
    }

    /// Takes the dirty bits of the deep stacks of the next chunk back, if there are a few of them and no CPU is long in flushing.
    fn recover_some(&mut self) {
        let is_deep = |record: &SlotRecord| record.hold().deep && record.phase() == Phase::Ready;
        let Some(chunk) = self.area.numbers.next_deep() else { return };
        let few = self.meta.records_of(chunk).filter(|(_, record)| is_deep(record)).count() < FEW as usize;
        if few || !self.recovered() {
            return;
        }
        let mut deep = Chain::new();
        for (slot, record) in self.meta.records_of(chunk) {
            if deep.len() < TOGETHER && is_deep(record) && record.claim(Phase::Ready, Phase::Recovering) {
                deep.push(slot, record);
            }
        }
        // Others came first: there is nothing to flush.
        if deep.is_empty() {
            return;
        }
        self.far().deep = deep;
        self.recover();
    }

    /// Stacks that were recovered are ready again, where they are.
    pub(crate) fn back_to_their_slots(&self, mut clean: Chain) {
        while let Some(slot) = clean.pop(&self.meta) {
            self.meta.note_idle(self.meta.geometry.record_chunk(slot));
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
        self.sweep(|_| true, true);
    }

    /// Unmaps what had no owner since this was last called, as far as that goes without waiting. As many as are left have to go later.
    pub(crate) fn trim_numbers(&self) {
        let (left, from) = self.sweep(SlotRecord::was_idle, false);
        let Some(meta) = self.metadata() else { return };
        let rest = (0..left).rev().flat_map(|chunk| meta.records_of(chunk).rev()).skip(from);
        self.numbers.owe(rest.filter(|(_, record)| record.phase() == Phase::Ready && record.was_idle()).count());
    }

    /// Goes over all used chunks, and unmaps the idle stacks that `goes` says. Where a batch is in flight on this CPU it waits for that, or
    /// leaves the rest: says how many chunks, and how many records of the last of them it has seen.
    fn sweep(&self, goes: impl Fn(&SlotRecord) -> bool, waits: bool) -> (usize, usize) {
        let (mut left, mut from) = (self.numbers.chunks(), 0);
        self.step_by_step(|here| {
            if left == 0 || !here.retire_due() {
                return left == 0 || !waits;
            }
            let mut batch = Chain::new();
            let next = here.claim_idle(left - 1, from, &mut batch, BATCH, &goes);
            left -= usize::from(next.is_none());
            from = next.unwrap_or(0);
            here.unmap_claimed(batch);
            left == 0
        });
        (left, from)
    }
}
