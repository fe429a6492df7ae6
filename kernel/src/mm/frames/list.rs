//! Free frames in a row, for who needs many at once.

use vmstack::PhysAddr;

use super::{FRAMES, address, clear};
use crate::arch::layout::phys_to_virt;
use crate::mm::shortage;

/// Free frames, linked through themselves: as many as one likes, without other memory.
///
/// Having a `FrameList` means that nobody else knows these frames, and that each reads as zero but for its first word.
#[derive(Debug)]
pub(crate) struct FrameList {
    head: PhysAddr,
    count: usize,
}

impl FrameList {
    pub(crate) const EMPTY: Self = Self { head: PhysAddr::new(0), count: 0 };

    /// `count` frames that read as zero once they are popped. All or none.
    pub(crate) fn take(count: usize) -> Option<Self> {
        let mut list = Self::EMPTY;
        let mut buddy = FRAMES.lock();
        if buddy.free < count {
            shortage::note();
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

    /// Clears all of each frame but its link.
    fn clear_all(&self) {
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
}
