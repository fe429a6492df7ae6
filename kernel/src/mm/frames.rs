//! Physical frames: a buddy allocator over all of the machine's memory.
//!
//! | file | what |
//! | --- | --- |
//! | `buddy` | free blocks, and how they are split and merged |
//! | `owners` | frames of users' memory that several have |
//! | `list` | free frames in a row |
//! | `blocks` | many frames in few pieces |
//! | `lent` | frames that are mapped a second time by who has them |
//!
//! # Context
//!
//! Task and interrupt. Never NMI or the fault path: there is a lock, and nobody is killed under it.

use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering};

use vmstack::PhysAddr;

use super::shortage;
use crate::arch::layout::{BOOT_MAPPED, PAGE_SIZE, phys_to_virt};
use crate::sync::{AnyLock, VitalGuard, VitalLock};

mod blocks;
mod buddy;
mod lent;
mod list;
mod owners;

pub(crate) use blocks::{Blocks, FewBlocks};
use buddy::Buddy;
pub(crate) use lent::{lend, recount_lent, unlend};
pub(crate) use list::FrameList;
pub(crate) use owners::{Owners, is_shared, recount_owners};

/// Orders go from 0 (one frame) to this (4 MiB).
pub(crate) const MAX_ORDER: u32 = 10;
/// The order of a block that one large page maps (2 MiB).
pub(crate) const LARGE_ORDER: u32 = 9;
/// Frames that the boot tables show: from here on only the final tables do.
const BOOT_FRAMES: usize = (BOOT_MAPPED / PAGE_SIZE as u64) as usize;

static FRAMES: VitalLock<Buddy> = VitalLock::new("frame-allocator", Buddy::empty());

/// The allocator's lock.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &FRAMES
}

/// How often several frames side by side were asked for, and how often there were some.
static CONTIGUOUS: (AtomicUsize, AtomicUsize) = (AtomicUsize::new(0), AtomicUsize::new(0));
/// Frames that were free when the kernel started.
static TOTAL: AtomicUsize = AtomicUsize::new(0);

/// A stretch of physical memory, in frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FrameRange {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl FrameRange {
    /// The whole frames inside `bytes` bytes from `start`.
    pub(crate) const fn inside(start: PhysAddr, bytes: u64) -> Self {
        let page = PAGE_SIZE as u64;
        let end = (start.get() + bytes) / page;
        Self { start: start.get().div_ceil(page) as usize, end: end as usize }
    }

    /// The frames that any of `bytes` bytes from `start` lie in.
    pub(crate) const fn around(start: PhysAddr, bytes: u64) -> Self {
        let page = PAGE_SIZE as u64;
        Self { start: (start.get() / page) as usize, end: (start.get() + bytes).div_ceil(page) as usize }
    }

    const fn contains(self, frame: usize) -> bool {
        self.start <= frame && frame < self.end
    }
}

/// Hands the allocator the `memory` that the boot tables show, except `reserved`. The rest is for [`add_high`].
///
/// # Safety
///
/// Called once, before any other function here; `memory` is RAM, and nothing outside `reserved` is in use.
pub(crate) unsafe fn init(memory: &[FrameRange], reserved: &[FrameRange]) {
    let count = memory.iter().map(|range| range.end).max().unwrap_or(0);
    // In the table: a bit for each frame, a count, and a byte.
    let words = count.div_ceil(64);
    let (owners_at, states_at) = (words * size_of::<u64>(), words * size_of::<u64>() + count * size_of::<u32>());
    let Some(table) = find_table(memory, reserved, (states_at + count).div_ceil(PAGE_SIZE)) else { return };
    let start = phys_to_virt(address(table.start));
    // SAFETY: (1) free RAM, by the caller's word and `find_table`; (2) it is taken out of what is handed out, below.
    lent::init(unsafe { slice::from_raw_parts_mut(start.as_mut_ptr(), words) });
    // SAFETY: the second part of the table, as above: aligned, and as long as that.
    owners::init(unsafe { slice::from_raw_parts_mut(start.wrapping_add(owners_at).as_mut_ptr(), count) });
    // SAFETY: the third part.
    let states: &mut [u8] = unsafe { slice::from_raw_parts_mut(start.wrapping_add(states_at).as_mut_ptr(), count) };
    states.fill(0);
    let mut buddy = FRAMES.lock();
    buddy.states = states;
    for frame in memory.iter().flat_map(|range| range.start..range.end.min(BOOT_FRAMES)) {
        let taken = table.contains(frame) || reserved.iter().any(|range| range.contains(frame)) || frame == 0;
        if !taken {
            buddy.merge(frame, 0);
        }
    }
    TOTAL.store(buddy.free, Ordering::Relaxed);
}

/// Hands the allocator the `memory` that only the final tables show.
///
/// # Safety
///
/// Called once, after [`init`] with the same ranges, on tables whose direct map shows all of `memory`.
pub(crate) unsafe fn add_high(memory: &[FrameRange], reserved: &[FrameRange]) {
    let mut buddy = FRAMES.lock();
    let high = memory.iter().flat_map(|range| range.start.max(BOOT_FRAMES)..range.end);
    let free = high.filter(|&frame| !reserved.iter().any(|range| range.contains(frame)));
    free.for_each(|frame| buddy.merge(frame, 0));
    TOTAL.store(buddy.free, Ordering::Relaxed);
}

