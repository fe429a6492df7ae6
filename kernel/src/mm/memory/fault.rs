//! Pages come: when a program uses them, or the kernel does on its behalf.
//!
//! ```text
//!   the page is     and the access is     then
//!   ────────────────────────────────────────────────────────────────────────────────────────────
//!   absent          allowed               a frame: zeros, or what the file says
//!   there           a write               of a frame that others have too: a copy, in its place
//!                                         of one's own: it can be written from now on
//!   any             not allowed           `NotAllowed`
//! ```
//!
//! Where other CPUs run on the memory, a page that gets another frame is out of sight first, until they have forgotten the old one: else one
//! CPU could write to the new frame while another still reads the old.

use vmstack::{PhysAddr, VirtAddr, VirtRange};
use vmstack_paging::{Access, Attributes, Leaf};

use super::active::forget_page;
use super::mapping::{Kind, Mapping, Rights};
use super::{Inner, Memory, Unfinished};
use crate::arch::layout::{PAGE_SIZE, phys_to_virt};
use crate::arch::memory::copy_page;
use crate::mm::space::SpaceError;
use crate::mm::{frames, shortage};
use crate::pressure;
use crate::sync::Section;
use crate::task::sched;

/// What a program, or the kernel for it, wants to do with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FaultAccess {
    Read,
    Write,
    Execute,
}

/// Why a page cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UserFault {
    /// Nothing is mapped there.
    NotMapped,
    /// The mapping does not permit it.
    NotAllowed,
    /// The file has ended before.
    BeyondFile,
    /// There is no frame for it.
    OutOfMemory,
}

/// How far a mapping that grows down does so at most, in bytes, and what it leaves free below itself.
const GROWTH: usize = super::STACK_BYTES;
const GROWTH_GAP: usize = 256 * PAGE_SIZE;

impl Mapping {
    fn allows(&self, access: FaultAccess) -> bool {
        match access {
            FaultAccess::Read => !self.rights.is_none(),
            FaultAccess::Write => self.rights.may_write(),
            FaultAccess::Execute => self.rights.may_execute(),
        }
    }
}

/// What an entry says of a page with these rights; one that is not `writable` yet is seen when it is written to.
pub(super) fn attributes(rights: Rights, writable: bool) -> Attributes {
    // Memory that nobody may use is not the user's: its frame stays where it is.
    if rights.is_none() {
        return Attributes::kernel(Access::Read).with_global(false);
    }
    Attributes::user(match (rights.may_write() && writable, rights.may_execute()) {
        (true, _) => Access::ReadWrite,
        (false, true) => Access::ReadExecute,
        (false, false) => Access::Read,
    })
}

impl Memory {
    /// Makes the page of `addr` such as `access` wants it, if the program may do that. Where there is no frame for it, what the kernel keeps
    /// without need is given back first.
    ///
    /// # Context
    ///
    /// Tasks, interrupts on.
    pub(crate) fn fault(&self, addr: VirtAddr, access: FaultAccess) -> Result<(), UserFault> {
        let mut done = self.try_fault(addr, access);
        if done == Err(UserFault::OutOfMemory) && pressure::relieve() {
            done = self.try_fault(addr, access);
        }
        if done == Err(UserFault::OutOfMemory) {
            // A call that wanted the page may have done something already: a child is waited for, a signal taken. It is not made once more.
            shortage::forget();
        }
        done
    }

    /// As [`fault`](Self::fault), with the memory that there is.
    fn try_fault(&self, addr: VirtAddr, access: FaultAccess) -> Result<(), UserFault> {
        let page = page_of(addr);
        let mut inner = self.lock();
        let mapping = match inner.mappings.find(page) {
            Some(&mapping) => mapping,
            None => inner.grow_down(page).ok_or(UserFault::NotMapped)?,
        };
        if !mapping.allows(access) {
            return Err(UserFault::NotAllowed);
        }
        match inner.space.leaf(page) {
            None => inner.fill(&mapping, page),
            Some(leaf) if access == FaultAccess::Write && !leaf.attributes.access().is_writable() => {
                self.make_writable(&mut inner, &mapping, leaf)
            }
            Some(_) => {
                // Another thread was first, or this CPU knew the entry as it was before.
                forget_page(page);
                Ok(())
            }
        }
    }

    /// Makes the page of `leaf`, which the program may write to, writable: the frame that is there if it is nobody else's, or a copy.
    fn make_writable(&self, inner: &mut Inner, mapping: &Mapping, leaf: Leaf) -> Result<(), UserFault> {
        let page = VirtRange::new(leaf.at, PAGE_SIZE).unwrap_or(VirtRange::EMPTY);
        if mapping.is_shared() || !frames::is_shared(leaf.frame) {
            inner.space.protect(page, |_| attributes(mapping.rights, true));
            forget_page(leaf.at);
            return Ok(());
        }
        let section = Section::enter();
        inner.unfinished = Unfinished::Replace(leaf.at);
        let parked = inner.space.park(page, &section);
        debug_assert!(parked == 1, "the page was there");
        if self.forget(page) {
            drop(section);
            self.flush();
            let section = Section::enter();
            return inner.replace(mapping, leaf, page, &section);
        }
        inner.replace(mapping, leaf, page, &section)
    }

