//! Taking away what one entry above the leaf tables leads to: a leaf table with all that is in it, or one large leaf.
//!
//! ```text
//!                 detach                    flush                    empty_detached
//!   entry ──> table ─────────> entry: absent ─ ─ ─ ─ ─> no CPU knows ─────────────> frames, in runs; then the table
//!             | f7 | f8 | ..   table: as it was         table or pages
//! ```
//!
//! A range that is unmapped as a whole need not be unmapped page by page. Its leaf table is taken out by one exchange, and remembers the frames meanwhile, so
//! that nobody needs memory for that (INV-FREE); one word, where it lies, has to be remembered.
//!
//! # What the flush must do
//!
//! More than for pages: CPUs cache entries that lead to tables, and one that does walks the dead table further, and sets bits in it.
//!
//! - x86-64: INVLPG of any address drops all paging-structure caches of the current PCID, and so does each write to CR3 or change of CR4 that drops
//!   the TLB (Intel SDM volume 3, 4.10.4.1). So the usual shootdown of the pages is enough where PCIDs are not used; where they
//!   are, the other ones have to be flushed too (INVPCID). Pages for which nothing is mapped need no INVLPG, but one there must be.
//! - AArch64: TLBI by address must be one for all levels (VAAE1IS, not VAALE1IS), for each page that was mapped and one in an empty table; or VMALLE1IS.
//!   DSB ISH before the table is freed (Arm ARM D8.14, break-before-make).
//! - RISC-V: SFENCE.VMA with an address orders leaf entries only: it must be rs1 = x0 (privileged specification, "Supervisor Memory-Management
//!   Fence Instruction").
//!
//! The entry stays absent until then: nothing else is put in its place before (break-before-make, where the architecture demands it, by the way).
//!
//! Contexts: any but NMI. No lock, no wait, no memory.

use vmstack::{Pages, PhysAddr, VirtAddr};

use crate::entry::{Entry, Level};
use crate::format::Format;
use crate::group::Group;
use crate::mapper::Mapper;
use crate::memory::TableMemory;
use crate::run::Run;

/// What was taken out of the tree, and has to be kept until every CPU has flushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detached {
    /// A leaf table, for [`Mapper::empty_detached`].
    Table(PhysAddr),
    /// A large leaf, which led to as much memory as one leaf table maps, from this address on.
    Leaf(PhysAddr),
}

impl<F: Format, M: TableMemory> Mapper<'_, F, M> {
    /// Takes the leaf table, or the large leaf, that maps the pages from `at` on out of the tree. None if there is neither, or `at` is not where one
    /// begins.
    ///
    /// What CPUs have cached stays there: the caller flushes as this file's essay says.
    ///
    /// # Context
    ///
    /// Any but NMI. Takes no lock, does not sleep, needs no memory (INV-FREE).
    ///
    /// # Safety
    ///
    /// 1. Nobody uses the memory that is mapped there any more, nor what is remembered of entries in the table ([`Group::expose`]).
    /// 2. What one leaf table maps from `at` on is the caller's, and no other mapper works on it at the same time, one that makes its table included; no
    ///    other tree has an entry for the table.
    /// 3. Until every CPU has flushed, nothing is mapped there, and what was is not used (INV-FRAME).
    #[must_use = "the table, or the memory, is lost"]
    pub unsafe fn detach(&self, at: VirtAddr) -> Option<Detached> {
        Run::check::<F>(Pages::new(at, 1)).ok()?;
        if !at.is_aligned(F::entry_bytes(Level::LARGE)) {
            return None;
        }
        let slot = self.table_for(at, Level::LARGE).ok()?.slot(F::index(at, Level::LARGE));
        let is_detachable = matches!(slot.read::<F>(Level::LARGE), Entry::Table { .. } | Entry::Leaf { .. });
        match is_detachable.then(|| slot.take::<F>(Level::LARGE))? {
            Entry::Table { at } => Some(Detached::Table(at)),
            Entry::Leaf { frame, .. } => Some(Detached::Leaf(frame)),
            _ => None,
        }
    }

    /// Clears the first `pages` entries of a detached table and gives their frames to `give`, as [`Unused::take_mapped`](crate::Unused::take_mapped) does. Returns how many
    /// frames that were.
    ///
    /// Then the table is empty and nothing leads to it: the caller gives it back to where [`TableMemory::new_table`] has it from.
    ///
    /// # Context
    ///
    /// Any but NMI, and that of `give`.
    ///
    /// # Safety
    ///
    /// 1. [`detach`](Self::detach) returned `table`, of a tree in the same memory, and it was not given back since.
    /// 2. Every CPU has flushed since (INV-FRAME).
    /// 3. Nothing is in the other entries.
    pub unsafe fn empty_detached(&self, table: PhysAddr, pages: usize, give: impl FnMut(PhysAddr, usize)) -> usize {
        let entries = Group::<F>::of(self.follow(table).slots(0, pages));
        // SAFETY: (1) to (3): no CPU and no mapper can reach the table any more, by the caller's promise.
        let taken = unsafe { entries.unused() }.take_mapped(give);
        debug_assert!(self.follow(table).is_empty(), "a detached table has entries beyond {pages}");
        taken
    }
}
