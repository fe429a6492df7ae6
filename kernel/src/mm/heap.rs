//! The kernel's heap: a fixed piece of the direct map, under `talc`.
//!
//! For tasks, processes and files. Never for stacks, page tables or the fault path, so how full it is changes no figure
//! about stacks. Its size is fixed, so that frames balance exactly. What is sized by a program's wish is asked for with
//! [`reserve`], which fails before the kernel itself could run short.
//!
//! # When a task dies here
//!
//! A task that is killed in the middle of `alloc` or `free` leaves the bookkeeping cut anywhere. The *arena* that was in use is
//! retired then: its blocks stay memory for ever, what is freed into it is ignored and counted, and a new arena is
//! claimed from the frame allocator. There are at most [`ARENAS`]; after that, and when there are no frames, allocation fails as it
//! does when memory is short.
//!
//! A task that is killed elsewhere may take blocks with it that only its frames knew. Each task keeps an [`Account`] of what it
//! has allocated and not freed since it entered the kernel; [`count_lost`] adds it to [`lost`].

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use talc::DefaultBinning;
use talc::base::Talc;
use talc::source::Manual;

use super::frames;
use crate::arch::layout::{PAGE_SIZE, phys_to_virt};
use crate::arch::percpu;
use crate::sync::{AnyLock, SpinGuard, SpinLock};
use crate::task::{Task, sched};

/// Blocks of the largest order that an arena is made of: 8 MiB.
const BLOCKS: usize = 2;
const BLOCK_BYTES: usize = PAGE_SIZE << frames::MAX_ORDER;

/// How many arenas there are over a boot.
const ARENAS: usize = 16;

/// What programs' wishes leave free, in bytes: what the kernel needs for as many tasks as there can be.
const RESERVE: usize = 4 << 20;

/// Bytes in the arena in use, and bytes handed out, of whatever arena.
static SIZE: AtomicUsize = AtomicUsize::new(0);
static USED: AtomicUsize = AtomicUsize::new(0);
/// Arenas that were claimed.
static CLAIMED: AtomicUsize = AtomicUsize::new(0);
/// What frames of killed tasks may have owned.
static LOST_BYTES: AtomicUsize = AtomicUsize::new(0);
static LOST_OBJECTS: AtomicUsize = AtomicUsize::new(0);
/// What was freed into a retired arena.
static IGNORED_BYTES: AtomicUsize = AtomicUsize::new(0);
static IGNORED_OBJECTS: AtomicUsize = AtomicUsize::new(0);

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
    if !can_spare(bytes) {
        return Err(OutOfHeap);
    }
    vec.try_reserve(more).map_err(|_| OutOfHeap)
}

/// Whether `bytes` that a program asks for can be spared.
fn can_spare(bytes: usize) -> bool {
    let free = SIZE.load(Ordering::Relaxed).saturating_sub(USED.load(Ordering::Relaxed));
    free >= RESERVE.saturating_add(bytes)
}

/// `value` in a box, if the kernel can spare the memory.
pub(crate) fn try_box<T>(value: T) -> Result<Box<T>, OutOfHeap> {
    can_spare(size_of::<T>()).then(|| Box::new(value)).ok_or(OutOfHeap)
}

/// `value`, counted, if the kernel can spare the memory.
pub(crate) fn try_arc<T>(value: T) -> Result<Arc<T>, OutOfHeap> {
    can_spare(size_of::<T>()).then(|| Arc::new(value)).ok_or(OutOfHeap)
}

/// Bytes that are handed out.
pub(crate) fn used() -> usize {
    USED.load(Ordering::Relaxed)
}

/// Bytes and objects of the heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Amount {
    pub(crate) bytes: usize,
    pub(crate) objects: usize,
}

/// What frames of killed tasks may have owned, and values left behind poisoned locks did, over all of the boot.
pub(crate) fn lost() -> Amount {
    Amount { bytes: LOST_BYTES.load(Ordering::Relaxed), objects: LOST_OBJECTS.load(Ordering::Relaxed) }
}

/// What was freed into retired arenas, and how many of those there are.
pub(crate) fn retired() -> (Amount, usize) {
    let bytes = IGNORED_BYTES.load(Ordering::Relaxed);
    let ignored = Amount { bytes, objects: IGNORED_OBJECTS.load(Ordering::Relaxed) };
    (ignored, CLAIMED.load(Ordering::Relaxed).saturating_sub(1))
}

/// Frames that were claimed for arenas, retired ones included: they are not given back.
pub(crate) fn frames() -> usize {
    (CLAIMED.load(Ordering::Relaxed) * BLOCKS) << frames::MAX_ORDER
}

/// What a task has allocated, less what it has freed, since it entered the kernel.
///
/// Not less than what its frames own, unless it freed what it found; and what it has put where others find it is in the
/// account too. So it is what a killed task *may* have taken with it.
#[derive(Debug)]
pub(crate) struct Account {
    bytes: AtomicIsize,
    objects: AtomicIsize,
}

