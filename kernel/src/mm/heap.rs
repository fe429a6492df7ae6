//! The kernel's heap: a fixed piece of the direct map, under `talc`.
//!
//! For tasks, processes and files. Never for stacks, page tables or the fault path, so how full it is changes no figure
//! about stacks. Its size is fixed, so that frames balance exactly.

use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::ptr;

use talc::DefaultBinning;
use talc::base::Talc;
use talc::source::Manual;

use super::frames;
use crate::arch::layout::{PAGE_SIZE, phys_to_virt};
use crate::sync::SpinLock;

/// Blocks of the largest order that the heap is made of: 8 MiB.
const BLOCKS: usize = 2;

struct Heap(SpinLock<Talc<Manual, DefaultBinning>>);

#[global_allocator]
static HEAP: Heap = Heap(SpinLock::new(Talc::new(Manual)));

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").finish_non_exhaustive()
    }
}

// SAFETY: `talc` hands out blocks that fit the layout and do not overlap; the lock keeps its state whole.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the layout's size is not zero (the trait's contract).
        let block = unsafe { self.0.lock().allocate(layout) };
        block.map_or(ptr::null_mut(), ptr::NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `alloc` with this layout (the trait's contract).
        unsafe { self.0.lock().deallocate(block, layout) };
    }
}

/// Gives the heap its memory. Returns its size in bytes.
pub(crate) fn init() -> usize {
    let block_bytes = PAGE_SIZE << frames::MAX_ORDER;
    let claimed = (0..BLOCKS).filter_map(|_| frames::take(frames::MAX_ORDER)).filter(|&block| {
        let base = phys_to_virt(block).as_mut_ptr::<u8>();
        // SAFETY: the block is the heap's from here on, and the direct map shows it.
        unsafe { HEAP.0.lock().claim(base, block_bytes) }.is_some()
    });
    claimed.count() * block_bytes
}
