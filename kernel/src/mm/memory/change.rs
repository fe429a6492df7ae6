//! What a program asks of its memory: map, unmap, protect, move the heap's end, advise. What is moved is `remap`'s.
//!
//! A range is unmapped in this order: written down as unfinished; the mappings taken out; the pages parked, piece by piece; every CPU that runs
//! on the memory made to forget them, once; the frames given back. Where no other CPU does, each piece is forgotten and given back at once.

use vmstack::{VirtAddr, VirtRange};

use super::fault::attributes;
use super::mapping::{Kind, Mapping, Rights};
use super::mappings::Full;
use super::{Inner, MAPPINGS_END, MAPPINGS_START, Memory, Unfinished};
use crate::arch::layout::PAGE_SIZE;
use crate::mm::space::{SpaceError, lower_half, pages_around};
use crate::mm::{frames, shortage};
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
        if mapping.is_common() {
            self.insert_common(&mut inner, mapping)?;
            return Ok(range.start());
        }
        inner.mappings.insert(mapping)?;
        drop(inner);
        if request.populate {
            // As on Linux, that it is mapped counts.
            let _populated = self.populate(range);
        }
        Ok(range.start())
    }

    /// Where `bytes` bytes go that are to be mapped at `place`: nothing is mapped there any more.
    pub(super) fn place(&self, inner: &mut Inner, place: Where, bytes: usize) -> Result<VirtRange, SpaceError> {
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

    /// Puts `mapping`, whose frames are common, where nothing is, with all of its pages. All of it or nothing.
    pub(super) fn insert_common(&self, inner: &mut Inner, mapping: Mapping) -> Result<(), SpaceError> {
        if mapping.bytes() / PAGE_SIZE >= frames::free() {
            shortage::note();
            return Err(SpaceError::OutOfMemory);
        }
        // It may become one with what is before and behind it, and can be taken out of that again.
        inner.mappings.reserve(mapping.start, 2)?;
        inner.mappings.insert(mapping)?;
        let populated = inner.populate(mapping.range());
        if populated.is_err() {
            self.unmap_locked(inner, mapping.range())?;
        }
        populated
    }

    /// Takes away what is mapped in `range`, which is whole pages.
    pub(crate) fn unmap(&self, range: VirtRange) -> Result<(), SpaceError> {
        self.unmap_locked(&mut self.lock(), range)
    }

    pub(super) fn unmap_locked(&self, inner: &mut Inner, range: VirtRange) -> Result<(), SpaceError> {
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
    pub(super) fn find_room(&mut self, hint: VirtAddr, bytes: usize) -> Result<VirtRange, SpaceError> {
        let hint = page_end(hint);
        let hinted = exactly(hint, bytes).ok().filter(|range| hint >= MAPPINGS_START && self.mappings.is_free(*range));
        if let Some(range) = hinted {
            return Ok(range);
        }
        let start = self.mappings.highest_hole(bytes, MAPPINGS_START, MAPPINGS_END).ok_or(SpaceError::OutOfMemory)?;
        exactly(start, bytes)
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
pub(super) fn check_count(mapping: &Mapping) -> Result<(), SpaceError> {
    let too_many = mapping.is_counted() && mapping.bytes() / PAGE_SIZE > frames::total();
    if too_many { Err(SpaceError::OutOfMemory) } else { Ok(()) }
}

/// `bytes`, which is not zero, rounded up to whole pages.
pub(super) fn page_multiple(bytes: usize) -> Result<usize, SpaceError> {
    match bytes.checked_next_multiple_of(PAGE_SIZE) {
        Some(0) => Err(SpaceError::BadRange),
        Some(bytes) if bytes <= lower_half().bytes() => Ok(bytes),
        _ => Err(SpaceError::OutOfMemory),
    }
}

/// The pages from `start`, which is one's, on.
pub(super) fn exactly(start: VirtAddr, bytes: usize) -> Result<VirtRange, SpaceError> {
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
