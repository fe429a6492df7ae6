//! A user's page tables: the lower half of a root of its own.
//!
//! What is mapped where, and why, is `memory`'s. Here are the entries, and the frames that they lead to: a frame belongs to an entry from
//! the section in which it was taken to the one in which it is given back, so nobody is killed with a frame in hand (INV-COUNT).
//!
//! Work on a range goes in *pieces*: at most [`PIECE`] pages of one leaf table that is there, each in a section of its own.
//!
//! The kernel never uses a user's addresses: it finds the frame in the page tables, checks what the user may do there, and goes
//! through the direct map. So a bad pointer in a system call is an error and never a fault, and SMAP stays closed.

use arrayvec::ArrayVec;
use vmstack::{Pages, PhysAddr, VirtAddr, VirtRange};
use vmstack_paging::{Attributes, Format as _, Leaf, Level, MapError, Mapper};

use super::frames::{self, Owners};
use super::tables::{self, Format, Tables};
use crate::arch::layout::{PAGE_SIZE, USER_END};
use crate::sync::Section;

/// How many pages are worked on at a time, with interrupts off.
pub(crate) const PIECE: usize = 64;

/// Why user memory could not be had or used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SpaceError {
    /// There are too few frames, too many mappings, or no room among the addresses.
    OutOfMemory,
    /// The range is not whole pages of user memory.
    BadRange,
    /// There is no memory at this address, or not for this.
    Fault(VirtAddr),
    /// The memory is there, and must not be used so.
    Forbidden,
    /// Something is mapped there.
    Occupied,
}

impl From<MapError> for SpaceError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::NoTable { .. } | MapError::OutOfFrames { .. } => Self::OutOfMemory,
            _ => Self::BadRange,
        }
    }
}

/// The page tables of a user.
///
/// Having one means that its upper half is the kernel's, and that the lower half's tables belong to it alone. Each entry there owns its
/// frame, alone or with others (`frames::Owners`).
#[derive(Debug)]
pub(crate) struct AddressSpace {
    root: PhysAddr,
}

/// What a user can have: all of the lower half but its first page and its last.
pub(crate) fn lower_half() -> VirtRange {
    VirtRange::new(VirtAddr::new(PAGE_SIZE), USER_END.get() - 2 * PAGE_SIZE).unwrap_or(VirtRange::EMPTY)
}

/// Whole pages of user memory that hold `bytes` bytes from `start`.
pub(crate) fn pages_around(start: VirtAddr, bytes: usize) -> Result<VirtRange, SpaceError> {
    let low = start.get() & !(PAGE_SIZE - 1);
    let end = start.get().checked_add(bytes).and_then(|end| end.checked_next_multiple_of(PAGE_SIZE));
    let range = end.and_then(|end| VirtRange::new(VirtAddr::new(low), end.checked_sub(low)?));
    let half = lower_half();
    range.filter(|range| range.start() >= half.start() && range.end() <= half.end()).ok_or(SpaceError::BadRange)
}

impl AddressSpace {
    /// A space with nothing in its lower half.
    pub(crate) fn new() -> Result<Self, SpaceError> {
        let root = frames::take_zeroed().ok_or(SpaceError::OutOfMemory)?;
        let space = Self { root };
        // SAFETY: the kernel's tables under the shared entries are never freed, and its memory is not the user's.
        unsafe { tables::kernel().share_top_level(&space.mapper(), tables::upper_half()) }?;
        Ok(space)
    }

    pub(crate) const fn root(&self) -> PhysAddr {
        self.root
    }

