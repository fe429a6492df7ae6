//! This kernel as the vmalloc's platform: how areas are mapped, and how they go.
//!
//! | area | how it is mapped | how it goes |
//! | --- | --- | --- |
//! | a slot of a chunk | entries of the chunk's leaf table, from the blocks of the buddy allocator | entries remember runs of frames; a single run needs none |
//! | a whole chunk | a leaf table that is put in when it is full | the table is taken out, and remembers the frames |
//! | a whole chunk, its frames side by side | one large page | its entry is cleared |
//! | frames that somebody lends | entries of a leaf table | like the others; their owner keeps them |
//!
//! What is taken away comes back when every CPU has flushed (INV-FRAME), by the shootdowns that stacks use ([`shootdown`](crate::stacks::shootdown)). These drop
//! paging-structure caches, too, as tables that are taken out require: INVLPG and the writes to CR4 or CR3 do (Intel SDM volume 3, 4.10.4.1), and
//! this kernel has no PCIDs. A CPU that counts as passed without having flushed (`epochs`: one that is offline, and where CPUs look for themselves one
//! that idles) may still know the way to a table that is gone, until it flushes, first of all when it wakes; it goes that way by speculation at most.
//!
//! # Context
//!
//! Task and interrupt, under a guard.

use core::fmt;
use core::iter;

use vmstack::{Cpu, Hint, Mapping, NotMapped, Pages, PhysAddr, Platform, Unmapped, VirtAddr, VirtRange};
use vmstack_paging::{Access, Attributes, Detached, MapError};
use vmstack_vmalloc::{NotPopulated, Pager};

use super::slots::{self, Entries, FEW, each, entries, hint_of, map_slowly};
use crate::arch::layout::PAGE_SIZE;
use crate::mm::frames::{self, Blocks, Giving, LARGE_ORDER};
use crate::mm::{inject, tables};
use crate::stacks;
use crate::sync::Section;

/// How many pages a chunk has.
const CHUNK_PAGES: usize = 1 << LARGE_ORDER;

/// What is mapped in areas: writable, and not executable.
pub(crate) const MEMORY: Attributes = Attributes::kernel(Access::ReadWrite);

/// This kernel, as the vmalloc sees it.
#[derive(Debug)]
pub(crate) struct Kernel;

/// Frames on their way: fresh ones in blocks, or side by side for a large page; dead ones still where they were mapped, or side by side.
#[derive(Debug)]
pub(crate) enum Frames {
    /// Fresh: for single pages.
    Blocks(Blocks),
    /// Side by side: fresh, as many as a chunk has pages, for a large page; or dead.
    Run { first: PhysAddr, count: u32 },
    /// Dead, in a few runs: the number of the first frame of each, and how many there are.
    Few { firsts: [u32; FEW], counts: [u16; FEW] },
    /// Dead, in the `count` page-table entries that lie at `entries`.
    Parked { entries: usize, count: u32 },
    /// Dead, in the first `count` entries of the leaf table at `table`, which goes with them.
    Table { table: PhysAddr, count: u32 },
}

const _: () = assert!(size_of::<Frames>() == 3 * size_of::<usize>(), "what is in flight is small");

/// Why the kernel could not give what an area needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AreaTrouble {
    OutOfFrames {
        wanted: usize,
    },
    NotMapped(MapError),
    /// The frame is lent already, and must not be mapped twice.
    LentAlready,
    /// The platform's part that stacks have in common.
    Stacks(stacks::StackError),
}

/// Takes what is mapped at the whole chunk that begins with `pages`, with its table.
///
/// # Safety
///
/// As for [`Pager::unmap_chunk`] and [`Pager::take_table`].
unsafe fn take_away_chunk(pages: Pages) -> Option<Frames> {
    // SAFETY: (1) and (3) nobody uses what is mapped there, remembers entries in it, or maps there before it is given back, by the caller's promise; (2)
    // the chunk is the vmalloc's alone, which calls nothing else for it meanwhile; other trees share the table that the entry is in, not the entry.
    match unsafe { tables::kernel().detach(pages.start()) }? {
        Detached::Table(table) => Some(Frames::Table { table, count: pages.count() as u32 }),
        Detached::Leaf(first) => Some(Frames::Run { first, count: CHUNK_PAGES as u32 }),
    }
}

