//! Chains, the free list and magazines, one CPU at a time.

use super::{Chain, FreeList, MagazineList, Records};
use crate::geometry::SlotIndex;
use crate::slots::SlotRecord;

struct Table(Vec<SlotRecord>);

impl Records for Table {
    fn record(&self, slot: SlotIndex) -> &SlotRecord {
        &self.0[slot.get() as usize]
    }
}

fn table(slots: usize) -> Table {
    Table((0..slots).map(|_| SlotRecord::new()).collect())
}

fn chain(table: &Table, slots: core::ops::Range<u32>) -> Chain {
    let mut chain = Chain::new();
    slots.map(SlotIndex::new).for_each(|slot| chain.push(slot, table.record(slot)));
    chain
}

fn slots(mut chain: Chain, table: &Table) -> Vec<u32> {
    core::iter::from_fn(|| chain.pop(table)).map(SlotIndex::get).collect()
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
    let mut chain = chain(&table, 0..3);
    assert_eq!(chain.len(), 3);
    assert_eq!(chain.pop(&table), Some(SlotIndex::new(2)));
    assert_eq!((chain.len(), chain.is_empty()), (2, false));
    assert_eq!(slots(chain.take(), &table), [1, 0]);
    assert_eq!((chain.is_empty(), chain.len()), (true, 0));
}

#[test]
fn magazines_of_any_size_come_out_whole_last_in_first_out() {
    let table = table(9);
    let magazines = MagazineList::new();
    for part in [0..3, 3..4, 4..9] {
        magazines.push(chain(&table, part), &table);
    }
    magazines.push(Chain::new(), &table);
    let out = core::iter::from_fn(|| magazines.pop(&table)).map(|chain| (chain.len(), slots(chain, &table)));
    let expected = [(5, vec![8, 7, 6, 5, 4]), (1, vec![3]), (3, vec![2, 1, 0])];
    assert!(out.eq(expected));
}
