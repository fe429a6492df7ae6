//! From an address to its slot.
//!
//! ```text
//!   root ──index(va, top)──> table ── ... ──> table of the level asked for ──index(va, level)──> slot
//! ```
//!
//! Two ways down: one takes the tree as it is and says what it ran into; the other makes the tables that are missing.
//! A table is made zeroed and put in by compare-and-exchange. Who loses that race gives the table back and walks on
//! through the winner's, so nothing here needs a lock.
//!
//! [`Mapper::slots`] walks a run of pages, and goes down once for each leaf table and not once for each page.

use core::marker::PhantomData;

use vmstack::{PhysAddr, VirtAddr};

use crate::entry::{Entry, Level};
use crate::error::{LeafError, MapError};
use crate::format::Format;
use crate::mapper::Mapper;
use crate::memory::TableMemory;
use crate::run::Run;
use crate::table::{Slot, Table};

impl<'a, F: Format, M: TableMemory> Mapper<'a, F, M> {
    /// The table of `level` on the way to `addr`.
    ///
    /// # Errors
    ///
    /// What stands in its place, and at which level.
    #[inline]
    pub(crate) fn table_for(self, addr: VirtAddr, level: Level) -> Result<&'a Table, (Entry, Level)> {
        let mut table = self.root_table();
        // A plain loop: with a level that the caller knows it is unrolled.
        let mut number = F::LEVELS;
        while number > level.number() + 1 {
            number -= 1;
            let above = Level::new(number);
            let raw = table.slot(F::index(addr, above)).raw();
            match F::table_at(raw, above) {
                Some(at) => table = self.follow(at),
                None => return Err((F::decode(raw, above), above)),
            }
        }
        Ok(table)
    }

    /// The table of `level` on the way to `addr`. Tables that are missing are made.
    pub(crate) fn make_table_for(self, addr: VirtAddr, level: Level) -> Result<&'a Table, MapError> {
        let mut table = self.root_table();
        for above in levels_down(F::top(), level) {
            let slot = table.slot(F::index(addr, above));
            table = match slot.read::<F>(above) {
                Entry::Table { at } => self.follow(at),
                Entry::Absent => self.install(slot, above, addr)?,
                found => return Err(MapError::instead_of_table(found, addr)),
            };
        }
        Ok(table)
    }

    /// Puts a new table into `slot`, or finds the one that another CPU put there in the meantime.
    fn install(self, slot: &Slot, level: Level, addr: VirtAddr) -> Result<&'a Table, MapError> {
        let new = self.memory().new_table().ok_or(MapError::NoTable { at: addr })?;
        match slot.fill::<F>(Entry::Table { at: new }, level) {
            Ok(()) => Ok(self.follow(new)),
            Err(found) => {
                self.give_back(new);
                match found {
                    Entry::Table { at } => Ok(self.follow(at)),
                    other => Err(MapError::instead_of_table(other, addr)),
                }
            }
        }
    }

    /// Frees a table that never became part of the tree.
    pub(crate) fn give_back(self, table: PhysAddr) {
        // SAFETY: (1) the table came from `new_table` a moment ago; (2) no entry ever led to it, so no CPU and no other
        // code knows it.
        unsafe { self.memory().free_table(table) }
    }

    /// The slots of the pages of `run`, where there are tables for them.
    pub(crate) fn slots(self, run: Run) -> impl Iterator<Item = Result<(VirtAddr, &'a Slot), LeafError>> {
        Slots::<F, _>::new(run, move |at| {
            self.table_for(at, Level::PAGE).map_err(|(found, _)| LeafError::instead_of_table(found, at))
        })
    }

    /// The slots of the pages of `run`. Tables that are missing are made.
    pub(crate) fn make_slots(self, run: Run) -> impl Iterator<Item = Result<(VirtAddr, &'a Slot), MapError>> {
        Slots::<F, _>::new(run, move |at| self.make_table_for(at, Level::PAGE))
    }
}

/// The levels from `top` down to the one above `level`.
fn levels_down(top: Level, level: Level) -> impl Iterator<Item = Level> {
    (level.number() + 1..=top.number()).rev().map(Level::new)
}

/// The slots of a run of pages, in order. Keeps the leaf table that it is in, and descends only at its end.
struct Slots<'a, F, D> {
    run: Run,
    next: usize,
    table: Option<&'a Table>,
    descend: D,
    format: PhantomData<F>,
}

impl<F, D> Slots<'_, F, D> {
    /// The slots of `run`, whose leaf tables `descend` finds.
    const fn new(run: Run, descend: D) -> Self {
        Self { run, next: 0, table: None, descend, format: PhantomData }
    }
}

impl<'a, F, D, E> Iterator for Slots<'a, F, D>
where
    F: Format,
    D: FnMut(VirtAddr) -> Result<&'a Table, E>,
{
    type Item = Result<(VirtAddr, &'a Slot), E>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.run.page::<F>(self.next)?;
        self.next += 1;
        let index = F::index(at, Level::PAGE);
        let kept = self.table.take().filter(|_| index != 0);
        let table = match kept.map_or_else(|| (self.descend)(at), Ok) {
            Ok(table) => table,
            Err(error) => return Some(Err(error)),
        };
        self.table = Some(table);
        Some(Ok((at, table.slot(index))))
    }
}

impl MapError {
    /// Why nothing can be mapped at `at`, when `found` is where a table should lead on.
    fn instead_of_table(found: Entry, at: VirtAddr) -> Self {
        match found {
            Entry::Parked { .. } => Self::Parked { at },
            _ => Self::HugeInTheWay { at },
        }
    }

    /// Why nothing can be mapped at `at`, when `found` is in the slot that was to be filled.
    pub(crate) fn instead_of_leaf(found: Entry, at: VirtAddr) -> Self {
        match found {
            Entry::Parked { .. } => Self::Parked { at },
            Entry::Table { .. } => Self::TableInTheWay { at },
            _ => Self::AlreadyMapped { at },
        }
    }
}

impl LeafError {
    /// Why the page at `at` has no slot, when `found` is where a table should lead on.
    fn instead_of_table(found: Entry, at: VirtAddr) -> Self {
        match found {
            Entry::Leaf { .. } => Self::HugeInTheWay { at },
            Entry::Parked { .. } => Self::Parked { at },
            _ => Self::NotMapped { at },
        }
    }
}