/// The runs of [`Frames::Few`].
#[inline]
fn runs_of(firsts: [u32; FEW], counts: [u16; FEW]) -> impl Iterator<Item = (PhysAddr, usize)> {
    let address = |number: u32| PhysAddr::new(u64::from(number) * PAGE_SIZE as u64);
    let runs = firsts.into_iter().zip(counts).take_while(|&(_, count)| count != 0);
    runs.map(move |(first, count)| (address(first), usize::from(count)))
}

impl Frames {
    /// The dead frames of `entries`, which are in few runs.
    ///
    /// # Safety
    ///
    /// As for [`Platform::unmap`].
    #[inline]
    pub(super) unsafe fn few(entries: Entries) -> Self {
        let (mut firsts, mut counts, mut runs) = ([0; FEW], [0; FEW], 0);
        // SAFETY: nobody uses the pages, and they are the caller's; what comes out is used after the flush, as what may hold anything.
        let all = unsafe { entries.unused() }.take_runs(|first, count| {
            // Frames are numbered by 32 bits in the allocator, too, and an area in a slot has half a chunk of them at most.
            (firsts[runs], counts[runs]) = ((first.get() / PAGE_SIZE as u64) as u32, count as u16);
            runs += 1;
        });
        assert!(all, "a page is not mapped: {entries:?}");
        Self::Few { firsts, counts }
    }

    /// `count` frames, which hold anything.
    #[inline]
    fn take(count: usize) -> Result<Blocks, AreaTrouble> {
        let blocks = if inject::fails() { None } else { Blocks::take(count) };
        blocks.ok_or(AreaTrouble::OutOfFrames { wanted: count })
    }

    /// Gives all frames back, and the table that they were in.
    #[inline]
    fn give(self, giving: &mut Giving) {
        match self {
            Self::Run { first, count: 1 } => giving.one(first),
            frames => frames.give_many(giving),
        }
    }

    #[inline(never)]
    fn give_many(self, giving: &mut Giving) {
        match self {
            Self::Blocks(blocks) => blocks.give(giving),
            Self::Run { first, count } => giving.stretch(first, count as usize),
            Self::Few { firsts, counts } => {
                runs_of(firsts, counts).for_each(|(first, count)| giving.stretch(first, count));
            }
            dead => {
                let table = dead.take_dead(|first, count| giving.stretch(first, count));
                table.into_iter().for_each(|table| giving.stretch(table, 1));
            }
        }
    }

    /// Takes dead frames from where they were mapped, gives them to `take` in runs, and returns the table that was theirs alone.
    fn take_dead(self, mut take: impl FnMut(PhysAddr, usize)) -> Option<PhysAddr> {
        match self {
            Self::Blocks(_) => unreachable!("fresh frames are nowhere mapped"),
            Self::Run { first, count } => take(first, count as usize),
            Self::Few { firsts, counts } => runs_of(firsts, counts).for_each(|(first, count)| take(first, count)),
            Self::Parked { entries, count } => {
                // SAFETY: `unmap` found the entries there, and their table does not go before them (`Pager::take_table`).
                let entries = unsafe { Entries::from_exposed(entries, count as usize) };
                // SAFETY: every CPU has flushed since they were parked (INV-FRAME), and the vmalloc does not map the pages before this.
                let taken = unsafe { entries.unused() }.take_parked(take);
                assert!(taken, "the frames of {entries:?} are lost");
            }
            Self::Table { table, count } => {
                // SAFETY: `take_away_chunk` returned the table; every CPU has flushed since (INV-FRAME); nothing else is in it (`Pager::map_chunk`).
                unsafe { tables::kernel().empty_detached(table, count as usize, take) };
                return Some(table);
            }
        }
        None
    }

    /// Maps them at `pages`, all of a chunk, by a large page, or in a table that is there already.
    ///
    /// # Safety
    ///
    /// As for [`Pager::map_chunk`].
    unsafe fn map_large(pages: Pages, first: PhysAddr) -> Result<(), AreaTrouble> {
        let level = vmstack_paging::Level::LARGE;
        // SAFETY: the caller's promise; the kernel alone gets access to the frames.
        match unsafe { tables::kernel().map_large(pages.start(), first, level, MEMORY) } {
            // SAFETY: as above.
            Err(MapError::TableInTheWay { .. }) => unsafe { map_slowly(pages, iter::once((first, pages.count()))) },
            mapped => mapped.map_err(AreaTrouble::NotMapped),
        }
    }

