//! The kernel reads and writes a program's memory: through the page tables, with the program's rights.
//!
//! On the CPU that runs on the memory this takes no lock. A page that is found there cannot go away while interrupts are off: whoever takes
//! one out waits until this CPU has heard of it before the frame is used for anything else (INV-FRAME). Elsewhere the memory is locked.
//! Either way a page that is not there, or cannot be written yet, comes first, and then it is looked for again.

use core::sync::atomic::{AtomicU32, Ordering};

use vmstack::{PhysAddr, VirtAddr};

use super::fault::page_of;
use super::mapping::Mapping;
use super::{FaultAccess, Memory, UserFault};
use crate::arch::cpu::InterruptsOff;
use crate::arch::layout::{PAGE_SIZE, USER_END, direct_map_to_phys, phys_to_virt};
use crate::mm::space::SpaceError;
use crate::mm::tables;
use crate::task::Key;

impl Memory {
    /// Copies the program's memory at `addr` into `bytes`.
    pub(crate) fn read(&self, addr: usize, bytes: &mut [u8]) -> Result<(), SpaceError> {
        self.pieces(addr, bytes.len(), FaultAccess::Read, |from, offset, length| {
            // SAFETY: `length` bytes of one frame, shown by the direct map; the program may change them meanwhile, which is its
            // own loss: they are bytes.
            unsafe { from.as_mut_ptr::<u8>().copy_to_nonoverlapping(bytes[offset..].as_mut_ptr(), length) };
        })
    }

    /// Copies `bytes` to the program's memory at `addr`.
    pub(crate) fn write(&self, addr: usize, bytes: &[u8]) -> Result<(), SpaceError> {
        self.pieces(addr, bytes.len(), FaultAccess::Write, |to, offset, length| {
            // SAFETY: as for `read`.
            unsafe { to.as_mut_ptr::<u8>().copy_from_nonoverlapping(bytes[offset..].as_ptr(), length) };
        })
    }

    /// Writes `word`, of four bytes, to the program's memory at `addr`.
    pub(crate) fn write_u32(&self, addr: usize, word: u32) -> Result<(), SpaceError> {
        if self.poke_u32(addr, word) { Ok(()) } else { self.write(addr, &word.to_le_bytes()) }
    }

    /// As [`write_u32`](Self::write_u32), if that takes no more than a store: nothing is in two pages, the page is there to be written,
    /// and this CPU runs on the memory. Says whether it did.
    fn poke_u32(&self, addr: usize, word: u32) -> bool {
        let Ok(at) = self.word_at(addr) else { return false };
        let _interrupts = InterruptsOff::new();
        let place = if self.is_loaded() { self.resolve(at, FaultAccess::Write) } else { None };
        if let Some(place) = place {
            // SAFETY: as in `with_word`.
            unsafe { AtomicU32::from_ptr(phys_to_virt(place).as_mut_ptr()) }.store(word, Ordering::Relaxed);
        }
        place.is_some()
    }

    /// The word at `addr`, a multiple of four.
    pub(crate) fn load_u32(&self, addr: usize) -> Result<u32, SpaceError> {
        let mut word = 0;
        self.with_word(addr, FaultAccess::Read, |place| word = place.load(Ordering::SeqCst))?;
        Ok(word)
    }

    /// As [`load_u32`](Self::load_u32), for who must not wait: nothing if the page is not there, or if this CPU does not run on the memory.
    pub(crate) fn peek_u32(&self, addr: usize) -> Option<u32> {
        let _interrupts = InterruptsOff::new();
        let at = self.word_at(addr).ok().filter(|_| self.is_loaded())?;
        let place = phys_to_virt(self.resolve(at, FaultAccess::Read)?);
        // SAFETY: as in `with_word`.
        Some(unsafe { AtomicU32::from_ptr(place.as_mut_ptr()) }.load(Ordering::SeqCst))
    }

    /// Replaces the word at `addr`, a multiple of four, by what `change` makes of it, atomically as the program's threads see it. Returns
    /// what it was; or, if `change` gives nothing, what it is.
    pub(crate) fn update_u32(
        &self,
        addr: usize,
        mut change: impl FnMut(u32) -> Option<u32>,
    ) -> Result<Result<u32, u32>, SpaceError> {
        let mut outcome = Err(0);
        self.with_word(addr, FaultAccess::Write, |place| {
            outcome = place.fetch_update(Ordering::SeqCst, Ordering::SeqCst, &mut change);
        })?;
        Ok(outcome)
    }

