//! The kernel's heap: a range of its own, mapped page by page as it grows, under `talc`.
//!
//! For processes, files and what they have. Never for stacks, task structs, page tables or the fault path. It is made of single frames, so
//! memory in pieces serves as well as any; it grows while there are frames, and what it has it keeps. What is allocated because a
//! program wishes it is asked for with [`reserve`], [`try_arc`] or [`try_box`], which fail before the kernel itself could run short.
//!
//! Small blocks come from slabs ([`small`]); the rest is about the others.
//!
//! # When a task dies here
//!
//! A task that is killed in the middle of `alloc` or `free` leaves the bookkeeping cut anywhere. The *arena* that was in use is
//! retired then: its pages stay memory for ever, what is freed into it is ignored and counted, and a new arena begins
//! where the last one ends. When there are no frames, allocation fails as it does when memory is short.
//!
//! A task that is killed elsewhere may take blocks with it that only its frames knew. Each task keeps an [`Account`] of what it
//! has allocated and not freed since it entered the kernel; [`count_lost`] adds it to [`lost`].

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::fmt;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use talc::DefaultBinning;
use talc::base::Talc;
use talc::source::Manual;
use vmstack::{Pages, PhysAddr, VirtAddr, VirtRange};
use vmstack_paging::{Access, Attributes};

use super::{frames, inject, shortage, tables};
use crate::arch::layout::PAGE_SIZE;
use crate::arch::percpu;
use crate::sync::{AnyLock, Section, SpinGuard, SpinLock};
use crate::task::{Task, sched};

mod account;
pub(crate) mod small;

pub(crate) use account::{Account, Amount};

/// Where the heap lies: under the top-level entry of the stack areas, behind them.
const START: usize = 0xffff_c940_0000_0000;
const BYTES: usize = 64 << 30;
const MEMORY: Attributes = Attributes::kernel(Access::ReadWrite);

/// What the first arena begins with, in bytes.
const FIRST: usize = 8 << 20;
/// By how many pages it grows at once: interrupts are off meanwhile.
const STEP: usize = 32;

/// What programs' wishes leave free, in bytes of the heap: what the kernel takes without asking.
const RESERVE: usize = 4 << 20;
/// How many frames they leave free when the heap grows for them.
const FRAMES_LEFT: usize = 256;

/// What an allocation takes beside its bytes, and what that is rounded up to: `talc`'s tag and unit.
const TAG: usize = size_of::<usize>();
const UNIT: usize = 4 * size_of::<usize>();

/// Where the mapped part of the range ends.
static END: AtomicUsize = AtomicUsize::new(START);
/// Bytes that the arena in use has left, in whatever pieces.
static FREE: AtomicUsize = AtomicUsize::new(0);
/// Bytes handed out, of whatever arena.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Arenas that there were.
static ARENAS: AtomicUsize = AtomicUsize::new(0);
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
    spare(bytes)?;
    vec.try_reserve(more).map_err(|_| OutOfHeap)
}

/// `value` in an `Arc`, if the kernel can spare the memory.
pub(crate) fn try_arc<T>(value: T) -> Result<Arc<T>, OutOfHeap> {
    // Beside the value there are two counts.
    spare(size_of::<T>() + 2 * size_of::<usize>() + align_of::<T>())?;
    Ok(Arc::new(value))
}

/// `value` in a `Box`, if the kernel can spare the memory.
pub(crate) fn try_box<T>(value: T) -> Result<Box<T>, OutOfHeap> {
    spare(size_of::<T>() + align_of::<T>())?;
    Ok(Box::new(value))
}

/// Says whether the kernel can spare `bytes` more for a program: it has them then, and the reserve beside.
fn spare(bytes: usize) -> Result<(), OutOfHeap> {
    if inject::fails() {
        return Err(OutOfHeap);
    }
    let wanted = bytes.checked_add(RESERVE).ok_or(OutOfHeap)?;
    if HEAP.grow_to(wanted, FRAMES_LEFT) {
        return Ok(());
    }
    shortage::note();
    Err(OutOfHeap)
}

/// Bytes that are handed out.
pub(crate) fn used() -> usize {
    USED.load(Ordering::Relaxed)
}

