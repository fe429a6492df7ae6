//! From a ready stack to free frames and a free slot: unmap, shoot down, and only then give back.
//!
//! The order is INV-FRAME. A CPU unmaps a *batch* of stacks and starts one shootdown for all of them; the tokens hold the
//! frames until the platform says that every CPU has flushed. Nobody waits for that: whoever next exchanges a magazine on
//! this CPU, or is asked about memory pressure there, looks whether the ticket is due, and retires the batch: frames first, then
//! slots. While a batch is in flight, what should follow it stays in the depot, ready, where any CPU may take it.
//!
//! What goes: what a depot has above the budget, and a few more, so that not each stack has a shootdown of its own; what nobody would have
//! missed for a while ([`StackArea::trim`]); and everything, when memory is short ([`StackArea::pressure`]) or a caller would rather wait
//! than fail ([`StackArea::alloc_waiting`]).
//!
//! [`StackArea::alloc_waiting`]: crate::StackArea::alloc_waiting
//! [`StackArea::pressure`]: crate::StackArea::pressure
//! [`StackArea::trim`]: crate::StackArea::trim

use crate::area::StackArea;
use crate::cache::{Line, MOST_ROUNDS};
use crate::chain::Chain;
use crate::depot::Depot;
use crate::flight::Flushed;
use crate::geometry::SlotIndex;
use crate::here::Here;
use crate::platform::{Node, Platform};
use crate::slots::Phase;
use crate::sync::Ordering;

/// How many stacks share one shootdown.
pub(crate) const BATCH: usize = 32;

/// How many batches follow each other at once, where shootdowns are done at once: what is due beyond that waits for the next time,
/// because the caller may have interrupts off.
const AT_ONCE: usize = 4;

