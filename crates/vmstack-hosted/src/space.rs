//! The stack area's address space, and its page tables.
//!
//! A reserved range, into which single frames are mapped at fixed addresses. The kernel's own tables cannot be read back
//! cheaply, so a table beside them says which frame each page has: one word a page, zero for none, so that it takes
//! memory only where it is used. `unmap` finds the frames there and needs no memory (INV-FREE); the fault path reads it
//! without a lock.
//!
//! # Near the limit
//!
//! mmap refuses *every* call while the process has more mappings than `vm.max_map_count`, also one that would lower their
//! number; and a call that was allowed may leave one too many. Then nothing could be unmapped any more. So each space
//! keeps a few mappings *to spare*, gives them up when unmapping is refused, and takes them again before it maps the next
//! stack. If other threads eat them up in between, the pages are made inaccessible where they are (mprotect needs no
//! mapping): no translation is left then (INV-FRAME), the guards hold (INV-GUARD), and the next stack at that place
//! takes their place.

use std::sync::{Mutex, MutexGuard, PoisonError};

use core::sync::atomic::{AtomicU32, Ordering};

use vmstack::{Pages, PhysAddr, VirtAddr, VirtRange};

use crate::arch::PAGE_SIZE;
use crate::frames::Frames;
use crate::memory::{Memory, Ram};
use crate::sys::{Errno, Region, Table};

/// How many mappings a space keeps to spare.
const SPARE: usize = 16;

#[derive(Debug)]
pub(crate) struct Space {
    region: Region,
    /// For each page of the region its frame plus one, or zero.
    table: Table,
    spare: Mutex<Option<Region>>,
}

impl Space {
    pub(crate) fn new(bytes: usize) -> Result<Self, Errno> {
        let region = Region::reserve(bytes)?;
        let table = Table::new(bytes / PAGE_SIZE)?;
        Ok(Self { region, table, spare: Mutex::new(Some(spare()?)) })
    }

    /// One that begins at a multiple of `align` bytes.
    pub(crate) fn aligned(bytes: usize, align: usize) -> Result<Self, Errno> {
        let region = Region::reserve_aligned(bytes, align)?;
        let table = Table::new(bytes / PAGE_SIZE)?;
        Ok(Self { region, table, spare: Mutex::new(Some(spare()?)) })
    }

    pub(crate) fn range(&self) -> VirtRange {
        self.region.range()
    }

    /// The table's word for the page that holds `addr`.
    pub(crate) fn entry(&self, addr: VirtAddr) -> Option<&AtomicU32> {
        self.table.word(addr.offset_from(self.region.start())? / PAGE_SIZE)
    }

    /// The frame mapped at `addr`. Any context, the fault path included.
    pub(crate) fn frame(&self, addr: VirtAddr) -> Option<u32> {
        // Acquire: pairs with `map_page`, so that a frame seen here is mapped.
        self.entry(addr)?.load(Ordering::Acquire).checked_sub(1)
    }

    /// Where `addr` leads. Any context, the fault path included.
    pub(crate) fn translate(&self, addr: VirtAddr) -> Option<PhysAddr> {
        let frame = self.frame(addr)?;
        Some(PhysAddr::new(Ram::physical(frame)).wrapping_add((addr.get() % PAGE_SIZE) as u64))
    }

    /// Maps `frames` of `memory` at `pages`. All or nothing; the frames come back with the error.
    pub(crate) fn map(&self, pages: Pages, mut frames: Frames, memory: &Memory) -> Result<(), (Frames, Errno)> {
        if let Err(error) = self.keep_spare() {
            return Err((frames, error));
        }
        for (done, page) in pages.addresses(PAGE_SIZE).enumerate() {
            let Some(frame) = memory.frames.pop(&mut frames) else { break };
            if let Err(error) = self.map_page(page, frame, memory) {
                memory.frames.push(&mut frames, frame);
                return Err((self.unmap_first(pages, done, frames, memory), error));
            }
        }
        Ok(())
    }

    fn map_page(&self, page: VirtAddr, frame: u32, memory: &Memory) -> Result<(), Errno> {
        self.region.place(self.offset(page), PAGE_SIZE, memory.ram.file(), Ram::physical(frame), true)?;
        if let Some(entry) = self.entry(page) {
            // Release: whoever sees the frame sees it mapped.
            entry.store(frame + 1, Ordering::Release);
        }
        Ok(())
    }

    fn offset(&self, page: VirtAddr) -> usize {
        page.offset_from(self.region.start()).unwrap_or(0)
    }

    /// Takes the mapping of `pages` away. The kernel has flushed every TLB when the call returns.
    pub(crate) fn unmap(&self, pages: Pages, memory: &Memory) -> Frames {
        self.unmap_first(pages, pages.count(), memory.frames.none(), memory)
    }

    /// Unmaps the first `count` pages of `pages`, and adds their frames to `frames`.
    fn unmap_first(&self, pages: Pages, count: usize, mut frames: Frames, memory: &Memory) -> Frames {
        if count > 0 {
            self.cover(self.offset(pages.start()), count * PAGE_SIZE);
        }
        for page in pages.addresses(PAGE_SIZE).take(count) {
            let frame = self.entry(page).and_then(|entry| entry.swap(0, Ordering::AcqRel).checked_sub(1));
            if let Some(frame) = frame {
                memory.frames.push(&mut frames, frame);
            }
        }
        frames
    }

    /// Maps `count` frames of `ram` from `frame` on at `page`, by one call. What stands in the table is the caller's.
    pub(crate) fn place(
        &self,
        page: VirtAddr,
        ram: &Ram,
        frame: u32,
        count: usize,
        writable: bool,
    ) -> Result<(), Errno> {
        self.keep_spare()?;
        self.region.place(self.offset(page), count * PAGE_SIZE, ram.file(), Ram::physical(frame), writable)
    }

    /// Leaves nothing accessible at `pages`.
    pub(crate) fn cover_pages(&self, pages: Pages) {
        self.cover(self.offset(pages.start()), pages.count() * PAGE_SIZE);
    }

    /// Leaves nothing accessible in `bytes` at `offset`, whole mappings of this region.
    fn cover(&self, offset: usize, bytes: usize) {
        let covered = self.region.cover(offset, bytes).or_else(|_| {
            self.lock_spare().take();
            self.region.cover(offset, bytes)
        });
        if covered.or_else(|_| self.region.close(offset, bytes)).is_err() {
            // The frames can neither be given back nor kept from whoever uses them: no invariant can be kept.
            std::process::abort();
        }
    }

    fn lock_spare(&self) -> MutexGuard<'_, Option<Region>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the spare mappings again, if they were given up.
    fn keep_spare(&self) -> Result<(), Errno> {
        let mut kept = self.lock_spare();
        if kept.is_none() {
            *kept = Some(spare()?);
        }
        Ok(())
    }
}

/// A region that is `SPARE` mappings: every other page can be accessed.
fn spare() -> Result<Region, Errno> {
    let region = Region::reserve(SPARE * PAGE_SIZE)?;
    for page in (0..SPARE).step_by(2) {
        region.open(page * PAGE_SIZE, PAGE_SIZE)?;
    }
    Ok(region)
}
