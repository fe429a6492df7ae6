//! The area's own memory: slot records and per-CPU blocks, made a page at a time when they are first used.
//!
//! They live at the low end of the area's range, mapped by the same [`Platform::map`] as stacks are, so a platform has
//! nothing more to provide, and an area of 4,194,304 slots costs 36 KiB until its first stack. The directory, one byte a
//! page, says which pages exist. The fault path asks it before it reads a record: a record that was never made is *seen
//! as such* and not touched (INV-FAULT). A page once made is never unmapped.

use core::mem::size_of;

use crate::addr::{Cpu, Pages, VirtAddr};
use crate::cache::CpuBlock;
use crate::geometry::{Geometry, MetadataSizes, SlotIndex};
use crate::platform::Platform;
use crate::slots::{Records, SlotRecord};
use crate::sync::{AtomicU8, Ordering};

const ABSENT: u8 = 0;
const BEING_MADE: u8 = 1;
const MADE: u8 = 2;

/// The sizes that the geometry lays metadata out with.
pub(crate) const fn sizes<P: Platform>() -> MetadataSizes {
    const {
        assert!(size_of::<SlotRecord>() == 32, "a record is 32 bytes");
        assert!(
            size_of::<CpuBlock<P>>() <= P::PAGE_SIZE,
            "Platform::Frames or Platform::Ticket is too large: a CPU's block must fit in a page"
        );
    }
    MetadataSizes { record: size_of::<SlotRecord>(), cpu_block: size_of::<CpuBlock<P>>() }
}

/// Maps the directory: zeroed, so every page of metadata is absent.
pub(crate) fn make_directory<P: Platform>(platform: &P, geometry: &Geometry) -> Result<(), MetadataError<P::Error>> {
    make_pages(platform, geometry.directory())
}

/// Why a page of metadata could not be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MetadataError<E> {
    NoFrames(E),
    NotMapped(E),
}

fn make_pages<P: Platform>(platform: &P, pages: Pages) -> Result<(), MetadataError<P::Error>> {
    let frames = platform.take_frames(pages.count()).map_err(MetadataError::NoFrames)?;
    // SAFETY: (1) metadata pages lie in the area; (2) each is mapped once: the directory by the one `init`, the others by
    // the one who moved their directory byte from absent; (3) `frames` holds as many frames as there are pages.
    unsafe { platform.map(pages, frames) }.map_err(|failed| {
        platform.give_frames(failed.frames);
        MetadataError::NotMapped(failed.reason)
    })
}

/// The metadata of an area that was initialised.
///
/// Having a `Metadata` means that the directory is mapped, for ever.
pub(crate) struct Metadata<'a, P: Platform> {
    pub(crate) platform: &'a P,
    pub(crate) geometry: &'a Geometry,
}

