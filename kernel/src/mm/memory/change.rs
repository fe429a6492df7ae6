//! What a program asks of its memory: map, unmap, protect, move the heap's end, remap, advise.
//!
//! A range is unmapped in this order: written down as unfinished; the mappings taken out; the pages parked, piece by piece; every CPU that runs
//! on the memory made to forget them, once; the frames given back. Where no other CPU does, each piece is forgotten and given back at once.

use vmstack::{VirtAddr, VirtRange};

use super::fault::attributes;
use super::mapping::{Kind, Mapping, Rights};
use super::mappings::Full;
use super::{Inner, MAPPINGS_END, MAPPINGS_START, Memory, Unfinished};
use crate::arch::layout::PAGE_SIZE;
use crate::mm::frames;
use crate::mm::space::{SpaceError, lower_half, pages_around};
use crate::sync::Section;

/// Where a mapping is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Where {
    /// Anywhere; there if it is free.
    Near(VirtAddr),
    /// There, in the place of whatever is.
    There(VirtAddr),
    /// There, if it is free.
    ThereIfFree(VirtAddr),
}

/// What `mmap` asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapRequest {
    pub(crate) place: Where,
    pub(crate) bytes: usize,
    pub(crate) rights: Rights,
    pub(crate) kind: Kind,
    /// What the file says from the first page on, if it is a file's.
    pub(crate) file: Option<&'static [u8]>,
    /// Whether all pages come at once.
    pub(crate) populate: bool,
}

/// What `madvise` asks for that is more than advice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Advice {
    /// The pages are not needed: they read as when they were new.
    NotNeeded,
    /// The pages will be needed.
    Populate,
}

impl From<Full> for SpaceError {
    fn from(_: Full) -> Self {
        Self::OutOfMemory
    }
}

impl Memory {
    /// Maps what `request` says, and returns where.
    pub(crate) fn map(&self, request: &MapRequest) -> Result<VirtAddr, SpaceError> {
        let bytes = page_multiple(request.bytes)?;
        let mut inner = self.lock();
        let range = self.place(&mut inner, request.place, bytes)?;
        let mapping = match request.file {
            Some(file) => {
                let file = file.get(..bytes).unwrap_or(file);
                Mapping::of_file(range, request.rights, request.kind, file)
            }
            None => Mapping::anonymous(range, request.rights, request.kind),
        };
        check_count(&mapping)?;
        inner.mappings.insert(mapping)?;
        drop(inner);
        // What is shared is there from the beginning: so whoever shares it later finds the same frames.
        let shared = request.kind.has(Kind::SHARED) && request.file.is_none();
        if shared {
            self.populate_shared(range)?;
        } else if request.populate {
            // As on Linux, that it is mapped counts.
            let _populated = self.populate(range);
        }
        Ok(range.start())
    }

    /// Where `bytes` bytes go that are to be mapped at `place`: nothing is mapped there any more.
    fn place(&self, inner: &mut Inner, place: Where, bytes: usize) -> Result<VirtRange, SpaceError> {
        match place {
            Where::There(at) => {
                let range = exactly(at, bytes)?;
                self.unmap_locked(inner, range)?;
                Ok(range)
            }
            Where::ThereIfFree(at) => {
                let range = exactly(at, bytes)?;
                if inner.mappings.is_free(range) { Ok(range) } else { Err(SpaceError::Occupied) }
            }
            Where::Near(hint) => inner.find_room(hint, bytes),
        }
    }

    fn populate_shared(&self, range: VirtRange) -> Result<(), SpaceError> {
        let wanted = range.bytes() / PAGE_SIZE;
        let populated = if wanted < frames::free() { self.populate(range) } else { Err(SpaceError::OutOfMemory) };
        if populated.is_err() {
            self.unmap(range)?;
        }
        populated
    }

    /// Takes away what is mapped in `range`, which is whole pages.
    pub(crate) fn unmap(&self, range: VirtRange) -> Result<(), SpaceError> {
        self.unmap_locked(&mut self.lock(), range)
    }