    /// What tasks wait on for the word at `addr`, a multiple of four: of this memory alone, or wherever its frame is mapped if it is
    /// shared between programs.
    pub(crate) fn futex_key(&self, addr: usize, private: bool) -> Result<Key, SpaceError> {
        let at = self.word_at(addr)?;
        let own = Key::of_word(core::ptr::from_ref(self).addr(), addr);
        if private || !self.is_shared(at)? {
            return Ok(own);
        }
        let mut key = own;
        self.with_page(at, FaultAccess::Read, |place| {
            key = Key::of_common_word(direct_map_to_phys(place).get() as usize);
        })?;
        Ok(key)
    }

    /// Whether `at` is in a mapping that others may have too. An error where there is none, and none comes of asking for it.
    fn is_shared(&self, at: VirtAddr) -> Result<bool, SpaceError> {
        let shared = || self.lock().mappings.find(at).map(Mapping::is_shared);
        if let Some(shared) = shared() {
            return Ok(shared);
        }
        self.with_page(at, FaultAccess::Read, |_| ())?;
        Ok(shared().unwrap_or(false))
    }

    fn word_at(&self, addr: usize) -> Result<VirtAddr, SpaceError> {
        let at = VirtAddr::new(addr);
        if !at.is_aligned(size_of::<u32>()) {
            return Err(SpaceError::BadRange);
        }
        if at < USER_END { Ok(at) } else { Err(SpaceError::Fault(at)) }
    }

    fn with_word(&self, addr: usize, access: FaultAccess, use_it: impl FnMut(&AtomicU32)) -> Result<(), SpaceError> {
        let mut use_it = use_it;
        self.with_page(self.word_at(addr)?, access, |place| {
            // SAFETY: aligned, inside one frame, which the direct map shows; the kernel and the program use it by atomics, or it is
            // the program's loss.
            use_it(unsafe { AtomicU32::from_ptr(place.as_mut_ptr()) });
        })
    }

    /// Calls `copy` with the place in the direct map of each piece, where it is in the range, and its length.
    fn pieces(
        &self,
        addr: usize,
        bytes: usize,
        access: FaultAccess,
        mut copy: impl FnMut(VirtAddr, usize, usize),
    ) -> Result<(), SpaceError> {
        let start = VirtAddr::new(addr);
        let in_range = addr.checked_add(bytes).is_some_and(|end| end <= USER_END.get());
        if !in_range {
            return Err(SpaceError::Fault(start));
        }
        let mut done = 0;
        while done < bytes {
            let at = start.wrapping_add(done);
            let length = (PAGE_SIZE - at.get() % PAGE_SIZE).min(bytes - done);
            self.with_page(at, access, |place| copy(place, done, length))?;
            done += length;
        }
        Ok(())
    }

    /// Calls `use_it` once, with where the direct map shows `at`, once the program's page is there for `access`.
    fn with_page(&self, at: VirtAddr, access: FaultAccess, mut use_it: impl FnMut(VirtAddr)) -> Result<(), SpaceError> {
        while !self.use_page(at, access, &mut use_it) {
            self.fault(at, access).map_err(|fault| match fault {
                UserFault::OutOfMemory => SpaceError::OutOfMemory,
                _ => SpaceError::Fault(at),
            })?;
        }
        Ok(())
    }

    /// As [`with_page`](Self::with_page), if the page is there. Says whether it is.
    fn use_page(&self, at: VirtAddr, access: FaultAccess, use_it: &mut impl FnMut(VirtAddr)) -> bool {
        let interrupts = InterruptsOff::new();
        if self.is_loaded() {
            return self.resolve(at, access).map(|frame| use_it(phys_to_virt(frame))).is_some();
        }
        drop(interrupts);
        let _inner = self.lock();
        self.resolve(at, access).map(|frame| use_it(phys_to_virt(frame))).is_some()
    }

    /// The physical address of `at`, if its page is there for `access`.
    fn resolve(&self, at: VirtAddr, access: FaultAccess) -> Option<PhysAddr> {
        // SAFETY: the root is this memory's own, and tables are not freed while it is used.
        let (frame, leaf) = unsafe { tables::mapper_of(self.root) }.translate(at)?;
        let attributes = leaf.attributes;
        let allowed = attributes.is_user() && (access != FaultAccess::Write || attributes.access().is_writable());
        allowed.then_some(frame)
    }

    /// Whether the page of `addr` is there.
    pub(crate) fn is_resident(&self, addr: VirtAddr) -> bool {
        // SAFETY: as in `resolve`.
        unsafe { tables::mapper_of(self.root) }.translate(page_of(addr)).is_some()
    }
}
