//! Physical frames: a buddy allocator over all of the machine's memory.
//!
//! Free blocks of 2^order frames are linked through themselves, in the direct map. One byte a frame says what begins
//! there, so that a buddy is found and merged in constant time, and so that [`recount`] can prove the counter by looking
//! at every frame (INV-COUNT).
//!
//! ```text
//!   states[frame]   0x80 | order   a free block of that order begins here
//!                   0x40           free, alone, and at hand: it was given back a moment ago
//!                   0              used, inside a free block, or not memory
//! ```
//!
//! A few single frames, and a few runs of four, are kept *at hand*, unmerged, so that one which is given back and taken again costs no
//! search for its buddies. Four that lie side by side, aligned, are what a small stack gets where they are to be had: processors that
//! coalesce neighbours in the TLB profit. Nothing needs them to be so.
//!
//! Frames of users' memory can have several owners: after a fork, until one of them writes. [`Owners`] counts them, beside the states, without
//! the lock: one more owner than the number says.
//!
//! # Context
//!
//! Task and interrupt. Never NMI or the fault path: there is a lock, and nobody is killed under it.

use core::slice;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use vmstack::PhysAddr;

use crate::arch::layout::{BOOT_MAPPED, PAGE_SIZE, phys_to_virt};
use crate::sync::{AnyLock, VitalLock};

/// Orders go from 0 (one frame) to this (4 MiB).
pub(crate) const MAX_ORDER: u32 = 10;
const ORDERS: usize = MAX_ORDER as usize + 1;
/// Frames that the boot tables show: from here on only the final tables do.
const BOOT_FRAMES: usize = (BOOT_MAPPED / PAGE_SIZE as u64) as usize;
const FREE: u8 = 0x80;
const AT_HAND: u8 = 0x40;
/// How many single frames are at hand at most.
const HAND: usize = 64;
/// How many runs of four frames are at hand at most.
const RUNS: usize = 64;
/// The order of a run of four.
const RUN: u32 = 2;
const NONE: u32 = u32::MAX;

static FRAMES: VitalLock<Buddy> = VitalLock::new("frame-allocator", Buddy::empty());

/// The allocator's lock.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &FRAMES
}

/// The owners that each frame has beside its first, and how many frames there are.
static OWNERS: (AtomicPtr<AtomicU32>, AtomicUsize) = (AtomicPtr::new(core::ptr::null_mut()), AtomicUsize::new(0));
static CONTIGUOUS: (AtomicUsize, AtomicUsize) = (AtomicUsize::new(0), AtomicUsize::new(0));
/// Frames that were free when the kernel started.
static TOTAL: AtomicUsize = AtomicUsize::new(0);

struct Buddy {
    states: &'static mut [u8],
    /// Frames at hand, the last one given back last.
    hand: ArrayVec<u32, HAND>,
    /// The same for runs of four.
    runs: ArrayVec<u32, RUNS>,
    heads: [u32; ORDERS],
    free: usize,
}

/// What a free block holds: its neighbours on the list of its order.
#[derive(Clone, Copy)]
#[repr(C)]
struct Links {
    next: u32,
    previous: u32,
}

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
    let states_bytes = count.next_multiple_of(size_of::<u32>());
    let table_frames = (states_bytes + count * size_of::<u32>()).div_ceil(PAGE_SIZE);
    let Some(table) = find_table(memory, reserved, table_frames) else { return };
    let bytes = phys_to_virt(address(table.start)).as_mut_ptr::<u8>();
    // SAFETY: (1) free RAM, by the caller's word and `find_table`; (2) it is taken out of what is handed out, below.
    let states = unsafe { slice::from_raw_parts_mut(bytes, count) };
    states.fill(0);
    let owners = phys_to_virt(address(table.start)).wrapping_add(states_bytes).as_mut_ptr::<u32>();
    // SAFETY: the second part of the table, as above: aligned, and as long as that.
    let owners = unsafe { slice::from_raw_parts_mut(owners, count) };
    owners.fill(0);
    OWNERS.0.store(owners.as_mut_ptr().cast(), Ordering::Relaxed);
    OWNERS.1.store(count, Ordering::Release);
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

impl Buddy {
    const fn empty() -> Self {
        Self {
            states: &mut [],
            hand: ArrayVec::new_const(),
            runs: ArrayVec::new_const(),
            heads: [NONE; ORDERS],
            free: 0,
        }
    }

    fn links(frame: usize) -> *mut Links {
        phys_to_virt(address(frame)).as_mut_ptr()
    }

    fn read(frame: u32) -> Links {
        // SAFETY: only frames on a free list are read: RAM that nobody uses, shown by the direct map.
        unsafe { Self::links(frame as usize).read() }
    }

    fn write(frame: u32, links: Links) {
        // SAFETY: as for `read`.
        unsafe { Self::links(frame as usize).write(links) };
    }

    fn push(&mut self, frame: usize, order: u32) {
        let head = self.heads[order as usize];
        Self::write(frame as u32, Links { next: head, previous: NONE });
        if head != NONE {
            Self::write(head, Links { previous: frame as u32, ..Self::read(head) });
        }
        self.heads[order as usize] = frame as u32;
        self.states[frame] = FREE | order as u8;
    }

