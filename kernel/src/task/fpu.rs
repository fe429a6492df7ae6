//! The vector registers of a task's user mode, saved off the stack.

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;
use core::slice;

use crate::arch::fpu;

/// An area for the registers, or nothing for a task that never goes to user mode.
///
/// Having one with an area means that it is as large and as aligned as the CPU wants it, and holds a state that can be loaded.
pub(crate) struct FpuState(Option<NonNull<u8>>);

impl FpuState {
    /// For a task that stays in the kernel.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// What a program starts with, or `None` if there is no memory.
    pub(crate) fn initial() -> Option<Self> {
        let mut state = Self::zeroed()?;
        fpu::init_area(state.bytes()?).then_some(state)
    }

    /// Back to what a program starts with, in the area and in the CPU's registers.
    pub(crate) fn reset(&mut self) {
        if self.bytes().is_some_and(fpu::init_area) {
            self.restore();
        }
    }

    /// A copy of this one, for a forked task, or `None` if there is no memory.
    pub(crate) fn duplicate(&mut self) -> Option<Self> {
        let mut copy = Self::zeroed()?;
        copy.bytes()?.copy_from_slice(self.bytes()?);
        Some(copy)
    }

    fn layout() -> Option<Layout> {
        Layout::from_size_align(fpu::area_bytes(), fpu::AREA_ALIGN).ok()
    }

    fn zeroed() -> Option<Self> {
        // SAFETY: the area's size is at least that of FXSAVE's, 512 bytes.
        NonNull::new(unsafe { alloc_zeroed(Self::layout()?) }).map(|area| Self(Some(area)))
    }

    fn bytes(&mut self) -> Option<&mut [u8]> {
        // SAFETY: the area was allocated with this size, zeroed, and is borrowed exclusively.
        self.0.map(|area| unsafe { slice::from_raw_parts_mut(area.as_ptr(), fpu::area_bytes()) })
    }

    /// Saves the CPU's registers.
    pub(crate) fn save(&mut self) {
        if let Some(area) = self.0 {
            // SAFETY: the area is as wanted (see the type) and borrowed exclusively; callers have interrupts off.
            unsafe { fpu::save(area.as_ptr()) };
        }
    }

    /// Loads the CPU's registers.
    pub(crate) fn restore(&self) {
        if let Some(area) = self.0 {
            // SAFETY: the area holds a state that can be loaded (see the type).
            unsafe { fpu::restore(area.as_ptr()) };
        }
    }
}

impl Drop for FpuState {
    fn drop(&mut self) {
        if let (Some(area), Some(layout)) = (self.0, Self::layout()) {
            // SAFETY: it was allocated with this layout.
            unsafe { dealloc(area.as_ptr(), layout) };
        }
    }
}

impl fmt::Debug for FpuState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FpuState").field(&self.0.is_some()).finish()
    }
}