/// What frames of killed tasks may have owned, and values left behind poisoned locks did, over all of the boot.
pub(crate) fn lost() -> Amount {
    Amount { bytes: LOST_BYTES.load(Ordering::Relaxed), objects: LOST_OBJECTS.load(Ordering::Relaxed) }
}

/// What was freed into retired arenas, and how many of those there are.
pub(crate) fn retired() -> (Amount, usize) {
    let bytes = IGNORED_BYTES.load(Ordering::Relaxed);
    let ignored = Amount { bytes, objects: IGNORED_OBJECTS.load(Ordering::Relaxed) };
    (ignored, ARENAS.load(Ordering::Relaxed).saturating_sub(1))
}

/// Frames that the heap has, retired arenas and page tables included, counted by looking at tables and slabs (INV-COUNT).
pub(crate) fn frames() -> usize {
    let census = tables::kernel().census(range());
    census.leaves + census.tables + small::frames()
}

fn range() -> VirtRange {
    VirtRange::new(VirtAddr::new(START), BYTES).unwrap_or(VirtRange::EMPTY)
}

/// Counts what `task`, which is killed, may have had in its frames as lost, and says what that is.
pub(crate) fn count_lost(task: &Task) -> Amount {
    let amount = task.heap().amount();
    count_left(amount);
    task.heap().end();
    // If it died with the heap's lock, its arena is retired now: not every allocation comes there. And the kernel has its reserve again.
    if HEAP.0.is_poisoned() {
        drop(HEAP.arena());
    }
    HEAP.grow_to(RESERVE, 0);
    amount
}

/// Counts as lost what is left behind because a task was killed in the middle of changing it.
pub(crate) fn count_left(amount: Amount) {
    LOST_BYTES.fetch_add(amount.bytes, Ordering::Relaxed);
    LOST_OBJECTS.fetch_add(amount.objects, Ordering::Relaxed);
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
    /// Where it starts; zero: it has no memory yet.
    start: usize,
    /// Where it ends, as `talc` has it.
    end: Option<NonNull<u8>>,
    /// Bytes that are not handed out.
    free: usize,
}

// SAFETY: the end is of memory that belongs to the arena.
unsafe impl Send for Arena {}

/// What `layout` takes of an arena.
const fn taken_by(layout: Layout) -> usize {
    (layout.size() + TAG).next_multiple_of(UNIT)
}

impl Arena {
    const fn empty() -> Self {
        Self { talc: Talc::new(Manual), start: 0, end: None, free: 0 }
    }

    fn contains(&self, block: *mut u8) -> bool {
        self.end.is_some_and(|end| (self.start..end.addr().get()).contains(&block.addr()))
    }

    fn set_free(&mut self, free: usize) {
        self.free = free;
        FREE.store(free, Ordering::Relaxed);
    }

    /// Grows by a step towards `bytes` that are free, if all of them can be had and `frames_left` frames be left: what is asked for in vain
    /// is not taken from others.
    fn grow_towards(&mut self, bytes: usize, frames_left: usize) -> bool {
        let pages = bytes.saturating_sub(self.free).div_ceil(PAGE_SIZE);
        frames::free() >= pages + pages.div_ceil(PAGE_SIZE / 8) + frames_left && self.grow()
    }

    /// Grows by a step, if there is memory.
    fn grow(&mut self) -> bool {
        let Some(end) = inject::spared(map_step) else { return false };
        let end = end.as_mut_ptr::<u8>();
        self.end = match self.end {
            // SAFETY: (1) `talc` gave this end, and it is its only one; (2) what was mapped follows it, and is the heap's.
            Some(old) => Some(unsafe { self.talc.extend(old, end) }),
            None => {
                let start = end.wrapping_byte_sub(STEP * PAGE_SIZE);
                self.start = start.addr();
                ARENAS.fetch_add(1, Ordering::Relaxed);
                // SAFETY: what was mapped is the heap's, and nobody else uses it.
                unsafe { self.talc.claim(start, STEP * PAGE_SIZE) }
            }
        };
        debug_assert!(self.end.is_some(), "a step is large enough");
        self.set_free(self.free + STEP * PAGE_SIZE);
        true
    }
}

