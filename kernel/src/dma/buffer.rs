//! [`DmaBuffer`]: memory in one piece that devices may have, since it owns its frames.

use alloc::sync::Arc;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::slice;

use vmstack::PhysAddr;

use crate::arch::layout::{PAGE_SIZE, phys_to_virt};
use crate::mm::frames;
use crate::mm::heap::try_arc;

/// Frames side by side, owned.
#[derive(Debug)]
struct Block {
    start: PhysAddr,
    order: u32,
}

impl Drop for Block {
    fn drop(&mut self) {
        frames::give(self.start, self.order);
    }
}

/// Memory for a device: in one piece, its own frames, zero at first.
///
/// Having a `DmaBuffer` means:
/// - its frames are side by side, and nobody else reads or writes them but a device that was given them by [`hold`](Self::hold);
/// - they stay until the buffer and every [`Held`] of it are gone.
pub(crate) struct DmaBuffer {
    block: Arc<Block>,
    bytes: usize,
}

/// A device's share of a [`DmaBuffer`]: its frames stay while the value lives.
///
/// A task that is killed while a device has its buffer takes the buffer with it, or its file does; the driver has this.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    _block: Arc<Block>,
}

impl DmaBuffer {
    /// A buffer of `bytes`, which read as zero. None if there is no such memory, or they are none.
    ///
    /// # Context
    ///
    /// Task.
    pub(crate) fn new(bytes: usize) -> Option<Self> {
        let order = bytes.div_ceil(PAGE_SIZE).checked_next_power_of_two()?.ilog2();
        if bytes == 0 || order > frames::MAX_ORDER {
            return None;
        }
        let start = frames::take(order)?;
        (0..1 << order).for_each(|frame: usize| frames::clear(start.wrapping_add((frame * PAGE_SIZE) as u64)));
        match try_arc(Block { start, order }) {
            Ok(block) => Some(Self { block, bytes }),
            // The block gives its frames back.
            Err(_) => None,
        }
    }

    /// Where devices see it.
    pub(crate) fn phys(&self) -> PhysAddr {
        self.block.start
    }

    /// Keeps its frames for a device.
    pub(crate) fn hold(&self) -> Held {
        Held { _block: self.block.clone() }
    }
}

impl Deref for DmaBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = phys_to_virt(self.block.start).as_mut_ptr::<u8>();
        // SAFETY: the buffer owns the frames, which lie side by side in the direct map and have room for the bytes.
        unsafe { slice::from_raw_parts(start, self.bytes) }
    }
}

impl DerefMut for DmaBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let start = phys_to_virt(self.block.start).as_mut_ptr::<u8>();
        // SAFETY: as above; and the buffer is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(start, self.bytes) }
    }
}

impl fmt::Debug for DmaBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaBuffer").field("phys", &self.phys()).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