    fn unmap_locked(&self, inner: &mut Inner, range: VirtRange) -> Result<(), SpaceError> {
        if inner.mappings.is_free(range) {
            return Ok(());
        }
        inner.unfinished = Unfinished::Release(range);
        loop {
            match inner.mappings.carve(range) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(full) => {
                    // Only the first step can fail, before anything was taken.
                    inner.unfinished = Unfinished::Nothing;
                    return Err(full.into());
                }
            }
        }
        self.release(inner, range);
        Ok(())
    }

    /// Gives back the pages of `range`, in which nothing is mapped or what is mapped begins anew.
    pub(super) fn release(&self, inner: &mut Inner, range: VirtRange) {
        let mut wait = false;
        for piece in inner.space.pieces(range) {
            let section = Section::enter();
            if inner.space.park(piece, &section) != 0 && self.forget(piece) {
                wait = true;
            } else {
                // SAFETY: this CPU has forgotten the piece, and no other knows it.
                unsafe { inner.space.give(piece, &section) };
            }
        }
        if wait {
            self.flush();
            for piece in inner.space.pieces(range) {
                let section = Section::enter();
                // SAFETY: every CPU has forgotten what was parked, and nothing came since: the memory is locked.
                unsafe { inner.space.give(piece, &section) };
            }
        }
        inner.unfinished = Unfinished::Nothing;
    }

    /// Changes what the program may do with `range`, all of which has to be mapped.
    pub(crate) fn protect(&self, range: VirtRange, rights: Rights) -> Result<(), SpaceError> {
        let mut inner = self.lock();
        let done = inner.protect(range, rights);
        // Also what was done before it failed.
        if inner.unfinished == Unfinished::Flush {
            self.flush_changed(&mut inner);
        }
        done
    }

    /// Says where the heap begins. Once, by whoever builds the memory.
    pub(crate) fn start_heap(&self, at: VirtAddr) {
        self.lock().heap = (at, at);
    }

    /// Moves the end of the heap to `end`, if that can be, and says where it is.
    pub(crate) fn brk(&self, end: VirtAddr) -> VirtAddr {
        let mut inner = self.lock();
        let (start, old) = inner.heap;
        if end >= start && self.move_heap_end(&mut inner, page_end(old), page_end(end)).is_ok() {
            inner.heap.1 = end;
        }
        inner.heap.1
    }

    fn move_heap_end(&self, inner: &mut Inner, old: VirtAddr, new: VirtAddr) -> Result<(), SpaceError> {
        if new <= old {
            return self.unmap_locked(inner, exactly_or_empty(new, old.distance(new))?);
        }
        let range = exactly(old, new.distance(old))?;
        let mapping = Mapping::anonymous(range, Rights::READ_WRITE, Kind::PRIVATE);
        check_count(&mapping)?;
        // A page stays free behind it, as before whatever is there.
        let with_gap = exactly(old, range.bytes() + PAGE_SIZE)?;
        if !inner.mappings.is_free(with_gap) {
            return Err(SpaceError::OutOfMemory);
        }
        Ok(inner.mappings.insert(mapping)?)
    }

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
        let mapping = *inner.mappings.find(old.start()).ok_or(SpaceError::Fault(old.start()))?;
        if old.end() > mapping.end {
            return Err(SpaceError::Fault(mapping.end));
        }
        let part = mapping.from(old.start()).below(old.end());
        if bytes < old.bytes() {
            let rest = exactly(old.start().wrapping_add(bytes), old.bytes() - bytes)?;
            self.unmap_locked(&mut inner, rest)?;
        }
        let kept = part.below(part.start.wrapping_add(bytes.min(part.bytes())));
        if to.is_none() && !leave && bytes <= old.bytes() {
            return Ok(old.start());
        }
        check_count(&Mapping { end: part.start.wrapping_add(bytes), ..part })?;
        if to.is_none() && !leave && inner.extend(&part, bytes).is_ok() {
            return Ok(old.start());
        }
        if !may_move {
            return Err(SpaceError::OutOfMemory);
        }
        let target = match to {
            Some(at) if exactly(at, bytes)?.start() < old.end() && old.start() < exactly(at, bytes)?.end() => {
                return Err(SpaceError::BadRange);
            }
            Some(at) => self.place(&mut inner, Where::There(at), bytes)?,
            None => inner.find_room(VirtAddr::default(), bytes)?,
        };
        self.relocate(&mut inner, &kept, target, leave)
    }

    /// Moves the pages of `mapping` to the beginning of `target`, where nothing is; with `leave` the mapping stays, without pages.
    fn relocate(
        &self,
        inner: &mut Inner,
        mapping: &Mapping,
        target: VirtRange,
        leave: bool,
    ) -> Result<VirtAddr, SpaceError> {
        let moved = Mapping { start: target.start(), end: target.end(), ..*mapping };
        inner.mappings.insert(moved)?;
        inner.unfinished = Unfinished::Flush;
        for piece in inner.space.pieces(mapping.range()) {
            let to = target.start().wrapping_add(piece.start().distance(mapping.start));
            if let Err(error) = inner.space.relocate(piece, to) {
                // What was moved goes back, to tables that are there.
                let moved = exactly(target.start(), mapping.bytes())?;
                for back in inner.space.pieces(moved) {
                    let home = mapping.start.wrapping_add(back.start().distance(target.start()));
                    inner.space.relocate(back, home)?;
                }
                self.flush_changed(inner);
                self.unmap_locked(inner, target)?;
                return Err(error);
            }
        }
        self.flush_changed(inner);
        if !leave {
            self.unmap_locked(inner, mapping.range())?;
        }
        Ok(target.start())
    }

    /// Does what `advice` says with `range`. Says whether all of it is mapped.
    pub(crate) fn advise(&self, range: VirtRange, advice: Advice) -> Result<bool, SpaceError> {
        match advice {
            Advice::Populate => self.populate(range)?,
            Advice::NotNeeded => self.drop_pages(range),
        }
        Ok(self.lock().mappings.covers(range))
    }

    /// Drops the pages of `range` that belong to this program alone.
    fn drop_pages(&self, range: VirtRange) {
        let mut inner = self.lock();
        let mut at = range.start();
        while at < range.end()
            && let Some(&mapping) = inner.mappings.from(at).filter(|mapping| mapping.start < range.end())
        {
            let (start, end) = (mapping.start.max(at), mapping.end.min(range.end()));
            at = end;
            if let Some(part) = VirtRange::new(start, end.distance(start))
                && !mapping.is_shared()
            {
                inner.unfinished = Unfinished::Release(part);
                self.release(&mut inner, part);
            }
        }
    }

    /// Whether all of `range` is mapped.
    pub(crate) fn covers(&self, range: VirtRange) -> bool {
        self.lock().mappings.covers(range)
    }
}