    /// Finishes what a task that was killed had begun: the page keeps the frame that it has.
    pub(super) fn put_back(&self, inner: &mut Inner, page: VirtAddr) {
        let rights = inner.mappings.find(page).map_or(Rights::NONE, |mapping| mapping.rights);
        inner.space.unpark(page, attributes(rights, false));
        inner.unfinished = Unfinished::Nothing;
    }

    /// Makes all pages of `range` come, as far as it is mapped and anything may be done there. Others get at the memory in between.
    pub(crate) fn populate(&self, range: VirtRange) -> Result<(), SpaceError> {
        let mut at = range.start();
        while let Some(next) = self.lock().populate_next(at, range.end())? {
            at = next;
        }
        Ok(())
    }
}

impl Inner {
    /// Makes all pages of `range` come, as far as it is mapped and anything may be done there.
    pub(super) fn populate(&mut self, range: VirtRange) -> Result<(), SpaceError> {
        let mut at = range.start();
        while let Some(next) = self.populate_next(at, range.end())? {
            at = next;
        }
        Ok(())
    }

    /// Makes the page of `at` come, or passes over what cannot, and says where to go on below `end`, if anything is mapped there.
    fn populate_next(&mut self, at: VirtAddr, end: VirtAddr) -> Result<Option<VirtAddr>, SpaceError> {
        let Some(mapping) = self.mappings.from(at).copied().filter(|found| at < end && found.start < end) else {
            return Ok(None);
        };
        // It may be long, and nobody sees what is answered.
        if sched::current().must_end() {
            return Err(SpaceError::OutOfMemory);
        }
        if mapping.rights.is_none() && !mapping.is_common() {
            return Ok(Some(mapping.end));
        }
        let page = at.max(mapping.start);
        let filled = if self.space.leaf(page).is_none() { self.fill(&mapping, page) } else { Ok(()) };
        match filled {
            Err(UserFault::OutOfMemory) => Err(SpaceError::OutOfMemory),
            // Nor has the file any page after it.
            Err(UserFault::BeyondFile) => Ok(Some(mapping.end)),
            _ => Ok(Some(page.wrapping_add(PAGE_SIZE))),
        }
    }

    /// Gives `page`, which is absent, a frame.
    fn fill(&mut self, mapping: &Mapping, page: VirtAddr) -> Result<(), UserFault> {
        let bytes = mapping.file_page(page);
        if mapping.is_file() && bytes.is_empty() {
            return Err(UserFault::BeyondFile);
        }
        let section = Section::enter();
        let frame = frames::take(0).ok_or(UserFault::OutOfMemory)?;
        write_page(frame, bytes);
        self.space.map(page, frame, attributes(mapping.rights, true), &section).map_err(|_| {
            frames::give(frame, 0);
            UserFault::OutOfMemory
        })
    }

    /// Puts a copy of its frame in the place of `leaf`, whose page is parked and known to no CPU.
    fn replace(&mut self, mapping: &Mapping, leaf: Leaf, page: VirtRange, section: &Section) -> Result<(), UserFault> {
        self.unfinished = Unfinished::Nothing;
        let Some(frame) = frames::take(0) else {
            self.space.unpark(leaf.at, leaf.attributes);
            return Err(UserFault::OutOfMemory);
        };
        // SAFETY: both frames are shown by the direct map; the new one is nobody else's.
        unsafe { copy_page(phys_to_virt(leaf.frame), phys_to_virt(frame)) };
        // SAFETY: no CPU knows the page (see above).
        unsafe { self.space.give(page, section) };
        let mapped = self.space.map(leaf.at, frame, attributes(mapping.rights, true), section);
        debug_assert!(mapped.is_ok(), "its table is there: {mapped:?}");
        Ok(())
    }

    /// Lets the mapping above `page` grow down to it, if it is one that does and there is room.
    fn grow_down(&mut self, page: VirtAddr) -> Option<Mapping> {
        let above = *self.mappings.from(page).filter(|above| above.kind.has(Kind::GROWS_DOWN))?;
        let below = self.mappings.before(page).map_or(VirtAddr::default(), |below| below.end);
        let room = page.offset_from(below).is_some_and(|room| room >= GROWTH_GAP);
        if !room || above.end.distance(page) > GROWTH {
            return None;
        }
        let grown = VirtRange::new(page, above.start.distance(page))?;
        self.mappings.insert(Mapping::anonymous(grown, above.rights, above.kind)).ok()?;
        self.mappings.find(page).copied()
    }
}

/// Fills a frame: first `bytes`, at most a page, and then zeros.
fn write_page(frame: PhysAddr, bytes: &[u8]) {
    if bytes.len() < PAGE_SIZE {
        frames::clear(frame);
    }
    // SAFETY: the frame is nobody else's, shown by the direct map, and at least as long.
    unsafe { phys_to_virt(frame).as_mut_ptr::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

/// The page that `addr` lies in.
pub(super) fn page_of(addr: VirtAddr) -> VirtAddr {
    VirtAddr::new(addr.get() & !(PAGE_SIZE - 1))
}
