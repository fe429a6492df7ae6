//! What the tests share: table memory that keeps count and fails on demand, a walk of its own, and the list of formats.

#![expect(dead_code, reason = "each test file uses a part of it")]

use core::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vmstack::{Pages, PhysAddr, VirtAddr, VirtRange};
use vmstack_paging::{
    Access, Attributes, Entry, Format, Leaf, LeafError, Level, MapError, Mapper, Slot, Table, TableMemory,
};

/// The physical address of the first table of every slab.
const FIRST_TABLE: u64 = 0x0010_0000;

/// A fixed number of tables, of which any may be live. A dead one is never read, and a freed one must be empty.
pub(crate) struct Slab {
    tables: Box<[Table]>,
    books: Mutex<Books>,
}

struct Books {
    live: Vec<bool>,
    budget: usize,
}

impl Slab {
    pub(crate) fn new() -> Self {
        const TABLES: usize = 64;
        let tables = (0..TABLES).map(|_| Table::new()).collect();
        Self { tables, books: Mutex::new(Books { live: vec![false; TABLES], budget: usize::MAX }) }
    }

    /// A slab and a root in it.
    pub(crate) fn with_root() -> (Self, PhysAddr) {
        let slab = Self::new();
        let root = slab.new_table().expect("the slab is empty");
        (slab, root)
    }

    /// Lets `tables` more tables be made, and then none.
    pub(crate) fn allow(&self, tables: usize) {
        self.books().budget = tables;
    }

    /// The number of tables that were made and not freed, roots included.
    pub(crate) fn live(&self) -> usize {
        self.books().live.iter().filter(|live| **live).count()
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = PhysAddr> {
        (0..self.tables.len()).map(|index| PhysAddr::new(FIRST_TABLE + 4096 * index as u64))
    }

    /// The table at `at`, which must be live.
    pub(crate) fn live_table(&self, at: PhysAddr) -> &Table {
        let index = index_of(at);
        assert!(self.books().live[index], "a table is used that is not live");
        &self.tables[index]
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn index_of(at: PhysAddr) -> usize {
    usize::try_from((at.get() - FIRST_TABLE) / 4096).expect("the address of a table")
}

// SAFETY: (1) `table` indexes memory that lives as long as the slab and consists of atomics; (2) `live` is set under a
// lock before a table is given out, and a table is zero when it is first made and was empty when it was freed; (3) the
// assertions end the test that they fail in.
unsafe impl TableMemory for Slab {
    unsafe fn table(&self, at: PhysAddr) -> &Table {
        self.live_table(at)
    }

    fn new_table(&self) -> Option<PhysAddr> {
        let mut books = self.books();
        books.budget = books.budget.checked_sub(1)?;
        let index = books.live.iter().position(|live| !live)?;
        books.live[index] = true;
        Some(PhysAddr::new(FIRST_TABLE + 4096 * index as u64))
    }

    unsafe fn free_table(&self, at: PhysAddr) {
        let index = index_of(at);
        assert!(self.tables[index].is_empty(), "a table is freed that is not empty");
        let mut books = self.books();
        assert!(books.live[index], "a table is freed twice");
        books.live[index] = false;
        books.budget = books.budget.saturating_add(1);
    }
}

/// An address well inside a half that the format translates, at a multiple of 1 GiB.
pub(crate) fn base<F: Format>() -> usize {
    let upper = if F::HALVES.has_upper() { usize::MAX << F::HALF_BITS } else { 0 };
    upper + (64 << 30)
}

pub(crate) fn va(addr: usize) -> VirtAddr {
    VirtAddr::new(addr)
}

pub(crate) fn range(start: usize, bytes: usize) -> VirtRange {
    VirtRange::new(va(start), bytes).expect("the range fits the address space")
}

/// The frame that the tests map where they map by number.
pub(crate) fn frame(number: usize) -> PhysAddr {
    PhysAddr::new(0x4000_0000 + 4096 * number as u64)
}

/// The slot of the page at `at`, found by a walk that shares no code with the mapper's.
pub(crate) fn slot<F: Format>(slab: &Slab, root: PhysAddr, at: usize) -> &Slot {
    let mut table = slab.live_table(root);
    for level in (1..F::LEVELS).rev() {
        let index = at >> (12 + 9 * u32::from(level)) & 511;
        let Entry::Table { at } = table.slot(index).read::<F>(Level::new(level)) else { panic!("no table") };
        table = slab.live_table(at);
    }
    table.slot(at >> 12 & 511)
}

/// The word that the hardware sees, to do what the hardware does.
pub(crate) fn word(slot: &Slot) -> &AtomicU64 {
    // SAFETY: a `Slot` is a transparent wrapper of one `AtomicU64`.
    unsafe { &*core::ptr::from_ref(slot).cast::<AtomicU64>() }
}

/// What most tests map.
pub(crate) const DATA: Attributes = Attributes::kernel(Access::ReadWrite);

pub(crate) fn mapper<F: Format>(slab: &Slab, root: PhysAddr) -> Mapper<'_, F, Slab> {
    // SAFETY: the root is a live table of this slab, and only mappers change what is in it.
    unsafe { Mapper::new(root, slab) }
}

/// Maps frames 0, 1, 2... at `pages`.
pub(crate) fn map<F: Format>(mapper: &Mapper<'_, F, Slab>, pages: Pages) -> Result<(), MapError> {
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.map(pages, DATA, (0..).map(frame)) }
}

pub(crate) fn map_large<F: Format>(
    mapper: &Mapper<'_, F, Slab>,
    at: usize,
    to: u64,
    level: Level,
) -> Result<(), MapError> {
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.map_large(va(at), PhysAddr::new(to), level, DATA) }
}