impl<P: Platform> Here<'_, P> {
    /// Does what is due: for a CPU that has left its fast path anyway.
    pub(crate) fn settle(&mut self) {
        self.settle_flights();
        let node = self.near.home.node();
        if self.meta.depot(node).held() != 0 {
            self.settle_depot(node);
        }
    }

    /// Does what is due on this CPU, if there is anything.
    #[inline(always)]
    pub(crate) fn settle_flights(&mut self) {
        let far = self.far();
        let nothing_in_flight = far.batch.is_empty() && far.recovering.is_empty();
        if !nothing_in_flight || self.area.pressure.since(self.near.answered).is_some() {
            self.settle_here();
        }
    }

    /// Does what is due, for the depots of all nodes.
    pub(crate) fn settle_all(&mut self) {
        self.settle_here();
        self.settle_depots();
        self.settle_numbers();
    }

    /// Looks after the depots of all nodes. When one had something to do, the next is for another time.
    pub(crate) fn settle_depots(&mut self) {
        self.meta.nodes().any(|node| self.settle_depot(node));
    }

    /// Passes on what other CPUs have flushed, and answers an announcement of memory pressure.
    #[cold]
    #[inline(never)]
    fn settle_here(&mut self) {
        self.recovered();
        self.retire_due();
        self.answer_pressure();
    }

    /// Unmaps what the depot of `node` has above its share of the budget, or was told to give back, and a few more: the next ones that are given
    /// back share no shootdown with these, and may come before every CPU has flushed. True if there was something.
    pub(crate) fn settle_depot(&mut self, node: Node) -> bool {
        let (depot, budget) = (self.meta.depot(node), self.budget());
        if depot.excess(budget) == 0 {
            return false;
        }
        let kept = budget - (budget / 6).min(BATCH as u32);
        let batches = (0..AT_ONCE).take_while(|_| self.unmap_from(node, depot.excess(kept) as usize) != 0);
        batches.count() != 0
    }

    /// How many stacks each depot may have: its part of what the CPUs' magazines leave of the budget.
    pub(crate) fn budget(&self) -> u32 {
        let kept = 2 * self.area.most_rounds() * self.meta.geometry.cpus() as u32;
        let left = (self.area.budget() as u32).saturating_sub(kept);
        match self.meta.geometry.nodes() as u32 {
            1 => left,
            nodes => left / nodes,
        }
    }

    /// Gives this CPU's magazines to the depots, and tells those to give back what they have, if memory pressure was announced since it
    /// last did so.
    fn answer_pressure(&mut self) {
        let Some(announced) = self.area.pressure.since(self.near.answered) else { return };
        // What is being recovered comes to the depot later. Then this is done once more.
        if self.recovered() {
            self.near.answered = announced;
        }
        self.empty_magazines();
        self.meta.depots().for_each(Depot::owe_all);
        self.owe_idle();
    }

    /// Unmaps up to `most` stacks of `node`'s depot, and no more than a batch, and starts their shootdown. Says how many: none if the depot
    /// has none, or a batch is in flight on this CPU.
    pub(crate) fn unmap_from(&mut self, node: Node, most: usize) -> usize {
        if most == 0 || !self.retire_due() {
            return 0;
        }
        let (depot, most) = (self.meta.depot(node), most.min(BATCH));
        let mut batch = Chain::new();
        // However small the magazines are: a batch is not.
        while (batch.len() as usize) < most
            && let Some(mut magazine) = depot.pop(&self.meta)
        {
            self.unmap_into(&mut batch, &mut magazine, most);
            depot.push(magazine, &self.meta);
        }
        let count = batch.len();
        self.start_shootdown(batch);
        depot.pay(count);
        self.retire_due();
        count as usize
    }

    /// Unmaps a batch of `left` stacks of `node`'s depot, and counts it off. True if none is left.
    pub(crate) fn unmap_some(&mut self, node: Node, left: &mut usize) -> bool {
        let unmapped = self.unmap_from(node, *left);
        *left -= unmapped;
        *left == 0 || unmapped == 0
    }

    /// Unmaps stacks of `magazine` until `batch` has `most`.
    pub(crate) fn unmap_into(&self, batch: &mut Chain, magazine: &mut Chain, most: usize) {
        while (batch.len() as usize) < most
            && let Some(slot) = magazine.pop(&self.meta)
        {
            self.unmap(slot);
            batch.push(slot, self.meta.known_record(slot));
        }
    }

    /// Starts the shootdown of `batch`, which is unmapped.
    pub(crate) fn start_shootdown(&mut self, batch: Chain) {
        if batch.is_empty() {
            return;
        }
        self.line.counters.unmapped.add(u64::from(batch.len()));
        self.line.counters.shootdowns.bump();
        let meta = self.meta;
        let pages = batch.slots(&meta).map(|slot| meta.geometry.pages(slot));
        self.far().batch.begin(meta.platform, batch, pages);
    }

    /// Unmaps a ready stack, and puts its frames down in its record.
    fn unmap(&self, slot: SlotIndex) {
        let record = self.meta.known_record(slot);
        record.set_phase(Phase::Retiring);
        // SAFETY: (1) the stack was mapped by one call of `map` when it was populated; (2) it came from the depot, or this CPU has
        // claimed it in the slot of its number: no CPU runs on it, nobody holds a pin (INV-LIVE), and nobody can get either while it
        // is retiring.
        let token = unsafe { self.meta.platform.unmap(self.meta.mapping(slot, record)) };
        // SAFETY: this CPU holds the slot, as above.
        unsafe { record.frames.put(token) };
    }

    /// Gives back the frames and the slots of the batch in flight, if every CPU has flushed. True if none is in flight.
    pub(crate) fn retire_due(&mut self) -> bool {
        let platform = self.meta.platform;
        let flight = &mut self.far().batch;
        if flight.is_empty() {
            return true;
        }
        let Some((batch, flushed)) = flight.take_due(platform) else { return false };
        self.retire(batch, &flushed);
        true
    }

    /// The frames to the platform, then the slots to the free list: every CPU has flushed them (INV-FRAME).
    fn retire(&mut self, mut batch: Chain, flushed: &Flushed<P>) {
        self.line.counters.retired.add(u64::from(batch.len()));
        // SAFETY: (1) `unmap` has put their frames there, and each is taken once; (2) this is the batch that was flushed; (3) the slots
        // are retiring, in this CPU's batch.
        let frames = |slot| unsafe { self.meta.known_record(slot).frames.take(flushed) };
        self.meta.platform.give_batch(batch.slots(&self.meta).map(frames));
        while let Some(slot) = batch.pop(&self.meta) {
            self.meta.known_record(slot).set_phase(Phase::Free);
            // Where numbers lead to slots, it may be somebody's by now.
            if !self.area.numbers.lead() {
                self.area.free_list().push(slot, &self.meta);
            }
        }
    }

    /// Leaves everything that this CPU keeps in the depots.
    fn empty_magazines(&mut self) {
        let node = self.near.home.node();
        self.leave_magazines();
        self.fit_budget();
        let far = self.far();
        let deep = far.deep.take();
        self.leave(node, deep);
        self.send_home();
    }

    /// Leaves everything that this CPU keeps to others. True once nothing of it waits for other CPUs.
    pub(crate) fn leave_step(&mut self, begun: &mut Begun<P>) -> bool {
        self.empty_magazines();
        self.recovered() & self.is_retired(begun)
    }

    /// How many stacks this CPU has unmapped since it `begun`.
    fn unmapped_since(&self, begun: &mut Begun<P>) -> u64 {
        self.line.counters.unmapped.get() - begun.unmapped_on(self.line)
    }

    /// Whether all is retired that this CPU had unmapped when it `begun`.
    fn is_retired(&mut self, begun: &mut Begun<P>) -> bool {
        self.retire_due() || self.line.counters.retired.get() >= begun.unmapped_on(self.line)
    }
}

/// How much a CPU had unmapped when somebody there began to wait. What it unmaps later, for an interrupt or another task, need not be waited for.
pub(crate) struct Begun<P: Platform>(Option<(*const Line<P>, u64)>);

impl<P: Platform> Begun<P> {
    const fn new() -> Self {
        Self(None)
    }

    /// How much the CPU whose line this is had unmapped when this was first asked of it.
    fn unmapped_on(&mut self, line: &Line<P>) -> u64 {
        match self.0 {
            Some((same, unmapped)) if core::ptr::eq(same, line) => unmapped,
            _ => self.0.insert((line, line.counters.unmapped.get())).1,
        }
    }
}

