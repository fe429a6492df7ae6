//! A user's address space: the lower half of a root table of its own.
//!
//! All user memory is there when it is mapped; nothing is filled in on a fault. The kernel never uses a user's addresses: it
//! finds the frame in the page tables, checks what the user may do there, and goes through the direct map. So a bad pointer
//! in a system call is an error and never a fault, and SMAP stays closed.
//!
//! One task at a time runs in a space, so a change needs a flush on this CPU alone; other CPUs load the root anew.

use core::ops::ControlFlow;

use vmstack::{Pages, PhysAddr, VirtAddr, VirtRange};
use vmstack_paging::{Access, Attributes, Leaf, MapError, Mapper};

use super::frames;
use super::tables::{self, Format, Tables};
use crate::arch::layout::{PAGE_SIZE, USER_END, phys_to_virt};
use crate::sync::Section;

/// How many pages are given back at a time, with interrupts off.
const PIECE: usize = 32;

/// Why user memory could not be had or used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SpaceError {
    /// There are too few frames.
    OutOfMemory,
    /// The range is not whole pages of user memory.
    BadRange,
    /// There is no memory at this address, or not for this.
    Fault(VirtAddr),
}

impl From<MapError> for SpaceError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::NoTable { .. } | MapError::OutOfFrames { .. } => Self::OutOfMemory,
            _ => Self::BadRange,
        }
    }
}

/// An address space.
///
/// Having one means that its upper half is the kernel's, and that the lower half and its frames belong to it alone.
#[derive(Debug)]
pub(crate) struct AddressSpace {
    root: PhysAddr,
}