    /// Maps `blocks` at `pages`, in a table of their own, or in one that is there already.
    ///
    /// # Safety
    ///
    /// As for [`Pager::map_chunk`].
    unsafe fn map_table(pages: Pages, blocks: &Blocks) -> Result<(), AreaTrouble> {
        // SAFETY: as in `map_large`.
        match unsafe { tables::kernel().map_table(pages, MEMORY, blocks.runs()) } {
            // SAFETY: as above.
            Err(MapError::TableInTheWay { .. }) => unsafe { map_slowly(pages, blocks.runs()) },
            mapped => mapped.map_err(AreaTrouble::NotMapped),
        }
    }
}

// SAFETY: as for `stacks::Kernel`, whose guard, CPU numbers and shootdowns these are: (1) the kernel's tables are shared by every address space, and
// only the vmalloc maps in its range, with `MEMORY`, which is not executable; (2) frames are the buddy allocator's, cleared by `take_frames`. There
// are no dirty bits, stacks or pins here.
unsafe impl Platform for Kernel {
    const PAGE_SIZE: usize = PAGE_SIZE;
    type Frames = Frames;
    type Ticket = u64;
    type Guard = Section;
    type Error = AreaTrouble;

    fn take_frames(&self, count: usize) -> Result<Frames, AreaTrouble> {
        let blocks = Frames::take(count)?;
        blocks.clear();
        Ok(Frames::Blocks(blocks))
    }

    fn give_frames(&self, frames: Frames) {
        frames.give(&mut frames::giving());
    }

    fn give_batch(&self, batch: impl Iterator<Item = Frames>) {
        let mut giving = frames::giving();
        batch.for_each(|frames| frames.give(&mut giving));
    }

    #[inline]
    unsafe fn map(&self, mapping: Mapping, frames: Frames) -> Result<Hint, NotMapped<Self>> {
        let Frames::Blocks(blocks) = frames else { unreachable!("only fresh single frames are mapped so") };
        // SAFETY: the caller's promise; the kernel alone gets access to the frames.
        let fast = entries(mapping).filter(|entries| unsafe { entries.map_runs(MEMORY, blocks.runs()) });
        if let Some(entries) = fast {
            blocks.forget_links();
            return Ok(Hint::new(entries.expose()));
        }
        // SAFETY: the caller's promise.
        match unsafe { map_slowly(mapping.pages(), blocks.runs()) } {
            Ok(()) => blocks.forget_links(),
            Err(reason) => return Err(NotMapped { frames: Frames::Blocks(blocks), reason }),
        }
        Ok(hint_of(mapping))
    }

    #[inline(always)]
    unsafe fn unmap(&self, mapping: Mapping) -> Unmapped<Self> {
        // SAFETY: the caller's promise.
        let frames = unsafe { slots::take_away(mapping) };
        let Some(frames) = frames else { unreachable!("an area's entries lie in one table") };
        Unmapped::new(frames)
    }

    #[inline]
    fn shootdown(&self, batch: impl Iterator<Item = Pages> + Clone) -> u64 {
        stacks::Kernel.shootdown(batch)
    }

    #[inline]
    fn flushed(&self, ticket: &u64) -> bool {
        stacks::Kernel.flushed(ticket)
    }

    fn translate(&self, addr: VirtAddr) -> Option<PhysAddr> {
        stacks::Kernel.translate(addr)
    }

    #[inline]
    fn cpu(&self) -> Cpu {
        stacks::Kernel.cpu()
    }

    #[inline]
    fn enter(&self) -> Section {
        stacks::Kernel.enter()
    }

    fn prepare(&self, range: VirtRange) -> Result<(), AreaTrouble> {
        stacks::Kernel.prepare(range).map_err(AreaTrouble::Stacks)
    }

    fn foresee(&self, first: Pages, stride: usize, count: usize) -> impl Iterator<Item = Hint> {
        let table = tables::kernel().make_leaf_table(first.start());
        let groups = table.into_iter().flat_map(move |table| table.groups(first, stride));
        groups.take(count).map(|entries| Hint::new(entries.expose()))
    }

