//! What lies below the vmalloc, alone: frames taken, mapped, unmapped, flushed and given back, in instructions.
//!
//! No area, no record, no lazy batch of many: each round is a shootdown of its own. So this is the part of an area's cost that the vmalloc cannot
//! save. On the way everything is looked at once: that memory asked for as zero is, that each page leads to a frame of its own,
//! and that all frames come back.
//!
//! Runs in a boot of its own, as [`count`](super::count) does, in a range that is nobody's.

use core::hint::black_box;

use vmstack::{Hint, Mapping, Pages, Platform as _, VirtAddr};
use vmstack_vmalloc::{Pager as _, Request};

use super::{calibrate, median};
use crate::arch::layout::PAGE_SIZE;
use crate::fact;
use crate::mm::{frames, tables};
use crate::stacks;
use crate::sync::Section;
use crate::vmalloc::pager::{CHUNK_PAGES, Frames, Kernel, MEMORY, take_away, take_away_chunk};
use crate::vmalloc::{VMALLOC, vfree};

/// The sizes that are counted in slots, in pages.
const SIZES: [usize; 9] = [1, 2, 4, 5, 10, 37, 64, 100, 255];
/// What every page is overwritten with, so that memory which reads as zero has been cleared.
const PATTERN: u64 = 0x5a5a_5a5a_5a5a_5a5a;

/// Counts everything.
#[inline(never)]
pub(crate) fn count() {
    let _section = Section::enter();
    let empty = median(|| ());
    calibrate(empty);
    let chunk = stacks::spare_range().start();
    let before = frames::free();
    for pages in SIZES {
        let hint = Kernel.foresee(Pages::new(chunk, pages), CHUNK_PAGES * PAGE_SIZE, 1).next().unwrap_or_default();
        let mapping = Mapping::new(Pages::new(chunk, pages), hint);
        fact!("pager.slot", "{pages} {}", median(|| slot(mapping)).saturating_sub(empty));
        fact!("pager.zero", "{pages} {}", not_zero(mapping));
    }
    random(chunk, empty);
    empty_table(chunk);
    fact!("pager.chunk", "{}", median(|| whole(chunk, false)).saturating_sub(empty));
    fact!("pager.large", "{}", median(|| whole(chunk, true)).saturating_sub(empty));
    lent(chunk);
    areas(empty);
    let tables = tables::kernel().census(stacks::spare_range()).tables;
    fact!("pager.frames", "{before} {} {tables}", frames::free());
}

/// The same with all that the vmalloc does, in batches as they come: the mean of many.
fn areas(empty: u64) {
    const MANY: usize = 1000;
    for pages in SIZES {
        let many = median(|| (0..MANY).for_each(|_| area(pages)));
        fact!("pager.area", "{pages} {}", many.saturating_sub(empty) / MANY as u64);
    }
    let many = median(|| (0..MANY).for_each(|turn| area(1 + turn * 37 % 100)));
    fact!("pager.area_random", "{}", many.saturating_sub(empty) / MANY as u64);
    VMALLOC.drain();
}

fn area(pages: usize) {
    if let Ok(area) = VMALLOC.alloc(&Request::new(pages * PAGE_SIZE)) {
        vfree(area.into_raw());
    }
}

/// Sizes of 1 to 100 pages in turn, all of them equally often: the mean.
fn random(chunk: VirtAddr, empty: u64) {
    let mut turn = 0;
    let mut next = || {
        turn = (turn + 37) % 100;
        turn + 1
    };
    let hint = Kernel.foresee(Pages::new(chunk, 100), CHUNK_PAGES * PAGE_SIZE, 1).next().unwrap_or_default();
    let hundred = median(|| (0..100).for_each(|_| slot(Mapping::new(Pages::new(chunk, next()), hint))));
    fact!("pager.random", "{}", hundred.saturating_sub(empty) / 100);
}

/// A slot of uncleared memory, from its frames on until they are back.
fn slot(mapping: Mapping) {
    // SAFETY: the range is nobody's, and what was mapped there was taken away and flushed.
    if unsafe { Kernel.populate(mapping, false) }.is_ok() {
        // SAFETY: nobody else knows of the pages.
        flush_and_give(mapping.pages(), unsafe { take_away(mapping) });
    }
}

