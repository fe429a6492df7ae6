//! Areas in slots: their entries, which lie side by side in the leaf table of their chunk and are mostly known by a hint.
//!
//! ```text
//!   hint   where the entries lie | whether the frames there now are in few runs
//!            │
//!            v
//!   populate ─> blocks of frames ─> entries          take_away ─> a run, a few runs, or parked in the entries
//! ```
//!
//! # Context
//!
//! As [`pager`](super::pager).

use vmstack::{Hint, Mapping, Pages, PhysAddr, Platform, VirtAddr};
use vmstack_paging::{Group, Taken};
use vmstack_vmalloc::NotPopulated;

use super::pager::{AreaTrouble, Frames, Kernel, MEMORY};
use crate::arch::layout::PAGE_SIZE;
use crate::mm::frames::{self, Blocks, FewBlocks};
use crate::mm::{inject, tables};

/// How many runs of frames are few.
pub(super) const FEW: usize = 3;
/// In a hint, beside where the entries lie: the frames that are mapped there now are in few runs.
const IN_FEW_RUNS: usize = 1;

/// The entries of some pages.
pub(super) type Entries = Group<'static, tables::Format>;

/// The entries of `mapping`'s pages: where the hint says, or found by a walk. None if there is no table that has all of them.
#[inline]
pub(super) fn entries(mapping: Mapping) -> Option<Entries> {
    match mapping.hint().get() & !IN_FEW_RUNS {
        0 => tables::kernel().group(mapping.pages()),
        // SAFETY: `map` or `foresee` said so of these pages, and the vmalloc has forgotten it when the table goes (`take_table`).
        word => Some(unsafe { Entries::from_exposed(word, mapping.pages().count()) }),
    }
}

/// What one may say of `mapping`'s pages from now on.
pub(super) fn hint_of(mapping: Mapping) -> Hint {
    Hint::new(entries(mapping).map_or(0, Entries::expose))
}

/// All frames of `runs`, one by one.
pub(super) fn each(runs: impl Iterator<Item = (PhysAddr, usize)>) -> impl Iterator<Item = PhysAddr> {
    runs.flat_map(|(first, count)| (0..count).map(move |frame| first.wrapping_add((frame * PAGE_SIZE) as u64)))
}

/// Maps `pages` to `runs`, where the fast way found no table, or something in its way. On an error nothing is mapped.
///
/// # Safety
///
/// As for [`Platform::map`].
#[cold]
#[inline(never)]
pub(super) unsafe fn map_slowly(
    pages: Pages,
    runs: impl Iterator<Item = (PhysAddr, usize)>,
) -> Result<(), AreaTrouble> {
    // SAFETY: the caller's promise; the kernel alone gets access to the frames.
    unsafe { tables::kernel().map(pages, MEMORY, each(runs)) }.map_err(AreaTrouble::NotMapped)
}

/// A page, with a frame of its own.
///
/// # Safety
///
/// As for [`Pager::populate`](vmstack_vmalloc::Pager::populate).
#[inline(always)]
pub(super) unsafe fn populate_one(
    start: VirtAddr,
    word: usize,
    zeroed: bool,
) -> Result<Hint, NotPopulated<AreaTrouble>> {
    if inject::fails() {
        return Err(NotPopulated::NoFrames(AreaTrouble::OutOfFrames { wanted: 1 }));
    }
    // SAFETY: the vmalloc calls with its guard held, which is a section.
    let at_hand = if word == 0 { None } else { unsafe { frames::take_one_at_hand() } };
    let Some(frame) = at_hand else {
        // SAFETY: the caller's promise.
        return unsafe { populate_slowly(start, 1, word, zeroed) };
    };
    if zeroed {
        frames::clear(frame);
    }
    // SAFETY: as in `entries`.
    let entries = unsafe { Entries::from_exposed(word & !IN_FEW_RUNS, 1) };
    // SAFETY: the caller's promise; the kernel alone gets access to the frame.
    let mapped = unsafe { entries.map_run(MEMORY, frame) };
    assert!(mapped, "something is mapped at a slot that is free: {entries:?}");
    Ok(Hint::new(word))
}

