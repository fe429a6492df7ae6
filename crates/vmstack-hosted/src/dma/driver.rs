//! A driver: it runs on a stack of the area, asks for requests by chance, and compares every byte.
//!
//! What it asks about it holds, so that it can say what should come of it: a stack by the lock of its slot, and memory of its own. The other
//! drivers do the same at the same time, with the same door, pool, area and device; and some requests are about stacks that nobody holds still.

use std::sync::{MutexGuard, PoisonError};

use vmstack::{Direction, DmaPolicy, Passage, PhysAddr, Platform, Refusal, Segment, Transfer, VirtAddr};

use super::ask::{Asked, Random, direction};
use super::oracle::{self, Lies};
use super::tally::Tally;
use super::world::{Bytes, PIECE, SLOTS, Slot, World, differing};
use crate::platform::Hosted;

/// The buffer in a driver's own frame, in bytes.
const LOCAL: usize = 1024;

pub(super) struct Driver<'w, 'm> {
    pub(super) world: &'w World<'m>,
    pub(super) random: Random,
    pub(super) tally: Tally,
    pub(super) own: [Bytes; 2],
}

/// A transfer that was let through, and how it should be.
pub(super) struct Flying<'m> {
    transfer: Transfer<'m, Hosted>,
    segments: Vec<Segment>,
    asked: Asked,
    /// What the device wrote last.
    written: Vec<u8>,
}