pub(crate) fn park<F: Format>(mapper: &Mapper<'_, F, Slab>, pages: Pages) -> Result<(), LeafError> {
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.park(pages) }
}

pub(crate) fn take<F: Format>(mapper: &Mapper<'_, F, Slab>, pages: Pages) -> Result<Vec<PhysAddr>, LeafError> {
    let mut frames = Vec::new();
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.take_parked(pages, |frame, _| frames.push(frame)) }.map(|()| frames)
}

pub(crate) fn unmap<F: Format>(
    mapper: &Mapper<'_, F, Slab>,
    start: usize,
    bytes: usize,
) -> Result<Vec<Leaf>, LeafError> {
    let mut leaves = Vec::new();
    // SAFETY: no CPU walks these tables.
    unsafe { mapper.unmap_with(range(start, bytes), |leaf| leaves.push(leaf)) }.map(|()| leaves)
}

/// Makes each generic property a test for every format, in a module of the format's name.
#[macro_export]
macro_rules! for_every_format {
    ($($property:ident)+) => {
        for_every_format!(@ x86_64: vmstack_paging::X86_64, $($property)+);
        for_every_format!(@ x86_64_la57: vmstack_paging::X86_64La57, $($property)+);
        for_every_format!(@ aarch64_user: vmstack_paging::Aarch64User, $($property)+);
        for_every_format!(@ aarch64_kernel: vmstack_paging::Aarch64Kernel, $($property)+);
        for_every_format!(@ aarch64_kernel_dirty: vmstack_paging::Aarch64<true, true>, $($property)+);
        for_every_format!(@ sv39: vmstack_paging::Sv39, $($property)+);
        for_every_format!(@ sv48: vmstack_paging::Sv48, $($property)+);
        for_every_format!(@ sv57: vmstack_paging::Sv57, $($property)+);
        for_every_format!(@ sv39_svadu: vmstack_paging::Riscv64<3, true>, $($property)+);
    };
    (@ $module:ident: $format:ty, $($property:ident)+) => {
        mod $module {
            $(
                #[test]
                fn $property() {
                    super::$property::<$format>();
                }
            )+
        }
    };
}
