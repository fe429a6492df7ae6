//! From a dead stack to free frames and a free slot: unmap, shoot down, and only then give back.
//!
//! The order is INV-FRAME. A CPU unmaps a *batch* of stacks and starts one shootdown for all of them; the tokens hold the
//! frames until the platform says that every CPU has flushed. Nobody waits for that: whoever next allocates or frees on
//! this CPU looks whether the ticket is due, and retires the batch: frames first, then slots. While a batch is in
//! flight, stacks that do not fit in the magazine stay mapped on a chain through their own records, which costs no
//! memory (INV-FREE), and which allocation draws on before it builds a new stack.
//!
//! Only an allocation that may sleep waits, and it waits without a guard ([`StackArea::alloc_waiting`]).
//!
//! [`StackArea::alloc_waiting`]: crate::StackArea::alloc_waiting

use core::mem::MaybeUninit;

use crate::geometry::{Place, SlotIndex};
use crate::here::Here;
use crate::platform::{Platform, Unmapped};
use crate::slots::{Phase, Records};

/// How many stacks share one shootdown.
pub(crate) const BATCH: usize = 8;

/// Stacks that one shootdown serves: their tokens, and its ticket once it was started.
pub(crate) struct Batch<P: Platform> {
    tokens: [MaybeUninit<Unmapped<P>>; BATCH],
    len: usize,
    ticket: Option<P::Ticket>,
}

impl<P: Platform> Batch<P> {
    pub(crate) fn new() -> Self {
        Self { tokens: [const { MaybeUninit::uninit() }; BATCH], len: 0, ticket: None }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a token. The caller has seen that there is room; one too many would be leaked, never freed early.
    fn push(&mut self, token: Unmapped<P>) {
        if let Some(place) = self.tokens.get_mut(self.len) {
            place.write(token);
            self.len += 1;
        }
    }

    fn tokens(&self) -> &[Unmapped<P>] {
        // SAFETY: the first `len` tokens were written by `push` and not taken since.
        unsafe { core::slice::from_raw_parts(self.tokens.as_ptr().cast(), self.len) }
    }

    fn pop(&mut self) -> Option<Unmapped<P>> {
        let last = self.len.checked_sub(1)?;
        let token = self.tokens.get(last)?;
        self.len = last;
        // SAFETY: (1) it was below `len`, so it was written; (2) `len` is lowered, so it is read once.
        Some(unsafe { token.assume_init_read() })
    }
}

impl<P: Platform> Drop for Batch<P> {
    fn drop(&mut self) {
        while let Some(token) = self.pop() {
            drop(token);
        }
    }
}

impl<P: Platform> Here<'_, P> {
    /// Puts a ready stack in the cache; what does not fit is unmapped, a batch at a time.
    pub(crate) fn cache(&mut self, slot: SlotIndex) {
        self.meta.record(slot).set_phase(Phase::Ready);
        self.retire_due();
        if let Err(slot) = self.local.magazine.push(slot) {
            self.local.doomed.push(slot, &self.meta);
            if self.local.doomed.len() >= BATCH {
                self.start_shootdown();
            }
        }
    }

    /// Unmaps up to a batch of doomed stacks and starts their shootdown, unless one is in flight.
    pub(crate) fn start_shootdown(&mut self) {
        if !self.local.batch.is_empty() {
            return;
        }
        for _ in 0..BATCH {
            let Some(slot) = self.local.doomed.pop(&self.meta) else { break };
            self.meta.record(slot).set_phase(Phase::Retiring);
            // SAFETY: (1) the stack was mapped by one call of `map` when it was populated; (2) it came from the cache: no
            // CPU runs on it, nobody holds a pin (INV-LIVE), and nobody can get either while it is retiring.
            let token = unsafe { self.meta.platform.unmap(self.meta.geometry.pages(slot)) };
            self.local.batch.push(token);
            self.block.counters.unmapped.bump();
        }
        if !self.local.batch.is_empty() {
            self.local.batch.ticket = Some(self.meta.platform.shootdown(self.local.batch.tokens()));
            self.block.counters.shootdowns.bump();
            self.retire_due();
        }
    }

    /// Gives back the frames and the slots of the batch in flight, if every CPU has flushed. True if none is in flight.
    #[inline]
    pub(crate) fn retire_due(&mut self) -> bool {
        match &self.local.batch.ticket {
            None => true,
            Some(ticket) if !self.meta.platform.flushed(ticket) => false,
            Some(_) => self.retire_batch(),
        }
    }

    /// Gives back the frames and the slots of the batch, whose ticket is due. True.
    fn retire_batch(&mut self) -> bool {
        self.local.batch.ticket = None;
        while let Some(token) = self.local.batch.pop() {
            self.retire(token);
        }
        true
    }

    /// Opens a token that is due: the frames to the platform, then the slot to the free list.
    fn retire(&self, token: Unmapped<P>) {
        let place = self.meta.geometry.place(token.pages().start());
        self.meta.platform.give_frames(token.into_frames());
        self.block.counters.retired.bump();
        if let Place::Stack(slot) = place {
            self.meta.record(slot).set_phase(Phase::Free);
            self.area.free_list().push(slot, &self.meta);
        }
    }

    /// Dooms everything that this CPU caches and starts the next batch. True once nothing is left, nor in flight.
    pub(crate) fn drain_step(&mut self) -> bool {
        self.local.doom_all(&self.meta);
        if self.retire_due() {
            self.start_shootdown();
        }
        self.local.batch.is_empty() && self.local.doomed.len() == 0
    }
}
