//! Free frames in a row, for who needs many at once.

use vmstack::PhysAddr;

use super::buddy::RUN;
use super::{FRAMES, address, clear, number};
use crate::arch::layout::{PAGE_SIZE, phys_to_virt};

/// Free frames: a run of them, which lie side by side, or as many as one likes, linked through themselves without other memory.
///
/// Having a `FrameList` means that nobody else knows these frames, and that each reads as zero but for the link in its first word.
#[derive(Debug)]
pub(crate) struct FrameList {
    head: PhysAddr,
    count: u32,
    /// Side by side, and so without links.
    is_run: bool,
}

impl FrameList {
    const EMPTY: Self = Self { head: PhysAddr::new(0), count: 0, is_run: false };

    /// `count` frames that read as zero once they are popped. All or none.
    pub(crate) fn take(count: usize) -> Option<Self> {
        let list = if count == 1 << RUN { Self::take_run().or_else(|| Self::take_each(count)) } else { Self::take_each(count) };
        list.inspect(Self::clear_all)
    }

    fn take_run() -> Option<Self> {
        let frame = FRAMES.lock().take_run()?;
        Some(Self { head: address(frame), count: 1 << RUN, is_run: true })
    }

    fn take_each(count: usize) -> Option<Self> {
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
        Some(list)
    }

    /// Puts back a frame that was popped and not used.
    pub(crate) fn push(&mut self, frame: PhysAddr) {
        debug_assert!(!self.is_run || self.count == 0, "a run is popped to its end before anything is put back");
        // SAFETY: the frame is the list's; the direct map shows it.
        unsafe { phys_to_virt(frame).as_mut_ptr::<PhysAddr>().write(self.head) };
        (self.head, self.count, self.is_run) = (frame, self.count + 1, false);
    }

    /// Clears all of each frame but its link.
    fn clear_all(&self) {
        let mut frame = self.head;
        for _ in 0..self.count {
            let next = self.after(frame);
            clear(frame);
            if !self.is_run {
                // SAFETY: the frame is the list's; the direct map shows it.
                unsafe { phys_to_virt(frame).as_mut_ptr::<PhysAddr>().write(next) };
            }
            frame = next;
        }
    }

    /// What comes after `frame`, which is on the list.
    fn after(&self, frame: PhysAddr) -> PhysAddr {
        if self.is_run {
            return frame.wrapping_add(PAGE_SIZE as u64);
        }
        // SAFETY: the frame is on the list, so its first word is the link, which `push` wrote.
        unsafe { phys_to_virt(frame).as_mut_ptr::<PhysAddr>().read() }
    }

    /// The next frame, which reads as zero.
    pub(crate) fn pop(&mut self) -> Option<PhysAddr> {
        self.count = self.count.checked_sub(1)?;
        let frame = self.head;
        self.head = self.after(frame);
        if !self.is_run {
            // SAFETY: the frame leaves the list, and its first word is cleared like the rest.
            unsafe { phys_to_virt(frame).as_mut_ptr::<PhysAddr>().write(PhysAddr::new(0)) };
        }
        Some(frame)
    }

    /// Gives all of them back.
    pub(crate) fn give(mut self) {
        let mut buddy = FRAMES.lock();
        while let Some(frame) = self.pop() {
            buddy.give(number(frame), 0);
        }
    }
}
