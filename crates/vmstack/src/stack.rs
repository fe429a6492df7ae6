//! [`KernelStack`], the owned handle of one stack; [`Pin`], a right to read somebody else's; and the hand-over of dead ones.
//!
//! A task cannot free the stack it runs on. It hands the stack over to its CPU, switches away for the last time, and the
//! next task on that CPU, standing on its own stack, gives it back:
//!
//! ```text
//!   dying task                                   next task
//!   ----------                                   ---------
//!   guard = enter()
//!   stack.hand_over(&guard)   (phase: dead)
//!   switch, a full fence ───────────────────────> area.reap()   (phase: ready, in this CPU's cache)
//! ```
//!
//! No grace period stands between the two: only a pin delays it, and only for that stack.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr;

use crate::addr::VirtAddr;
use crate::area::StackArea;
use crate::geometry::SlotIndex;
use crate::platform::Platform;
use crate::sync::{Ordering, fence};

/// The name of one life of one slot. It stays unique until the slot was handed out 2^24 more times.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StackId {
    slot: SlotIndex,
    generation: u32,
}

impl StackId {
    pub(crate) const fn new(slot: SlotIndex, generation: u32) -> Self {
        Self { slot, generation }
    }

    /// The slot.
    #[must_use]
    pub const fn slot(self) -> SlotIndex {
        self.slot
    }

    /// Which life of the slot, counted modulo 2^24.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

/// A stack as a plain word, for kernels that keep stacks in structs of their own. See [`KernelStack::into_raw`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct RawStack(u64);

impl RawStack {
    /// The word.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// A raw stack from the word that [`get`](Self::get) returned.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }
}

/// One guarded stack, owned.
///
/// Having a `KernelStack` means:
/// - `bottom()..top()` is mapped, readable and writable, and read as zero when it was handed out;
/// - the pages below `bottom()` and above `top()` are not mapped, in any address space (INV-GUARD);
/// - nobody else frees or reuses it.
///
/// Dropping it gives the stack back at once. Dropping it while standing on it is refused: the stack is leaked and
/// counted, because freeing it would pull the ground away (INV-LIVE). Use [`hand_over`](Self::hand_over) for that.
/// That no *other* CPU runs on it is for the kernel to know: running on a stack means keeping its handle.
pub struct KernelStack<'a, P: Platform> {
    area: &'a StackArea<P>,
    id: StackId,
}

impl<'a, P: Platform> KernelStack<'a, P> {
    pub(crate) const fn new(area: &'a StackArea<P>, id: StackId) -> Self {
        Self { area, id }
    }

    /// The first address above the stack: where an empty stack's pointer stands.
    #[inline]
    #[must_use]
    pub fn top(&self) -> VirtAddr {
        self.area.bounds(self.id.slot).1
    }

    /// The lowest address of the stack.
    #[must_use]
    pub fn bottom(&self) -> VirtAddr {
        self.area.bounds(self.id.slot).0
    }

    /// Which stack it is, for [`StackArea::pin`].
    #[must_use]
    pub const fn id(&self) -> StackId {
        self.id
    }