impl<P: Platform> StackArea<P> {
    /// Does `step` again and again until it says that it is done. Each enters and leaves, so that other CPUs' shootdowns are answered
    /// while this one waits.
    pub(crate) fn step_by_step(&self, mut step: impl FnMut(&mut Here<'_, P>) -> bool) {
        loop {
            let guard = self.platform().enter();
            if self.here(&guard).map_or(true, |mut here| step(&mut here)) {
                return;
            }
            drop(guard);
            core::hint::spin_loop();
        }
    }

    /// Gives back everything that this CPU and the depots keep, and waits until the frames and slots are free.
    ///
    /// Magazines of other CPUs are out of reach: see [`pressure`](Self::pressure). What they leave in the depots meanwhile stays there.
    ///
    /// # Context
    ///
    /// Task that may wait and stays on its CPU; not under a guard or a lock that other CPUs may wait for.
    pub fn drain(&self) {
        let mut begun = Begun::new();
        self.step_by_step(|here| here.leave_step(&mut begun));
        self.drain_numbers();
        let Some(meta) = self.metadata() else { return };
        for node in meta.nodes() {
            let (mut begun, most) = (Begun::new(), meta.depot(node).held());
            let mut left = most as usize;
            self.step_by_step(|here| {
                let done = here.unmapped_since(&mut begun) >= u64::from(most);
                done || here.retire_due() && here.unmap_some(node, &mut left)
            });
        }
        let mut begun = Begun::new();
        self.step_by_step(|here| here.is_retired(&mut begun));
    }

    /// Leaves what this CPU keeps to the others, the stack of a dead task included, and waits until nothing of it waits for them: for a
    /// CPU that goes offline.
    ///
    /// # Context
    ///
    /// As [`drain`](Self::drain), on a stack that was not handed over.
    pub fn leave_cpu(&self) {
        self.reap_forgotten();
        let mut begun = Begun::new();
        self.step_by_step(|here| here.leave_step(&mut begun));
    }

    /// Announces memory pressure: every CPU gives back what it keeps, and helps to give back what the depots have, the next time that it
    /// exchanges a magazine or calls [`answer_pressure`](Self::answer_pressure). This one does so now.
    ///
    /// # Context
    ///
    /// Task or interrupt. Does not wait.
    pub fn pressure(&self) {
        self.pressure.announce();
        self.answer_pressure();
    }

    /// Does what this CPU has to do for memory pressure and for the budget: gives back what it keeps if pressure was announced since the
    /// last answer; unmaps some of what the depots must not keep; and passes on the frames of what every CPU has flushed since.
    ///
    /// A few tens of instructions if there is nothing to do: a kernel calls it at each tick.
    ///
    /// # Context
    ///
    /// Task or interrupt. Does not wait. What is not done in one call is left for the next.
    pub fn answer_pressure(&self) {
        let guard = self.platform().enter();
        if let Ok(mut here) = self.here(&guard) {
            here.settle_all();
        }
    }

    /// Unmaps what the depots have had ready, and nobody has taken, since this was last called. Does what is due besides, as
    /// [`answer_pressure`](Self::answer_pressure).
    ///
    /// # Context
    ///
    /// Task, on one CPU at a time, every few seconds. Does not wait for other CPUs: what their flushes hold up is left for
    /// [`answer_pressure`](Self::answer_pressure), and goes a batch at a time.
    pub fn trim(&self) {
        let Some(meta) = self.metadata() else { return };
        self.answer_pressure();
        for node in meta.nodes() {
            let mut idle = meta.depot(node).take_idle() as usize;
            self.step_by_step(|here| !here.retire_due() || here.unmap_some(node, &mut idle));
            meta.depot(node).owe(idle as u32);
        }
        self.trim_numbers();
    }

    /// How many ready stacks may be kept, all together, or in the slots of their numbers. No limit unless said otherwise.
    ///
    /// Up to half of them are the CPUs', in two magazines each, of 64 stacks at most; none, where that is less than a stack for each of
    /// them. What is left of the budget is the depots'. What they have above it is unmapped, a batch at a time, by CPUs that leave a magazine there.
    /// Beside it are those that wait to be recovered or to be sent to their node, up to 16 of each for each CPU.
    ///
    /// # Context
    ///
    /// Any. A CPU keeps to it from its next exchange on.
    pub fn set_budget(&self, stacks: usize) {
        self.budget.store(u32::try_from(stacks).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// The most rounds that a magazine may have: all CPUs together keep no more than half of what the area may. None, where that is less than a stack
    /// for each magazine.
    pub(crate) fn most_rounds(&self) -> u32 {
        let share = self.budget() as u32 / (4 * self.cpus() as u32);
        MOST_ROUNDS.min(share.checked_ilog2().map_or(0, |bits| 1 << bits))
    }

    /// How many ready stacks may be kept: what [`set_budget`](Self::set_budget) said last; `u32::MAX` if it said none. Any context.
    pub fn budget(&self) -> usize {
        self.budget.load(Ordering::Relaxed) as usize
    }
}
