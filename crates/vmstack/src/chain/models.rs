use super::{Chain, FreeList, MagazineList, Records};
use crate::geometry::SlotIndex;
use crate::slots::SlotRecord;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

const SLOTS: u32 = 2;

struct Shared {
    list: FreeList,
    magazines: MagazineList,
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
        let (list, magazines) = (FreeList::new(), MagazineList::new());
        Arc::new(Self { list, magazines, records, memory: UnsafeCell::new(0) })
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

    /// A magazine of one slot.
    fn magazine(&self, slot: u32) -> Chain {
        let mut chain = Chain::new();
        chain.push(SlotIndex::new(slot), self.record(SlotIndex::new(slot)));
        chain
    }
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

#[test]
fn a_magazine_is_taken_by_one_cpu_with_all_that_was_done_to_its_stacks() {
    loom::model(|| {
        let shared = Shared::new();
        shared.magazines.push(shared.magazine(0), &*shared);
        let other = Arc::clone(&shared);
        let theirs = thread::spawn(move || {
            other.write_memory();
            other.magazines.push(other.magazine(1), &*other);
            other.magazines.pop(&*other)
        });
        let mine = shared.magazines.pop(&*shared);
        if mine.and_then(Chain::first).is_some_and(|slot| slot.get() == 1) {
            shared.write_memory();
        }
        let theirs = theirs.join().expect("the other CPU does not panic");
        let left = core::iter::from_fn(|| shared.magazines.pop(&*shared));
        let all = left.chain(mine).chain(theirs).filter_map(Chain::first);
        let mut slots: Vec<u32> = all.map(SlotIndex::get).collect();
        slots.sort_unstable();
        assert!(slots.iter().copied().eq(0..SLOTS), "each slot once: {slots:?}");
    });
}
