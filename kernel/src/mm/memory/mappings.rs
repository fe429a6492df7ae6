//! All mappings of a program, in order.
//!
//! ```text
//!   chunks   | . | . | . |        a list of pages, each with some mappings: found by two binary searches
//!              |   |   └─> | 0x7f00.. | 0x7ffe.. |           |
//!              |   └─────> | 0x4f000..| ...                 |     each remembers the largest hole below its mappings
//!              └─────────> | 0x400000 | 0x401000 | ...       |
//! ```
//!
//! Those that touch and are alike are one. Each change is a section: a task that is killed before it or after it leaves the list whole. What needs
//! memory, and so can fail, comes before anything is changed.

use alloc::vec::Vec;

use vmstack::{VirtAddr, VirtRange};

use super::chunk::{CAPACITY, Chunk};
use super::mapping::Mapping;
use super::page_box::PageBox;
use super::{Section, heap};

/// How many mappings a program can have: Linux's `max_map_count`.
pub(crate) const LIMIT: usize = 65_530;

/// There are too many mappings, or there is no memory for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Full;

/// Mappings that do not overlap.
#[derive(Debug, Default)]
pub(crate) struct Mappings {
    /// None is empty, but for the first while its first mapping is on its way.
    chunks: Vec<PageBox<Chunk>>,
    count: usize,
}

/// Where a mapping is: the chunk, and the entry in it. Past the end of all: the number of chunks, and 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    chunk: usize,
    entry: usize,
}

impl Mappings {
    pub(crate) const fn new() -> Self {
        Self { chunks: Vec::new(), count: 0 }
    }

