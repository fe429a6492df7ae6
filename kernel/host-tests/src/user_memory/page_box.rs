//! Boxes that count themselves, and of which there are none when the test says so.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

thread_local! {
    static FAILS: Cell<bool> = const { Cell::new(false) };
    static ALIVE: Cell<usize> = const { Cell::new(0) };
}

/// Makes new boxes fail, or not.
pub(super) fn let_fail(fails: bool) {
    FAILS.set(fails);
}

/// How many there are.
pub(super) fn alive() -> usize {
    ALIVE.get()
}

#[derive(Debug)]
pub(crate) struct PageBox<T>(Box<T>);

impl<T> PageBox<T> {
    /// As the kernel's.
    pub(crate) unsafe fn new_with(fill: impl FnOnce(*mut T)) -> Option<Self> {
        assert!(size_of::<T>() <= 4096);
        if FAILS.get() {
            return None;
        }
        let mut place = Box::new(MaybeUninit::<T>::uninit());
        fill(place.as_mut_ptr());
        ALIVE.set(ALIVE.get() + 1);
        // SAFETY: `fill` made a value.
        Some(Self(unsafe { place.assume_init() }))
    }
}

impl<T> Deref for PageBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for PageBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Drop for PageBox<T> {
    fn drop(&mut self) {
        ALIVE.set(ALIVE.get() - 1);
    }
}