impl Account {
    pub(crate) const fn new() -> Self {
        Self { bytes: AtomicIsize::new(0), objects: AtomicIsize::new(0) }
    }

    /// Begins anew: the task owns nothing but by its struct. For the start of a system call.
    pub(crate) fn reset(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.objects.store(0, Ordering::Relaxed);
    }

    /// What the task may have in its frames. Any context.
    pub(crate) fn amount(&self) -> Amount {
        let positive = |count: &AtomicIsize| usize::try_from(count.load(Ordering::Relaxed)).unwrap_or(0);
        Amount { bytes: positive(&self.bytes), objects: positive(&self.objects) }
    }

    fn add(&self, bytes: isize, objects: isize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.objects.fetch_add(objects, Ordering::Relaxed);
    }
}

/// Counts what `task`, which is killed, may have had in its frames as lost, and says what that is.
pub(crate) fn count_lost(task: &Task) -> Amount {
    let amount = task.heap().amount();
    LOST_BYTES.fetch_add(amount.bytes, Ordering::Relaxed);
    LOST_OBJECTS.fetch_add(amount.objects, Ordering::Relaxed);
    task.heap().reset();
    amount
}

/// Counts a block of `bytes` bytes as lost: it belonged to a value that was left behind a poisoned lock.
pub(crate) fn count_left(bytes: usize) {
    LOST_BYTES.fetch_add(bytes, Ordering::Relaxed);
    LOST_OBJECTS.fetch_add(usize::from(bytes != 0), Ordering::Relaxed);
}

/// Adds to the account of the task that runs this. Interrupts are off.
fn account(bytes: isize, objects: isize) {
    if percpu::this_cpu().irq_depth() != 0 {
        return;
    }
    if let Some(task) = sched::current_if_any() {
        task.heap().add(bytes, objects);
    }
}

/// The arena in use.
struct Arena {
    talc: Talc<Manual, DefaultBinning>,
    /// Where each of its blocks starts; zero: it has none.
    blocks: [usize; BLOCKS],
}

impl Arena {
    const fn empty() -> Self {
        Self { talc: Talc::new(Manual), blocks: [0; BLOCKS] }
    }

    fn contains(&self, block: *mut u8) -> bool {
        self.blocks.iter().any(|&start| start != 0 && block.addr().wrapping_sub(start) < BLOCK_BYTES)
    }

    /// Claims memory for an arena that has none, if there is any and it is not one arena too many.
    fn claim(&mut self) {
        if CLAIMED.load(Ordering::Relaxed) == ARENAS {
            return;
        }
        for start in &mut self.blocks {
            let Some(block) = frames::take(frames::MAX_ORDER) else { break };
            let base = phys_to_virt(block);
            *start = base.get();
            // SAFETY: the block is the heap's from here on, and the direct map shows it.
            let claimed = unsafe { self.talc.claim(base.as_mut_ptr(), BLOCK_BYTES) };
            debug_assert!(claimed.is_some(), "a block is large enough");
        }
        let count = self.blocks.iter().filter(|&&start| start != 0).count();
        SIZE.store(count * BLOCK_BYTES, Ordering::Relaxed);
        if count != 0 {
            CLAIMED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Heap(SpinLock<Arena>);

#[global_allocator]
static HEAP: Heap = Heap(SpinLock::new("heap", Arena::empty()));

/// The heap's lock.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &HEAP.0
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").finish_non_exhaustive()
    }
}

impl Heap {
    /// The arena in use, which is a new one if a task was killed in the last.
    fn arena(&self) -> SpinGuard<'_, Arena> {
        let mut arena = self.0.lock_or_reset(|_| Arena::empty());
        if arena.blocks[0] == 0 {
            arena.claim();
        }
        arena
    }
}

// SAFETY: `talc` hands out blocks that fit the layout and do not overlap; the lock keeps its state whole, and where it could not,
// nothing of that arena is handed out again.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut arena = self.arena();
        // SAFETY: the layout's size is not zero (the trait's contract).
        let Some(block) = (unsafe { arena.talc.allocate(layout) }) else { return ptr::null_mut() };
        // Under the lock: who is killed in between has the arena retired, and no block of it is missed.
        USED.fetch_add(layout.size(), Ordering::Relaxed);
        account(layout.size().cast_signed(), 1);
        block.as_ptr()
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let mut arena = self.arena();
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        account(-layout.size().cast_signed(), -1);
        if arena.contains(block) {
            // SAFETY: the block came from `alloc` with this layout (the trait's contract), out of this arena.
            unsafe { arena.talc.deallocate(block, layout) };
        } else {
            IGNORED_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
            IGNORED_OBJECTS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Gives the heap its memory. Returns its size in bytes.
pub(crate) fn init() -> usize {
    drop(HEAP.arena());
    SIZE.load(Ordering::Relaxed)
}