    fn mapper(&self) -> Mapper<'static, Format, Tables> {
        // SAFETY: the root is this space's, freed when it is dropped.
        unsafe { tables::mapper_of(self.root) }
    }

    /// What `page` is mapped to.
    pub(crate) fn leaf(&self, page: VirtAddr) -> Option<Leaf> {
        self.mapper().translate(page).map(|(_, leaf)| leaf)
    }

    /// The pieces of `range`, lowest address first, as they are found.
    pub(crate) fn pieces(&self, range: VirtRange) -> Pieces {
        Pieces { mapper: self.mapper(), table: None, rest: Some(range) }
    }

    /// Maps `page`, where nothing is, to `frame`, which is the entry's from then on.
    pub(crate) fn map(&self, page: VirtAddr, frame: PhysAddr, to: Attributes, _in: &Section) -> Result<(), SpaceError> {
        // SAFETY: the page is the space's, and the frame is one that its user may have.
        Ok(unsafe { self.mapper().map(Pages::new(page, 1), to, [frame]) }?)
    }

    /// Makes the frames of `piece` those of `other` too, at the same addresses; with `read_only`, nobody may write to them from here
    /// on, once this space is flushed.
    pub(crate) fn share(&self, other: &Self, piece: VirtRange, read_only: bool) -> Result<(), SpaceError> {
        let _section = Section::enter();
        let owners = Owners::new();
        // SAFETY: (1) the caller has both spaces locked; (2) the other user gets what this one has, which is as it wants; (3) the caller
        // flushes before the other user runs.
        Ok(unsafe { self.mapper().share_leaves(&other.mapper(), piece, read_only, |frame| owners.share(frame)) }?)
    }

    /// Takes the pages of `piece` out of sight. Their frames stay in their entries. Says how many there were.
    pub(crate) fn park(&self, piece: VirtRange, _in: &Section) -> usize {
        // SAFETY: the user has given the range up, or waits for it, and the caller has the space locked.
        unsafe { self.mapper().park_leaves(piece) }
    }

    /// Makes `page`, which was parked, what it was.
    pub(crate) fn unpark(&self, page: VirtAddr, attributes: Attributes) {
        // SAFETY: the frame was there before, and the caller has the space locked.
        let done = unsafe { self.mapper().unpark(Pages::new(page, 1), attributes) };
        debug_assert!(done.is_ok(), "{done:?}");
    }

    /// Gives up the frames of `piece`, parked or not, and gives back those that nobody else has.
    ///
    /// # Safety
    ///
    /// No CPU has a translation of the piece (INV-FRAME).
    pub(crate) unsafe fn give(&self, piece: VirtRange, _in: &Section) {
        debug_assert!(piece.bytes() <= PIECE * PAGE_SIZE, "{piece:?} is more than a piece");
        let mut last = ArrayVec::<PhysAddr, PIECE>::new();
        let owners = Owners::new();
        let take = |frame| {
            if owners.leave(frame) {
                last.push(frame);
            }
        };
        // SAFETY: (1) the user has given the range up; (2) the caller has the space locked; (3) the caller's promise.
        unsafe { self.mapper().take_frames(piece, take) };
        frames::give_all(&last);
    }

    /// Gives each page of `piece` the attributes that `choose` says.
    pub(crate) fn protect(&self, piece: VirtRange, choose: impl FnMut(Leaf) -> Attributes) {
        let _section = Section::enter();
        // SAFETY: the caller has the space locked, and changes what the user may do with its own memory.
        unsafe { self.mapper().protect_leaves(piece, choose) };
    }

    /// Moves the pages of `piece` to where nothing is, from `to` on.
    pub(crate) fn relocate(&self, piece: VirtRange, to: VirtAddr) -> Result<(), SpaceError> {
        let _section = Section::enter();
        let pages = Pages::new(piece.start(), piece.bytes() / PAGE_SIZE);
        // SAFETY: the caller has the space locked, has found the room, and flushes the piece.
        Ok(unsafe { self.mapper().move_leaves(pages, to) }?)
    }

    /// How many pages of `range` are there.
    pub(crate) fn resident(&self, range: VirtRange) -> usize {
        self.mapper().census(range).leaves
    }

    /// Takes everything out of the lower half, tables included. What is taken out is out of the tables first, so that doing it a second
    /// time goes on where the first was cut. No CPU runs on the space.
    ///
    /// A table at a time, for a program chooses how many there are: a page in each GiB has as many tables of both levels as pages.
    pub(crate) fn clear(&self) {
        self.each_table(Level::PAGE, |table| {
            for piece in self.pieces(table) {
                let section = Section::enter();
                // SAFETY: no CPU runs on the space, and the last one that did has flushed when it left.
                unsafe { self.give(piece, &section) };
            }
            self.free_table(table, Level::PAGE);
        });
        for level in 1..Format::top().number() {
            let level = Level::new(level);
            self.each_table(level, |table| self.free_table(table, level));
        }
    }

    /// Calls `visit` with the range of each table of `level` that is there.
    fn each_table(&self, level: Level, mut visit: impl FnMut(VirtRange)) {
        let mut rest = Some(lower_half());
        while let Some(table) = rest.and_then(|rest| self.mapper().first_table(rest, level)) {
            visit(table);
            rest = rest.and_then(|rest| after(rest, table));
        }
    }

    fn free_table(&self, table: VirtRange, level: Level) {
        let _section = Section::enter();
        // SAFETY: (1) every table of the lower half was made by this space's mapper; (2) no CPU runs on the root: its tasks
        // have switched to the kernel's; (3) nobody else has the space.
        let freed = unsafe { self.mapper().free_table(table, level) };
        debug_assert!(freed, "everything was taken out of it");
    }
}

/// What of `range` comes after `part`.
fn after(range: VirtRange, part: VirtRange) -> Option<VirtRange> {
    VirtRange::new(part.end(), range.end().offset_from(part.end())?).filter(|rest| rest.bytes() != 0)
}

/// The pieces of a range: see the top of the file.
#[derive(Debug)]
pub(crate) struct Pieces {
    mapper: Mapper<'static, Format, Tables>,
    /// What is left of the leaf table that was found last.
    table: Option<VirtRange>,
    /// What is left of the range after that.
    rest: Option<VirtRange>,
}

impl Iterator for Pieces {
    type Item = VirtRange;

    fn next(&mut self) -> Option<VirtRange> {
        if self.table.is_none() {
            let found = self.mapper.first_leaf_table(self.rest?)?;
            self.rest = self.rest.and_then(|rest| after(rest, found));
            self.table = Some(found);
        }
        let left = self.table?;
        let piece = VirtRange::new(left.start(), left.bytes().min(PIECE * PAGE_SIZE))?;
        self.table = after(left, piece);
        Some(piece)
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        self.clear();
        frames::give(self.root, 0);
    }
}