    /// All of them, lowest address first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.chunks.iter().flat_map(|chunk| chunk.as_slice())
    }

    /// The mapping that `addr` lies in.
    pub(crate) fn find(&self, addr: VirtAddr) -> Option<&Mapping> {
        self.from(addr).filter(|mapping| mapping.start <= addr)
    }

    /// The first mapping that ends after `addr`.
    pub(crate) fn from(&self, addr: VirtAddr) -> Option<&Mapping> {
        self.get(self.seek(addr))
    }

    /// The last mapping that begins below `addr`.
    pub(crate) fn before(&self, addr: VirtAddr) -> Option<&Mapping> {
        let chunk = self.chunks.partition_point(|chunk| chunk.start() < addr).checked_sub(1)?;
        let entries = self.chunks[chunk].as_slice();
        entries.get(entries.partition_point(|mapping| mapping.start < addr).checked_sub(1)?)
    }

    /// Whether nothing is mapped in `range`.
    pub(crate) fn is_free(&self, range: VirtRange) -> bool {
        self.from(range.start()).is_none_or(|mapping| mapping.start >= range.end())
    }

    /// Whether all of `range` is mapped.
    pub(crate) fn covers(&self, range: VirtRange) -> bool {
        let mut at = range.start();
        while at < range.end() {
            match self.find(at) {
                Some(mapping) => at = mapping.end,
                None => return false,
            }
        }
        true
    }

    /// Puts `new` where nothing is.
    pub(crate) fn insert(&mut self, new: Mapping) -> Result<(), Full> {
        let _section = Section::enter();
        self.make_room(new.start, 1)?;
        self.put(new);
        Ok(())
    }

    /// Takes all of them out, a chunk at a time.
    pub(crate) fn clear(&mut self) {
        self.count = 0;
        while !self.chunks.is_empty() {
            let _section = Section::enter();
            drop(self.chunks.pop());
        }
    }

    /// Makes room for `more` mappings about `addr`, so that so many changes there cannot fail until then, wherever else one is put meanwhile.
    pub(crate) fn reserve(&mut self, addr: VirtAddr, more: usize) -> Result<(), Full> {
        let _section = Section::enter();
        self.make_room(addr, more)
    }

    /// Takes the first mapping out that has a part in `range`, that part of it, and returns it.
    pub(crate) fn carve(&mut self, range: VirtRange) -> Result<Option<Mapping>, Full> {
        let _section = Section::enter();
        let Some(found) = self.from(range.start()).copied().filter(|found| found.start < range.end()) else {
            return Ok(None);
        };
        if found.start < range.start() && found.end > range.end() {
            self.make_room(range.start(), 1)?;
        }
        let taken = self.take(found, range);
        if self.count == 0 {
            self.chunks.clear();
        }
        Ok(Some(taken))
    }

    /// Puts what `change` makes of it in the place of the first mapping that has a part in `range`, of that part, and returns that.
    pub(crate) fn change(
        &mut self,
        range: VirtRange,
        change: impl FnOnce(Mapping) -> Mapping,
    ) -> Result<Option<Mapping>, Full> {
        let _section = Section::enter();
        let Some(found) = self.from(range.start()).copied().filter(|found| found.start < range.end()) else {
            return Ok(None);
        };
        self.make_room(found.start.max(range.start()), 2)?;
        let changed = change(self.take(found, range));
        self.put(changed);
        Ok(Some(changed))
    }

    /// The highest address from `floor` on at which `bytes` bytes below `ceiling` are free.
    pub(crate) fn highest_hole(&mut self, bytes: usize, floor: VirtAddr, ceiling: VirtAddr) -> Option<VirtAddr> {
        let mut top = ceiling;
        for index in (0..self.chunks.len()).rev() {
            let first = self.chunks[index].start();
            let end = self.chunks[index].as_slice().last().map_or(first, |last| last.end);
            let below = self.end_before(index).max(floor);
            if let Some(start) = fitting(end.max(floor), top, bytes) {
                return Some(start);
            }
            if self.chunks[index].hole().is_none_or(|hole| hole >= bytes)
                && let Some(start) = self.chunks[index].highest_hole(bytes, below, top)
            {
                return Some(start);
            }
            top = top.min(first);
        }
        fitting(floor, top, bytes)
    }

    /// Makes this list, which is empty, a copy of `other`.
    pub(crate) fn copy_from(&mut self, other: &Self) -> Result<(), Full> {
        for chunk in &other.chunks {
            let _section = Section::enter();
            let left = other.chunks.len() - self.chunks.len();
            heap::reserve(&mut self.chunks, left).map_err(|_| Full)?;
            let mut copy = Chunk::new().ok_or(Full)?;
            copy.copy_from(chunk);
            self.count += copy.as_slice().len();
            self.chunks.push(copy);
        }
        Ok(())
    }

    /// Where the first mapping is that ends after `addr`.
    fn seek(&self, addr: VirtAddr) -> Place {
        let chunk = self.chunks.partition_point(|chunk| chunk.start() <= addr).saturating_sub(1);
        let Some(entries) = self.chunks.get(chunk).map(|chunk| chunk.as_slice()) else {
            return Place { chunk: 0, entry: 0 };
        };
        match entries.partition_point(|mapping| mapping.end <= addr) {
            entry if entry == entries.len() => Place { chunk: chunk + 1, entry: 0 },
            entry => Place { chunk, entry },
        }
    }

    fn get(&self, place: Place) -> Option<&Mapping> {
        self.chunks.get(place.chunk)?.as_slice().get(place.entry)
    }

    /// The place before `place`.
    fn previous(&self, place: Place) -> Option<Place> {
        match place.entry.checked_sub(1) {
            Some(entry) => Some(Place { entry, ..place }),
            None => {
                let chunk = place.chunk.checked_sub(1)?;
                Some(Place { chunk, entry: self.chunks[chunk].as_slice().len().checked_sub(1)? })
            }
        }
    }

    /// The end of the last mapping before chunk `index`.
    fn end_before(&self, index: usize) -> VirtAddr {
        let last = index.checked_sub(1).and_then(|before| self.chunks[before].as_slice().last());
        last.map_or(VirtAddr::default(), |last| last.end)
    }

    /// Makes room for `more` mappings about `addr`, so that putting them there cannot fail.
    fn make_room(&mut self, addr: VirtAddr, more: usize) -> Result<(), Full> {
        if self.count + more > LIMIT {
            return Err(Full);
        }
        // What is cut in two stays in its chunk; what begins at `addr` goes where `place_for` says.
        let at = self.seek(addr);
        let is_cut = self.get(at).is_some_and(|mapping| mapping.start < addr);
        let Place { chunk, .. } = if is_cut { at } else { self.place_for(addr) };
        let full = self.chunks.get(chunk).is_none_or(|chunk| chunk.as_slice().len() + more > CAPACITY);
        if full {
            heap::reserve(&mut self.chunks, 1).map_err(|_| Full)?;
            let mut new = Chunk::new().ok_or(Full)?;
            let at = match self.chunks.get_mut(chunk) {
                Some(old) => {
                    old.move_to(CAPACITY / 2, &mut new);
                    chunk + 1
                }
                None => chunk,
            };
            self.chunks.insert(at, new);
        }
        Ok(())
    }

    /// Where a mapping that begins at `addr`, where nothing is, goes: into a chunk that is there, if any is.
    fn place_for(&self, addr: VirtAddr) -> Place {
        let place = self.seek(addr);
        match self.previous(place) {
            // At the end of a chunk rather than at the beginning of the next.
            Some(before) if place.entry == 0 => Place { entry: before.entry + 1, ..before },
            Some(_) => place,
            None => Place { chunk: 0, entry: 0 },
        }
    }

    /// Puts `new`, for which there is room, where nothing is.
    fn put(&mut self, new: Mapping) {
        let next = self.seek(new.start);
        let previous = self.previous(next).filter(|&place| self.get(place).is_some_and(|mapping| mapping.joins(&new)));
        let next = Some(next).filter(|&place| self.get(place).is_some_and(|mapping| new.joins(mapping)));
        match (previous, next) {
            (Some(previous), Some(next)) => {
                self.get_mut(previous).end = self.get_mut(next).end;
                self.remove(next);
            }
            (Some(previous), None) => self.get_mut(previous).end = new.end,
            (None, Some(next)) => self.get_mut(next).start = new.start,
            (None, None) => {
                let place = self.place_for(new.start);
                self.chunks[place.chunk].insert(place.entry, new);
                self.count += 1;
                self.forget_holes(place.chunk);
            }
        }
    }

    /// Takes what of `found`, a mapping that is here, lies in `range` out. If it is in the middle, there is room for one more.
    fn take(&mut self, found: Mapping, range: VirtRange) -> Mapping {
        let place = self.seek(found.start);
        let (front, back) = (found.start < range.start(), found.end > range.end());
        let mut taken = found;
        if back {
            taken = taken.below(range.end());
            *self.get_mut(place) = found.from(range.end());
        }
        if front {
            taken = taken.from(range.start());
            *self.get_mut(place) = found.below(range.start());
        }
        match (front, back) {
            (true, true) => {
                self.chunks[place.chunk].insert(place.entry + 1, found.from(range.end()));
                self.count += 1;
                self.forget_holes(place.chunk);
            }
            (false, false) => self.remove(place),
            _ => {}
        }
        taken
    }

    fn get_mut(&mut self, place: Place) -> &mut Mapping {
        self.forget_holes(place.chunk);
        &mut self.chunks[place.chunk].as_mut_slice()[place.entry]
    }

    /// Takes the mapping at `place` out, and its chunk if it was the last there, or merges it with the next if few are left.
    fn remove(&mut self, place: Place) {
        let Place { chunk, entry } = place;
        self.chunks[chunk].remove(entry);
        self.count -= 1;
        let left = self.chunks[chunk].as_slice().len();
        // The first one stays, for what may be on its way back.
        if left == 0 && chunk != 0 {
            drop(self.chunks.remove(chunk));
        } else if self.chunks.get(chunk + 1).is_some_and(|next| next.as_slice().len() + left <= CAPACITY / 2) {
            let mut next = self.chunks.remove(chunk + 1);
            next.move_to(0, &mut self.chunks[chunk]);
        }
        self.forget_holes(chunk);
    }

    /// Forgets what was known of the holes in chunk `index` and before the next.
    fn forget_holes(&mut self, index: usize) {
        self.chunks.iter_mut().skip(index).take(2).for_each(|chunk| chunk.set_hole(None));
    }
}

