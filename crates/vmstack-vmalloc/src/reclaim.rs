//! From unmapped pieces to free frames and free addresses: batches, which are `vmstack`'s (`Flight`), and what is done when one has landed.
//!
//! A CPU collects what it unmaps. When there is enough of it, one shootdown is started for all; nobody waits for that. Whoever next has a batch ready on
//! this CPU, or is asked at a tick, looks whether every CPU has flushed; then the frames go back, and after them the slots and chunks (INV-FRAME).
//! While a batch is in flight the next one grows.
//!
//! Contexts: task and interrupt, under a guard. Never NMI, never the fault path.

use vmstack::Flushed;

use crate::chain::{Chain, Pieces};
use crate::class::Class;
use crate::here::Here;
use crate::layout::{ChunkIndex, SlotIndex};
use crate::meta::Meta;
use crate::pager::Pager;
use crate::record::Record;
use crate::request::Kind;
use crate::runs::Run;
use crate::vmalloc::Vmalloc;

impl<P: Pager> Here<'_, P> {
    /// Notes that a piece of `pages` pages is pending, and sends off what is, if it is enough.
    #[inline]
    pub(crate) fn settle_pending(&mut self, pages: usize) {
        if self.near.add_weight(pages) {
            self.send_off();
        }
    }

    /// Starts a shootdown of what is pending, unless one is in flight that has not landed. True if none is in flight when this returns.
    #[inline(never)]
    pub(crate) fn send_off(&mut self) -> bool {
        if !self.settle_flight() {
            return false;
        }
        let (meta, mut batch) = (self.meta, core::mem::take(&mut self.near.pending));
        if batch.len() == 0 {
            return true;
        }
        batch.pages = self.near.pending_pages(&self.line.counters);
        self.near.sent_off = self.line.counters.unmapped.get();
        self.near.weight = 0;
        self.line.counters.shootdowns.bump();
        self.line.counters.pieces_unmapped.add(u64::from(batch.len()));
        let slots = batch.slots.each(slot_records(meta)).map(move |(_, record)| meta.mapping(record).pages());
        let chunks = batch.chunks.each(chunk_records(meta)).map(move |(chunk, _)| meta.piece(ChunkIndex::new(chunk)));
        self.near.flight.begin(meta.pager, batch, slots.chain(chunks));
        self.settle_flight()
    }

    /// Gives back what every CPU has flushed. True if nothing is in flight.
    pub(crate) fn settle_flight(&mut self) -> bool {
        let flight = &mut self.near.flight;
        if vmstack::Flight::is_empty(flight) {
            return true;
        }
        let Some((batch, flushed)) = flight.take_due(self.meta.pager) else { return false };
        self.retire(batch, &flushed);
        true
    }

    /// The frames to the platform, or to whoever lent them; then the addresses.
    fn retire(&mut self, batch: Pieces, flushed: &Flushed<P>) {
        let counters = &self.line.counters;
        counters.pieces_retired.add(u64::from(batch.len()));
        counters.retired.add(batch.pages);
        if batch.lent {
            self.give_lent(&batch, flushed);
        }
        if !batch.slots.is_empty() {
            self.retire_slots(&batch, flushed);
        }
        if !batch.chunks.is_empty() {
            self.give_chunks_frames(&batch, flushed);
            self.free_chunks(batch);
        }
    }

    /// Gives the frames of slots back, and takes each slot into its pool. That is this CPU's, which is here under a guard: nobody has the slot before
    /// the platform has all frames.
    fn retire_slots(&mut self, batch: &Pieces, flushed: &Flushed<P>) {
        let (meta, pools, mut slots) = (self.meta, &mut self.near.pools, batch.slots);
        let mut next = || {
            let (slot, record) = slots.pop(|slot| meta.slot(SlotIndex::new(slot)))?;
            record.set_free();
            pools[record.class().index()].push(slot, record);
            Some(record)
        };
        let records = core::iter::from_fn(&mut next).filter(|record| record.kind() == Kind::Memory);
        // SAFETY: (1) an area of memory had its frames put there when it was freed, and each is taken once; (2) this is the batch that was flushed; (3)
        // the records are those of this CPU's batch.
        meta.pager.give_batch(records.map(|record| unsafe { record.frames.take(flushed) }));
        self.fit_pools();
    }

    /// Leaves to the central lists what pools have too much.
    fn fit_pools(&mut self) {
        for class in Class::up_to(P::CHUNK_PAGES / 2) {
            let count = self.near.pools[class.index()].len();
            if count > class.most_kept() {
                self.unload(class, count - class.most_kept() / 2);
            }
        }
    }

    fn give_chunks_frames(&self, batch: &Pieces, flushed: &Flushed<P>) {
        let meta = self.meta;
        let owned =
            batch.chunks.each(chunk_records(meta)).filter(|&(chunk, _)| self.kind_of(chunk) == Some(Kind::Memory));
        // SAFETY: as in `retire_slots`, by `retire_chunk` or `mend`.
        meta.pager.give_batch(owned.map(|(_, record)| unsafe { record.frames.take(flushed) }));
    }

    /// Gives lent frames back to whoever lent them.
    #[cold]
    fn give_lent(&self, batch: &Pieces, flushed: &Flushed<P>) {
        let slots = batch.slots.each(slot_records(self.meta)).filter(|(_, record)| record.kind().is_lent());
        let chunks = batch.chunks.each(chunk_records(self.meta));
        let chunks = chunks.filter(|&(chunk, _)| self.kind_of(chunk).is_some_and(Kind::is_lent));
        for (_, record) in slots.chain(chunks) {
            // SAFETY: as in `retire`.
            self.meta.pager.give_lent(unsafe { record.frames.take(flushed) });
        }
    }

    /// Of which kind the frames are that the record of `chunk` holds. None if it holds none.
    fn kind_of(&self, chunk: u32) -> Option<Kind> {
        let chunk = self.meta.known_chunk(ChunkIndex::new(chunk));
        let kind = self.meta.known_chunk(chunk.head()).record.kind();
        (chunk.pages() != 0 && kind != Kind::Reserved).then_some(kind)
    }

    /// Gives the chunks of a batch that has landed back, each area's when its last one is there.
    fn free_chunks(&mut self, mut batch: Pieces) {
        let meta = self.meta;
        while let Some((chunk, _)) = batch.chunks.pop(|chunk| &meta.known_chunk(ChunkIndex::new(chunk)).record) {
            self.free_chunk(ChunkIndex::new(chunk));
        }
    }

    /// Gives one chunk back that no CPU remembers; which is to say all of the area's, when it is the last.
    pub(crate) fn free_chunk(&self, chunk: ChunkIndex) {
        let start = self.meta.known_chunk(chunk).head();
        let head = self.meta.known_chunk(start);
        if head.one_is_flushed() {
            let len = Meta::<P>::chunks_for(Meta::<P>::pages_of(&head.record)) as u32;
            head.record.set_free();
            self.give_run(Run { start, len });
        }
    }

    /// Answers what was announced since this CPU last did.
    fn answer(&mut self) {
        if let Some(announced) = self.vmalloc.pressure.since(self.near.answered) {
            self.near.answered = announced;
            self.empty_pools();
            self.mend_spares();
        }
        if let Some(announced) = self.vmalloc.decay.since(self.near.decayed) {
            self.near.decayed = announced;
            self.decay();
        }
    }

    /// Leaves a quarter of each pool to the central lists.
    fn decay(&mut self) {
        for class in Class::up_to(P::CHUNK_PAGES / 2) {
            let count = self.near.pools[class.index()].len().div_ceil(4);
            if count != 0 {
                self.unload(class, count);
            }
        }
    }

    /// Whether nothing is pending, in flight or in a pool.
    fn keeps_nothing(&self) -> bool {
        let pools_are_empty = self.near.pools.iter().all(Chain::is_empty);
        pools_are_empty && self.near.pending.len() == 0 && vmstack::Flight::is_empty(&self.near.flight)
    }

    /// How many pieces this CPU has retired, and will have when all that it has unmapped by now is.
    fn progress(&self) -> (u64, u64) {
        let counters = &self.line.counters;
        (counters.pieces_retired.get(), counters.pieces_unmapped.get() + u64::from(self.near.pending.len()))
    }
}

