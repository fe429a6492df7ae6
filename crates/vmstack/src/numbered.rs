//! A stack by its task's number: the number is the slot, and there is nothing to look for.
//!
//! ```text
//!   alloc   number ─> its record: ready? one exchange ─> dirty? next life
//!   free    its record: life ended, nobody else? ready, where it is
//! ```
//!
//! No chain, list or depot is touched, and a CPU keeps nothing. What a stack was it stays, pages included, until the task that
//! gets its number next, or until the memory is wanted back (`hand`). Everything else is as in the other placement: records, guards,
//! handles, pins, reports.
//!
//! Two CPUs may come with the same number at once, because of a mistake of the kernel or because one of them is wrong about a
//! number being free. One of them gets the stack, and the other is told so (`slots/claim.rs`). The price is a locked instruction, which the other placement has
//! not.
//!
//! Contexts: task and interrupt, under a guard. Never NMI, never the fault path.

use crate::area::StackArea;
use crate::error::AllocError;
use crate::geometry::SlotIndex;
use crate::here::Here;
use crate::hit::Allocated;
use crate::platform::{Hint, Node, Platform};
use crate::slots::claim::Claim;
use crate::slots::{Phase, SlotRecord};
use crate::stack::{KernelStack, StackId};

/// A CPU looks after what is idle once in so many stacks that are given back there: a power of two.
const SOMETIMES: u64 = 64;

impl<P: Platform> StackArea<P> {
    /// Allocates the stack in the slot `number` for `owner`, in an area of [`Placement::Numbered`](crate::Placement::Numbered).
    ///
    /// It reads as zero and is guarded as one from [`alloc`](Self::alloc) is. Its frames are those that were there, on whatever node, or
    /// else new ones, of this CPU's node if there are any. [`StackId::slot`] of it is the number.
    ///
    /// # Context
    ///
    /// Task or interrupt. Does not sleep; never NMI.
    ///
    /// # Errors
    ///
    /// [`AllocError`]; then nothing is kept. [`NumberTaken`](AllocError::NumberTaken) if the slot is somebody's, or is lost. It may
    /// also be on its way through a shootdown, because memory was wanted back: then the same number can be had soon, another one
    /// at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use vmstack::{AllocError, KernelStack, Platform, StackArea};
    ///
    /// /// The stack of the first of `numbers` whose slot can be had. None if there is none.
    /// fn stack_for<P: Platform>(
    ///     area: &StackArea<P>,
    ///     numbers: impl Iterator<Item = u32>,
    /// ) -> Option<Result<KernelStack<'_, P>, AllocError<P::Error>>> {
    ///     let mut stacks = numbers.map(|number| area.alloc_numbered(number, number as usize));
    ///     stacks.find(|stack| !matches!(stack, Err(AllocError::NumberTaken { .. })))
    /// }
    /// ```
    #[inline]
    pub fn alloc_numbered(&self, number: u32, owner: usize) -> Result<KernelStack<'_, P>, AllocError<P::Error>> {
        let guard = self.platform().enter();
        self.alloc_numbered_in(&guard, number, owner)
    }

    /// Allocates as [`alloc_numbered`](Self::alloc_numbered) does, for a caller that has a guard already.
    ///
    /// # Context
    ///
    /// Task or interrupt, under `guard`, which is of this area's platform.
    ///
    /// # Errors
    ///
    /// As [`alloc_numbered`](Self::alloc_numbered).
    #[inline]
    pub fn alloc_numbered_in(
        &self,
        guard: &P::Guard,
        number: u32,
        owner: usize,
    ) -> Result<KernelStack<'_, P>, AllocError<P::Error>> {
        self.claim_or_build(guard, number, owner).map(|id| KernelStack::new(self, id))
    }

    /// Allocates as [`alloc_numbered`](Self::alloc_numbered) does, but before it says that there are no frames, or that the slot is on
    /// its way, gives back what is idle, and waits for the shootdowns that this takes.
    ///
    /// # Context
    ///
    /// Task that may wait; not under a guard or a lock that other CPUs may wait for.
    ///
    /// # Errors
    ///
    /// As [`alloc_numbered`](Self::alloc_numbered). A slot that another CPU has on its way is not waited for.
    pub fn alloc_numbered_waiting(
        &self,
        number: u32,
        owner: usize,
    ) -> Result<KernelStack<'_, P>, AllocError<P::Error>> {
        self.alloc_numbered(number, owner).or_else(|error| match error {
            AllocError::NoFrames(_)
            | AllocError::NotMapped(_)
            | AllocError::NumberTaken { phase: Phase::Retiring | Phase::Recovering, .. } => {
                self.drain();
                self.alloc_numbered(number, owner)
            }
            _ => Err(error),
        })
    }

    /// The stack in the slot `number`, made to read as zero.
    #[inline(always)]
    fn claim_or_build(&self, guard: &P::Guard, number: u32, owner: usize) -> Allocated<P> {
        let Some((meta, line, _)) = self.lines(guard) else { return Err(self.not_here()) };
        let slot = SlotIndex::new(number);
        if number < self.numbers.slots()
            && let Some(record) = meta.try_record(slot)
            && let Some(generation) = record.claim_ready(owner)
        {
            line.counters.hits.bump();
            self.scrub_for_use(line, slot, record);
            return Ok(StackId::new(slot, generation));
        }
        self.build(guard, number, owner)
    }

    #[cold]
    #[inline(never)]
    fn build(&self, guard: &P::Guard, number: u32, owner: usize) -> Allocated<P> {
        let mut here = self.here(guard)?;
        let built = here.build(number, owner);
        here.count_refused(built)
    }

    /// Takes back the stack in `slot`, which is dead: its owner has ended its life, and has had a full fence since. It stays where it is.
    #[inline(never)]
    pub(crate) fn take_back_numbered(&self, guard: &P::Guard, slot: SlotIndex) {
        let Some((meta, line, _)) = self.lines(guard) else { return self.leak(slot) };
        if self.stands_on(&meta, slot) {
            return self.leak(slot);
        }
        let record = meta.known_record(slot);
        if !(record.is_quiet() && !self.scrubs_on_exit() || self.tidy(line, slot, record).is_some()) {
            return;
        }
        line.counters.released.bump();
        meta.note_idle(meta.geometry.record_chunk(slot));
        record.make_ready();
        if line.counters.released.get().is_multiple_of(SOMETIMES) {
            self.look_after_idle(guard);
        }
    }

    #[cold]
    #[inline(never)]
    fn look_after_idle(&self, guard: &P::Guard) {
        if let Ok(mut here) = self.here(guard) {
            here.settle_flights();
            here.settle_numbers();
        }
    }

    /// Why there is no slot for who comes without a number.
    #[cold]
    pub(crate) fn no_slot(&self, slots: usize) -> AllocError<P::Error> {
        if self.numbers.lead() { AllocError::WantsNumber } else { AllocError::OutOfSlots { slots } }
    }
}