    fn unlink(&mut self, frame: usize, order: u32) {
        let Links { next, previous } = Self::read(frame as u32);
        if next != NONE {
            Self::write(next, Links { previous, ..Self::read(next) });
        }
        if previous == NONE {
            self.heads[order as usize] = next;
        } else {
            Self::write(previous, Links { next, ..Self::read(previous) });
        }
        self.states[frame] = 0;
    }

    fn take(&mut self, order: u32) -> Option<usize> {
        if order == 0
            && let Some(frame) = self.hand.pop()
        {
            self.states[frame as usize] = 0;
            self.free -= 1;
            return Some(frame as usize);
        }
        self.split(order).or_else(|| {
            self.put_down();
            self.split(order)
        })
    }

    /// Takes a block off the lists, and puts back what is more than was asked for.
    fn split(&mut self, order: u32) -> Option<usize> {
        let from = (order..=MAX_ORDER).find(|&order| self.heads[order as usize] != NONE)?;
        let frame = self.heads[from as usize] as usize;
        self.unlink(frame, from);
        // The upper half of each larger block goes back.
        (order..from).rev().for_each(|half| self.push(frame + (1 << half), half));
        self.free -= 1 << order;
        Some(frame)
    }

    /// Merges what is at hand with its buddies.
    fn put_down(&mut self) {
        while let Some((frame, order)) =
            self.hand.pop().map(|frame| (frame, 0)).or_else(|| self.runs.pop().map(|frame| (frame, RUN)))
        {
            self.free -= 1 << order;
            self.states[frame as usize] = 0;
            self.merge(frame as usize, order);
        }
    }

    /// Takes four frames side by side, aligned, if that is easy.
    fn take_run(&mut self) -> Option<usize> {
        let Some(frame) = self.runs.pop() else { return self.split(RUN) };
        self.states[frame as usize] = 0;
        self.free -= 1 << RUN;
        Some(frame as usize)
    }

    /// Gives back four frames side by side, aligned.
    fn give_run(&mut self, frame: usize) {
        assert!(self.states.get(frame..frame + 4) == Some(&[0; 4]), "one of four frames at {frame:#x} is free already");
        if self.runs.is_full() {
            return self.merge(frame, RUN);
        }
        self.runs.push(frame as u32);
        self.states[frame] = AT_HAND | RUN as u8;
        self.free += 1 << RUN;
    }

    fn give(&mut self, frame: usize, order: u32) {
        assert!(self.states.get(frame) == Some(&0), "frame {frame:#x} is free already");
        if order == 0 && !self.hand.is_full() {
            self.hand.push(frame as u32);
            self.states[frame] = AT_HAND;
            self.free += 1;
        } else {
            self.merge(frame, order);
        }
    }

    /// Gives back single frames. Fours that are a run go back as one.
    fn give_each(&mut self, frames: &[PhysAddr]) {
        for four in frames.chunks(1 << RUN) {
            let first = four[0].get() as usize / PAGE_SIZE;
            let follows = |(i, frame): (usize, &PhysAddr)| frame.get() as usize / PAGE_SIZE == first + i;
            if four.len() == 1 << RUN && first.is_multiple_of(1 << RUN) && four.iter().enumerate().all(follows) {
                self.give_run(first);
            } else {
                four.iter().for_each(|frame| self.give(frame.get() as usize / PAGE_SIZE, 0));
            }
        }
    }

    fn merge(&mut self, frame: usize, order: u32) {
        self.free += 1 << order;
        let (mut frame, mut order) = (frame, order);
        while order < MAX_ORDER {
            let buddy = frame ^ (1 << order);
            if self.states.get(buddy) != Some(&(FREE | order as u8)) {
                break;
            }
            self.unlink(buddy, order);
            frame &= !(1 << order);
            order += 1;
        }
        self.push(frame, order);
    }
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
    }
    taken
}

/// How often several frames side by side were asked for, and how often there were some.
pub(crate) fn contiguous() -> (usize, usize) {
    (CONTIGUOUS.0.load(Ordering::Relaxed), CONTIGUOUS.1.load(Ordering::Relaxed))
}

/// Gives back what [`take`] returned for the same `order`.
pub(crate) fn give(start: PhysAddr, order: u32) {
    FRAMES.lock().give(start.get() as usize / PAGE_SIZE, order);
}

/// Gives back single frames, at once.
pub(crate) fn give_all(frames: &[PhysAddr]) {
    if !frames.is_empty() {
        FRAMES.lock().give_each(frames);
    }
}

/// The frames that the machine has for the kernel and its programs.
pub(crate) fn total() -> usize {
    TOTAL.load(Ordering::Relaxed)
}

fn owners() -> &'static [AtomicU32] {
    let (counts, length) = (OWNERS.0.load(Ordering::Relaxed), OWNERS.1.load(Ordering::Acquire));
    if length == 0 {
        return &[];
    }
    // SAFETY: `init` stored a table of that many counts, which is used through atomics alone from then on, and never freed.
    unsafe { slice::from_raw_parts(counts, length) }
}

