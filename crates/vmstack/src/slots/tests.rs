//! Records, the free list and chains, one CPU at a time.

use super::{Chain, FreeList, Phase, PinError, Records, SlotIndex, SlotRecord};

struct Table(Vec<SlotRecord>);

impl Records for Table {
    fn record(&self, slot: SlotIndex) -> &SlotRecord {
        &self.0[slot.get() as usize]
    }
}

fn table(slots: usize) -> Table {
    Table((0..slots).map(|_| SlotRecord::new()).collect())
}

#[test]
fn a_pin_holds_the_stack_past_its_owner() {
    let record = SlotRecord::new();
    record.set_phase(Phase::Ready);
    let generation = record.hand_out(7);
    assert_eq!(record.pin(generation), Ok(()));
    record.hand_over();
    assert_eq!(record.phase(), Phase::Dead);
    assert!(!record.unref(), "the owner is not the last while a pin is held");
    assert!(record.unref(), "the pin is");
    assert_eq!(record.pin(generation), Err(PinError::Gone));
}

#[test]
fn a_pin_for_an_earlier_life_is_refused() {
    let record = SlotRecord::new();
    record.set_phase(Phase::Ready);
    let first = record.hand_out(1);
    assert!(record.unref());
    record.set_phase(Phase::Ready);
    let second = record.hand_out(2);
    assert_ne!(first, second);
    assert_eq!(record.pin(first), Err(PinError::Gone));
    assert_eq!(record.pin(second), Ok(()));
}

#[test]
fn the_free_list_gives_every_slot_once_last_in_first_out() {
    let table = table(5);
    let list = FreeList::new();
    (0..5).for_each(|i| list.push(SlotIndex::new(i), &table));
    let popped: Vec<u32> = core::iter::from_fn(|| list.pop(&table)).map(SlotIndex::get).collect();
    assert_eq!(popped, [4, 3, 2, 1, 0]);
    assert_eq!(list.pop(&table), None);
}

#[test]
fn a_chain_counts_what_it_holds() {
    let table = table(3);
    let mut chain = Chain::new();
    (0..3).for_each(|i| chain.push(SlotIndex::new(i), &table));
    assert_eq!(chain.len(), 3);
    assert_eq!(chain.pop(&table), Some(SlotIndex::new(2)));
    assert_eq!(chain.len(), 2);
}

#[test]
fn a_write_around_the_mapping_is_seen_once() {
    let record = SlotRecord::new();
    assert!(!record.take_written());
    record.mark_written();
    assert!(record.take_written());
    assert!(!record.take_written());
}
