//! The `x86_64` crate as a second opinion: it says the same of our bits, and finds the same in our tables.

mod common;

use common::{Slab, frame, range, va};
use proptest::prelude::*;
use vmstack::{Pages, PhysAddr};
use vmstack_paging::{Access, Attributes, Entry, Format, Level, Mapper, X86_64};
use x86_64::structures::paging::mapper::{PageTableFrameMapping, TranslateResult};
use x86_64::structures::paging::{
    MappedPageTable, PageTable, PageTableFlags as Flags, PhysFrame, Translate, page_table::PageTableEntry,
};

fn flags(attributes: Attributes, dirty: bool, level: Level) -> Flags {
    let mut flags = Flags::PRESENT | Flags::ACCESSED;
    flags.set(Flags::WRITABLE, attributes.access().is_writable());
    flags.set(Flags::NO_EXECUTE, !attributes.access().is_executable());
    flags.set(Flags::USER_ACCESSIBLE, attributes.is_user());
    flags.set(Flags::GLOBAL, attributes.is_global());
    flags.set(Flags::NO_CACHE | Flags::WRITE_THROUGH, attributes.is_uncached());
    flags.set(Flags::DIRTY, dirty);
    flags.set(Flags::HUGE_PAGE, level > Level::PAGE);
    flags
}

/// The 64 bits of an entry as the oracle writes it.
fn oracle_word(frame: u64, flags: Flags) -> u64 {
    let mut entry = PageTableEntry::new();
    entry.set_addr(x86_64::PhysAddr::new(frame), flags);
    // SAFETY: a `PageTableEntry` is a transparent wrapper of one `u64`.
    unsafe { core::mem::transmute::<PageTableEntry, u64>(entry) }
}

proptest! {
    #[test]
    fn a_leaf_has_the_bits_that_the_oracle_gives_it(
        raw in any::<u64>(), level in 0_u8..3, access in 0..3, bits in any::<[bool; 4]>()
    ) {
        let [user, global, uncached, dirty] = bits;
        let access = [Access::Read, Access::ReadWrite, Access::ReadExecute][access as usize];
        let base = if user { Attributes::user(access) } else { Attributes::kernel(access) };
        let attributes = base.with_global(global).with_uncached(uncached);
        let level = Level::new(level);
        let frame = (raw % (1 << 52)) & !(X86_64::<4>::entry_bytes(level) as u64 - 1);
        let leaf = Entry::Leaf { frame: PhysAddr::new(frame), attributes, dirty };
        let word = oracle_word(frame, flags(attributes, dirty, level));
        prop_assert_eq!(X86_64::<4>::encode(leaf, level), word);
        prop_assert_eq!(X86_64::<4>::decode(word, level), leaf);
    }

    #[test]
    fn a_table_has_the_bits_that_the_oracle_gives_it(raw in any::<u64>(), level in 1_u8..4) {
        let at = (raw % (1 << 52)) & !0xfff;
        let word = oracle_word(at, Flags::PRESENT | Flags::WRITABLE | Flags::USER_ACCESSIBLE | Flags::ACCESSED);
        prop_assert_eq!(X86_64::<4>::encode(Entry::Table { at: PhysAddr::new(at) }, Level::new(level)), word);
    }

    #[test]
    fn canonical_is_what_the_oracle_calls_canonical(addr in any::<u64>(), shift in 0..20) {
        let addr = ((addr as i64) >> shift) as u64;
        prop_assert_eq!(X86_64::<4>::is_canonical(va(addr as usize)), x86_64::VirtAddr::try_new(addr).is_ok());
    }
}

/// Our tables as the oracle's, in the order of their physical addresses: copies, so that nobody shares them.
struct Copies {
    first: u64,
    tables: *mut PageTable,
}

// SAFETY: `tables` points to as many copies as tables were live, and each lies as far from the first as its original
// did.
unsafe impl PageTableFrameMapping for Copies {
    fn frame_to_pointer(&self, frame: PhysFrame) -> *mut PageTable {
        let index = (frame.start_address().as_u64() - self.first) / 4096;
        self.tables.wrapping_add(usize::try_from(index).expect("the index of a table"))
    }
}

/// Copies the first `live` tables of `slab`.
fn copy(slab: &Slab, live: usize) -> Vec<PageTable> {
    let copy_one = |at| {
        let (ours, mut theirs) = (slab.live_table(at), PageTable::new());
        for (index, entry) in theirs.iter_mut().enumerate() {
            // SAFETY: a `PageTableEntry` is a transparent wrapper of one `u64`.
            *entry = unsafe { core::mem::transmute::<u64, PageTableEntry>(ours.slot(index).raw()) };
        }
        theirs
    };
    slab.addresses().take(live).map(copy_one).collect()
}

const TEXT: usize = 0xffff_ffff_801f_e000;
const DIRECT_MAP: usize = 0xffff_8000_0000_0000;
const STACK: usize = 0xffff_c900_0000_0000;

/// Maps a little of everything: pages over two leaf tables, a linear mapping, and a stack of which two pages are
/// parked.
fn map_a_kernel(mapper: &Mapper<'_, X86_64, Slab>) {
    let execute = Attributes::kernel(Access::ReadExecute);
    let data = Attributes::kernel(Access::ReadWrite);
    let memory = range(DIRECT_MAP, (1 << 30) + (2 << 20));
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.map(Pages::new(va(TEXT), 4), execute, (7..).map(frame)) }.expect("free");
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.map_linear(memory, PhysAddr::new(0), data, Level::HUGE) }.expect("free");
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.map(Pages::new(va(STACK), 4), data, (0..).map(frame)) }.expect("free");
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.park(Pages::new(va(STACK), 2)) }.expect("mapped");
}

/// What the oracle finds at `at`: physical address, and whether it is executable. It tells of every leaf that is not
/// zero, and leaves it to its caller to look at the present bit.
fn oracle_translates(oracle: &impl Translate, at: usize) -> Option<(u64, bool)> {
    match oracle.translate(x86_64::VirtAddr::new(at as u64)) {
        TranslateResult::Mapped { frame, offset, flags } if flags.contains(Flags::PRESENT) => {
            Some((frame.start_address().as_u64() + offset, !flags.contains(Flags::NO_EXECUTE)))
        }
        _ => None,
    }
}

#[test]
fn the_oracle_translates_our_tables_as_we_do() {
    let (slab, root) = Slab::with_root();
    // SAFETY: the root is a live table of this slab, and only mappers change what is in it.
    let mapper = unsafe { Mapper::<X86_64, _>::new(root, &slab) };
    map_a_kernel(&mapper);
    let mut tables = copy(&slab, slab.live());
    let mut root_copy = copy(&slab, 1).remove(0);
    let copies = Copies { first: root.get(), tables: tables.as_mut_ptr() };
    // SAFETY: the copies are a page table of 4 levels, found by the addresses of what they were copied from.
    let oracle = unsafe { MappedPageTable::new(&mut root_copy, copies) };
    for (start, bytes) in [(TEXT, 0x6000), (DIRECT_MAP, 2 << 30), (STACK, 0x6000)] {
        for at in (start..start + bytes).step_by(bytes / 6 + 1) {
            let ours = mapper.translate(va(at));
            let ours = ours.map(|(phys, leaf)| (phys.get(), leaf.attributes.access().is_executable()));
            assert_eq!(ours, oracle_translates(&oracle, at), "at {at:#x}");
        }
    }
}
