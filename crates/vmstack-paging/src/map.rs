//! Making mappings: claim, then publish.
//!
//! ```text
//!            make tables, check frames              store
//!   Absent ────────────────────────────> Parked ────────────> Leaf
//!      ^        compare-and-exchange        │    publish
//!      └────────────────────────────────────┘
//!                 any failure: forget
//! ```
//!
//! All or nothing is easy to say and easy to get wrong: a mapping that is written and then taken back may already be
//! in a TLB, because processors translate ahead of need, and its frame could not be used again without a shootdown. So
//! the first pass *claims* each entry with a parked one, which the hardware does not look at; whatever can fail, fails
//! there. The second pass publishes, and cannot fail. A batch that fails was never visible: its frames are as free as
//! they were (INV-FRAME).
//!
//! Tables made on the way are kept when a batch fails: the next one that comes there needs them.
//!
//! After a success, what the hardware must be told depends on the format: on x86-64 nothing, on AArch64 a barrier, on
//! RISC-V perhaps a fence. Each format's essay says so under *Caching*.

use vmstack::{Pages, PhysAddr, VirtAddr, VirtRange};

use crate::attributes::Attributes;
use crate::entry::Level;
use crate::error::MapError;
use crate::format::Format;
use crate::mapper::Mapper;
use crate::memory::TableMemory;
use crate::run::{Piece, Run, pieces};

impl<F: Format, M: TableMemory> Mapper<'_, F, M> {
    /// Maps `pages`, in order, to the `frames` that the iterator gives. All or nothing.
    ///
    /// Frames past the number of pages are not asked for. On an error the frames are still the caller's, used or not,
    /// and need no shootdown.
    ///
    /// # Context
    ///
    /// Takes no lock; sleeps only if [`TableMemory::new_table`] does.
    ///
    /// # Errors
    ///
    /// The first obstacle, in the order of the pages. Then nothing is mapped; tables that were made are kept.
    ///
    /// # Safety
    ///
    /// 1. The pages are the caller's to map, and no other mapper works on them at the same time.
    /// 2. Whoever may access the pages with these `attributes`, user code included, may access the frames so.
    pub unsafe fn map(
        &self,
        pages: Pages,
        attributes: Attributes,
        frames: impl IntoIterator<Item = PhysAddr>,
    ) -> Result<(), MapError> {
        let run = Run::check::<F>(pages)?;
        let mut claimed = 0;
        let outcome = self.claim_run(run, frames.into_iter(), &mut claimed);
        match outcome {
            Ok(()) => self.publish_run(run, attributes),
            Err(_) => self.forget_run(run.first(claimed)),
        }
        outcome
    }

    /// Maps one leaf of `level` at `at` to the memory from `frame` on.
    ///
    /// # Context
    ///
    /// As [`map`](Self::map).
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map); and [`MapError::NoSuchLeaf`], or [`MapError::TableInTheWay`] where smaller pages are or
    /// were.
    ///
    /// # Safety
    ///
    /// As [`map`](Self::map), for all the bytes of the leaf.
    pub unsafe fn map_large(
        &self,
        at: VirtAddr,
        frame: PhysAddr,
        level: Level,
        attributes: Attributes,
    ) -> Result<(), MapError> {
        let bytes = F::leaf_bytes(level).ok_or(MapError::NoSuchLeaf { level })?;
        if !at.is_aligned(bytes) {
            return Err(MapError::Misaligned { at });
        }
        Run::check::<F>(Pages::new(at, bytes / F::page_bytes()))?;
        self.map_pieces(core::iter::once(Piece { at, frame, level }), attributes)
    }

    /// Maps `range` to as many bytes of physical memory from `frame` on, with the biggest leaves, up to level
    /// `biggest`, that alignment permits. All or nothing.
    ///
    /// For the direct map and the kernel's own image.
    ///
    /// # Context
    ///
    /// As [`map`](Self::map). Walks down once for each leaf.
    ///
    /// # Errors
    ///
    /// As [`map_large`](Self::map_large).
    ///
    /// # Safety
    ///
    /// As [`map`](Self::map), for all of the range.
    pub unsafe fn map_linear(
        &self,
        range: VirtRange,
        frame: PhysAddr,
        attributes: Attributes,
        biggest: Level,
    ) -> Result<(), MapError> {
        let run = Run::covering::<F>(range)?;
        self.map_pieces(pieces::<F>(run, frame, biggest), attributes)
    }

    /// Claims the pages of `run`, and counts in `claimed` how many it got.
    fn claim_run(
        &self,
        run: Run,
        mut frames: impl Iterator<Item = PhysAddr>,
        claimed: &mut usize,
    ) -> Result<(), MapError> {
        for slot in self.make_slots(run) {
            let (at, slot) = slot?;
            let frame = frames.next().ok_or(MapError::OutOfFrames { at })?;
            slot.claim::<F>(at, frame, Level::PAGE)?;
            *claimed += 1;
        }
        Ok(())
    }

    /// Makes leaves of the claimed entries of `run`.
    fn publish_run(&self, run: Run, attributes: Attributes) {
        for (_, slot) in self.slots(run).flatten() {
            slot.publish::<F>(attributes, Level::PAGE);
        }
    }

    /// Gives up the claimed entries of `run`, which no CPU has seen.
    fn forget_run(&self, run: Run) {
        for (_, slot) in self.slots(run).flatten() {
            slot.take::<F>(Level::PAGE);
        }
    }

    /// Maps `pieces`. All or nothing, as for a run of pages.
    fn map_pieces(&self, pieces: impl Iterator<Item = Piece> + Clone, attributes: Attributes) -> Result<(), MapError> {
        let mut claimed = 0;
        let outcome = pieces.clone().try_for_each(|piece| {
            self.claim_piece(piece)?;
            claimed += 1;
            Ok(())
        });
        match outcome {
            Ok(()) => pieces.for_each(|piece| self.publish_piece(piece, attributes)),
            Err(_) => pieces.take(claimed).for_each(|piece| self.forget_piece(piece)),
        }
        outcome
    }

    /// Claims the entry of one leaf.
    fn claim_piece(&self, piece: Piece) -> Result<(), MapError> {
        let table = self.make_table_for(piece.at, piece.level)?;
        table.slot(F::index(piece.at, piece.level)).claim::<F>(piece.at, piece.frame, piece.level)
    }

    /// Makes a leaf of one claimed entry.
    fn publish_piece(&self, piece: Piece, attributes: Attributes) {
        if let Ok(table) = self.table_for(piece.at, piece.level) {
            table.slot(F::index(piece.at, piece.level)).publish::<F>(attributes, piece.level);
        }
    }

    /// Gives up one claimed entry, which no CPU has seen.
    fn forget_piece(&self, piece: Piece) {
        if let Ok(table) = self.table_for(piece.at, piece.level) {
            table.slot(F::index(piece.at, piece.level)).take::<F>(piece.level);
        }
    }
}