impl Inner {
    /// Changes what the program may do with `range`. What takes rights away says that it has to be flushed.
    fn protect(&mut self, range: VirtRange, rights: Rights) -> Result<(), SpaceError> {
        let mut at = range.start();
        while at < range.end() {
            let Some(&found) = self.mappings.find(at) else { return Err(SpaceError::OutOfMemory) };
            let part = found.from(at.max(found.start)).below(found.end.min(range.end()));
            if rights.may_write() && part.is_shared() && part.is_file() {
                return Err(SpaceError::Forbidden);
            }
            check_count(&Mapping { rights, ..part })?;
            self.mappings.change(part.range(), |mapping| Mapping { rights, ..mapping })?;
            self.set_rights(&part, rights);
            at = part.end;
        }
        Ok(())
    }

    /// Room for `bytes` bytes: at `hint` if that is free, or as high as there is.
    fn find_room(&mut self, hint: VirtAddr, bytes: usize) -> Result<VirtRange, SpaceError> {
        let hint = page_end(hint);
        let hinted = exactly(hint, bytes).ok().filter(|range| hint >= MAPPINGS_START && self.mappings.is_free(*range));
        if let Some(range) = hinted {
            return Ok(range);
        }
        let start = self.mappings.highest_hole(bytes, MAPPINGS_START, MAPPINGS_END).ok_or(SpaceError::OutOfMemory)?;
        exactly(start, bytes)
    }

    /// Lets `part`, which ends where its mapping does, go on to `bytes` bytes, if that is free.
    fn extend(&mut self, part: &Mapping, bytes: usize) -> Result<(), SpaceError> {
        let more = exactly(part.end, bytes - part.bytes())?;
        if !self.mappings.is_free(more) || part.is_file() {
            return Err(SpaceError::OutOfMemory);
        }
        Ok(self.mappings.insert(Mapping::anonymous(more, part.rights, part.kind))?)
    }

    /// Gives the pages of `part` other rights, and notes before the first of them may do less than before.
    fn set_rights(&mut self, part: &Mapping, rights: Rights) {
        let fewer = (part.rights.may_write() && !rights.may_write())
            || (part.rights.may_execute() && !rights.may_execute())
            || (rights.is_none() && !part.rights.is_none());
        let alone = |frame| part.is_shared() || !frames::is_shared(frame);
        for piece in self.space.pieces(part.range()) {
            if fewer {
                self.unfinished = Unfinished::Flush;
            }
            self.space.protect(piece, |leaf| attributes(rights, rights.may_write() && alone(leaf.frame)));
        }
    }
}

/// Refuses what can never be had: memory that a program wants for itself, to write to, more than the machine has. What Linux refuses
/// unless it is told otherwise.
fn check_count(mapping: &Mapping) -> Result<(), SpaceError> {
    let too_many = mapping.is_counted() && mapping.bytes() / PAGE_SIZE > frames::total();
    if too_many { Err(SpaceError::OutOfMemory) } else { Ok(()) }
}

/// `bytes`, which is not zero, rounded up to whole pages.
fn page_multiple(bytes: usize) -> Result<usize, SpaceError> {
    match bytes.checked_next_multiple_of(PAGE_SIZE) {
        Some(0) => Err(SpaceError::BadRange),
        Some(bytes) if bytes <= lower_half().bytes() => Ok(bytes),
        _ => Err(SpaceError::OutOfMemory),
    }
}

/// The pages from `start`, which is one's, on.
fn exactly(start: VirtAddr, bytes: usize) -> Result<VirtRange, SpaceError> {
    if !start.is_aligned(PAGE_SIZE) {
        return Err(SpaceError::BadRange);
    }
    pages_around(start, bytes).map_err(|_| SpaceError::OutOfMemory)
}

fn exactly_or_empty(start: VirtAddr, bytes: usize) -> Result<VirtRange, SpaceError> {
    if bytes == 0 { Ok(VirtRange::EMPTY) } else { exactly(start, bytes) }
}

/// The first page from `addr` on.
fn page_end(addr: VirtAddr) -> VirtAddr {
    VirtAddr::new(addr.get().saturating_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1))
}
