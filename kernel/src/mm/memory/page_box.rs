//! A value in a frame of its own: for what grows with a program's wishes, so that the heap need not.

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use vmstack::PhysAddr;

use crate::arch::layout::{PAGE_SIZE, direct_map_to_phys, phys_to_virt};
use crate::mm::frames;

/// Owns a frame with a `T` in it.
pub(crate) struct PageBox<T>(NonNull<T>);

// SAFETY: it owns the value, as a `Box` does.
unsafe impl<T: Send> Send for PageBox<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for PageBox<T> {}

impl<T> PageBox<T> {
    /// A frame in which `fill` makes a value, or `None` if there is no frame.
    ///
    /// # Safety
    ///
    /// `fill` leaves a value where it is told to.
    pub(crate) unsafe fn new_with(fill: impl FnOnce(*mut T)) -> Option<Self> {
        const { assert!(size_of::<T>() <= PAGE_SIZE && align_of::<T>() <= PAGE_SIZE) };
        let frame = frames::take(0)?;
        let place = phys_to_virt(frame).as_mut_ptr::<T>();
        fill(place);
        NonNull::new(place).map(Self)
    }

    fn frame(&self) -> PhysAddr {
        direct_map_to_phys(vmstack::VirtAddr::of(self.0.as_ptr()))
    }
}

impl<T> Deref for PageBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the frame is owned, shown by the direct map, and holds a value.
        unsafe { self.0.as_ref() }
    }
}

impl<T> DerefMut for PageBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, borrowed exclusively.
        unsafe { self.0.as_mut() }
    }
}

impl<T> Drop for PageBox<T> {
    fn drop(&mut self) {
        // SAFETY: the value is owned and not used again.
        unsafe { self.0.drop_in_place() };
        frames::give(self.frame(), 0);
    }
}

impl<T: fmt::Debug> fmt::Debug for PageBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
