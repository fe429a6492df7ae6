//! Making deep stacks cheap again: their dirty bits are taken back, many stacks with one shootdown.
//!
//! A dirty bit that is taken back without a flush lets the next write pass unrecorded: the TLB remembers that the bit is set, and does
//! not set it again. So stacks that went deep are set aside until there are enough of them; then they are cleared, their bits taken
//! back, and a shootdown started for all of them. None of them is handed out before every CPU has flushed.
//!
//! ```text
//!   given back, deep ──> waiting ──enough──> cleared, bits taken back ──every CPU has flushed──> depot
//!                           └──> handed out as it is, if a CPU has nothing better
//! ```
//!
//! Contexts: task and interrupt, under a guard. Never NMI, never the fault path.

use crate::chain::Chain;
use crate::geometry::SlotIndex;
use crate::here::Here;
use crate::platform::Platform;
use crate::slots::SlotRecord;

/// How many stacks share a shootdown.
pub(crate) const TOGETHER: u32 = 16;
/// How many share one, at least, when there is nothing else to hand out.
pub(crate) const FEW: u32 = 4;

impl<P: Platform> Here<'_, P> {
    /// Sets a ready stack aside that went deep.
    pub(crate) fn set_aside(&mut self, slot: SlotIndex, record: &SlotRecord) {
        let deep = &mut self.far().deep;
        deep.push(slot, record);
        if deep.len() < TOGETHER {
            return;
        }
        if self.recovered() {
            self.recover();
        } else {
            // The last ones are not flushed yet. However long that takes, these are not kept: they can be used as they are.
            let deep = self.far().deep.take();
            self.leave(self.near.home.node(), deep);
        }
        self.settle_depot(self.near.home.node());
    }

    /// A stack that went deep, for whoever finds nothing else: recovered, if there are a few of them and no CPU is long in flushing.
    pub(crate) fn take_deep(&mut self) -> Option<SlotIndex> {
        let (meta, enough) = (self.meta, self.far().deep.len() >= FEW);
        // One is kept back: until the others are flushed there may be nothing else, and no frames for a new one.
        let kept = self.far().deep.pop(&meta)?;
        if enough && self.recovered() {
            self.recover();
        }
        let slot = self.load_from_depot();
        match slot {
            Some(_) => self.far().deep.push(kept, meta.known_record(kept)),
            None => self.line.counters.hits.bump(),
        }
        slot.or(Some(kept))
    }

    /// Clears the stacks that wait, takes their dirty bits back, and starts to flush them.
    pub(crate) fn recover(&mut self) {
        let (meta, mut deep, mut clean) = (self.meta, self.far().deep.take(), Chain::new());
        while let Some(slot) = deep.pop(&meta) {
            let record = meta.known_record(slot);
            self.area.clear_written(self.line, slot, record);
            record.unmark_deep();
            clean.push(slot, record);
        }
        self.line.counters.recovered.add(u64::from(clean.len()));
        let stacks = clean.slots(&meta).map(|slot| self.meta.mapping(slot, meta.known_record(slot)));
        let ticket = meta.platform.take_dirty_bits(stacks);
        self.far().recovering.wait_for(clean, ticket);
        self.recovered();
    }

    /// Passes what is recovered to the depot, if every CPU has flushed. True if nothing is in flight.
    pub(crate) fn recovered(&mut self) -> bool {
        let (platform, node) = (self.meta.platform, self.near.home.node());
        let flight = &mut self.far().recovering;
        if flight.is_empty() {
            return true;
        }
        let Some((clean, _)) = flight.take_due(platform) else { return false };
        if self.area.numbers.lead() {
            self.back_to_their_slots(clean);
        } else {
            self.leave(node, clean);
        }
        true
    }
}