fn lower_half() -> VirtRange {
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

    /// Maps cleared memory at the pages of `range`, which is free.
    pub(crate) fn map(&mut self, range: VirtRange, access: Access) -> Result<(), SpaceError> {
        let pages = Pages::new(range.start(), range.bytes() / PAGE_SIZE);
        for page in pages.addresses(PAGE_SIZE) {
            // A frame is the allocator's or in the tables: nobody is killed in between.
            let section = Section::enter();
            let frame = frames::take_zeroed().ok_or(SpaceError::OutOfMemory);
            let mapped = frame.and_then(|frame| self.map_frame(page, frame, access));
            drop(section);
            if let Err(error) = mapped {
                self.unmap(VirtRange::new(range.start(), page.distance(range.start())).unwrap_or(VirtRange::EMPTY))?;
                return Err(error);
            }
        }
        Ok(())
    }

    fn map_frame(&mut self, page: VirtAddr, frame: PhysAddr, access: Access) -> Result<(), SpaceError> {
        // SAFETY: the page is the space's, and the frame was taken for it.
        let mapped = unsafe { self.mapper().map(Pages::new(page, 1), Attributes::user(access), [frame]) };
        mapped.map_err(|error| {
            frames::give(frame, 0);
            error.into()
        })
    }

    /// Takes everything out of the lower half, tables included. No CPU runs on the space.
    pub(crate) fn clear(&mut self) {
        let given_up = self.unmap(lower_half());
        debug_assert!(given_up.is_ok(), "{given_up:?}");
        let _section = Section::enter();
        // SAFETY: (1) every table of the lower half was made by this space's mapper; (2) no CPU runs on the root: its task
        // has switched to the kernel's; (3) nobody else has the space.
        let _tables = unsafe { self.mapper().free_tables(lower_half()) };
    }

    /// Whether nothing is mapped in `range`.
    pub(crate) fn is_free(&self, range: VirtRange) -> bool {
        self.mapper().for_each_leaf(range, |_| ControlFlow::Break(())).is_continue()
    }

    /// Takes away what is mapped in `range`.
    pub(crate) fn unmap(&mut self, range: VirtRange) -> Result<(), SpaceError> {
        let mut rest = Some(range);
        while let Some((piece, after)) = rest.and_then(|rest| self.next_piece(rest)) {
            let unmap = |leaf: Leaf| {
                forget(leaf.at);
                frames::give(leaf.frame, 0);
            };
            // As in `map`.
            let _section = Section::enter();
            // SAFETY: (1) the user has given the range up; (2) the space is borrowed exclusively; (3) this CPU is the only one
            // that could know the page, and forgets it before the frame goes back.
            unsafe { self.mapper().unmap_with(piece, unmap) }.map_err(|_| SpaceError::BadRange)?;
            rest = after;
        }
        Ok(())
    }

    /// A few pages of `range` from the first one that is mapped, and what comes after them; `None` if none is mapped.
    fn next_piece(&self, range: VirtRange) -> Option<(VirtRange, Option<VirtRange>)> {
        let mut first = None;
        let _found = self.mapper().for_each_leaf(range, |leaf| {
            first = Some(leaf.at);
            ControlFlow::Break(())
        });
        let start = first?;
        let bytes = range.end().distance(start);
        let piece = bytes.min(PIECE * PAGE_SIZE);
        let after = VirtRange::new(start.wrapping_add(piece), bytes - piece);
        Some((VirtRange::new(start, piece)?, after))
    }

    /// Changes what the user may do with the pages of `range`, all of which are mapped.
    pub(crate) fn protect(&mut self, range: VirtRange, access: Access) -> Result<(), SpaceError> {
        let pages = Pages::new(range.start(), range.bytes() / PAGE_SIZE);
        // SAFETY: the space is borrowed exclusively, and the memory stays the user's.
        unsafe { self.mapper().protect(pages, access) }.map_err(|_| SpaceError::Fault(range.start()))?;
        pages.addresses(PAGE_SIZE).for_each(forget);
        Ok(())
    }

    /// Copies all memory to `copy`, which is empty. What was copied stays there if there is too little memory for all.
    pub(crate) fn copy_to(&self, copy: &mut Self) -> Result<(), SpaceError> {
        let copied = self.mapper().for_each_leaf(lower_half(), |leaf| {
            // As in `map`.
            let _section = Section::enter();
            let frame = frames::take(0).ok_or(SpaceError::OutOfMemory);
            let mapped = frame.and_then(|frame| {
                // SAFETY: both frames are shown by the direct map; the new one is nobody else's.
                unsafe { copy_frame(leaf.frame, frame) };
                copy.map_frame(leaf.at, frame, leaf.attributes.access())
            });
            mapped.map_or_else(ControlFlow::Break, ControlFlow::Continue)
        });
        match copied {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    /// The direct-map address of `addr`, and how many bytes of its page lie from there on, if the user may do that there.
    fn resolve(&self, addr: VirtAddr, write: bool) -> Result<(VirtAddr, usize), SpaceError> {
        let (frame, leaf) = self.mapper().translate(addr).ok_or(SpaceError::Fault(addr))?;
        if !leaf.attributes.is_user() || (write && !leaf.attributes.access().is_writable()) {
            return Err(SpaceError::Fault(addr));
        }
        Ok((phys_to_virt(frame), PAGE_SIZE - addr.get() % PAGE_SIZE))
    }

    /// Copies user memory from `addr` on into `bytes`.
    pub(crate) fn read(&self, addr: VirtAddr, bytes: &mut [u8]) -> Result<(), SpaceError> {
        self.pieces(addr, bytes.len(), false, |from, offset, length| {
            // SAFETY: `length` bytes of one frame, shown by the direct map; the user may change them meanwhile, which is the
            // user's loss: they are bytes.
            unsafe { from.as_mut_ptr::<u8>().copy_to_nonoverlapping(bytes[offset..].as_mut_ptr(), length) };
        })
    }

    /// Copies `bytes` to user memory from `addr` on.
    pub(crate) fn write(&self, addr: VirtAddr, bytes: &[u8]) -> Result<(), SpaceError> {
        self.pieces(addr, bytes.len(), true, |to, offset, length| {
            // SAFETY: as for `read`.
            unsafe { to.as_mut_ptr::<u8>().copy_from_nonoverlapping(bytes[offset..].as_ptr(), length) };
        })
    }

    /// Copies `bytes` to memory that the loader has mapped, whatever the user may do there.
    pub(crate) fn load(&self, addr: VirtAddr, bytes: &[u8]) -> Result<(), SpaceError> {
        let mut done = 0;
        while done < bytes.len() {
            let at = addr.wrapping_add(done);
            let (frame, _) = self.mapper().translate(at).ok_or(SpaceError::Fault(at))?;
            let length = (PAGE_SIZE - at.get() % PAGE_SIZE).min(bytes.len() - done);
            // SAFETY: as for `read`; nobody runs in the space yet.
            unsafe { phys_to_virt(frame).as_mut_ptr::<u8>().copy_from_nonoverlapping(bytes[done..].as_ptr(), length) };
            done += length;
        }
        Ok(())
    }

    fn pieces(
        &self,
        addr: VirtAddr,
        bytes: usize,
        write: bool,
        mut copy: impl FnMut(VirtAddr, usize, usize),
    ) -> Result<(), SpaceError> {
        let mut done = 0;
        while done < bytes {
            let at = addr.checked_add(done).filter(|&at| at < USER_END).ok_or(SpaceError::Fault(addr))?;
            let (place, room) = self.resolve(at, write)?;
            let length = room.min(bytes - done);
            copy(place, done, length);
            done += length;
        }
        Ok(())
    }
}

/// Makes this CPU forget its translation of `page`.
fn forget(page: VirtAddr) {
    // SAFETY: the kernel runs in ring 0.
    unsafe { vmstack_arch::tlb::flush_page(page) };
}

/// Copies a frame.
///
/// # Safety
///
/// Both are shown by the direct map, and nobody else uses `to`.
unsafe fn copy_frame(from: PhysAddr, to: PhysAddr) {
    let (from, to) = (phys_to_virt(from).as_mut_ptr::<u8>(), phys_to_virt(to).as_mut_ptr::<u8>());
    // SAFETY: the caller's promise; two frames do not overlap.
    unsafe { from.copy_to_nonoverlapping(to, PAGE_SIZE) };
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        self.clear();
        frames::give(self.root, 0);
    }
}
