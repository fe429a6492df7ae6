//! Physical frames: a buddy allocator over all of the machine's memory.
//!
//! Free blocks of 2^order frames are linked through themselves, in the direct map. One byte a frame says what begins
//! there, so that a buddy is found and merged in constant time, and so that [`recount`] can prove the counter by looking
//! at every frame (INV-COUNT).
//!
//! ```text
//!   states[frame]   0x80 | order   a free block of that order begins here
//!                   0              used, inside a free block, or not memory
//! ```
//!
//! # Context
//!
//! Task and interrupt. Never NMI or the fault path: there is a lock, and nobody is killed under it.

use core::slice;

use vmstack::PhysAddr;

use crate::arch::layout::{BOOT_MAPPED, PAGE_SIZE, phys_to_virt};
use crate::sync::{AnyLock, VitalLock};

/// Orders go from 0 (one frame) to this (4 MiB).
pub(crate) const MAX_ORDER: u32 = 10;
const ORDERS: usize = MAX_ORDER as usize + 1;
/// Frames that the boot tables show: from here on only the final tables do.
const BOOT_FRAMES: usize = (BOOT_MAPPED / PAGE_SIZE as u64) as usize;
const FREE: u8 = 0x80;
const NONE: u32 = u32::MAX;

static FRAMES: VitalLock<Buddy> = VitalLock::new("frame-allocator", Buddy::empty());

/// The allocator's lock.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &FRAMES
}

struct Buddy {
    states: &'static mut [u8],
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
    let table_frames = count.div_ceil(PAGE_SIZE);
    let Some(table) = find_table(memory, reserved, table_frames) else { return };
    let bytes = phys_to_virt(address(table.start)).as_mut_ptr::<u8>();
    // SAFETY: (1) free RAM, by the caller's word and `find_table`; (2) it is taken out of what is handed out, below.
    let states = unsafe { slice::from_raw_parts_mut(bytes, count) };
    states.fill(0);
    let mut buddy = FRAMES.lock();
    buddy.states = states;
    for frame in memory.iter().flat_map(|range| range.start..range.end.min(BOOT_FRAMES)) {
        let taken = table.contains(frame) || reserved.iter().any(|range| range.contains(frame)) || frame == 0;
        if !taken {
            buddy.give(frame, 0);
        }
    }
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
    free.for_each(|frame| buddy.give(frame, 0));
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
        Self { states: &mut [], heads: [NONE; ORDERS], free: 0 }
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
        let from = (order..=MAX_ORDER).find(|&order| self.heads[order as usize] != NONE)?;
        let frame = self.heads[from as usize] as usize;
        self.unlink(frame, from);
        // The upper half of each larger block goes back.
        (order..from).rev().for_each(|half| self.push(frame + (1 << half), half));
        self.free -= 1 << order;
        Some(frame)
    }

    fn give(&mut self, frame: usize, order: u32) {
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
    FRAMES.lock().take(order).map(address)
}

/// Gives back what [`take`] returned for the same `order`.
pub(crate) fn give(start: PhysAddr, order: u32) {
    let frame = start.get() as usize / PAGE_SIZE;
    let mut buddy = FRAMES.lock();
    assert!(frame < buddy.states.len() && buddy.states[frame] & FREE == 0, "frame {frame:#x} is free already");
    buddy.give(frame, order);
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
    let free = |state: &&u8| **state & FREE != 0;
    buddy.states.iter().filter(free).map(|state| 1_usize << (state & !FREE)).sum()
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
        for _ in 0..count {
            match buddy.take(0) {
                Some(frame) => list.push(address(frame)),
                None => break,
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

    fn clear_all(&mut self) {
        let mut cleared = Self::EMPTY;
        while let Some(frame) = self.pop() {
            clear(frame);
            cleared.push(frame);
        }
        *self = cleared;
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
        while let Some(frame) = self.pop() {
            give(frame, 0);
        }
    }
}