/// Several pages, with the largest blocks of frames that there are.
///
/// # Safety
///
/// As for [`Pager::populate`](vmstack_vmalloc::Pager::populate).
#[inline(never)]
pub(super) unsafe fn populate_many(
    start: VirtAddr,
    count: usize,
    word: usize,
    zeroed: bool,
) -> Result<Hint, NotPopulated<AreaTrouble>> {
    let mut blocks = FewBlocks::new();
    if inject::fails() {
        return Err(NotPopulated::NoFrames(AreaTrouble::OutOfFrames { wanted: count }));
    }
    // SAFETY: the vmalloc calls with its guard held, which is a section.
    if word == 0 || !unsafe { blocks.take(count) } {
        // SAFETY: the caller's promise.
        return unsafe { populate_slowly(start, count, word, zeroed) };
    }
    if zeroed {
        each(blocks.runs()).for_each(frames::clear);
    }
    // SAFETY: as in `entries`.
    let entries = unsafe { Entries::from_exposed(word & !IN_FEW_RUNS, count) };
    // SAFETY: the caller's promise; the kernel alone gets access to the frames.
    let mapped = unsafe { entries.map_runs(MEMORY, blocks.runs()) };
    assert!(mapped, "something is mapped at a slot that is free: {entries:?}");
    let are_few = if blocks.len() <= FEW { IN_FEW_RUNS } else { 0 };
    Ok(Hint::new(word & !IN_FEW_RUNS | are_few))
}

/// Pages whose entries are not known, or whose frames are in many pieces.
///
/// # Safety
///
/// As for [`Pager::populate`](vmstack_vmalloc::Pager::populate).
#[cold]
#[inline(never)]
unsafe fn populate_slowly(
    start: VirtAddr,
    count: usize,
    word: usize,
    zeroed: bool,
) -> Result<Hint, NotPopulated<AreaTrouble>> {
    let mapping = Mapping::new(Pages::new(start, count), Hint::new(word & !IN_FEW_RUNS));
    let blocks = Blocks::take(count).ok_or(NotPopulated::NoFrames(AreaTrouble::OutOfFrames { wanted: count }))?;
    if zeroed {
        blocks.clear();
    }
    // SAFETY: the caller's promise; as many frames were taken.
    unsafe { Kernel.map(mapping, Frames::Blocks(blocks)) }.map_err(|failed| {
        Kernel.give_frames(failed.frames);
        NotPopulated::NotMapped(failed.reason)
    })
}

/// Takes away what is mapped at the pages of `mapping`. None if there is no table that has all of them.
///
/// # Safety
///
/// As for [`Platform::unmap`].
#[inline(always)]
pub(super) unsafe fn take_away(mapping: Mapping) -> Option<Frames> {
    let (word, count) = (mapping.hint().get(), mapping.pages().count());
    if word != 0 && count == 1 {
        // SAFETY: as in `entries`.
        let entries = unsafe { Entries::from_exposed(word & !IN_FEW_RUNS, 1) };
        // SAFETY: as in `take_away_many`.
        let first = unsafe { entries.unused() }.take_one();
        return first.map(|first| Frames::Run { first, count: 1 });
    }
    // SAFETY: the caller's promise.
    unsafe { take_away_several(mapping.pages().start(), count, word) }
}

/// The same, for any number of pages.
///
/// # Safety
///
/// As for [`Platform::unmap`].
#[inline(never)]
unsafe fn take_away_several(start: VirtAddr, count: usize, word: usize) -> Option<Frames> {
    let entries = entries(Mapping::new(Pages::new(start, count), Hint::new(word)))?;
    if word & IN_FEW_RUNS != 0 {
        // SAFETY: the caller's promise.
        return Some(unsafe { Frames::few(entries) });
    }
    // SAFETY: nobody uses the pages, and they are the caller's; what comes out is used after the flush, as what may hold anything.
    match unsafe { entries.unused() }.take() {
        Some(Taken::Run(first)) => Some(Frames::Run { first, count: count as u32 }),
        Some(Taken::Parked) => Some(Frames::Parked { entries: entries.expose(), count: count as u32 }),
        None => unreachable!("a page is not mapped: {entries:?}"),
    }
}
