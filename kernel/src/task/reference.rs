//! Where task structs lie, and who keeps them there.
//!
//! ```text
//!   | Task | up to 64 bytes | the vector registers, as XSAVE writes them |
//! ```
//!
//! A struct and its task's vector registers are one object of a slab. Its count is in it. The scheduler has one count from the start of
//! the task until the next task on the CPU has given its stack back; a queue needs none. When the last count goes, the struct goes.

use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use super::{FpuState, NewTask, Registers, Task, TaskStack};
use crate::arch::fpu;
use crate::mm::inject;
use crate::mm::slab::{ALIGN, Slab, Store};
use crate::sync::{AnyLock, Section, VitalLock};

static STRUCTS: Slab = Slab::new(VitalLock::new("task-structs", Store::new()));

/// Where the vector registers begin, in bytes from the struct.
const REGISTERS: usize = size_of::<Task>().next_multiple_of(ALIGN);
const _: () = assert!(ALIGN.is_multiple_of(fpu::AREA_ALIGN) && ALIGN.is_multiple_of(align_of::<Task>()));

/// Says how large the objects are. Once, when the CPU's features are known. False if a frame does not hold one.
pub(crate) fn init() -> bool {
    STRUCTS.set_size(REGISTERS + fpu::area_bytes())
}

/// The lock of the structs' slab.
pub(crate) fn lock() -> &'static dyn AnyLock {
    STRUCTS.lock()
}

/// How many frames the structs take, counted by looking at them.
pub(crate) fn frames() -> usize {
    STRUCTS.frames()
}

/// A task, counted.
///
/// Having one means that the struct is there until it is dropped.
#[derive(Debug)]
pub(crate) struct TaskRef(NonNull<Task>);

// SAFETY: a task is `Send` and `Sync`, and its count is atomic.
unsafe impl Send for TaskRef {}
// SAFETY: as above.
unsafe impl Sync for TaskRef {}

impl TaskRef {
    /// The task that `new` describes, which has not run yet. `None` if there is no memory; what `new` has is given back then.
    #[inline(always)]
    pub(crate) fn new(new: NewTask, section: &Section) -> Option<Self> {
        let (place, registers) = Self::room(section)?;
        // SAFETY: the object is new, large enough and aligned.
        unsafe { place.write(Task::new(new, registers)) };
        Some(Self(place))
    }

    /// The task that stands for the code that already runs on `stack`: see [`Task::idle`]. `None` if there is no memory.
    pub(super) fn idle(stack: TaskStack, section: &Section) -> Option<Self> {
        let (place, registers) = Self::room(section)?;
        // SAFETY: as for `new`.
        unsafe { place.write(Task::idle(stack, registers)) };
        Some(Self(place))
    }

    /// Where a struct is to lie, and where its registers are.
    #[inline(always)]
    fn room(section: &Section) -> Option<(NonNull<Task>, FpuState)> {
        if inject::fails() {
            return None;
        }
        let place = STRUCTS.take(section)?;
        // SAFETY: the object is large enough for both.
        let registers = unsafe { place.add(REGISTERS) };
        // SAFETY: the area is the struct's, as large and aligned as wanted, and used through the state alone.
        let state = unsafe { FpuState::at(registers) };
        Some((place.cast(), state))
    }

    /// The task at `task`, with a count that is somewhere else so far.
    ///
    /// # Safety
    ///
    /// It came from [`into_raw`](Self::into_raw), and that count is used once.
    pub(super) const unsafe fn from_raw(task: NonNull<Task>) -> Self {
        Self(task)
    }

    /// The task, whose count is the caller's to keep.
    pub(super) const fn into_raw(self) -> NonNull<Task> {
        let task = self.0;
        core::mem::forget(self);
        task
    }
}

impl Clone for TaskRef {
    fn clone(&self) -> Self {
        // Relaxed: the struct cannot go meanwhile, for this one's count is there.
        self.count.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl Deref for TaskRef {
    type Target = Task;

    fn deref(&self) -> &Task {
        // SAFETY: there is a count (see the type).
        unsafe { self.0.as_ref() }
    }
}

impl Drop for TaskRef {
    fn drop(&mut self) {
        // Release: what was done with the struct comes before it goes, whoever does that.
        if self.count.fetch_sub(1, Ordering::Release) == 1 {
            // Acquire: pairs with the Release of all others.
            fence(Ordering::Acquire);
            release(self.0);
        }
    }
}

/// Gives back a struct whose last count is gone.
fn release(task: NonNull<Task>) {
    // The struct is a task's or the slab's: nobody is killed in between.
    let section = Section::enter();
    // SAFETY: nobody has a count, and nobody else knows the struct.
    unsafe { task.drop_in_place() };
    // SAFETY: it came from this slab (see `room`), and what was in it was dropped.
    unsafe { STRUCTS.give(task.cast(), &section) };
}

impl Registers {
    /// Writes them to `state`.
    pub(super) fn write_to(self, state: &mut FpuState) {
        match self {
            Self::None => {}
            Self::Initial => state.init(),
            Self::Current => state.save_first(),
        }
    }
}