    #[inline]
    fn handed_over(&self) {
        stacks::Kernel.handed_over();
    }
}

// SAFETY: (1) above; (2) `unmap` takes whatever is mapped; (3) `map_table` and `map_large` map what they were given; (4) `take_away_chunk` takes the table or the large page that
// maps all of a chunk; (5) `give_lent` gives none back but the table.
unsafe impl Pager for Kernel {
    type Attributes = Attributes;
    const CHUNK_PAGES: usize = CHUNK_PAGES;

    #[inline]
    fn take_uncleared(&self, count: usize) -> Result<Frames, AreaTrouble> {
        Frames::take(count).map(Frames::Blocks)
    }

    #[inline(always)]
    unsafe fn populate(&self, mapping: Mapping, zeroed: bool) -> Result<Hint, NotPopulated<AreaTrouble>> {
        let (start, count, word) = (mapping.pages().start(), mapping.pages().count(), mapping.hint().get());
        if count != 1 {
            // SAFETY: the caller's promise.
            return unsafe { slots::populate_many(start, count, word, zeroed) };
        }
        // SAFETY: as above.
        unsafe { slots::populate_one(start, word, zeroed) }
    }

    fn take_large(&self, zeroed: bool) -> Option<Frames> {
        let first = frames::take_large()?;
        if zeroed {
            each(iter::once((first, CHUNK_PAGES))).for_each(frames::clear);
        }
        Some(Frames::Run { first, count: CHUNK_PAGES as u32 })
    }

    unsafe fn map_chunk(&self, pages: Pages, frames: Frames) -> Result<(), NotMapped<Self>> {
        let mapped = match &frames {
            // SAFETY: the caller's promise.
            Frames::Blocks(blocks) => unsafe { Frames::map_table(pages, blocks) },
            // SAFETY: the caller's promise.
            Frames::Run { first, .. } => unsafe { Frames::map_large(pages, *first) },
            _ => unreachable!("only fresh frames are mapped"),
        };
        match (mapped, frames) {
            (Ok(()), Frames::Blocks(blocks)) => blocks.forget_links(),
            (Ok(()), _) => {}
            (Err(reason), frames) => return Err(NotMapped { frames, reason }),
        }
        Ok(())
    }

    unsafe fn unmap_chunk(&self, pages: Pages) -> Unmapped<Self> {
        // SAFETY: the caller's promise.
        let Some(frames) = (unsafe { take_away_chunk(pages) }) else {
            unreachable!("a chunk that is mapped has a table")
        };
        Unmapped::new(frames)
    }

    unsafe fn take_table(&self, chunk: Pages) -> Option<Unmapped<Self>> {
        // SAFETY: the caller's promise; nothing is in the table.
        unsafe { take_away_chunk(Pages::new(chunk.start(), 0)) }.map(Unmapped::new)
    }

    fn lend(&self, frame: PhysAddr) -> Result<(), AreaTrouble> {
        if frames::lend(frame) { Ok(()) } else { Err(AreaTrouble::LentAlready) }
    }

    fn unlend(&self, frame: PhysAddr) {
        frames::unlend(frame);
    }

    unsafe fn map_lent(
        &self,
        mapping: Mapping,
        frames: impl Iterator<Item = PhysAddr>,
        attributes: Attributes,
    ) -> Result<Hint, AreaTrouble> {
        // SAFETY: the pages are the vmalloc's, and who lends the frames allows what `attributes` say, by the caller's promise.
        unsafe { tables::kernel().map(mapping.pages(), attributes, frames) }.map_err(AreaTrouble::NotMapped)?;
        Ok(hint_of(mapping))
    }

    fn give_lent(&self, frames: Frames) {
        let table = frames.take_dead(|_, _| ());
        table.into_iter().for_each(|table| frames::give(table, 0));
    }
}

impl fmt::Display for AreaTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfFrames { wanted } => write!(f, "there are no {wanted} frames"),
            Self::NotMapped(error) => write!(f, "{error}"),
            Self::LentAlready => write!(f, "the frame is lent already"),
            Self::Stacks(error) => write!(f, "{error:?}"),
        }
    }
}
