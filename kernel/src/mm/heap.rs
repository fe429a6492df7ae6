//! The kernel's heap: a fixed piece of the direct map, under `talc`.
//!
//! For tasks, processes and files. Never for stacks, page tables or the fault path, so how full it is changes no figure
//! about stacks. Its size is fixed, so that frames balance exactly. What is sized by a program's wish is asked for with
//! [`reserve`], which fails before the kernel itself could run short.

use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use talc::DefaultBinning;
use talc::base::Talc;
use talc::source::Manual;

use super::frames;
use crate::arch::layout::{PAGE_SIZE, phys_to_virt};
use crate::sync::SpinLock;

/// Blocks of the largest order that the heap is made of: 8 MiB.
const BLOCKS: usize = 2;

/// What programs' wishes leave free, in bytes: what the kernel needs for as many tasks as there can be.
const RESERVE: usize = 4 << 20;

/// Bytes in the heap, and bytes handed out.
static SIZE: AtomicUsize = AtomicUsize::new(0);
static USED: AtomicUsize = AtomicUsize::new(0);

/// There is no memory for what a program wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OutOfHeap;

/// Makes room in `vec` for `more` elements that a program asked for, if the kernel can spare it.
pub(crate) fn reserve<T>(vec: &mut Vec<T>, more: usize) -> Result<(), OutOfHeap> {
    if vec.capacity() - vec.len() >= more {
        return Ok(());
    }
    // Growing may need the old and the new block at once, and the new one is up to twice what is asked.
    let bytes = vec.len().checked_add(more).and_then(|count| count.checked_mul(2 * size_of::<T>())).ok_or(OutOfHeap)?;
    let free = SIZE.load(Ordering::Relaxed).saturating_sub(USED.load(Ordering::Relaxed));
    if free < RESERVE.saturating_add(bytes) {
        return Err(OutOfHeap);
    }
    vec.try_reserve(more).map_err(|_| OutOfHeap)
}

/// Bytes that are handed out.
pub(crate) fn used() -> usize {
    USED.load(Ordering::Relaxed)
}

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
        if block.is_some() {
            USED.fetch_add(layout.size(), Ordering::Relaxed);
        }
        block.map_or(ptr::null_mut(), ptr::NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `alloc` with this layout (the trait's contract).
        unsafe { self.0.lock().deallocate(block, layout) };
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
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
    let size = claimed.count() * block_bytes;
    SIZE.store(size, Ordering::Relaxed);
    size
}
