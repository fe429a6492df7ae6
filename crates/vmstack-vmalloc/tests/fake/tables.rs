//! Page tables: real ones, in the format of x86-64, made and changed by `vmstack-paging`'s mapper, and a walk that shares no code with it.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Failing;
use vmstack::{PhysAddr, VirtAddr, VirtRange};
use vmstack_paging::{Entry, Format, Level, Mapper, Table, TableMemory, X86_64};

pub(crate) type Pte = X86_64;

/// The physical address of the first table.
const FIRST: u64 = 0x0010_0000;
/// What one leaf table maps, in bytes.
pub(crate) const CHUNK: usize = 512 * 4096;

pub(super) struct Tables {
    tables: Box<[Table]>,
    root: PhysAddr,
    books: Mutex<Books>,
    /// Whether a table that the mapper frees is caught, to be held back until every CPU has forgotten it.
    catching: AtomicBool,
    pub(super) failing: Failing,
}

struct Books {
    free: Vec<u32>,
    live: Vec<bool>,
    caught: Vec<u32>,
}

/// What a walk found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Walk {
    /// The leaf table.
    pub(super) table: Option<u32>,
    /// The address that the leaf is of, and its level.
    pub(super) leaf: Option<(PhysAddr, Level)>,
}

fn index_of(at: PhysAddr) -> u32 {
    u32::try_from((at.get() - FIRST) / 4096).expect("the address of a table")
}

fn phys_of(table: u32) -> PhysAddr {
    PhysAddr::new(FIRST + 4096 * u64::from(table))
}

impl Tables {
    pub(super) fn new(count: usize) -> Self {
        let books = Books {
            free: (1..count as u32).rev().collect(),
            live: (0..count).map(|index| index == 0).collect(),
            caught: Vec::new(),
        };
        Self {
            tables: (0..count).map(|_| Table::new()).collect(),
            root: phys_of(0),
            books: Mutex::new(books),
            catching: AtomicBool::new(false),
            failing: Failing::never(),
        }
    }

    pub(super) fn mapper(&self) -> Mapper<'_, Pte, Self> {
        unsafe { Mapper::new(self.root, self) }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tables that are in use or held back, the root included.
    pub(super) fn live(&self) -> usize {
        self.books().live.iter().filter(|live| **live).count()
    }

    /// Unlinks the leaf table of `chunk`, which must be there. It is held back.
    pub(super) fn unlink(&self, chunk: VirtRange) -> Option<u32> {
        self.catching.store(true, Ordering::Relaxed);
        let freed = unsafe { self.mapper().free_table(chunk, Level::PAGE) };
        self.catching.store(false, Ordering::Relaxed);
        let caught = self.books().caught.pop();
        assert_eq!(freed, caught.is_some(), "the table that was freed was caught");
        caught
    }

    /// Takes back a table that was unlinked.
    pub(super) fn give(&self, table: u32) {
        assert!(self.tables[table as usize].is_empty(), "table {table} is freed, and something is in it");
        let mut books = self.books();
        assert!(books.live[table as usize], "table {table} came back twice");
        books.live[table as usize] = false;
        books.free.push(table);
    }

    /// What the hardware would find.
    pub(super) fn walk(&self, addr: VirtAddr) -> Walk {
        let mut table = index_of(self.root);
        for level in (0..Pte::LEVELS).rev() {
            let slot = self.tables[table as usize].slot(addr.get() >> (12 + 9 * u32::from(level)) & 511);
            match slot.read::<Pte>(Level::new(level)) {
                Entry::Table { at } => table = index_of(at),
                Entry::Leaf { frame, .. } => {
                    let bytes = 1_usize << (12 + 9 * u32::from(level));
                    let at = frame.wrapping_add((addr.get() & (bytes - 1)) as u64);
                    let table = (level == 0).then_some(table);
                    return Walk { table, leaf: Some((at, Level::new(level))) };
                }
                _ => return Walk { table: (level == 0).then_some(table), leaf: None },
            }
        }
        unreachable!("a leaf table leads to no table");
    }
}

unsafe impl TableMemory for Tables {
    unsafe fn table(&self, at: PhysAddr) -> &Table {
        &self.tables[index_of(at) as usize]
    }

    fn new_table(&self) -> Option<PhysAddr> {
        if self.failing.now() {
            return None;
        }
        let mut books = self.books();
        let table = books.free.pop()?;
        books.live[table as usize] = true;
        Some(phys_of(table))
    }

    unsafe fn free_table(&self, at: PhysAddr) {
        assert!(self.catching.load(Ordering::Relaxed), "no table is freed before every CPU has forgotten it");
        self.books().caught.push(index_of(at));
    }
}