impl<'w, 'm> Driver<'w, 'm> {
    pub(super) fn new(world: &'w World<'m>, number: usize, seed: u64) -> Self {
        let random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number as u64 + 1) << 32);
        Self { world, random, tally: Tally::default(), own: world.memory(number) }
    }

    /// Asks `requests` times, and comes and goes meanwhile.
    pub(super) fn drive(mut self, requests: u64) -> Tally {
        self.stand();
        self.world.meet(0);
        while self.tally.requests < requests {
            match self.random.below(64) {
                0..8 => self.come(),
                8..12 => self.go(),
                12..16 if self.world.door.policy() == DmaPolicy::Map => self.race(),
                16..20 => self.ask_for_own_frame(),
                20..24 => self.ask_for_list(),
                _ => self.ask(),
            }
        }
        self.world.meet(1);
        for own in &self.own {
            self.tally.wrong += own.wrong(0, own.model.len());
        }
        self.tally
    }

    /// Notes on which stack it stands.
    fn stand(&self) {
        let here = 0_u8;
        let asked = Asked::new(VirtAddr::of(&raw const here).get(), 1, Direction::ToDevice);
        if let Lies::In(slot) = self.lies(&asked) {
            *self.world.slot(slot) = Slot::Drivers;
        }
    }

    pub(super) fn lies(&self, asked: &Asked) -> Lies {
        self.world.shape().map_or(Lies::Nowhere, |shape| oracle::lies(asked, shape, self.world.registered))
    }

    /// Somebody comes who wants a stack, and writes on it.
    fn come(&mut self) {
        let _order = self.world.order.write().unwrap_or_else(PoisonError::into_inner);
        let Ok(stack) = self.world.area.alloc(1) else { return };
        let (index, bytes) = (stack.id().slot().get() as usize, stack.top().distance(stack.bottom()));
        let mut memory = Bytes::at(stack.bottom(), bytes);
        self.tally.compared += bytes as u64;
        self.tally.not_zero += memory.model.iter().filter(|&&byte| byte != 0).count() as u64;
        let (at, wrote) = (self.random.below(bytes - LOCAL), self.random.bytes(LOCAL));
        memory.model[at..at + LOCAL].copy_from_slice(&wrote);
        // SAFETY: the stack is this driver's, which stands on another one; the range is in it.
        unsafe { stack.bottom().wrapping_add(at).as_mut_ptr::<[u8; LOCAL]>().copy_from(wrote.as_ptr().cast(), 1) };
        *self.world.slot(index) = Slot::Somebodys(Some(stack), memory);
    }

    /// Somebody dies.
    fn go(&mut self) {
        let index = self.random.below(SLOTS);
        let wrong = self.world.slot(index).end();
        self.tally.wrong += wrong;
    }

    /// An address by chance, and how many bytes.
    fn place(&mut self) -> (usize, usize) {
        let random = &mut self.random;
        let (bytes, shape) = (random.size(), self.world.shape());
        let Some(shape) = shape else { return (0, 0) };
        let slot = shape.slot(random.below(SLOTS)).map_or(0, |slot| shape.bottom(slot).get());
        let edge = |random: &mut Random, at: usize| (at + random.below(128)).saturating_sub(64);
        match random.below(32) {
            // Inside of it, or over its end.
            0..10 => (slot + random.below(shape.stack_size()), bytes),
            10..14 => (slot + random.below(shape.stack_size() - bytes + 1), bytes),
            14 => (edge(random, slot), 1 + random.below(200)),
            15 => (edge(random, slot + shape.stack_size()), 1 + random.below(200)),
            16 => (edge(random, shape.whole_range().start().get()), bytes),
            17 => (edge(random, shape.whole_range().end().get()), 1 + random.below(200)),
            18 => (edge(random, shape.slot_range().start().get()), bytes),
            19 => (self.world.registered.0 + random.below(2 << 12), 1 + random.below(6000)),
            20 => (edge(random, self.world.registered.0), 1 + random.below(200)),
            21 => (slot, if random.once_in(2) { 0 } else { usize::MAX - random.below(1 << 20) }),
            22..27 => (self.own[0].start + random.below(PIECE - bytes + 1), bytes),
            // Where a run of the heap ends nothing is mapped.
            _ => (self.own[1].start + random.below(self.own[1].model.len()), bytes),
        }
    }

    pub(super) fn asked(&mut self) -> Asked {
        let (addr, bytes) = self.place();
        let direction = direction(&mut self.random);
        Asked::new(addr, bytes, direction).limited(&mut self.random, self.world.pool.last - 1)
    }

    /// What should come of it, and of no other. The caller holds what it is about.
    pub(super) fn verdict(&self, asked: &Asked, lies: Lies, live: bool) -> Result<Passage, Refusal> {
        let phys = |addr| self.world.area.platform().translate(VirtAddr::new(addr)).map(PhysAddr::get);
        oracle::verdict(asked, lies, |_| live, self.world.door.policy(), self.world.pool, phys)
    }

    /// One request, and all that comes of it.
    fn ask(&mut self) {
        let asked = self.asked();
        if let Some(refusal) = asked.nonsense() {
            return self.ask_about_own(&asked, Err(refusal));
        }
        match self.lies(&asked) {
            Lies::In(index) => self.ask_about_stack(&asked, index),
            lies => self.ask_about_own(&asked, self.verdict(&asked, lies, false)),
        }
    }

    fn ask_about_stack(&mut self, asked: &Asked, index: usize) {
        let world = self.world;
        let order = world.order.read().unwrap_or_else(PoisonError::into_inner);
        let slot = world.slot(index);
        // Nothing of a stack on which somebody runs is copied.
        let asked = if matches!(*slot, Slot::Drivers) { asked.harmless() } else { *asked };
        if matches!(*slot, Slot::Drivers) && world.door.policy() == DmaPolicy::Bounce {
            return;
        }
        let expected = self.verdict(&asked, Lies::In(index), !matches!(*slot, Slot::Nobodys));
        let flying = self.pass(&asked, expected);
        drop(order);
        if let Some(flying) = flying {
            self.fly(flying, slot);
        }
    }

    /// About memory of its own; or about something that is to be refused.
    fn ask_about_own(&mut self, asked: &Asked, expected: Result<Passage, Refusal>) {
        let Some(mut flying) = self.pass(asked, expected) else { return };
        let Some(own) = self.own.iter().position(|own| own.has(asked.span())) else { return flying.cancel() };
        let mut bytes = self.own[own].taken();
        self.exchange(&mut flying, &mut bytes);
        self.finish(flying, Some(&mut bytes));
        self.own[own] = bytes;
    }

    /// Asks, and compares what comes of it with what should.
    fn pass(&mut self, asked: &Asked, expected: Result<Passage, Refusal>) -> Option<Flying<'m>> {
        self.tally.requests += 1;
        // SAFETY: the bytes are this driver's or those of a stack whose slot it holds; or they are to be refused.
        let passed = unsafe { self.world.door.pass(&asked.request()) };
        let got = passed.as_ref().map(Transfer::passage).map_err(|error| error.refusal);
        self.tally.judge(asked, got, expected);
        passed.ok().map(|transfer| Flying::new(transfer, asked))
    }

    /// A transfer of a stack whose slot is held: its owner may die in the middle of it.
    fn fly(&mut self, mut flying: Flying<'m>, mut slot: MutexGuard<'_, Slot<'m>>) {
        let Slot::Somebodys(stack, bytes) = &mut *slot else { return flying.cancel() };
        self.exchange(&mut flying, bytes);
        if stack.is_none() || !self.random.once_in(8) {
            return self.finish(flying, Some(bytes));
        }
        self.tally.died += 1;
        self.tally.wrong += slot.end();
        drop(slot);
        // Whoever comes next on this CPU would get the stack that was given back last. The device goes on: into a stack that is
        // nobody's, or into a copy.
        self.come();
        self.write(&mut flying);
        self.finish(flying, None);
    }

    /// The device reads, and writes if it may.
    pub(super) fn exchange(&mut self, flying: &mut Flying<'m>, bytes: &mut Bytes) {
        let seen = self.world.device.read(&flying.segments);
        self.tally.compare(&flying.asked, differing(&seen, bytes.of(&flying.asked)), seen.len());
        self.write(flying);
        if flying.passage() != Passage::Bounced {
            flying.note(bytes);
        }
    }

    /// The device writes, if it may: now and then less than was asked.
    fn write(&mut self, flying: &mut Flying<'m>) {
        if flying.asked.direction.writes() {
            let short = self.random.once_in(4);
            let count = if short { self.random.below(flying.asked.bytes + 1) } else { flying.asked.bytes };
            flying.written = self.random.bytes(count);
            self.world.device.write(&flying.segments, &flying.written);
        }
    }

    /// Ends a transfer, of bytes that are still what they were, or of a stack that is not.
    fn finish(&mut self, flying: Flying<'m>, bytes: Option<&mut Bytes>) {
        let (asked, passage, written) = (flying.asked, flying.passage(), flying.written);
        let bounced_back = passage == Passage::Bounced && asked.direction.writes();
        if self.random.once_in(8) {
            // SAFETY: the device does nothing when it is not told to.
            unsafe { flying.transfer.cancel() };
            return self.look(&asked, bytes);
        }
        // SAFETY: as above; and the bytes are held.
        let finished = unsafe { flying.transfer.finish() }.map_err(|error| error.refusal);
        let expected = if bounced_back && bytes.is_none() { Err(Refusal::Gone) } else { Ok(()) };
        self.tally.judge_end(&asked, finished, expected);
        if let Some(bytes) = bytes {
            if bounced_back {
                bytes.of_mut(&asked)[..written.len()].copy_from_slice(&written);
            }
            self.look(&asked, Some(bytes));
        }
    }

    /// Compares the bytes of a request, and those around them, with what they should be.
    fn look(&mut self, asked: &Asked, bytes: Option<&mut Bytes>) {
        if let Some(bytes) = bytes {
            self.tally.compare(asked, bytes.wrong_around(asked), asked.bytes);
        }
    }

    /// About a buffer in the frame of the function that asks: the most usual mistake.
    fn ask_for_own_frame(&mut self) {
        let mut local = [0_u8; LOCAL];
        local.copy_from_slice(&self.random.bytes(LOCAL));
        let start = (&raw mut local).expose_provenance();
        let offset = self.random.below(LOCAL);
        let bytes = 1 + self.random.below(LOCAL - offset);
        let direction = direction(&mut self.random);
        let asked = Asked::new(start + offset, bytes, direction).limited(&mut self.random, self.world.pool.last - 1);
        let expected = self.verdict(&asked, self.lies(&asked), true);
        let Some(mut flying) = self.pass(&asked, expected) else { return };
        let mut frame = Bytes::at(VirtAddr::new(start), LOCAL);
        self.exchange(&mut flying, &mut frame);
        self.finish(flying, Some(&mut frame));
        self.tally.wrong += frame.wrong(0, LOCAL);
    }

    /// About a stack whose owner comes and goes at this moment: it is held, or refused.
    fn race(&mut self) {
        let Some(shape) = self.world.shape() else { return };
        let Some(slot) = shape.slot(self.random.below(SLOTS)) else { return };
        let (bytes, size) = (self.random.size(), shape.stack_size());
        let at = shape.bottom(slot).get() + self.random.below(size - bytes + 1);
        let asked = Asked::new(at, bytes, Direction::ToDevice);
        self.tally.requests += 1;
        self.tally.races += 1;
        // SAFETY: a stack that is mapped for a device that reads nothing is neither read nor written.
        match unsafe { self.world.door.pass(&asked.request()) } {
            Ok(transfer) => {
                let flying = Flying::new(transfer, &asked);
                let there: usize = flying.segments.iter().map(|segment| segment.bytes).sum();
                self.tally.compare(&asked, u64::from(there != bytes), 0);
                flying.cancel();
            }
            Err(error) => self.tally.judge_race(&asked, error.refusal),
        }
    }
}

impl<'m> Flying<'m> {
    fn new(transfer: Transfer<'m, Hosted>, asked: &Asked) -> Self {
        let segments = transfer.segments().collect();
        Self { transfer, segments, asked: *asked, written: Vec::new() }
    }

    fn passage(&self) -> Passage {
        self.transfer.passage()
    }

    /// Notes what the device wrote in what the bytes should be.
    fn note(&self, bytes: &mut Bytes) {
        bytes.of_mut(&self.asked)[..self.written.len()].copy_from_slice(&self.written);
    }

    fn cancel(self) {
        // SAFETY: no device was told of it.
        unsafe { self.transfer.cancel() };
    }
}