impl Chunk {
    /// The highest address from `floor` on at which `bytes` bytes are free below one of the chunk's mappings, and below `ceiling`. Where
    /// there is none the largest hole is known afterwards.
    fn highest_hole(&mut self, bytes: usize, floor: VirtAddr, ceiling: VirtAddr) -> Option<VirtAddr> {
        let mut largest = 0;
        for index in (0..self.as_slice().len()).rev() {
            let below = index.checked_sub(1).map_or(floor, |before| self.as_slice()[before].end.max(floor));
            let top = self.as_slice()[index].start;
            if let Some(start) = fitting(below, top.min(ceiling), bytes) {
                return Some(start);
            }
            largest = largest.max(top.offset_from(below).unwrap_or(0));
        }
        self.set_hole(Some(largest));
        None
    }

    /// Makes this chunk, which is empty, a copy of `other`.
    fn copy_from(&mut self, other: &Self) {
        for (index, &mapping) in other.as_slice().iter().enumerate() {
            self.insert(index, mapping);
        }
        self.set_hole(other.hole());
    }
}

/// The highest address at which `bytes` bytes fit between `low` and `high`.
fn fitting(low: VirtAddr, high: VirtAddr, bytes: usize) -> Option<VirtAddr> {
    let room = high.offset_from(low)?;
    (room >= bytes).then(|| high.wrapping_sub(bytes))
}
