//! Memory that is no stack's: what drivers have for their devices.
//!
//! It lies above the frames that stacks are made of, and comes in two halves:
//!
//! ```text
//!   memfd   | frames of stacks | in one piece          | scattered            |
//!                                 ^ the direct map        ^ a heap, whose pages lie about in it
//! ```
//!
//! The heap is like a kernel's that is virtually mapped: side by side there does not mean side by side here. Each run of 64 of its pages
//! ends in one that is mapped nowhere.
//!
//! Contexts: making one: task. Looking: any.

use core::sync::atomic::Ordering;

use vmstack::{PhysAddr, VirtAddr, VirtRange};

use crate::arch::PAGE_SIZE;
use crate::memory::Ram;
use crate::space::Space;
use crate::sys::Errno;

/// How the pages of the heap lie about: in each eight, some side by side, and some the other way round.
const SHUFFLE: [usize; 8] = [2, 3, 0, 1, 7, 6, 4, 5];
/// Pages of a run of the heap, with the one that is not there.
pub(crate) const RUN: usize = 64;

/// Memory for devices: frames beside those of stacks.
#[derive(Debug)]
pub(crate) struct Plain {
    first: u32,
    /// Frames of each half.
    half: usize,
    heap: Space,
}

impl Plain {
    /// Of `frames` frames of `ram` from `first` on.
    pub(crate) fn new(ram: &Ram, first: u32, frames: usize) -> Result<Self, Errno> {
        let half = frames / 2;
        let plain = Self { first, half, heap: Space::new(half * PAGE_SIZE)? };
        (0..half).filter(|page| page % RUN != RUN - 1).try_for_each(|page| plain.map(ram, page))?;
        Ok(plain)
    }

    fn map(&self, ram: &Ram, page: usize) -> Result<(), Errno> {
        let frame = self.first + (self.half + page / 8 * 8 + SHUFFLE[page % 8]) as u32;
        let at = self.heap.range().start().wrapping_add(page * PAGE_SIZE);
        self.heap.place(at, ram, frame, 1, true)?;
        if let Some(entry) = self.heap.entry(at) {
            // Release: as for stacks: whoever sees the frame sees it mapped.
            entry.store(frame + 1, Ordering::Release);
        }
        Ok(())
    }

    /// The heap.
    pub(crate) fn heap(&self) -> VirtRange {
        self.heap.range()
    }

    /// The memory in one piece.
    pub(crate) fn piece(&self, ram: &Ram) -> (VirtRange, PhysAddr) {
        let phys = Ram::physical(self.first);
        let start = ram.direct_map().start().wrapping_add(phys as usize);
        (VirtRange::new(start, self.half * PAGE_SIZE).unwrap_or(VirtRange::EMPTY), PhysAddr::new(phys))
    }

    /// Where an address of the heap leads.
    pub(crate) fn translate(&self, addr: VirtAddr) -> Option<PhysAddr> {
        self.heap.translate(addr)
    }
}
