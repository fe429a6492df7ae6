//! What all CPUs share: chunks that are nobody's, and slots that no CPU keeps.
//!
//! A CPU comes here when a pool of its own is empty or too full, and takes or leaves many slots at once; so the lock is taken seldom, and held
//! for a bounded time.
//!
//! ```text
//!   pools of the CPUs
//!      ^  │  a few slots at a time
//!      │  v
//!   partial[class]: chunks with some free slots      spare[class]: one with all slots free
//!      ^  │                                             │ more than one, decay, pressure
//!      │  v  a chunk at a time                          v
//!   Runs: free chunks       fresh: never used        (its leaf table goes first, by a flight)
//! ```
//!
//! Contexts: task and interrupt, under a guard. Never NMI, never the fault path.

use crate::chain::Chain;
use crate::chunk::{Chunk, State};
use crate::class::{CLASSES, Class};
use crate::layout::{ChunkIndex, Layout, SlotIndex};
use crate::meta::{Meta, MetaError};
use crate::pager::Pager;
use crate::runs::{Fit, Run, Runs, push, unlink};
use crate::sync::Ordering;

/// What is under the central lock.
#[derive(Debug)]
pub(crate) struct Central {
    pub(crate) runs: Runs,
    /// Chunks from this number on were never used.
    pub(crate) fresh: u32,
    /// For each class, a list of the chunks with free slots, plus one.
    partial: [u32; CLASSES],
    /// For each class, a chunk all of whose slots are free, plus one.
    spare: [u32; CLASSES],
}

/// Why there is no run of chunks.
pub(crate) enum NoRun<E> {
    /// No room among the addresses.
    NoSpace,
    /// No records for more chunks.
    NoRecords(MetaError<E>),
}

impl Central {
    pub(crate) const fn new() -> Self {
        Self { runs: Runs::new(), fresh: 0, partial: [0; CLASSES], spare: [0; CLASSES] }
    }

    /// Takes a run of chunks: free ones, or else some that were never used.
    pub(crate) fn take_run<P: Pager>(&mut self, fit: Fit, meta: &Meta<'_, P>) -> Result<Run, NoRun<P::Error>> {
        let run = self.runs.take(fit, meta).map_or_else(|| self.take_fresh(fit, meta), Ok)?;
        (0..run.len).for_each(|i| meta.known_chunk(run.start.up(i)).set_state(State::Taken));
        Ok(run)
    }

    fn take_fresh<P: Pager>(&mut self, fit: Fit, meta: &Meta<'_, P>) -> Result<Run, NoRun<P::Error>> {
        // A free run that ends where they begin is taken along: or else it would be lost to whoever wants nearly all.
        let from = self.runs.start_of_run_below(self.fresh, meta.layout.first, meta);
        let start = fit.first_from(from);
        let end = start.get().checked_add(fit.len).filter(|&end| end <= meta.layout.chunks).ok_or(NoRun::NoSpace)?;
        meta.make_chunks(end).map_err(NoRun::NoRecords)?;
        let fresh = self.fresh;
        self.fresh = end.max(fresh);
        self.give_run(Run { start: ChunkIndex::new(fresh), len: self.fresh - fresh }, meta);
        self.runs.take_from(from, fit, meta).ok_or(NoRun::NoSpace)
    }

    /// Gives back a run of chunks that are nobody's any more, and that no CPU knows as anything else.
    pub(crate) fn give_run<P: Pager>(&mut self, run: Run, meta: &Meta<'_, P>) {
        (0..run.len).for_each(|i| meta.known_chunk(run.start.up(i)).set_state(State::Free));
        self.runs.give(run, (meta.layout.first, self.fresh), meta);
    }

    /// Moves up to `most` free slots of `class` to `pool`.
    pub(crate) fn take_slots<P: Pager>(&mut self, class: Class, most: u32, pool: &mut Chain, meta: &Meta<'_, P>) {
        while pool.len() < most
            && let Some(index) = self.chunk_with_slots(class, meta)
        {
            let chunk = meta.known_chunk(index);
            let (mut free, mut left) = (chunk.free.load(Ordering::Relaxed), chunk.free_slots.load(Ordering::Relaxed));
            while pool.len() < most
                && let Some(slot) = free.checked_sub(1)
            {
                let record = meta.slot(SlotIndex::new(slot));
                free = record.next.load(Ordering::Relaxed);
                left -= 1;
                pool.push(slot, record);
            }
            chunk.free.store(free, Ordering::Relaxed);
            chunk.free_slots.store(left, Ordering::Relaxed);
            if free == 0 {
                unlink(&mut self.partial[class.index()], index, meta);
            }
        }
    }

