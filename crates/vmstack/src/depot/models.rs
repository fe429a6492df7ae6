//! Two CPUs, or three, at one depot.

use super::Depot;
use crate::chain::{Chain, Records};
use crate::geometry::SlotIndex;
use crate::slots::SlotRecord;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

const SLOTS: u32 = 4;

struct Shared {
    depot: Depot,
    records: Vec<SlotRecord>,
    /// Stands for the memory of the stacks: loom reports an access that no hand-over orders.
    memory: Vec<UnsafeCell<u32>>,
}

impl Records for Shared {
    fn record(&self, slot: SlotIndex) -> &SlotRecord {
        &self.records[slot.get() as usize]
    }
}

impl Shared {
    fn new() -> Arc<Self> {
        let records = (0..SLOTS).map(|_| SlotRecord::new()).collect();
        let memory = (0..SLOTS).map(|_| UnsafeCell::new(0)).collect();
        Arc::new(Self { depot: Depot::new(), records, memory })
    }

    /// A magazine of two stacks, used before.
    fn magazine(&self, first: u32) -> Chain {
        let mut chain = Chain::new();
        for slot in [first, first + 1] {
            self.memory[slot as usize].with_mut(|_| ());
            chain.push(SlotIndex::new(slot), &self.records[slot as usize]);
        }
        chain
    }

    fn leave(&self, magazine: Chain) {
        self.depot.push(magazine, self);
        self.check_count();
    }

    /// Takes a magazine, and uses its stacks.
    fn take(&self) -> Option<Chain> {
        let magazine = self.depot.pop(self)?;
        self.check_count();
        let slots: Vec<u32> = magazine.slots(self).map(SlotIndex::get).collect();
        assert!(slots == [1, 0] || slots == [3, 2], "a magazine is whole: {slots:?}");
        slots.iter().for_each(|&slot| self.memory[slot as usize].with_mut(|_| ()));
        Some(magazine)
    }

    fn check_count(&self) {
        assert!(self.depot.held() <= SLOTS, "the count is never below zero");
    }
}

#[test]
fn magazines_come_out_whole_and_the_count_is_never_below_zero() {
    loom::model(|| {
        let shared = Shared::new();
        shared.leave(shared.magazine(0));
        let other = Arc::clone(&shared);
        let theirs = thread::spawn(move || {
            other.leave(other.magazine(2));
            other.take()
        });
        let mine = shared.take();
        let theirs = theirs.join().expect("the other CPU does not panic");
        let taken: u32 = mine.iter().chain(&theirs).map(Chain::len).sum();
        assert_eq!(shared.depot.held() + taken, SLOTS, "at rest the count is right");
    });
}

#[test]
fn a_magazine_that_is_exchanged_comes_back_with_what_was_done_to_its_stacks() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Shared::new();
        shared.leave(shared.magazine(0));
        let exchange = |shared: &Shared| {
            if let Some(magazine) = shared.take() {
                shared.leave(magazine);
            }
        };
        let others = [Arc::clone(&shared), Arc::clone(&shared)].map(|other| thread::spawn(move || exchange(&other)));
        exchange(&shared);
        others.into_iter().for_each(|other| other.join().expect("another CPU does not panic"));
        assert_eq!((shared.depot.held(), shared.take().map(|magazine| magazine.len())), (2, Some(2)));
    });
}

#[test]
fn what_is_in_use_while_it_is_asked_what_was_idle_is_not_idle_in_the_next_interval() {
    loom::model(|| {
        let shared = Shared::new();
        shared.leave(shared.magazine(0));
        shared.leave(shared.magazine(2));
        shared.depot.take_idle();
        let other = Arc::clone(&shared);
        let takes = thread::spawn(move || {
            let magazine = other.take();
            other.depot.note_need();
            magazine
        });
        assert!(shared.depot.take_idle() <= SLOTS);
        let magazine = takes.join().expect("the other CPU does not panic").expect("there were two");
        shared.leave(magazine);
        assert!(shared.depot.take_idle() <= 2, "one of the two was in use when the interval began, or was taken in it");
    });
}

#[test]
fn what_is_owed_is_never_more_than_what_is_there() {
    loom::model(|| {
        let shared = Shared::new();
        shared.leave(shared.magazine(0));
        let other = Arc::clone(&shared);
        let gives_back = thread::spawn(move || {
            if let Some(magazine) = other.take() {
                other.depot.pay(magazine.len());
            }
        });
        shared.depot.owe_all();
        assert!(shared.depot.excess(u32::MAX) <= 2);
        gives_back.join().expect("the other CPU does not panic");
        assert_eq!(shared.depot.excess(u32::MAX), 0, "nothing is there any more");
    });
}