fn owners_of(frame: PhysAddr) -> &'static AtomicU32 {
    &owners()[frame.get() as usize / PAGE_SIZE]
}

/// The counts of all frames' owners, for who has many to change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owners(&'static [AtomicU32]);

impl Owners {
    pub(crate) fn new() -> Self {
        Self(owners())
    }

    /// Counts one more owner of `frame`. The caller is one, or acts for one.
    #[inline]
    pub(crate) fn share(self, frame: PhysAddr) {
        // Relaxed: an owner gives its own on, nobody can take the frame meanwhile.
        self.0[frame.get() as usize / PAGE_SIZE].fetch_add(1, Ordering::Relaxed);
    }

    /// Gives up one owner of `frame`. True for the last one, whose the frame is then.
    #[must_use = "the last owner gives the frame back"]
    #[inline]
    pub(crate) fn leave(self, frame: PhysAddr) -> bool {
        let owners = &self.0[frame.get() as usize / PAGE_SIZE];
        if owners.load(Ordering::Acquire) == 0 {
            return true;
        }
        let last = owners.fetch_sub(1, Ordering::AcqRel) == 0;
        if last {
            // The other owner left between the two looks.
            owners.store(0, Ordering::Relaxed);
        }
        last
    }
}

/// Whether `frame` has more owners than the caller, who is one. If not, it stays so until the caller shares it.
pub(crate) fn is_shared(frame: PhysAddr) -> bool {
    // Acquire: pairs with `Owners::leave`: what other owners read comes before what the last one writes.
    owners_of(frame).load(Ordering::Acquire) != 0
}

/// The owners of all frames beside their first ones, found by looking at every frame (INV-COUNT).
pub(crate) fn recount_owners() -> usize {
    owners().iter().map(|owners| owners.load(Ordering::Relaxed) as usize).sum()
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
    let buddy = FRAMES.lock();
    let free = |state: u8| match state {
        0 => 0,
        block => 1_usize << (block & !(FREE | AT_HAND)),
    };
    buddy.states.iter().map(|&state| free(state)).sum()
}

/// Free frames, linked through themselves: as many as one likes, without other memory.
///
/// Having a `FrameList` means that nobody else knows these frames, and that each reads as zero but for its first word.
#[derive(Debug)]
pub(crate) struct FrameList {
    head: PhysAddr,
    count: usize,
}

impl FrameList {
    const EMPTY: Self = Self { head: PhysAddr::new(0), count: 0 };

    /// `count` frames that read as zero once they are popped. All or none.
    pub(crate) fn take(count: usize) -> Option<Self> {
        let mut list = Self::EMPTY;
        let mut buddy = FRAMES.lock();
        if buddy.free < count {
            return None;
        }
        while list.count < count {
            let four = (count - list.count >= 1 << RUN).then(|| buddy.take_run()).flatten();
            match four {
                // The last one first: they come off the list in the order of their addresses.
                Some(frame) => (0..1 << RUN).rev().for_each(|i| list.push(address(frame + i))),
                None => match buddy.take(0) {
                    Some(frame) => list.push(address(frame)),
                    None => break,
                },
            }
        }
        drop(buddy);
        list.clear_all();
        Some(list)
    }

    /// Puts back a frame that was popped and not used.
    pub(crate) fn push(&mut self, frame: PhysAddr) {
        // SAFETY: the frame is the list's; the direct map shows it.
        unsafe { phys_to_virt(frame).as_mut_ptr::<PhysAddr>().write(self.head) };
        self.head = frame;
        self.count += 1;
    }

    /// Clears all of each frame but the link.
    fn clear_all(&mut self) {
        let mut frame = self.head;
        for _ in 0..self.count {
            let link = phys_to_virt(frame).as_mut_ptr::<PhysAddr>();
            // SAFETY: the frame is on the list, so its first word is the link, which `push` wrote.
            let next = unsafe { link.read() };
            clear(frame);
            // SAFETY: the frame is the list's; the direct map shows it.
            unsafe { link.write(next) };
            frame = next;
        }
    }

    /// The next frame, which reads as zero.
    pub(crate) fn pop(&mut self) -> Option<PhysAddr> {
        self.count = self.count.checked_sub(1)?;
        let frame = self.head;
        let link = phys_to_virt(frame).as_mut_ptr::<PhysAddr>();
        // SAFETY: the frame is on the list, so its first word is the link, which `push` wrote.
        self.head = unsafe { link.read() };
        // SAFETY: as above; the frame leaves the list and its first word is cleared like the rest.
        unsafe { link.write(PhysAddr::new(0)) };
        Some(frame)
    }

    /// Gives all of them back.
    pub(crate) fn give(mut self) {
        let mut buddy = FRAMES.lock();
        while let Some(frame) = self.pop() {
            buddy.give(frame.get() as usize / PAGE_SIZE, 0);
        }
    }
}