    /// A chunk of `class` with free slots: the spare one if there is no other.
    fn chunk_with_slots<P: Pager>(&mut self, class: Class, meta: &Meta<'_, P>) -> Option<ChunkIndex> {
        let (partial, spare) = (&mut self.partial[class.index()], &mut self.spare[class.index()]);
        if *partial == 0
            && let Some(chunk) = spare.checked_sub(1)
        {
            *spare = 0;
            push(partial, ChunkIndex::new(chunk), meta);
        }
        Some(ChunkIndex::new(partial.checked_sub(1)?))
    }

    /// Takes in the free slots of a chunk that was just cut, all but those that were kept.
    pub(crate) fn add_cut<P: Pager>(&mut self, class: Class, index: ChunkIndex, slots: Chain, meta: &Meta<'_, P>) {
        let chunk = meta.known_chunk(index);
        chunk.free.store(slots.first().map_or(0, |slot| slot + 1), Ordering::Relaxed);
        chunk.free_slots.store(slots.len(), Ordering::Relaxed);
        if !slots.is_empty() {
            push(&mut self.partial[class.index()], index, meta);
        }
    }

    /// Takes in `count` slots of `pool`. Chunks that nothing is left of, beside one for each class, are put into `empty`: they are `Taken`.
    pub(crate) fn give_slots<P: Pager>(
        &mut self,
        class: Class,
        pool: &mut Chain,
        count: u32,
        empty: &mut Chain,
        meta: &Meta<'_, P>,
    ) {
        for _ in 0..count {
            let Some((slot, record)) = pool.pop(|slot| meta.slot(SlotIndex::new(slot))) else { return };
            let index = Layout::<P>::chunk_of(SlotIndex::new(slot));
            let chunk = meta.known_chunk(index);
            let free = self.give_slot(class, index, chunk, slot, record, meta);
            if free as usize == class.slots_in(P::CHUNK_PAGES) {
                unlink(&mut self.partial[class.index()], index, meta);
                let before = core::mem::replace(&mut self.spare[class.index()], index.get() + 1);
                Self::empty(before, empty, meta);
            }
        }
    }

    /// Takes in one slot. Says how many of its chunk are free.
    fn give_slot<P: Pager>(
        &mut self,
        class: Class,
        index: ChunkIndex,
        chunk: &Chunk,
        slot: u32,
        record: &crate::record::Record,
        meta: &Meta<'_, P>,
    ) -> u32 {
        let free = chunk.free.load(Ordering::Relaxed);
        if free == 0 {
            push(&mut self.partial[class.index()], index, meta);
        }
        record.next.store(free, Ordering::Relaxed);
        chunk.free.store(slot + 1, Ordering::Relaxed);
        let count = chunk.free_slots.load(Ordering::Relaxed) + 1;
        chunk.free_slots.store(count, Ordering::Relaxed);
        count
    }

    /// Takes the spare chunks of all classes, which are then `Taken`.
    pub(crate) fn take_spares<P: Pager>(&mut self, empty: &mut Chain, meta: &Meta<'_, P>) {
        for spare in &mut self.spare {
            Self::empty(core::mem::take(spare), empty, meta);
        }
    }

    /// Puts the chunk whose number plus one is `spare`, if there is one, into `empty`.
    fn empty<P: Pager>(spare: u32, empty: &mut Chain, meta: &Meta<'_, P>) {
        if let Some(index) = spare.checked_sub(1) {
            let chunk = meta.known_chunk(ChunkIndex::new(index));
            chunk.set_state(State::Taken);
            chunk.free.store(0, Ordering::Relaxed);
            chunk.free_slots.store(0, Ordering::Relaxed);
            empty.push(index, &chunk.record);
        }
    }
}
