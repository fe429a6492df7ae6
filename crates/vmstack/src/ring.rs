//! The last reports, kept for whoever reads them: a ring of records that fault handlers write and nobody waits for.
//!
//! A fault handler records first and prints later (INV-FAULT), and the handler may be on any CPU, in an NMI, or in the middle
//! of another handler. So a record is claimed by one compare-and-exchange on its state, written, and published by one store:
//!
//! ```text
//!              begin                publish                claim_unprinted          the claim is dropped
//!   Empty ───────────────> Writing ────────> Unprinted ───────────────> Printing ───────────────────> Printed
//!                             ^                  │ (counted as lost)        │                            │
//!                             └──────────────────┴────── begin: the oldest of those that are printed, or else of all ──────┘
//! ```
//!
//! The state word of a record holds the number of the report, its phase and how many are copying it. Who copies announces
//! himself there first; who writes takes only a record that nobody is copying. So a record is never written while it is
//! read, a copy is never torn, and neither side waits for the other: a writer takes the next oldest, a reader is refused.
//!
//! - Each report has a number of its own, from 1, in the order in which they were begun.
//! - Each record is handed to exactly one printer, the one with the lowest number first (INV-ONCE). The printer gets a copy,
//!   so what is being printed may be overwritten in the ring.
//! - Whoever dies in the middle of writing, copying or printing keeps that one record, for ever. The ring goes on with the
//!   others.
//! - A record that is overwritten before it was claimed by a printer is counted as lost, and so is one that found no place.
//!
//! This file has the ring's unsafe code: the accesses to the records themselves, each by what the state word says.
//!
//! # Context
//!
//! Any, the fault path included: no lock, no allocation, no wait. [`Ring::begin`] looks at each record a bounded number of
//! times. A record should be for each CPU that can be in the middle of a fault, and some more for the reader.

#[cfg(all(loom, test))]
mod models;

use core::mem::MaybeUninit;
use core::ops::Deref;

use crate::sync::{AtomicU64, Ordering, UnsafeCell};

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PrintState {
    /// No printer has claimed it.
    Unprinted,
    /// A printer has claimed it, and has not said that it is done.
    Printing,
    /// It was printed.
    Printed,
}

const EMPTY: u64 = 0;
const WRITING: u64 = 1;
const UNPRINTED: u64 = 2;
const PRINTING: u64 = 3;
const PRINTED: u64 = 4;

const PHASE_BITS: u32 = 8;
const READER_BITS: u32 = 16;
const PHASE_MASK: u64 = (1 << PHASE_BITS) - 1;
const MOST_READERS: u64 = (1 << READER_BITS) - 1;
const ONE_READER: u64 = 1 << PHASE_BITS;
const NUMBER_SHIFT: u32 = PHASE_BITS + READER_BITS;

/// The state word of a record, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    number: u64,
    /// How many are copying it.
    readers: u64,
    phase: u64,
}

impl State {
    const NONE: Self = Self { number: 0, readers: 0, phase: EMPTY };

    const fn unpack(word: u64) -> Self {
        Self { number: word >> NUMBER_SHIFT, readers: (word >> PHASE_BITS) & MOST_READERS, phase: word & PHASE_MASK }
    }

    const fn pack(self) -> u64 {
        self.number << NUMBER_SHIFT | self.readers << PHASE_BITS | self.phase
    }

    const fn print_state(self) -> Option<PrintState> {
        match self.phase {
            UNPRINTED => Some(PrintState::Unprinted),
            PRINTING => Some(PrintState::Printing),
            PRINTED => Some(PrintState::Printed),
            _ => None,
        }
    }

    /// Whether there is something to copy, and room to say who does.
    const fn can_be_copied(self) -> bool {
        self.print_state().is_some() && self.readers < MOST_READERS
    }

    /// Whether nobody has it in hand.
    const fn can_be_taken(self) -> bool {
        self.phase != WRITING && self.readers == 0
    }
}

/// A record and its state.
#[derive(Debug)]
struct Slot<T> {
    state: AtomicU64,
    /// Always initialised: blank, or as the last writer left it. The type is what an array of cells can be made of.
    record: UnsafeCell<MaybeUninit<T>>,
}

/// The last `N` records that were written, for printers and readers.
#[derive(Debug)]
pub struct Ring<T, const N: usize> {
    slots: [Slot<T>; N],
    begun: AtomicU64,
    lost: AtomicU64,
}

// SAFETY: a record is accessed by whoever the state word admits: one writer, and nobody else, in the phase `WRITING`; copiers,
// and no writer, while their number is not zero. What goes from one thread to another is a `T`, which is `Send`.
unsafe impl<T: Send, const N: usize> Sync for Ring<T, N> {}

