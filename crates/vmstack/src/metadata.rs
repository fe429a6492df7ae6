//! The area's own memory: what is made with it, and what is made when it is first used.
//!
//! It lies at the low end of the area's range, mapped by the same [`Platform::map`] as stacks are, so a platform has nothing more to
//! provide. The directory, the lines of each CPU and the depots of the nodes are made at once: 36 KiB for an area of 4,194,304
//! slots and 15 CPUs. Slot records are made a chunk at a time, and the directory, one byte a chunk, says which exist. The fault path asks it before it reads a record: a record that was never made is *seen as such* and not touched
//! (INV-FAULT). What was made is never unmapped.

use core::mem::size_of;

use crate::addr::{Cpu, Pages, VirtAddr};
use crate::cache::Line;
use crate::chain::Records;
use crate::depot::Depot;
use crate::geometry::{Geometry, MetadataSizes, SlotIndex};
use crate::idle::{self, IDLE, MADE};
use crate::platform::{Hint, Mapping, Node, Platform};
use crate::slots::SlotRecord;
use crate::sync::{AtomicU8, Ordering};

const ABSENT: u8 = 0;
const BEING_MADE: u8 = 1;

/// The sizes that the geometry lays metadata out with.
pub(crate) const fn sizes<P: Platform>() -> MetadataSizes {
    const {
        assert!(size_of::<SlotRecord>() == 64, "a record is a cache line");
        assert!(size_of::<Line<P>>() <= 512, "Platform::Ticket is too large");
    }
    MetadataSizes { record: size_of::<SlotRecord>(), line: size_of::<Line<P>>(), depot: size_of::<Depot>() }
}

/// Maps what is made with the area: a directory of zeroes, so that everything else is absent; lines for CPUs of the nodes that
/// `node` says, and empty depots.
pub(crate) fn make_first<P: Platform>(
    platform: &P,
    geometry: &Geometry,
    node: impl Fn(Cpu) -> Node,
) -> Result<(), MetadataError<P::Error>> {
    make_pages(platform, geometry.first_pages())?;
    for cpu in 0..geometry.cpus() {
        let line = line_at::<P>(geometry, cpu).as_mut_ptr::<Line<P>>();
        // SAFETY: (1) it lies in the pages that were just mapped, and lines begin at a multiple of their size, which is one of their
        // alignment; (2) nobody else knows the area yet.
        unsafe { line.write(Line::new(node(Cpu::new(cpu as u32)))) };
    }
    for node in 0..geometry.nodes() {
        let depot = depot_at::<P>(geometry, node).as_mut_ptr::<Depot>();
        // SAFETY: as above: depots follow the lines, whose size is a multiple of a depot's alignment.
        unsafe { depot.write(Depot::new()) };
    }
    Ok(())
}

/// Where the lines of CPU number `cpu` lie. The sizes are constants here, so this is a shift and an addition.
#[inline]
const fn line_at<P: Platform>(geometry: &Geometry, cpu: usize) -> VirtAddr {
    geometry.lines().wrapping_add(cpu.wrapping_mul(size_of::<Line<P>>()))
}

/// Where the depot of node number `node` lies.
const fn depot_at<P: Platform>(geometry: &Geometry, node: usize) -> VirtAddr {
    line_at::<P>(geometry, geometry.cpus()).wrapping_add(node.wrapping_mul(size_of::<Depot>()))
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
    let mapped = unsafe { platform.map(Mapping::new(pages, Hint::default()), frames) };
    mapped.map(|_| ()).map_err(|failed| {
        platform.give_frames(failed.frames);
        MetadataError::NotMapped(failed.reason)
    })
}

/// The metadata of an area that was initialised.
///
/// Having a `Metadata` means that what is made with the area is mapped, for ever.
pub(crate) struct Metadata<'a, P: Platform> {
    pub(crate) platform: &'a P,
    pub(crate) geometry: &'a Geometry,
}

impl<P: Platform> Clone for Metadata<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform> Copy for Metadata<'_, P> {}

