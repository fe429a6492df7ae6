//! `mremap`: a mapping gets another length, or another place.
//!
//! ```text
//!   old place    | page page page |          written down as unfinished: from here on a killed task's pages go back, not on
//!                   │    │    │              moved, piece by piece, to where nothing is mapped
//!   new place    | page page page | new |    mapped, and the old place not any more: one step; flushed
//! ```
//!
//! Until that one step the mapping is the old one. Its tables stay where they are, so pages go back without memory; and there is
//! room for the old place to be cut out before anything moves. So a failure at any allocation leaves everything as it was.

use vmstack::{VirtAddr, VirtRange};

use super::change::{check_count, exactly, page_multiple};
use super::mapping::Mapping;
use super::{Inner, Memory, Unfinished, Where};
use crate::mm::space::SpaceError;
use crate::sync::Section;

/// Pages that are on their way to as many, from an address on, where nothing is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Move {
    from: VirtRange,
    to: VirtAddr,
}

impl Memory {
    /// Makes the mapping at `old` as long as `bytes`: where it is, or, if it may, elsewhere. Returns where. With `leave` only its pages move.
    pub(crate) fn remap(
        &self,
        old: VirtRange,
        bytes: usize,
        may_move: bool,
        to: Option<VirtAddr>,
        leave: bool,
    ) -> Result<VirtAddr, SpaceError> {
        let bytes = page_multiple(bytes)?;
        let mut inner = self.lock();
        let part = inner.part_of_one(old)?;
        if leave && part.is_common() {
            // What is shared is the same at both places, which pages that move cannot be.
            return Err(SpaceError::BadRange);
        }
        if bytes < old.bytes() {
            let rest = exactly(old.start().wrapping_add(bytes), old.bytes() - bytes)?;
            self.unmap_locked(&mut inner, rest)?;
        }
        let stays = to.is_none() && !leave;
        if stays && bytes <= old.bytes() {
            return Ok(old.start());
        }
        check_count(&Mapping { end: part.start.wrapping_add(bytes), ..part })?;
        if stays && self.extend(&mut inner, &part, bytes).is_ok() {
            return Ok(old.start());
        }
        if !may_move {
            return Err(SpaceError::OutOfMemory);
        }
        let target = self.target(&mut inner, old, to, bytes)?;
        let kept = part.below(part.start.wrapping_add(bytes.min(part.bytes())));
        self.relocate(&mut inner, &kept, target, leave)
    }

    /// Lets `part`, which ends where its mapping does, go on to `bytes` bytes, if that is free.
    fn extend(&self, inner: &mut Inner, part: &Mapping, bytes: usize) -> Result<(), SpaceError> {
        let more = exactly(part.end, bytes - part.bytes())?;
        if !inner.mappings.is_free(more) || part.is_file() {
            return Err(SpaceError::OutOfMemory);
        }
        let more = Mapping::anonymous(more, part.rights, part.kind);
        if part.is_common() { self.insert_common(inner, more) } else { Ok(inner.mappings.insert(more)?) }
    }

    /// Where `bytes` bytes go: `to`, from which everything else is taken away, or wherever there is room.
    fn target(
        &self,
        inner: &mut Inner,
        old: VirtRange,
        to: Option<VirtAddr>,
        bytes: usize,
    ) -> Result<VirtRange, SpaceError> {
        let Some(at) = to else { return inner.find_room(VirtAddr::default(), bytes) };
        let range = exactly(at, bytes)?;
        if range.start() < old.end() && old.start() < range.end() {
            return Err(SpaceError::BadRange);
        }
        self.place(inner, Where::There(at), bytes)
    }

    /// Moves `mapping` to the beginning of `target`, where nothing is, and lets it go on to the end of that; with `leave` it stays, without
    /// its pages.
    fn relocate(
        &self,
        inner: &mut Inner,
        mapping: &Mapping,
        target: VirtRange,
        leave: bool,
    ) -> Result<VirtAddr, SpaceError> {
        let moved = Mapping { start: target.start(), end: target.end(), ..*mapping };
        let new = moved.from(target.start().wrapping_add(mapping.bytes()));
        let shares_more = moved.is_common() && new.bytes() != 0;
        if shares_more {
            self.insert_common(inner, new)?;
        }
        let part = Move { from: mapping.range(), to: target.start() };
        let done = inner.move_pages(part).and_then(|()| {
            let moved = if shares_more { moved.below(new.start) } else { moved };
            inner.change_place(part.from, moved, leave)
        });
        if done.is_err() {
            self.move_back(inner, part);
            if shares_more {
                self.unmap_locked(inner, new.range())?;
            }
        } else {
            self.flush_changed(inner);
        }
        done.map(|()| target.start())
    }

    /// Moves pages back where they are mapped. May be begun anew by another task.
    pub(super) fn move_back(&self, inner: &mut Inner, part: Move) {
        for piece in inner.space.pieces(part.from) {
            let moved = VirtRange::new(part.new_place(piece), piece.bytes()).unwrap_or(VirtRange::EMPTY);
            let done = inner.space.relocate(moved, piece.start());
            debug_assert!(done.is_ok(), "the old place has its tables: {done:?}");
        }
        self.flush_changed(inner);
    }
}

impl Move {
    /// Where `piece` of the pages goes.
    const fn new_place(&self, piece: VirtRange) -> VirtAddr {
        self.to.wrapping_add(piece.start().distance(self.from.start()))
    }
}

impl Inner {
    /// What of a mapping lies in `range`, all of which has to be in one.
    fn part_of_one(&self, range: VirtRange) -> Result<Mapping, SpaceError> {
        let mapping = *self.mappings.find(range.start()).ok_or(SpaceError::Fault(range.start()))?;
        if range.end() > mapping.end {
            return Err(SpaceError::Fault(mapping.end));
        }
        Ok(mapping.from(range.start()).below(range.end()))
    }

    /// Moves the pages, and makes sure that what comes after it has room.
    fn move_pages(&mut self, part: Move) -> Result<(), SpaceError> {
        // One for the new place, and one for what is behind the old.
        self.mappings.reserve(part.from.start(), 2)?;
        self.unfinished = Unfinished::Move(part);
        let mut pieces = self.space.pieces(part.from);
        pieces.try_for_each(|piece| self.space.relocate(piece, part.new_place(piece)))
    }

    /// Maps `moved`, whose pages have moved there, and unmaps `old`, where they were. Both or neither.
    fn change_place(&mut self, old: VirtRange, moved: Mapping, leave: bool) -> Result<(), SpaceError> {
        let _section = Section::enter();
        self.mappings.insert(moved)?;
        self.unfinished = Unfinished::Flush;
        if !leave {
            let cut = self.mappings.carve(old);
            debug_assert!(matches!(cut, Ok(Some(_))), "there is room: {cut:?}");
        }
        Ok(())
    }
}