impl<P: Platform> Here<'_, P> {
    /// The stack in the slot `number`, of new frames if there is none. Or why it cannot be had.
    fn build(&mut self, number: u32, owner: usize) -> Allocated<P> {
        let slot = self.slot_numbered(number)?;
        self.meta.ensure_record(slot)?;
        // It may be in what this CPU has in flight.
        self.settle_flights();
        let record = self.meta.known_record(slot);
        match record.claim_any(owner) {
            Claim::Building => {
                self.area.numbers.note_used(self.meta.geometry.record_chunk(slot));
                self.populate_numbered(slot, record, owner)
            }
            Claim::Live(generation) => {
                self.line.counters.hits.bump();
                self.area.scrub_for_use(self.line, slot, record);
                Ok(StackId::new(slot, generation))
            }
            Claim::Taken(phase) => Err(AllocError::NumberTaken { number, phase }),
        }
    }

    fn slot_numbered(&self, number: u32) -> Result<SlotIndex, AllocError<P::Error>> {
        match self.area.numbers.slots() {
            0 => Err(AllocError::NotNumbered),
            slots if number < slots => Ok(SlotIndex::new(number)),
            slots => Err(AllocError::NumberOutOfRange { number, slots: slots as usize }),
        }
    }

    /// Builds the stack in `slot`, which this CPU has claimed.
    fn populate_numbered(&self, slot: SlotIndex, record: &SlotRecord, owner: usize) -> Allocated<P> {
        match self.map_on_any(slot, record) {
            Ok((node, hint)) => {
                record.note_mapping(node, hint);
                self.line.counters.populated.bump();
                Ok(StackId::new(slot, record.go_live(owner)))
            }
            Err(error) => {
                record.set_phase(Phase::Free);
                Err(error)
            }
        }
    }

    /// Maps frames of this CPU's node, or else of any, at `slot`.
    fn map_on_any(&self, slot: SlotIndex, record: &SlotRecord) -> Result<(Node, Hint), AllocError<P::Error>> {
        let on = |node| self.map_frames(slot, record, node).map(|hint| (node, hint));
        let home = self.near.home.node();
        on(home).or_else(|error| {
            let mut others = self.meta.nodes().filter(|&node| node != home);
            others.find_map(|node| on(node).ok()).ok_or(error)
        })
    }
}