/// The first stretch of `frames` free frames above 1 MiB that the boot tables show.
fn find_table(memory: &[FrameRange], reserved: &[FrameRange], frames: usize) -> Option<FrameRange> {
    let low = (1 << 20) / PAGE_SIZE;
    let starts = memory.iter().map(|range| range.start.max(low)).chain(reserved.iter().map(|range| range.end));
    starts.map(|start| FrameRange { start, end: start + frames }).find(|candidate| {
        let fits = memory.iter().any(|range| range.start <= candidate.start && candidate.end <= range.end);
        let clear = reserved.iter().all(|range| range.end <= candidate.start || candidate.end <= range.start);
        fits && clear && candidate.start >= low && candidate.end <= BOOT_FRAMES
    })
}

const fn address(frame: usize) -> PhysAddr {
    PhysAddr::new((frame * PAGE_SIZE) as u64)
}

const fn number(frame: PhysAddr) -> usize {
    frame.get() as usize / PAGE_SIZE
}

/// Takes 2^`order` frames that lie side by side. What they hold is anything.
pub(crate) fn take(order: u32) -> Option<PhysAddr> {
    if super::inject::fails() {
        return None;
    }
    let taken = FRAMES.lock().take(order).map(address);
    if order > 0 {
        CONTIGUOUS.0.fetch_add(1, Ordering::Relaxed);
        CONTIGUOUS.1.fetch_add(usize::from(taken.is_some()), Ordering::Relaxed);
    } else if taken.is_none() {
        shortage::note();
    }
    taken
}

/// How often several frames side by side were asked for, and how often there were some.
pub(crate) fn contiguous() -> (usize, usize) {
    (CONTIGUOUS.0.load(Ordering::Relaxed), CONTIGUOUS.1.load(Ordering::Relaxed))
}

/// Takes a block of [`LARGE_ORDER`], if there is one as things are: nothing is merged for it.
pub(crate) fn take_large() -> Option<PhysAddr> {
    FRAMES.lock().take_block(LARGE_ORDER).map(address)
}

/// Gives back what [`take`] returned for the same `order`.
pub(crate) fn give(start: PhysAddr, order: u32) {
    FRAMES.lock().give(number(start), order);
}

/// Gives back single frames, at once.
pub(crate) fn give_all(frames: &[PhysAddr]) {
    if !frames.is_empty() {
        FRAMES.lock().give_all(frames);
    }
}

/// Takes one frame that is at hand, which holds anything.
///
/// # Safety
///
/// As for [`VitalLock::lock_inside`].
#[inline]
pub(crate) unsafe fn take_one_at_hand() -> Option<PhysAddr> {
    // SAFETY: the caller's promise.
    unsafe { FRAMES.lock_inside() }.take_single().map(address)
}

/// How many frames are a run.
pub(crate) const RUN_FRAMES: usize = 1 << buddy::RUN;

/// Whether a run can begin with `frame`.
pub(crate) const fn begins_run(frame: PhysAddr) -> bool {
    frame.get().is_multiple_of((RUN_FRAMES * PAGE_SIZE) as u64)
}

/// Takes a run, if that is easy: frames side by side, which read as zero. Returns the first.
pub(crate) fn take_run() -> Option<PhysAddr> {
    let first = address(FRAMES.lock().take_run()?);
    (0..RUN_FRAMES as u64).for_each(|i| clear(first.wrapping_add(i * PAGE_SIZE as u64)));
    Some(first)
}

/// Having a `Giving` means having the allocator's lock, to give many frames back.
pub(crate) struct Giving(VitalGuard<'static, Buddy>);

/// Begins to give many frames back.
pub(crate) fn giving() -> Giving {
    Giving(FRAMES.lock())
}

impl Giving {
    /// Gives back the run that begins with `first`.
    pub(crate) fn run(&mut self, first: PhysAddr) {
        self.0.give_run(number(first));
    }

    /// Gives back one frame.
    #[inline]
    pub(crate) fn one(&mut self, frame: PhysAddr) {
        self.0.give_single(number(frame));
    }

    /// Gives back `count` frames side by side, from `first` on.
    #[inline]
    pub(crate) fn stretch(&mut self, first: PhysAddr, count: usize) {
        self.0.give_stretch(number(first), count);
    }

    /// Gives back single frames.
    pub(crate) fn all(&mut self, frames: &[PhysAddr]) {
        self.0.give_all(frames);
    }
}

/// The frames that the machine has for the kernel and its programs.
pub(crate) fn total() -> usize {
    TOTAL.load(Ordering::Relaxed)
}

/// Takes one frame and clears it.
pub(crate) fn take_zeroed() -> Option<PhysAddr> {
    let frame = take(0)?;
    clear(frame);
    Some(frame)
}

/// Clears the frame at `frame` through the direct map.
pub(crate) fn clear(frame: PhysAddr) {
    // SAFETY: the callers own the frame; the direct map shows it.
    unsafe { crate::arch::memory::clear_page(phys_to_virt(frame)) };
}

/// The free frames, as the allocator counts them.
pub(crate) fn free() -> usize {
    FRAMES.lock().free
}

/// The free frames, counted by looking at every frame's state (INV-COUNT).
pub(crate) fn recount() -> usize {
    FRAMES.lock().recount()
}