/// Where a slot's record is.
fn slot_records<'a, P: Pager>(meta: Meta<'a, P>) -> impl Fn(u32) -> &'a Record + Clone + use<'a, P> {
    move |slot| meta.slot(SlotIndex::new(slot))
}

/// Where a chunk's record is.
fn chunk_records<'a, P: Pager>(meta: Meta<'a, P>) -> impl Fn(u32) -> &'a Record + Clone + use<'a, P> {
    move |chunk| &meta.known_chunk(ChunkIndex::new(chunk)).record
}

impl<P: Pager> Vmalloc<P> {
    /// Does `step` again and again until it says that it is done. Each enters and leaves, so that other CPUs' shootdowns are answered while this one waits.
    fn step_by_step(&self, mut step: impl FnMut(&mut Here<'_, P>) -> bool) {
        loop {
            let guard = self.pager().enter();
            if self.here(&guard).map_or(true, |mut here| step(&mut here)) {
                return;
            }
            drop(guard);
            core::hint::spin_loop();
        }
    }

    /// Waits until all is retired that this CPU had unmapped when it began. What it unmaps later, for an interrupt or another task, need not be waited for.
    fn wait_for_retired(&self) {
        let mut goal: Option<(usize, u64)> = None;
        self.step_by_step(|here| {
            let (retired, unmapped) = here.progress();
            let line = core::ptr::from_ref(here.line).addr();
            let (of, until) = *goal.get_or_insert((line, unmapped));
            // On another CPU there is nothing of it that one could wait for.
            let done = of != line || retired >= until;
            done || (here.send_off() && here.progress().0 >= until)
        });
    }

    /// Gives back everything that this CPU keeps and the central lists have ready, and waits until the frames and addresses are free.
    ///
    /// What other CPUs keep is out of reach: see [`pressure`](Self::pressure).
    ///
    /// # Context
    ///
    /// Task that may wait and stays on its CPU; not under a guard or a lock that other CPUs may wait for.
    pub fn drain(&self) {
        self.wait_for_retired();
        self.enter_once(|here| {
            here.empty_pools();
            here.mend_spares();
        });
        self.wait_for_retired();
    }

    /// Leaves what this CPU keeps to the others, and waits until nothing of it waits for them: for a CPU that goes offline. What an interrupt frees there
    /// meanwhile is left too, as far as it is flushed by then.
    ///
    /// # Context
    ///
    /// As [`drain`](Self::drain).
    pub fn leave_cpu(&self) {
        // The slots that come back may be the last of their chunks, whose tables go then.
        for _ in ["slots", "tables"] {
            let mut goal = None;
            self.step_by_step(|here| {
                here.send_off();
                here.empty_pools();
                let (retired, unmapped) = here.progress();
                // Interrupts may free more for as long as one waits.
                here.keeps_nothing() || retired >= *goal.get_or_insert(unmapped)
            });
        }
    }

    /// Announces memory pressure: every CPU gives back what it keeps the next time that it calls [`answer_pressure`](Self::answer_pressure). This one does so now.
    ///
    /// # Context
    ///
    /// Task or interrupt. Does not wait.
    pub fn pressure(&self) {
        self.pressure.announce();
        self.answer_pressure();
    }

    /// Does what is due on this CPU: sends off what it has unmapped, passes on the frames of what every CPU has flushed since, and answers announcements.
    ///
    /// A few tens of instructions if there is nothing to do: a kernel calls it at each tick, so that no frame waits for longer.
    ///
    /// # Context
    ///
    /// Task or interrupt. Does not wait. What is not done in one call is left for the next.
    pub fn answer_pressure(&self) {
        self.enter_once(|here| {
            here.send_off();
            here.answer();
            here.send_off();
        });
    }

    /// Lets what lies ready decay: a quarter of each pool goes to the central lists, and chunks of which all slots are free become whole again.
    ///
    /// # Context
    ///
    /// Task or interrupt, on one CPU at a time, every few seconds. Does not wait; other CPUs do their part when they call
    /// [`answer_pressure`](Self::answer_pressure).
    pub fn trim(&self) {
        self.decay.announce();
        self.answer_pressure();
        self.enter_once(|here| {
            here.mend_spares();
            here.send_off();
        });
    }

    fn enter_once(&self, work: impl FnOnce(&mut Here<'_, P>)) {
        let guard = self.pager().enter();
        if let Ok(mut here) = self.here(&guard) {
            work(&mut here);
        }
    }
}