impl<'a, P: Platform> Metadata<'a, P> {
    fn directory_byte(&self, chunk: usize) -> &'a AtomicU8 {
        debug_assert!(chunk < self.geometry.chunks());
        let byte = self.geometry.directory().start().wrapping_add(chunk).as_mut_ptr::<AtomicU8>();
        // SAFETY: (1) the directory has a byte for each chunk, is mapped, and is never unmapped (see the type);
        // (2) it is only ever accessed as atomics, of which zero is a valid value.
        unsafe { &*byte }
    }

    fn is_made(&self, chunk: usize) -> bool {
        // Acquire: pairs with the Release that published the page, so that its contents are seen.
        self.directory_byte(chunk).load(Ordering::Acquire) == MADE
    }

    /// Makes page `chunk` if it is absent. `fill` initialises a new page before anybody sees it.
    ///
    /// A CPU that finds the page being made waits for the other to finish: it is a few hundred instructions under a guard.
    #[cold]
    fn ensure(&self, chunk: usize, fill: impl FnOnce(VirtAddr)) -> Result<(), MetadataError<P::Error>> {
        let byte = self.directory_byte(chunk);
        loop {
            // Acquire: as in `is_made`.
            match byte.compare_exchange(ABSENT, BEING_MADE, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => break,
                Err(MADE) => return Ok(()),
                Err(_) => core::hint::spin_loop(),
            }
        }
        let at = self.geometry.chunk(chunk);
        let made = make_pages(self.platform, Pages::new(at, 1));
        if made.is_ok() {
            fill(at);
        }
        // Release: the mapping and the contents before the byte that announces them.
        byte.store(if made.is_ok() { MADE } else { ABSENT }, Ordering::Release);
        made
    }

    /// Makes the record of `slot`, if it is the first in its page to be used.
    pub(crate) fn ensure_record(&self, slot: SlotIndex) -> Result<(), MetadataError<P::Error>> {
        let (chunk, _) = self.geometry.record_place(slot);
        if self.is_made(chunk) { Ok(()) } else { self.ensure(chunk, |_| ()) }
    }

    /// The record of `slot`, or `None` if it was never made. Any context, the fault path included.
    #[inline]
    pub(crate) fn try_record(&self, slot: SlotIndex) -> Option<&'a SlotRecord> {
        let (chunk, index) = self.geometry.record_place(slot);
        if !self.is_made(chunk) {
            return None;
        }
        let record = self.geometry.chunk(chunk).wrapping_add(index * size_of::<SlotRecord>());
        // SAFETY: (1) the page was made, so it is mapped for ever; (2) `index` is below the records of a page, each
        // aligned to its size; (3) it holds atomics only, of which zero is a valid value.
        Some(unsafe { &*record.as_mut_ptr::<SlotRecord>() })
    }

    /// The block of `cpu`, made if this is the first use.
    #[inline]
    pub(crate) fn cpu_block(&self, cpu: Cpu) -> Result<&'a CpuBlock<P>, MetadataError<P::Error>> {
        let (chunk, _) = self.geometry.block_place(cpu.index());
        if !self.is_made(chunk) {
            self.ensure(chunk, |at| self.fill_blocks(at))?;
        }
        Ok(self.block(cpu))
    }

    /// The block of `cpu`, or `None` if that CPU never used the area.
    pub(crate) fn try_cpu_block(&self, cpu: Cpu) -> Option<&'a CpuBlock<P>> {
        let (chunk, _) = self.geometry.block_place(cpu.index());
        (cpu.index() < self.geometry.cpus() && self.is_made(chunk)).then(|| self.block(cpu))
    }

    fn fill_blocks(&self, at: VirtAddr) {
        for index in 0..P::PAGE_SIZE / size_of::<CpuBlock<P>>() {
            let block = at.wrapping_add(index * size_of::<CpuBlock<P>>()).as_mut_ptr::<CpuBlock<P>>();
            // SAFETY: (1) the page was just mapped and nobody else knows it yet; (2) the block lies inside it, aligned:
            // a page is aligned to more than a block is, and the size is a multiple of the alignment.
            unsafe { block.write(CpuBlock::new()) };
        }
    }

    fn block(&self, cpu: Cpu) -> &'a CpuBlock<P> {
        let (chunk, index) = self.geometry.block_place(cpu.index());
        let block = self.geometry.chunk(chunk).wrapping_add(index * size_of::<CpuBlock<P>>());
        // SAFETY: (1) callers have seen the page made, so it is mapped for ever and `fill_blocks` has run; (2) shared
        // access only: what one CPU owns in it is in a cell that wants a guard.
        unsafe { &*block.as_mut_ptr::<CpuBlock<P>>() }
    }

    /// The records of all slots that were ever used, for a recount.
    pub(crate) fn records(&self) -> impl Iterator<Item = (SlotIndex, &'a SlotRecord)> + '_ {
        let per_page = self.geometry.records_per_page();
        (0..self.geometry.record_pages())
            .filter(|&chunk| self.is_made(chunk))
            .flat_map(move |chunk| chunk * per_page..(chunk + 1) * per_page)
            .filter_map(|index| self.geometry.slot(index))
            .filter_map(|slot| self.try_record(slot).map(|record| (slot, record)))
    }

    /// The number of metadata pages that exist, the directory included.
    pub(crate) fn pages_made(&self) -> usize {
        let chunks = (0..self.geometry.chunks()).filter(|&chunk| self.is_made(chunk)).count();
        self.geometry.directory().count() + chunks
    }
}

impl<P: Platform> Records for Metadata<'_, P> {
    #[inline]
    fn record(&self, slot: SlotIndex) -> &SlotRecord {
        match self.try_record(slot) {
            Some(record) => record,
            None => unreachable!("slot {} has no record though it was used", slot.get()),
        }
    }
}