    /// The area that it belongs to.
    #[must_use]
    pub const fn area(&self) -> &'a StackArea<P> {
        self.area
    }

    /// Sets the word that reports show as this stack's owner.
    pub fn set_owner(&self, owner: usize) {
        if let Some(meta) = self.area.metadata() {
            meta.known_record(self.id.slot).set_owner(owner);
        }
    }

    /// The deepest use so far, in bytes from the top, found by looking for the lowest word that is not zero.
    ///
    /// # Context
    ///
    /// Any. The stack may be in use: the answer is then a moment's.
    #[must_use]
    pub fn watermark(&self) -> usize {
        self.area.measure(self.id.slot)
    }

    /// Gives the stack back as dropping it does, for a caller that has a guard already.
    ///
    /// # Context
    ///
    /// Task or interrupt, under `guard`, which is of this area's platform.
    #[inline]
    pub fn free_in(self, guard: &P::Guard) {
        let stack = ManuallyDrop::new(self);
        stack.area.give_back_in(guard, stack.id.slot);
    }

    /// Hands the stack of a dead task over to this CPU, for the task that runs next to give back.
    ///
    /// # Context
    ///
    /// The dying task, on its stack, under the guard that it holds until its last switch.
    #[inline]
    pub fn hand_over(self, guard: &P::Guard) {
        let stack = ManuallyDrop::new(self);
        stack.area.hand_over(stack.id.slot, guard);
    }

    /// Turns the handle into a word. The stack stays allocated until [`from_raw`](Self::from_raw) makes a handle again.
    #[must_use]
    pub fn into_raw(self) -> RawStack {
        let stack = ManuallyDrop::new(self);
        RawStack(u64::from(stack.id.slot.get()) | u64::from(stack.id.generation) << 32)
    }

    /// Makes the handle again.
    ///
    /// # Safety
    ///
    /// `raw` came from [`into_raw`](Self::into_raw) of a stack of `area`, and no handle was made of it since.
    #[must_use]
    pub unsafe fn from_raw(area: &'a StackArea<P>, raw: RawStack) -> Self {
        Self { area, id: StackId::new(SlotIndex::new(raw.0 as u32), (raw.0 >> 32) as u32) }
    }
}

impl<P: Platform> Drop for KernelStack<'_, P> {
    fn drop(&mut self) {
        self.area.give_back(self.id.slot);
    }
}

impl<P: Platform> fmt::Debug for KernelStack<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelStack").field("id", &self.id).field("bottom", &self.bottom()).finish_non_exhaustive()
    }
}

/// A counted right to read another task's stack.
///
/// Having a `Pin` means that the stack stays mapped, and is not handed to another task, until the pin is dropped. What is
/// in it may change under the reader: its task may be running.
pub struct Pin<'a, P: Platform> {
    area: &'a StackArea<P>,
    slot: SlotIndex,
}

impl<'a, P: Platform> Pin<'a, P> {
    pub(crate) const fn new(area: &'a StackArea<P>, slot: SlotIndex) -> Self {
        Self { area, slot }
    }

    /// The lowest address of the stack.
    #[must_use]
    pub fn bottom(&self) -> VirtAddr {
        self.area.bounds(self.slot).0
    }

    /// The first address above the stack.
    #[must_use]
    pub fn top(&self) -> VirtAddr {
        self.area.bounds(self.slot).1
    }

    /// The word at `addr`, or `None` if it is not an aligned word of the stack.
    #[must_use]
    pub fn word(&self, addr: VirtAddr) -> Option<usize> {
        let inside = addr >= self.bottom() && addr < self.top() && addr.is_aligned(size_of::<usize>());
        // SAFETY: (1) an aligned word inside the stack, whose size is a multiple of a word; (2) the pin keeps it mapped
        // (INV-LIVE); (3) volatile: its task may write it at the same time, and any value read is a possible answer.
        inside.then(|| unsafe { ptr::read_volatile(addr.as_mut_ptr::<usize>()) })
    }

    /// The deepest use so far, in bytes from the top.
    #[must_use]
    pub fn watermark(&self) -> usize {
        self.area.measure(self.slot)
    }
}

impl<P: Platform> Drop for Pin<'_, P> {
    fn drop(&mut self) {
        self.area.unpin(self.slot);
    }
}

impl<P: Platform> fmt::Debug for Pin<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl<P: Platform> StackArea<P> {
    /// The first address of the stack in `slot`, and the first one above it, for whoever has the stack or a pin.
    #[inline]
    pub(crate) fn bounds(&self, slot: SlotIndex) -> (VirtAddr, VirtAddr) {
        let geometry = self.ready_metadata().geometry;
        (geometry.bottom(slot), geometry.top(slot))
    }

