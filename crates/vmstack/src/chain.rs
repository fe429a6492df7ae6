//! Slots in a row: chains, which one CPU holds, and lists, which all CPUs share. Both are linked through the slots' records, so they
//! cost no memory, and freeing needs none (INV-FREE).
//!
//! A *magazine* is a chain (Bonwick & Adams, USENIX 2001, have an array there). So it has any size, and to pass one on is to pass on
//! two words.
//!
//! Contexts: task and interrupt. Never NMI, never the fault path.

use crate::flight::Batch;
use crate::geometry::SlotIndex;
use crate::slots::SlotRecord;
use crate::sync::{AtomicU64, Ordering};

/// How a chain or a list finds the link of a slot.
pub(crate) trait Records {
    /// The record of `slot`, which was used before.
    fn record(&self, slot: SlotIndex) -> &SlotRecord;
}

/// A chain of slots that one CPU holds: last in, first out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chain {
    /// The first slot plus one; zero: none.
    head: u32,
    len: u32,
}

impl Chain {
    pub(crate) const fn new() -> Self {
        Self { head: 0, len: 0 }
    }

    #[inline]
    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.head == 0
    }

    #[inline]
    pub(crate) fn push(&mut self, slot: SlotIndex, record: &SlotRecord) {
        record.next.store(self.head, Ordering::Relaxed);
        self.head = slot.get() + 1;
        self.len += 1;
    }

    #[inline]
    pub(crate) fn pop(&mut self, records: &impl Records) -> Option<SlotIndex> {
        let slot = SlotIndex::new(self.head.checked_sub(1)?);
        self.head = records.record(slot).next.load(Ordering::Relaxed);
        self.len -= 1;
        Some(slot)
    }

    /// The slots, the last one first. They stay.
    pub(crate) fn slots<'r, R: Records>(&self, records: &'r R) -> impl Iterator<Item = SlotIndex> + Clone + use<'r, R> {
        let mut left = *self;
        core::iter::from_fn(move || left.pop(records))
    }

    /// All of it, leaving none.
    pub(crate) const fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }

    /// The first slot, which stands for the chain while it is in a depot.
    fn first(self) -> Option<SlotIndex> {
        Some(SlotIndex::new(self.head.checked_sub(1)?))
    }
}

impl Batch for Chain {
    #[inline]
    fn is_empty(&self) -> bool {
        self.head == 0
    }
}

/// The head of a lock-free stack of slots: the index of the first one plus one (zero: none), and a tag that counts pushes and
/// pops, so that a head that was popped and pushed again between a load and its exchange is not mistaken for the old one. 2^32
/// operations inside one pop by another CPU would fool it.
#[derive(Debug)]
struct Head(AtomicU64);

impl Head {
    #[cfg(not(all(loom, test)))]
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[cfg(all(loom, test))]
    fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Puts `slot` in front. `link` is told what comes after it.
    fn push(&self, slot: SlotIndex, link: impl Fn(u32)) {
        let mut head = self.0.load(Ordering::Relaxed);
        loop {
            link(head as u32);
            let new = next_tag(head) | u64::from(slot.get() + 1);
            // Release: the link, and everything done to the slot, before whoever pops it.
            match self.0.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes the first slot. `link` says what comes after it.
    fn pop(&self, link: impl Fn(SlotIndex) -> u32) -> Option<SlotIndex> {
        // Acquire, here and on failure: pairs with the push that made this head, so that its link is the one we read.
        let mut head = self.0.load(Ordering::Acquire);
        loop {
            let slot = SlotIndex::new((head as u32).checked_sub(1)?);
            let new = next_tag(head) | u64::from(link(slot));
            match self.0.compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(slot),
                Err(now) => head = now,
            }
        }
    }
}

/// The tag of `head`, counted on, in its place.
const fn next_tag(head: u64) -> u64 {
    ((head >> 32).wrapping_add(1)) << 32
}

/// The slots that were used and are free again.
#[derive(Debug)]
pub(crate) struct FreeList(Head);

impl FreeList {
    #[cfg(not(all(loom, test)))]
    pub(crate) const fn new() -> Self {
        Self(Head::new())
    }

    #[cfg(all(loom, test))]
    pub(crate) fn new() -> Self {
        Self(Head::new())
    }

    pub(crate) fn push(&self, slot: SlotIndex, records: &impl Records) {
        let record = records.record(slot);
        self.0.push(slot, |next| record.next.store(next, Ordering::Relaxed));
    }

    pub(crate) fn pop(&self, records: &impl Records) -> Option<SlotIndex> {
        self.0.pop(|slot| records.record(slot).next.load(Ordering::Relaxed))
    }
}

/// The magazines that no CPU holds.
#[derive(Debug)]
pub(crate) struct MagazineList(Head);

impl MagazineList {
    #[cfg(not(all(loom, test)))]
    pub(crate) const fn new() -> Self {
        Self(Head::new())
    }

    #[cfg(all(loom, test))]
    pub(crate) fn new() -> Self {
        Self(Head::new())
    }

    /// Puts a magazine in. An empty one is nothing.
    pub(crate) fn push(&self, magazine: Chain, records: &impl Records) {
        let Some(first) = magazine.first() else { return };
        let record = records.record(first);
        record.rounds.store(magazine.len, Ordering::Relaxed);
        self.0.push(first, |next| record.next_magazine.store(next, Ordering::Relaxed));
    }

    /// Takes the magazine that was put in last.
    pub(crate) fn pop(&self, records: &impl Records) -> Option<Chain> {
        let first = self.0.pop(|slot| records.record(slot).next_magazine.load(Ordering::Relaxed))?;
        let len = records.record(first).rounds.load(Ordering::Relaxed);
        Some(Chain { head: first.get() + 1, len })
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

/// Models of what CPUs do to lists at the same time, checked by loom in every order (`--cfg loom`).
#[cfg(all(loom, test))]
mod models;