/// Maps the next step of the range, and returns where it ends. `None` if there is no memory, or no range.
fn map_step() -> Option<VirtAddr> {
    // What is mapped is the heap's or nobody's: nobody is killed in between. One CPU at a time is here, for it has the heap's lock.
    let _section = Section::enter();
    let start = VirtAddr::new(END.load(Ordering::Relaxed));
    let end = start.wrapping_add(STEP * PAGE_SIZE);
    if end > range().end() {
        return None;
    }
    let mut taken = [PhysAddr::new(0); STEP];
    let mut count = 0;
    let take = core::iter::from_fn(|| frames::take(0)).inspect(|&frame| {
        taken[count] = frame;
        count += 1;
    });
    // SAFETY: the pages are the heap's, and were never mapped; the frames are the allocator's.
    let mapped = unsafe { tables::kernel().map(Pages::new(start, STEP), MEMORY, take) };
    if mapped.is_err() {
        taken[..count].iter().for_each(|&frame| frames::give(frame, 0));
        return None;
    }
    END.store(end.get(), Ordering::Relaxed);
    Some(end)
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
        if arena.start == 0 {
            arena.set_free(0);
            arena.grow();
        }
        arena
    }

    /// Grows until `bytes` are free, and leaves `frames_left` frames free. Whether it came so far. A step at a time: interrupts are off under
    /// the lock.
    fn grow_to(&self, bytes: usize, frames_left: usize) -> bool {
        while FREE.load(Ordering::Relaxed) < bytes {
            if !self.arena().grow_towards(bytes, frames_left) {
                return false;
            }
        }
        true
    }
}

impl Heap {
    /// A block of the arena.
    fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        loop {
            let mut arena = self.arena();
            // SAFETY: the layout's size is not zero (`GlobalAlloc`'s contract).
            if let Some(block) = unsafe { arena.talc.allocate(layout) } {
                let free = arena.free.saturating_sub(taken_by(layout));
                arena.set_free(free);
                // Under the lock: who is killed in between has the arena retired, and no block of it is missed.
                count(layout.size().cast_signed(), 1);
                return Some(block);
            }
            // Enough bytes may be free, and none in one piece. A step at a time, as in `grow_to`.
            let wanted = arena.free.max(taken_by(layout)) + layout.align();
            if !arena.grow_towards(wanted, 0) {
                return None;
            }
        }
    }

    /// Takes back a block of an arena.
    ///
    /// # Safety
    ///
    /// [`take`](Self::take) returned it for `layout`, and nobody uses it.
    unsafe fn give(&self, block: *mut u8, layout: Layout) {
        let mut arena = self.arena();
        count(-layout.size().cast_signed(), -1);
        if arena.contains(block) {
            let free = arena.free + taken_by(layout);
            arena.set_free(free);
            // SAFETY: the caller's promise, and it is out of this arena.
            unsafe { arena.talc.deallocate(block, layout) };
        } else {
            IGNORED_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
            IGNORED_OBJECTS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counts what is handed out or taken back, for the heap and for the current task. Interrupts are off.
fn count(bytes: isize, objects: isize) {
    USED.fetch_add(bytes.cast_unsigned(), Ordering::Relaxed);
    account(bytes, objects);
}

// SAFETY: slabs and `talc` hand out blocks that fit the layout and do not overlap; nobody is killed in a slab; the arena's lock keeps its
// state whole, and where it could not, nothing of that arena is handed out again.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let section = Section::enter();
        if let Some(block) = small::take(layout, &section) {
            count(layout.size().cast_signed(), 1);
            return block.as_ptr();
        }
        drop(section);
        self.take(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match NonNull::new(block) {
            Some(small) if !range().contains(VirtAddr::of(block)) => {
                let section = Section::enter();
                count(-layout.size().cast_signed(), -1);
                // SAFETY: it is in no arena, so it came from the slab for this layout (the trait's contract).
                unsafe { small::give(small, layout, &section) };
            }
            // SAFETY: it came from an arena with this layout.
            _ => unsafe { self.give(block, layout) },
        }
    }
}

/// Gives the heap its memory, on the final tables. Returns its size in bytes.
pub(crate) fn init() -> usize {
    if tables::kernel().ensure_top_level(range()).is_err() {
        return 0;
    }
    small::init();
    HEAP.grow_to(FIRST, 0);
    FREE.load(Ordering::Relaxed)
}