    /// Ends the life of a stack and takes it back, unless the caller stands on it: then it is leaked and counted (INV-LIVE).
    #[inline(always)]
    fn give_back_in(&self, guard: &P::Guard, slot: SlotIndex) {
        // Whoever has a stack has seen that the area is ready.
        let record = self.ready_metadata().known_record(slot);
        record.end_life();
        // Between the end of the life and the look at its pins.
        fence(Ordering::SeqCst);
        self.take_back_in(guard, slot, record);
    }

    /// As [`give_back_in`](Self::give_back_in), for a caller that has no guard.
    fn give_back(&self, slot: SlotIndex) {
        let guard = self.platform().enter();
        self.give_back_in(&guard, slot);
    }

    /// Gives a pin back, and the stack with it if it was left to this pin.
    fn unpin(&self, slot: SlotIndex) {
        if self.metadata().is_some_and(|meta| meta.known_record(slot).unpin()) {
            self.take_back(slot);
        }
    }

    #[inline]
    fn hand_over(&self, slot: SlotIndex, guard: &P::Guard) {
        let Ok(here) = self.here(guard) else {
            // The area does not know this CPU, and nobody would come to reap.
            self.leak(slot);
            return;
        };
        here.meta.known_record(slot).end_life();
        let earlier = here.near.dead.replace(slot);
        self.take_back_forgotten(guard, earlier);
    }

    /// Gives back the stack that an earlier task handed over on this CPU, if its successor forgot to reap it.
    pub(crate) fn reap_forgotten(&self) {
        let guard = self.platform().enter();
        let dead = self.here(&guard).ok().and_then(|here| here.near.dead.take());
        self.take_back_forgotten(&guard, dead);
    }

    /// Nobody stands on the stack of a task that died before on this CPU, since we run.
    fn take_back_forgotten(&self, guard: &P::Guard, dead: Option<SlotIndex>) {
        if let Some(slot) = dead {
            // There was no switch since, perhaps.
            fence(Ordering::SeqCst);
            self.take_back_in(guard, slot, self.ready_metadata().known_record(slot));
        }
    }

    /// Gives back the stack that a dead task handed over on this CPU, if there is one.
    ///
    /// Every task calls it first thing when it runs again after a switch.
    ///
    /// # Context
    ///
    /// Task, just switched to. Does not sleep.
    #[inline]
    pub fn reap(&self) {
        let guard = self.platform().enter();
        self.reap_in(&guard);
    }

    /// Gives back as [`reap`](Self::reap) does, for a caller that has a guard already.
    ///
    /// # Context
    ///
    /// Task, just switched to, under `guard`, which is of this area's platform. Does not sleep.
    #[inline]
    pub fn reap_in(&self, guard: &P::Guard) {
        let dead = self.here(guard).ok().and_then(|here| here.near.dead.take());
        if let Some(slot) = dead {
            self.platform().handed_over();
            self.take_back_in(guard, slot, self.ready_metadata().known_record(slot));
        }
    }

    /// Measures the deepest use of `slot` in bytes, and remembers it.
    pub(crate) fn measure(&self, slot: SlotIndex) -> usize {
        let Some(meta) = self.metadata() else { return 0 };
        let (bottom, top) = self.bounds(slot);
        let words = meta.geometry.stack_size() / size_of::<usize>();
        let lowest = (0..words).map(|i| bottom.wrapping_add(i * size_of::<usize>())).find(|addr| {
            // SAFETY: (1) an aligned word of a stack that a handle or a pin keeps mapped; (2) volatile: its task may write.
            unsafe { ptr::read_volatile(addr.as_mut_ptr::<usize>()) != 0 }
        });
        let used = lowest.and_then(|addr| top.offset_from(addr)).unwrap_or(0);
        meta.known_record(slot).raise_watermark(used);
        used
    }
}
