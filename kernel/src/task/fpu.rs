//! The vector registers of a task's user mode, saved off the stack: beside the task struct (`reference`).

use core::fmt;
use core::ptr::NonNull;
use core::slice;

use crate::arch::fpu;

/// What a new task's registers hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Registers {
    /// Nothing: it never goes to user mode.
    None,
    /// What a program starts with.
    Initial,
    /// What the CPU's hold, which are the current task's: it is copied.
    Current,
}

/// The area for the registers.
///
/// Having one means that the area is as large and as aligned as the CPU wants it, is used through this alone, and holds a state that
/// can be loaded once [`init`](Self::init) or [`save_first`](Self::save_first) was called.
pub(crate) struct FpuState(NonNull<u8>);

impl FpuState {
    /// The state at `area`.
    ///
    /// # Safety
    ///
    /// The area is [`fpu::area_bytes`] bytes, aligned to [`fpu::AREA_ALIGN`], and is used through the state alone for as long as there is
    /// one.
    pub(super) const unsafe fn at(area: NonNull<u8>) -> Self {
        Self(area)
    }

    /// Begins with what a program starts with.
    pub(crate) fn init(&mut self) {
        // SAFETY: the area is as large as the CPU wants it, is borrowed exclusively, and is not read before it was written.
        let bytes = unsafe { slice::from_raw_parts_mut(self.0.as_ptr(), fpu::area_bytes()) };
        let fits = fpu::init_area(bytes);
        debug_assert!(fits, "an area is large enough");
    }

    /// Back to what a program starts with, in the area and in the CPU's registers.
    pub(crate) fn reset(&mut self) {
        self.init();
        self.restore();
    }

    /// Saves the CPU's registers, into an area that was never written.
    pub(crate) fn save_first(&mut self) {
        // SAFETY: the area is as wanted (see the type).
        unsafe { fpu::clear_header(self.0.as_ptr()) };
        self.save();
    }

    /// Saves the CPU's registers.
    pub(crate) fn save(&mut self) {
        // SAFETY: the area is as wanted (see the type) and borrowed exclusively; callers have interrupts off.
        unsafe { fpu::save(self.0.as_ptr()) };
    }

    /// Copies the CPU's registers to `area`, of [`fpu::area_bytes`] bytes.
    pub(crate) fn copy_to(&mut self, area: &mut [u8]) {
        self.save();
        // SAFETY: the area is as large as the CPU wants it, is borrowed exclusively, and was written.
        area.copy_from_slice(unsafe { slice::from_raw_parts(self.0.as_ptr(), fpu::area_bytes()) });
    }

    /// Loads the CPU's registers from `area`, of [`fpu::area_bytes`] bytes.
    ///
    /// # Safety
    ///
    /// The area is such as can be loaded: what `copy_to` wrote, or what was put right (`FpuImage::accept`).
    pub(crate) unsafe fn load(&mut self, area: &[u8]) {
        // SAFETY: the area is as large as the CPU wants it, and is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.0.as_ptr(), fpu::area_bytes()) }.copy_from_slice(area);
        self.restore();
    }

    /// Loads the CPU's registers.
    pub(crate) fn restore(&self) {
        // SAFETY: the area holds a state that can be loaded (see the type).
        unsafe { fpu::restore(self.0.as_ptr()) };
    }
}

impl fmt::Debug for FpuState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FpuState").finish_non_exhaustive()
    }
}