impl<'a, P: Platform> Metadata<'a, P> {
    fn directory_byte(&self, chunk: usize) -> &'a AtomicU8 {
        debug_assert!(chunk < self.geometry.chunks());
        let byte = self.geometry.directory().wrapping_add(chunk).as_mut_ptr::<AtomicU8>();
        // SAFETY: (1) the directory has a byte for each chunk, is mapped, and is never unmapped (see the type);
        // (2) it is only ever accessed as atomics, of which zero is a valid value.
        unsafe { &*byte }
    }

    fn is_made(&self, chunk: usize) -> bool {
        // Acquire: pairs with the Release that published the chunk, so that its contents are seen.
        self.directory_byte(chunk).load(Ordering::Acquire) >= MADE
    }

    /// Makes chunk number `chunk` if it is absent: of zeroes, as records of slots that were never used are.
    ///
    /// A CPU that finds it being made waits for the other to finish: it is a few hundred instructions under a guard.
    #[cold]
    fn ensure(&self, chunk: usize) -> Result<(), MetadataError<P::Error>> {
        let byte = self.directory_byte(chunk);
        loop {
            // Acquire: as in `is_made`.
            match byte.compare_exchange(ABSENT, BEING_MADE, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => break,
                Err(MADE | IDLE) => return Ok(()),
                Err(_) => core::hint::spin_loop(),
            }
        }
        let made = make_pages(self.platform, self.geometry.chunk(chunk)).map(|()| self.foresee(chunk));
        // Release: the mapping before the byte that announces them.
        byte.store(if made.is_ok() { MADE } else { ABSENT }, Ordering::Release);
        made
    }

    /// Notes what the platform says beforehand of the stacks whose records `chunk` has: for the one who is making it.
    fn foresee(&self, chunk: usize) {
        let (each, all) = (self.geometry.records_in_chunk(), self.geometry.slots());
        let slots = chunk * each..all.min((chunk + 1) * each);
        let Some(first) = self.geometry.slot(slots.start) else { return };
        let hints = self.platform.foresee(self.geometry.pages(first), self.geometry.stride(), slots.len());
        for (slot, hint) in slots.zip(hints) {
            // SAFETY: the chunk was just mapped.
            unsafe { self.record_unchecked(SlotIndex::new(slot as u32)) }.set_hint(hint);
        }
    }

    /// Notes that there may be an idle stack in `chunk`. Before it is idle, for whoever has had a full fence since it ended its life, or has
    /// claimed it.
    #[inline]
    pub(crate) fn note_idle(&self, chunk: usize) {
        idle::note(self.directory_byte(chunk));
    }

    /// Whether there may be idle stacks in `chunk`. Forgets it, for whoever looks now.
    pub(crate) fn take_idle(&self, chunk: usize) -> bool {
        idle::take(self.directory_byte(chunk))
    }

    /// The slots of `chunk` and their records: none if it was never made.
    pub(crate) fn records_of(
        &self,
        chunk: usize,
    ) -> impl DoubleEndedIterator<Item = (SlotIndex, &'a SlotRecord)> + use<'a, P> {
        let each = self.geometry.records_in_chunk();
        let slots = if self.is_made(chunk) { chunk * each..(chunk + 1) * each } else { 0..0 };
        let meta = *self;
        slots.filter_map(move |index| meta.geometry.slot(index)).map(move |slot| (slot, meta.known_record(slot)))
    }

    /// Makes the record of `slot`, if it is the first in its chunk to be used.
    pub(crate) fn ensure_record(&self, slot: SlotIndex) -> Result<(), MetadataError<P::Error>> {
        let chunk = self.geometry.record_chunk(slot);
        if self.is_made(chunk) { Ok(()) } else { self.ensure(chunk) }
    }

    /// The record of `slot`, or `None` if it was never made. Any context, the fault path included.
    #[inline]
    pub(crate) fn try_record(&self, slot: SlotIndex) -> Option<&'a SlotRecord> {
        // SAFETY: the chunk was made, so it is mapped for ever.
        self.is_made(self.geometry.record_chunk(slot)).then(|| unsafe { self.record_unchecked(slot) })
    }

    /// The record of `slot`.
    ///
    /// # Safety
    ///
    /// It was made.
    #[inline]
    unsafe fn record_unchecked(&self, slot: SlotIndex) -> &'a SlotRecord {
        let offset = (slot.get() as usize).wrapping_mul(size_of::<SlotRecord>());
        let record = self.geometry.records().wrapping_add(offset).as_mut_ptr::<SlotRecord>();
        // SAFETY: (1) the caller knows that the chunk was made, so the record is mapped for ever; (2) it is aligned to its size,
        // since records begin at a page; (3) it holds atomics only, of which zero is a valid value.
        unsafe { &*record }
    }

    /// The record of `slot`, which was used before: it was in a handle, a pin, a chain or a list.
    #[inline]
    pub(crate) fn known_record(&self, slot: SlotIndex) -> &'a SlotRecord {
        debug_assert!(self.is_made(self.geometry.record_chunk(slot)), "slot {} has no record", slot.get());
        // SAFETY: a slot gets into a handle, a pin, a chain or a list only through `Here::take_slot` or `Here::build`, which
        // make the record; and a handle from a raw word is its maker's promise.
        unsafe { self.record_unchecked(slot) }
    }

    /// The lines of CPU number `cpu`, which the area was initialised for.
    #[inline]
    pub(crate) fn line(&self, cpu: usize) -> &'a Line<P> {
        debug_assert!(cpu < self.geometry.cpus());
        // SAFETY: (1) lines are made with the area, and never unmapped; (2) shared access only: what one CPU owns in them is in a
        // cell that wants a guard.
        unsafe { &*line_at::<P>(self.geometry, cpu).as_mut_ptr::<Line<P>>() }
    }

    /// The depot of `node`; of the first one if there is no such node.
    pub(crate) fn depot(&self, node: Node) -> &'a Depot {
        let node = if node.index() < self.geometry.nodes() { node.index() } else { 0 };
        // SAFETY: depots are made with the area, never unmapped, and hold atomics only.
        unsafe { &*depot_at::<P>(self.geometry, node).as_mut_ptr::<Depot>() }
    }

    /// All nodes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = Node> + use<P> {
        // There may be 256 of them: their number does not fit in a byte, but the last one does.
        (0..self.geometry.nodes()).map(|node| Node::new(node as u8))
    }

    /// The depots of all nodes.
    pub(crate) fn depots(&self) -> impl Iterator<Item = &'a Depot> + '_ {
        self.nodes().map(|node| self.depot(node))
    }

    /// The records of all slots that were ever used, for a recount.
    pub(crate) fn records(&self) -> impl Iterator<Item = (SlotIndex, &'a SlotRecord)> + '_ {
        (0..self.geometry.chunks()).flat_map(|chunk| self.records_of(chunk))
    }

    /// The number of metadata pages that exist.
    pub(crate) fn pages_made(&self) -> usize {
        let chunks = (0..self.geometry.chunks()).filter(|&chunk| self.is_made(chunk));
        self.geometry.first_pages().count() + chunks.map(|chunk| self.geometry.chunk(chunk).count()).sum::<usize>()
    }
}

impl<P: Platform> Records for Metadata<'_, P> {
    #[inline]
    fn record(&self, slot: SlotIndex) -> &SlotRecord {
        self.known_record(slot)
    }
}
