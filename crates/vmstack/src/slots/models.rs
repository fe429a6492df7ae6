//! Models of what CPUs do to records at the same time, checked by loom in every order (`--cfg loom`).

use super::{FreeList, Phase, Records, SlotIndex, SlotRecord};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

const SLOTS: u32 = 2;

struct Shared {
    list: FreeList,
    records: Vec<SlotRecord>,
    /// Stands for the memory of a stack: loom reports an access that no hand-over orders.
    memory: UnsafeCell<u32>,
}

impl Records for Shared {
    fn record(&self, slot: SlotIndex) -> &SlotRecord {
        &self.records[slot.get() as usize]
    }
}

impl Shared {
    fn new() -> Arc<Self> {
        let records = (0..SLOTS).map(|_| SlotRecord::new()).collect();
        Arc::new(Self { list: FreeList::new(), records, memory: UnsafeCell::new(0) })
    }

    fn read_memory(&self) {
        self.memory.with(|_| ());
    }

    fn write_memory(&self) {
        self.memory.with_mut(|_| ());
    }

    fn push(&self, slot: u32) {
        self.list.push(SlotIndex::new(slot), self);
    }

    fn pop(&self) -> Option<SlotIndex> {
        self.list.pop(self)
    }

    /// Asserts that `held` and what is left on the list are all slots, each once.
    fn assert_all(&self, held: impl IntoIterator<Item = SlotIndex>) {
        let left = core::iter::from_fn(|| self.pop());
        let mut slots: Vec<u32> = left.chain(held).map(SlotIndex::get).collect();
        slots.sort_unstable();
        assert!(slots.iter().copied().eq(0..SLOTS), "each slot once: {slots:?}");
    }
}

#[test]
fn exactly_one_of_owner_and_pin_is_last_and_it_comes_after_the_other() {
    loom::model(|| {
        const FIRST_LIFE: u32 = 1;
        let shared = Shared::new();
        let reader = Arc::clone(&shared);
        let pinned = thread::spawn(move || {
            let record = &reader.records[0];
            record.pin(FIRST_LIFE).is_ok_and(|()| {
                reader.read_memory();
                let last = record.unref();
                if last {
                    reader.write_memory();
                }
                last
            })
        });
        let record = &shared.records[0];
        record.set_phase(Phase::Ready);
        shared.write_memory();
        assert_eq!(record.hand_out(7), FIRST_LIFE);
        record.hand_over();
        let owner_was_last = record.unref();
        if owner_was_last {
            shared.write_memory();
        }
        let pin_was_last = pinned.join().expect("the reader does not panic");
        assert!(owner_was_last ^ pin_was_last, "the slot is released once, by the last");
    });
}

#[test]
fn a_head_that_was_popped_and_pushed_again_is_not_taken_for_the_old_one() {
    loom::model(|| {
        let shared = Shared::new();
        (0..SLOTS).for_each(|slot| shared.push(slot));
        let other = Arc::clone(&shared);
        let theirs = thread::spawn(move || {
            let (first, second) = (other.pop(), other.pop());
            if let Some(slot) = first {
                other.push(slot.get());
            }
            second
        });
        let mine = shared.pop();
        let theirs = theirs.join().expect("the other CPU does not panic");
        shared.assert_all(mine.into_iter().chain(theirs));
    });
}

#[test]
fn whoever_pops_a_slot_sees_what_was_done_to_it_before_it_was_pushed() {
    loom::model(|| {
        let shared = Shared::new();
        shared.push(0);
        let other = Arc::clone(&shared);
        let pushes = thread::spawn(move || {
            other.write_memory();
            other.push(1);
        });
        let mine = shared.pop();
        if mine.is_some_and(|slot| slot.get() == 1) {
            shared.write_memory();
        }
        pushes.join().expect("the other CPU does not panic");
        shared.assert_all(mine);
    });
}
