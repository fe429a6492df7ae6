//! Physical memory: a memfd, and one shared mapping of all of it, the direct map.
//!
//! ```text
//!   memfd        | frame 0 | frame 1 | frame 2 | frame 3 | ...      offset = physical address
//!   direct map   | frame 0 | frame 1 | frame 2 | frame 3 | ...      readable and writable, always
//!   stack area          ... | frame 3 | frame 0 | ...               the same frames again, where `space` puts them
//! ```
//!
//! A frame that comes from here reads as zero: Linux gives a file's pages zeroed, and a frame that was used before is
//! cleared through the direct map (INV-ZERO). Contexts: task, under a guard.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use core::ptr;

use vmstack::{Node, PhysAddr, VirtAddr, VirtRange};

use crate::arch::PAGE_SIZE;
use crate::frames::{FrameCount, FrameTable, Frames};
use crate::platform::HostedError;
use crate::sys::{Errno, Region, memory_file};

/// The bytes themselves: a file, and a mapping of all of it.
#[derive(Debug)]
pub(crate) struct Ram {
    file: OwnedFd,
    direct_map: Region,
}

impl Ram {
    pub(crate) fn new(frames: u32) -> Result<Self, Errno> {
        let bytes = frames as usize * PAGE_SIZE;
        let file = memory_file(bytes as u64)?;
        let direct_map = Region::share(file.as_fd(), bytes)?;
        Ok(Self { file, direct_map })
    }

    /// The memory as a file, to map frames from.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Where all of it is mapped.
    pub(crate) fn direct_map(&self) -> VirtRange {
        self.direct_map.range()
    }

    /// Where the `bytes` bytes from `addr` on are, if they are addresses of the direct map.
    pub(crate) fn direct(&self, addr: VirtAddr, bytes: usize) -> Option<PhysAddr> {
        let range = self.direct_map();
        let inside = range.contains(addr) && bytes <= range.end().distance(addr);
        inside.then(|| PhysAddr::new(addr.distance(range.start()) as u64))
    }

    /// The physical address of `frame`: its offset in the file.
    pub(crate) const fn physical(frame: u32) -> u64 {
        frame as u64 * PAGE_SIZE as u64
    }

    /// Makes `frame` read as zero.
    ///
    /// # Safety
    ///
    /// `frame` is one of this memory's, and nobody uses it.
    #[inline]
    pub(crate) unsafe fn clear(&self, frame: u32) {
        let at = self.direct_map.start().wrapping_add(frame as usize * PAGE_SIZE).as_mut_ptr::<u8>();
        // SAFETY: (1) the direct map holds the frame, readable and writable, for as long as `self` lives; (2) the caller
        // vouches that nobody uses it.
        unsafe { ptr::write_bytes(at, 0, PAGE_SIZE) };
    }
}

/// The memory of a machine, and which of its frames are free.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) ram: Ram,
    pub(crate) frames: FrameTable,
}

impl Memory {
    /// With `frames` frames for stacks, and `more` behind them that are not.
    pub(crate) fn new(frames: u32, more: u32, nodes: usize, id: u64) -> Result<Self, Errno> {
        Ok(Self { ram: Ram::new(frames + more)?, frames: FrameTable::new(frames, nodes, id) })
    }

    /// Takes `count` frames of `node` that read as zero. All of them or none.
    pub(crate) fn take(&self, node: Node, count: usize) -> Result<Frames, HostedError> {
        // SAFETY: `take` names frames that were free until now and are nobody else's yet.
        self.frames.take(node, count, |frame| unsafe { self.ram.clear(frame) })
    }

    pub(crate) fn recount(&self) -> FrameCount {
        self.frames.recount()
    }
}
