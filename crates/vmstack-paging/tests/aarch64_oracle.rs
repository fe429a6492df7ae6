//! The `aarch64-paging` crate as a second opinion: what it writes, we read, and would have written ourselves.

mod common;

use core::cell::RefCell;
use core::ptr::NonNull;

use aarch64_paging::descriptor::{Attributes as Flags, PhysicalAddress};
use aarch64_paging::paging::{
    Constraints, MemoryRegion, PageTable, RootTable, Translation, TranslationRegime, VaRange,
};
use vmstack::PhysAddr;
use vmstack_paging::{Aarch64, Access, Attributes, Entry, Format, Level};

/// Memory for the oracle's tables, at their own addresses. Leaked, because the oracle's tables are few.
#[derive(Default)]
struct Identity {
    tables: RefCell<Vec<NonNull<PageTable>>>,
}

impl Translation for &Identity {
    fn allocate_table(&mut self) -> (NonNull<PageTable>, PhysicalAddress) {
        let table = PageTable::new();
        self.tables.borrow_mut().push(table);
        (table, PhysicalAddress(table.as_ptr().addr()))
    }

    unsafe fn deallocate_table(&mut self, _table: NonNull<PageTable>) {}

    fn physical_to_virtual(&self, pa: PhysicalAddress) -> NonNull<PageTable> {
        let is_it = |table: &&NonNull<PageTable>| table.as_ptr().addr() == pa.0;
        *self.tables.borrow().iter().find(is_it).expect("the oracle made the table")
    }
}

/// The words of the table at physical address `at`.
fn words(memory: &Identity, at: usize) -> [u64; 512] {
    let table = (&memory).physical_to_virtual(PhysicalAddress(at));
    // SAFETY: the table consists of 512 atomic words, is never freed, and nobody writes to it now.
    unsafe { table.cast::<[u64; 512]>().read() }
}

fn flags(attributes: Attributes) -> Flags {
    let executable = attributes.access().is_executable();
    let mut flags = Flags::VALID | Flags::ACCESSED;
    flags.set(Flags::READ_ONLY, !attributes.access().is_writable());
    flags.set(Flags::UXN, !executable || !attributes.is_user());
    flags.set(Flags::PXN, !executable || attributes.is_user());
    flags.set(Flags::USER, attributes.is_user());
    flags.set(Flags::NON_GLOBAL, !attributes.is_global());
    flags | if attributes.is_uncached() { Flags::ATTRIBUTE_INDEX_1 } else { Flags::INNER_SHAREABLE }
}

/// The word of the leaf by which the oracle maps `bytes` at `at` to `frame`, found by following its tables as ours.
fn oracle_leaf<const UPPER: bool>(at: usize, bytes: usize, frame: usize, attributes: Attributes) -> (u64, Level) {
    let memory = Identity::default();
    let half = if UPPER { VaRange::Upper } else { VaRange::Lower };
    let mut oracle = RootTable::new(&memory, 0, TranslationRegime::El1And0, half);
    let region = MemoryRegion::new(at, at + bytes);
    let to = PhysicalAddress(frame);
    oracle.map_range(&region, to, flags(attributes), Constraints::NO_CONTIGUOUS_HINT).expect("the oracle maps it");
    let (mut table, mut level) = (oracle.to_physical().0, Aarch64::<UPPER>::top());
    loop {
        let index = Aarch64::<UPPER>::index(vmstack::VirtAddr::new(at), level);
        let word = words(&memory, table)[index];
        match (Aarch64::<UPPER>::decode(word, level), level.down()) {
            (Entry::Table { at: next }, Some(down)) => (table, level) = (next.get() as usize, down),
            _ => return (word, level),
        }
    }
}

fn every_leaf_is_what_the_oracle_writes<const UPPER: bool>() {
    let start = if UPPER { 0xffff_1234_4000_0000 } else { 0x1234_4000_0000 };
    for (bytes, wanted) in [(1 << 12, Level::PAGE), (1 << 21, Level::LARGE), (1 << 30, Level::HUGE)] {
        for access in [Access::Read, Access::ReadWrite, Access::ReadExecute] {
            let kernel = Attributes::kernel(access);
            for attributes in [kernel, Attributes::user(access), kernel.with_uncached(true), kernel.with_global(false)]
            {
                let (word, level) = oracle_leaf::<UPPER>(start, bytes, 0x00ab_c000_0000, attributes);
                let leaf = Entry::Leaf { frame: PhysAddr::new(0x00ab_c000_0000), attributes, dirty: true };
                assert_eq!((Aarch64::<UPPER>::decode(word, level), level), (leaf, wanted));
                let ours = Aarch64::<UPPER>::encode(leaf.with_dirty(false), level);
                assert_eq!(ours, word, "ours {ours:#x}, theirs {word:#x}");
            }
        }
    }
}

#[test]
fn every_leaf_of_the_lower_half_is_what_the_oracle_writes() {
    every_leaf_is_what_the_oracle_writes::<false>();
}

#[test]
fn every_leaf_of_the_upper_half_is_what_the_oracle_writes() {
    every_leaf_is_what_the_oracle_writes::<true>();
}
