//! One CPU's part of a vmalloc, entered.
//!
//! Having a [`Here`] is having the platform's guard: this code stays on its CPU and is not re-entered there, so what the CPU keeps is plain memory.
//!
//! Contexts: task and interrupt. Never NMI, never the fault path.

use vmstack::{Hint, Pages};

use crate::central::{Central, NoRun};
use crate::chain::Chain;
use crate::chunk::State;
use crate::class::Class;
use crate::error::AreaError;
use crate::layout::{ChunkIndex, Layout, SlotIndex};
use crate::line::{Line, Near};
use crate::lock::Locked;
use crate::meta::{Meta, MetaError};
use crate::pager::Pager;
use crate::record::Record;
use crate::runs::{Fit, Run};
use crate::vmalloc::{NotHere, Vmalloc};

/// This CPU's part of a vmalloc: nobody else is in it until this is dropped.
pub(crate) struct Here<'a, P: Pager> {
    pub(crate) vmalloc: &'a Vmalloc<P>,
    pub(crate) meta: Meta<'a, P>,
    pub(crate) line: &'a Line<P>,
    pub(crate) near: &'a mut Near<P>,
    pub(crate) guard: &'a P::Guard,
}

/// Why a slot or a run of chunks could not be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoRoom<E> {
    NoSpace,
    NoRecords(E),
}

impl<E> NoRoom<E> {
    fn no_records(error: MetaError<E>) -> Self {
        Self::NoRecords(error.reason())
    }

    /// As the error of who asked for `bytes` bytes.
    pub(crate) fn of(self, bytes: usize) -> AreaError<E> {
        match self {
            Self::NoSpace => AreaError::NoSpace { bytes },
            Self::NoRecords(error) => AreaError::NoRecords(error),
        }
    }
}

impl<E> From<NotHere> for AreaError<E> {
    fn from(not_here: NotHere) -> Self {
        match not_here {
            NotHere::NotInitialised => Self::NotInitialised,
            NotHere::UnknownCpu { cpu, cpus } => Self::UnknownCpu { cpu, cpus },
        }
    }
}