/// There was no record that could be taken: all are being written or copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RingFull {
    /// The number of the report, which is counted as lost.
    pub number: u64,
}

/// A copy of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RingRecord<T> {
    /// The number of the report, from 1.
    pub number: u64,
    /// Whether it was printed, at the moment of the copy.
    pub state: PrintState,
    /// What was recorded.
    pub value: T,
}

impl<T: Copy, const N: usize> Ring<T, N> {
    /// A ring without reports. Each record begins as `blank`, which nobody reads but [those who write](Writing::fill): one that is zero
    /// from end to end takes no place in a kernel's image.
    #[cfg(not(all(loom, test)))]
    #[must_use]
    pub const fn new(blank: T) -> Self {
        const { assert!(N != 0, "a ring has at least one record") };
        let mut slots =
            [const { Slot { state: AtomicU64::new(0), record: UnsafeCell::new(MaybeUninit::uninit()) } }; N];
        let mut at = 0;
        while at < N {
            slots[at].record = UnsafeCell::new(MaybeUninit::new(blank));
            at += 1;
        }
        Self { slots, begun: AtomicU64::new(0), lost: AtomicU64::new(0) }
    }
}

impl<T: Copy, const N: usize> Ring<T, N> {
    /// Takes a number and a record to write: of those that nobody has in hand the oldest, printed ones first.
    ///
    /// # Context
    ///
    /// Any, the fault path included. Never waits.
    ///
    /// # Errors
    ///
    /// [`RingFull`], with the number all the same, if all records are being written or copied at this moment.
    pub fn begin(&self) -> Result<Writing<'_, T, N>, RingFull> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let writing = State { number, readers: 0, phase: WRITING }.pack();
        // Each failure is somebody else's success.
        for _ in 0..2 * N {
            let Some((slot, seen)) = self.next_in_turn(number).or_else(|| self.oldest()) else { break };
            // Acquire: pairs with the Release of whoever copied or wrote the record before.
            if slot.state.compare_exchange(seen.pack(), writing, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                self.count_lost(seen.phase == UNPRINTED);
                return Ok(Writing { ring: self, slot, number });
            }
        }
        self.count_lost(true);
        Err(RingFull { number })
    }

    /// Claims the unprinted record with the lowest number, for its one printer.
    pub fn claim_unprinted(&self) -> Option<Claim<'_, T>> {
        loop {
            let unprinted = |state: &State| state.phase == UNPRINTED && state.can_be_copied();
            let (_, state) = self.lowest(unprinted)?;
            // If somebody else was faster, the next one is looked for.
            if let Some(claim) = self.claim(state.number) {
                return Some(claim);
            }
        }
    }

    /// Claims the record `number`, if it is there and no printer has claimed it.
    pub fn claim(&self, number: u64) -> Option<Claim<'_, T>> {
        let (slot, _) = self.lowest(|state| state.number == number)?;
        let unprinted = |state: State| state.number == number && state.phase == UNPRINTED;
        let (_, value) = slot.copy(|state| unprinted(state).then_some(State { phase: PRINTING, ..state }))?;
        Some(Claim { slot, number, value })
    }

    /// The record with the lowest number above `number`: with 0 the oldest that there is. Reading changes nothing.
    pub fn next_after(&self, number: u64) -> Option<RingRecord<T>> {
        loop {
            let (slot, seen) = self.lowest(|state| state.number > number && state.can_be_copied())?;
            let copied = slot.copy(|state| (state.number == seen.number).then_some(state));
            // If it was overwritten meanwhile, there is a later one.
            if let Some((state, value)) = copied
                && let Some(print_state) = state.print_state()
            {
                return Some(RingRecord { number: state.number, state: print_state, value });
            }
        }
    }

    /// How many reports were begun: the highest number.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// How many reports were overwritten before a printer claimed them, were given up by their writer, or found no place.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// How many records are waiting for a printer.
    pub fn unprinted(&self) -> usize {
        self.states().filter(|(_, state)| state.phase == UNPRINTED).count()
    }

    fn count_lost(&self, lost: bool) {
        if lost {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn states(&self) -> impl Iterator<Item = (&Slot<T>, State)> {
        self.slots.iter().map(|slot| (slot, State::unpack(slot.state.load(Ordering::Relaxed))))
    }

    /// The record whose turn it is, without looking at the others: an empty one, or a printed one of a whole round before. It is the
    /// oldest as long as no record was kept longer than its turn.
    fn next_in_turn(&self, number: u64) -> Option<(&Slot<T>, State)> {
        let slot = &self.slots[(number - 1) as usize % N];
        let state = State::unpack(slot.state.load(Ordering::Relaxed));
        let old = state.phase == EMPTY || state.phase == PRINTED && state.number + N as u64 == number;
        (old && state.can_be_taken()).then_some((slot, state))
    }

    /// The record to overwrite: one that waits for its printer only if there is no other, however old it is.
    fn oldest(&self) -> Option<(&Slot<T>, State)> {
        let done = |state: &State| state.can_be_taken() && state.phase != UNPRINTED;
        self.lowest(done).or_else(|| self.lowest(|state| state.can_be_taken()))
    }

    fn lowest(&self, wanted: impl Fn(&State) -> bool) -> Option<(&Slot<T>, State)> {
        self.states().filter(|(_, state)| wanted(state)).min_by_key(|(_, state)| state.number)
    }
}

impl<T: Copy> Slot<T> {
    /// Copies the record, if `admit` says so of its state and what to make of that. Returns the state that was left.
    fn copy(&self, admit: impl Fn(State) -> Option<State>) -> Option<(State, T)> {
        let announce = |word| {
            let state = State::unpack(word);
            let next = admit(state).filter(|_| state.can_be_copied())?;
            Some(State { readers: next.readers + 1, ..next }.pack())
        };
        // Acquire: pairs with the Release of `publish`, so that the copier sees what was written.
        let word = self.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, announce).ok()?;
        let value = self.record.with(|record| {
            // SAFETY: (1) the record is always initialised; (2) no writer takes it, because we are counted as a reader; (3) `T` is
            // `Copy`.
            unsafe { record.cast::<T>().read() }
        });
        // Release: the copy comes before whatever the next writer does.
        self.state.fetch_sub(ONE_READER, Ordering::Release);
        Some((State::unpack(word), value))
    }
}

