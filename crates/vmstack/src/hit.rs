//! The fast path: a stack from the loaded magazine, and a stack back into it.
//!
//! Nearly every allocation and every freeing is this and nothing else: a few loads and stores on lines that only this CPU writes, no
//! locked instruction, one comparison for everything that might be odd. What is not a hit is somewhere else (`here`, `release`), out
//! of line, and begins anew with the words that it is given.
//!
//! ```text
//!   alloc   this CPU's lines ─> loaded magazine, first slot ─> its record: dirty? next life
//!   free    its record: life ended, nobody else? ─> this CPU's lines ─> loaded magazine
//! ```
//!
//! Contexts: task and interrupt, under a guard. Never NMI, never the fault path.

use crate::addr::VirtAddr;
use crate::area::StackArea;
use crate::cache::{Line, Near};
use crate::error::AllocError;
use crate::geometry::SlotIndex;
use crate::metadata::Metadata;
use crate::platform::Platform;
use crate::slots::SlotRecord;
use crate::stack::StackId;

/// What an allocation comes to.
pub(crate) type Allocated<P> = Result<StackId, AllocError<<P as Platform>::Error>>;

/// This CPU's lines of an area, under a guard.
type Lines<'a, P> = (Metadata<'a, P>, &'a Line<P>, &'a mut Near);

impl<P: Platform> StackArea<P> {
    /// What this CPU keeps, if the area is ready and knows the CPU.
    ///
    /// `_guard` is of this area's platform and stays alive as long as what is returned.
    #[inline]
    pub(crate) fn lines<'a>(&'a self, guard: &'a P::Guard) -> Option<Lines<'a, P>> {
        self.lines_below(guard, self.cpus())
    }

    /// What this CPU keeps, if its number is below `cpus`, which are no more than the area has.
    #[inline]
    fn lines_below<'a>(&'a self, _guard: &'a P::Guard, cpus: usize) -> Option<Lines<'a, P>> {
        let cpu = self.platform().cpu();
        if cpu.index() >= cpus {
            return None;
        }
        let meta = self.ready_metadata();
        let line = meta.line(cpu.index());
        // SAFETY: (1) the guard was taken before the CPU was asked, so these are this CPU's lines; (2) this crate never enters
        // twice in one call chain, and platform methods do not call in (Platform, condition 8).
        let near = unsafe { line.near() };
        Some((meta, line, near))
    }

    /// A ready stack, made to read as zero.
    // It is all that an allocation is, nearly always: without a call, and without its result in memory, it is half as long.
    #[inline(always)]
    pub(crate) fn hit_or_miss(&self, guard: &P::Guard, owner: usize) -> Allocated<P> {
        let Some((meta, line, near)) = self.lines(guard) else { return Err(self.not_here()) };
        let Some(slot) = near.loaded.pop(&meta) else { return self.refill(guard, owner) };
        line.counters.hits.bump();
        let record = meta.known_record(slot);
        self.scrub_for_use(line, slot, record);
        Ok(StackId::new(slot, record.hand_out(owner)))
    }

    /// Takes back the stack in `slot`, which is dead, and whose owner has had a full fence since it ended its life.
    #[inline(always)]
    pub(crate) fn take_back_in(&self, guard: &P::Guard, slot: SlotIndex, record: &SlotRecord) {
        // No CPU is below this number while stacks are to be scrubbed as they come back.
        if let Some((meta, line, near)) = self.lines_below(guard, self.plain_cpus())
            && record.is_plain(near.home)
            && near.loaded.len() < near.rounds
            && !self.stands_on(&meta, slot)
        {
            line.counters.released.bump();
            record.make_ready();
            near.loaded.push(slot, record);
        } else {
            self.take_back_odd(guard, slot);
        }
    }

    /// Whether the code that asks stands on the stack in `slot`: the address of a local variable says so.
    #[inline]
    pub(crate) fn stands_on(&self, meta: &Metadata<'_, P>, slot: SlotIndex) -> bool {
        let here = 0_u8;
        meta.geometry.is_in(VirtAddr::of(&raw const here), slot)
    }
}