/// Everything of a chunk but its last page.
fn whole(chunk: VirtAddr, large: bool) {
    let (pages, taken) = match large {
        true => (CHUNK_PAGES, Kernel.take_large(false)),
        false => (CHUNK_PAGES - 1, Kernel.take_uncleared(CHUNK_PAGES - 1).ok()),
    };
    let (pages, Some(frames)) = (Pages::new(chunk, pages), taken) else { return };
    // SAFETY: as in `slot`.
    if unsafe { Kernel.map_chunk(pages, frames) }.is_ok() {
        // SAFETY: as in `slot`.
        flush_and_give(pages, unsafe { take_away_chunk(pages) });
    }
}

fn flush_and_give(pages: Pages, frames: Option<Frames>) {
    let ticket = Kernel.shootdown(core::iter::once(pages));
    assert!(Kernel.flushed(&ticket), "there is one CPU");
    frames.into_iter().for_each(|frames| Kernel.give_frames(frames));
}

/// Takes the leaf table away that the slots had.
fn empty_table(chunk: VirtAddr) {
    let pages = Pages::new(chunk, 0);
    // SAFETY: nothing is mapped there any more.
    flush_and_give(Pages::new(chunk, CHUNK_PAGES), unsafe { take_away_chunk(pages) });
}

/// How many pages of memory that was to read as zero do not, or lead to the frame of the page before. Leaves a pattern in all of them.
fn not_zero(mapping: Mapping) -> usize {
    slot_of_pattern(mapping);
    let Ok(frames) = Kernel.take_frames(mapping.pages().count()) else { return usize::MAX };
    // SAFETY: as in `slot`.
    if unsafe { Kernel.map(mapping, frames) }.is_err() {
        return usize::MAX;
    }
    let bad = mapping.pages().addresses(PAGE_SIZE).filter(|&page| !is_zero(page)).count();
    // SAFETY: as in `slot`.
    flush_and_give(mapping.pages(), unsafe { take_away(mapping) });
    bad
}

fn slot_of_pattern(mapping: Mapping) {
    let Ok(frames) = Kernel.take_uncleared(mapping.pages().count()) else { return };
    // SAFETY: as in `slot`.
    if unsafe { Kernel.map(mapping, frames) }.is_ok() {
        mapping.pages().addresses(PAGE_SIZE).flat_map(words).for_each(|word| {
            // SAFETY: the pages are mapped and ours.
            unsafe { word.write_volatile(PATTERN) };
        });
        // SAFETY: as in `slot`.
        flush_and_give(mapping.pages(), unsafe { take_away(mapping) });
    }
}

/// Whether all of a page reads as zero. Writes a pattern: a frame that is mapped twice has it.
fn is_zero(page: VirtAddr) -> bool {
    let mut bits = 0;
    for word in words(page) {
        // SAFETY: the pages are mapped and ours.
        bits |= unsafe { word.read_volatile() };
        // SAFETY: as above.
        unsafe { word.write_volatile(PATTERN) };
    }
    bits == 0
}

fn words(page: VirtAddr) -> impl Iterator<Item = *mut u64> {
    (0..PAGE_SIZE / size_of::<u64>()).map(move |word| page.as_mut_ptr::<u64>().wrapping_add(word))
}

/// Lends two frames, a second time in vain, and shows that what is written through one address is read through the other.
fn lent(chunk: VirtAddr) {
    let Some(frame) = frames::take_zeroed() else { return };
    let (first, again) = (Kernel.lend(frame).is_ok(), Kernel.lend(frame).is_ok());
    let pages = Pages::new(chunk, 1);
    let mapping = Mapping::new(pages, Hint::default());
    // SAFETY: as in `slot`; the frame is ours.
    let mapped = unsafe { Kernel.map_lent(mapping, core::iter::once(frame), MEMORY) };
    let (there, here) = (chunk.as_mut_ptr::<u64>(), crate::arch::layout::phys_to_virt(frame).as_mut_ptr::<u64>());
    if mapped.is_ok() {
        // SAFETY: both lead to the frame, which is ours.
        unsafe { black_box(there).write_volatile(PATTERN) };
    }
    // SAFETY: as above.
    let same = unsafe { here.read_volatile() } == PATTERN;
    // SAFETY: as in `slot`.
    let taken = unsafe { take_away_chunk(pages) };
    let ticket = Kernel.shootdown(core::iter::once(pages));
    assert!(Kernel.flushed(&ticket), "there is one CPU");
    taken.into_iter().for_each(|frames| Kernel.give_lent(frames));
    fact!(
        "pager.lent",
        "{} {} {} {}",
        usize::from(first),
        usize::from(again),
        usize::from(same),
        frames::recount_lent()
    );
    frames::give(frame, 0);
}