/// A record that is being written.
///
/// Having one means: nobody else writes or reads the record, and `number` is nobody else's. Dropped without
/// [`publish`](Self::publish), the record is empty and the report counts as lost.
#[must_use]
#[derive(Debug)]
pub struct Writing<'a, T: Copy, const N: usize> {
    ring: &'a Ring<T, N>,
    slot: &'a Slot<T>,
    number: u64,
}

impl<T: Copy, const N: usize> Writing<'_, T, N> {
    /// The number of the report, from 1.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Writes the record and makes it visible to printers and readers. Returns the number of the report.
    pub fn publish(self, record: T) -> u64 {
        self.fill(|place| *place = record)
    }

    /// As [`publish`](Self::publish), for a record that is made where it is kept: `fill` finds it as its last writer left it, or blank. In
    /// the fault path it is not copied then. Who dies in `fill` keeps the record for ever; nobody reads it.
    #[inline]
    pub fn fill(self, fill: impl FnOnce(&mut T)) -> u64 {
        let (slot, number) = (self.slot, self.number);
        slot.record.with_mut(|place| {
            // SAFETY: (1) the phase is `WRITING` and ours: nobody else takes or copies the record (see `Ring`); (2) it is always
            // initialised.
            fill(unsafe { &mut *place.cast::<T>() });
        });
        // Release: whoever sees the phase sees the record.
        slot.state.store(State { number, readers: 0, phase: UNPRINTED }.pack(), Ordering::Release);
        core::mem::forget(self);
        number
    }
}

impl<T: Copy, const N: usize> Drop for Writing<'_, T, N> {
    fn drop(&mut self) {
        self.ring.count_lost(true);
        self.slot.state.store(State::NONE.pack(), Ordering::Release);
    }
}

/// A record that this printer, and no other, prints: a copy of it.
///
/// Dropping it says that it was printed. A printer that dies leaves it as being printed.
#[must_use]
#[derive(Debug)]
pub struct Claim<'a, T: Copy> {
    slot: &'a Slot<T>,
    number: u64,
    value: T,
}

impl<T: Copy> Claim<'_, T> {
    /// The number of the report, from 1.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }
}

impl<T: Copy> Deref for Claim<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Copy> Drop for Claim<'_, T> {
    fn drop(&mut self) {
        let number = self.number;
        let printed = |word| {
            let state = State::unpack(word);
            let ours = state.number == number && state.phase == PRINTING;
            ours.then_some(State { phase: PRINTED, ..state }.pack())
        };
        // If it was overwritten meanwhile, there is nothing to say. Release: a later writer's claim is after the print.
        self.slot.state.fetch_update(Ordering::Release, Ordering::Relaxed, printed).ok();
    }
}