impl<'a, P: Pager> Here<'a, P> {
    fn central(&self) -> Locked<'a, Central> {
        self.vmalloc.central.lock(self.guard)
    }

    /// A free slot of `class`: one that this CPU keeps, nearly always.
    #[inline]
    pub(crate) fn take_slot(&mut self, class: Class) -> Result<(SlotIndex, &'a Record), NoRoom<P::Error>> {
        let meta = self.meta;
        let pool = &mut self.near.pools[class.index()];
        match pool.pop(|slot| meta.slot(SlotIndex::new(slot))) {
            Some((slot, record)) => Ok((SlotIndex::new(slot), record)),
            None => self.refill(class),
        }
    }

    /// A free slot of `class`, when this CPU has none: some from the central lists, or from a chunk that is cut for it.
    #[cold]
    #[inline(never)]
    fn refill(&mut self, class: Class) -> Result<(SlotIndex, &'a Record), NoRoom<P::Error>> {
        self.line.counters.refills.bump();
        self.settle_flight();
        let (meta, wanted) = (self.meta, class.most_kept() / 2);
        if self.near.pools[class.index()].is_empty() {
            let pool = &mut self.near.pools[class.index()];
            self.vmalloc.central.lock(self.guard).take_slots(class, wanted, pool, &meta);
        }
        if self.near.pools[class.index()].is_empty() {
            self.cut(class, wanted)?;
        }
        let pool = &mut self.near.pools[class.index()];
        let (slot, record) = pool.pop(|slot| meta.slot(SlotIndex::new(slot))).ok_or(NoRoom::NoSpace)?;
        Ok((SlotIndex::new(slot), record))
    }

    /// Cuts a chunk into slots of `class`. This CPU keeps the first `wanted`.
    fn cut(&mut self, class: Class, wanted: u32) -> Result<(), NoRoom<P::Error>> {
        let run = self.take_run(Fit::ONE)?;
        let (meta, chunk) = (self.meta, run.start);
        let slots = class.slots_in(P::CHUNK_PAGES);
        if let Err(error) = meta.make_slots(chunk, slots) {
            self.central().give_run(run, &meta);
            return Err(NoRoom::no_records(error));
        }
        let rest = self.lay_out(chunk, class, slots, wanted as usize);
        meta.known_chunk(chunk).set_state(State::Cut(class));
        self.line.counters.cut.bump();
        self.central().add_cut(class, chunk, rest, &meta);
        Ok(())
    }

    /// Writes the records of the slots of `chunk`, with what the platform says of them. The first `wanted` are this CPU's; returns the others.
    fn lay_out(&mut self, chunk: ChunkIndex, class: Class, slots: usize, wanted: usize) -> Chain {
        let (meta, stride, mut rest) = (self.meta, class.stride(), Chain::new());
        let first = Layout::<P>::first_page(chunk);
        let pages = Pages::new(meta.layout.address(first), stride - 1);
        let mut hints = meta.pager.foresee(pages, stride * P::PAGE_SIZE, slots);
        for number in 0..slots {
            let slot = Layout::<P>::slot(chunk, number);
            let record = meta.slot(slot);
            record.lay_out(first + (number * stride) as u32, hints.next().unwrap_or_default());
            let chain = if number < wanted { &mut self.near.pools[class.index()] } else { &mut rest };
            chain.push(slot.get(), record);
        }
        rest
    }

    /// A run of chunks that lies as `fit` says.
    pub(crate) fn take_run(&self, fit: Fit) -> Result<Run, NoRoom<P::Error>> {
        self.central().take_run(fit, &self.meta).map_err(|error| match error {
            NoRun::NoSpace => NoRoom::NoSpace,
            NoRun::NoRecords(error) => NoRoom::no_records(error),
        })
    }

    /// Gives back a run of chunks that no CPU remembers.
    pub(crate) fn give_run(&self, run: Run) {
        self.central().give_run(run, &self.meta);
    }

    /// Takes a free slot into this CPU's pool. Half of it goes to the central lists when it is full.
    #[inline]
    pub(crate) fn keep(&mut self, class: Class, slot: u32, record: &Record) {
        let pool = &mut self.near.pools[class.index()];
        pool.push(slot, record);
        if pool.len() > class.most_kept() {
            self.unload(class, class.most_kept() / 2);
        }
    }

    /// Leaves `count` slots of a pool to the central lists.
    #[inline(never)]
    pub(crate) fn unload(&mut self, class: Class, count: u32) {
        let (meta, mut empty) = (self.meta, Chain::new());
        let pool = &mut self.near.pools[class.index()];
        self.vmalloc.central.lock(self.guard).give_slots(class, pool, count, &mut empty, &meta);
        self.mend(empty);
    }

    /// Leaves everything in this CPU's pools to the central lists.
    pub(crate) fn empty_pools(&mut self) {
        for class in Class::up_to(P::CHUNK_PAGES / 2) {
            let count = self.near.pools[class.index()].len();
            if count != 0 {
                self.unload(class, count);
            }
        }
    }

    /// Makes whole chunks of those on the central lists of which all slots are free.
    pub(crate) fn mend_spares(&mut self) {
        let (meta, mut empty) = (self.meta, Chain::new());
        self.central().take_spares(&mut empty, &meta);
        self.mend(empty);
    }

    /// Makes whole chunks of those in `empty`, which were cut: what the platform has for them goes first.
    fn mend(&mut self, mut empty: Chain) {
        let meta = self.meta;
        while let Some((index, record)) = empty.pop(|index| &meta.known_chunk(ChunkIndex::new(index)).record) {
            self.line.counters.mended.bump();
            let index = ChunkIndex::new(index);
            let chunk = meta.known_chunk(index);
            // What area it was before it was cut is not to be remembered any more.
            record.lay_out(Layout::<P>::first_page(index), Hint::default());
            chunk.join(index, P::CHUNK_PAGES, State::Taken);
            // SAFETY: the chunk is whole; all of its slots were free, so nothing is mapped in it, and every CPU has forgotten what was; it is
            // taken, so nobody maps anything there.
            match unsafe { meta.pager.take_table(meta.layout.chunk_pages(index, P::CHUNK_PAGES)) } {
                None => self.give_run(Run { start: index, len: 1 }),
                Some(table) => {
                    chunk.expect(1);
                    // SAFETY: the chunk is this CPU's.
                    unsafe { record.frames.put(table) };
                    self.near.pending.chunks.push(index.get(), record);
                }
            }
        }
    }
}
