//! A pointer that is read without a lock: it owns one count of what it leads to, until a grace period after it leads elsewhere.

use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::{Head, ReadGuard, call};

/// What can be published: it has a head in it, and so waits in one place at a time.
///
/// # Safety
///
/// `OFFSET` is the distance, in bytes, of a [`Head`] from the start of the value, which is used for nothing but [`Published`].
pub(crate) unsafe trait Publish: Send + Sync + 'static {
    const OFFSET: usize;
}

/// A place that leads to a `T` or nowhere.
///
/// A value that was taken out is given up for good: it is not published again, there or elsewhere.
pub(crate) struct Published<T: Publish> {
    value: AtomicPtr<T>,
    owns: PhantomData<Arc<T>>,
}

impl<T: Publish> Published<T> {
    pub(crate) const fn nothing() -> Self {
        Self { value: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    /// What is there.
    pub(crate) fn get<'a>(&self, _guard: &'a ReadGuard) -> Option<&'a T> {
        // Acquire: pairs with the Release in `publish`.
        let value = self.value.load(Ordering::Acquire);
        // SAFETY: null, or a pointer from `Arc::into_raw`; the count that goes with it is given up only after a grace period, which
        // the guard's section holds up.
        unsafe { value.as_ref() }
    }

    /// What is there, with a count of its own.
    pub(crate) fn get_counted(&self, guard: &ReadGuard) -> Option<Arc<T>> {
        let value = ptr::from_ref(self.get(guard)?);
        // SAFETY: as in `get`: there is a count for as long as the section lasts, so it can be raised.
        unsafe { Arc::increment_strong_count(value) };
        // SAFETY: of a pointer from `Arc::into_raw`, with the count that was raised just now.
        Some(unsafe { Arc::from_raw(value) })
    }

    /// Publishes `value`, if nothing is there; gives it back if something is.
    pub(crate) fn publish(&self, value: Arc<T>) -> Result<(), Arc<T>> {
        let raw = Arc::into_raw(value).cast_mut();
        // Release: pairs with the Acquire in `get`.
        let published = self.value.compare_exchange(ptr::null_mut(), raw, Ordering::Release, Ordering::Relaxed);
        // SAFETY: it was not taken: it is the caller's again.
        published.map(|_| ()).map_err(|_| unsafe { Arc::from_raw(raw) })
    }

    /// Takes back what is there. Its count is given up after a grace period.
    pub(crate) fn retire(&self) -> bool {
        let value = self.value.swap(ptr::null_mut(), Ordering::AcqRel);
        if value.is_null() {
            return false;
        }
        // SAFETY: `OFFSET` is that of a head in the value, by the trait's promise.
        let head = unsafe { value.byte_add(T::OFFSET) }.cast::<Head>();
        // SAFETY: the value has the count that `give_up` gives up.
        let head = unsafe { &*head };
        // SAFETY: the value was unpublished just now, and keeps the count that `give_up` gives up.
        unsafe { call(head, give_up::<T>) };
        true
    }
}

/// Gives up the count of a value that was published.
///
/// # Safety
///
/// As for [`Callback`](super::Callback): `head` is that of a `T` with a count that is nobody's any more.
unsafe fn give_up<T: Publish>(head: *const Head) {
    // SAFETY: the head lies so far from the start of its value.
    let value = unsafe { head.byte_sub(T::OFFSET) }.cast::<T>();
    // SAFETY: the caller's promise.
    drop(unsafe { Arc::from_raw(value) });
}

impl<T: Publish> Drop for Published<T> {
    fn drop(&mut self) {
        self.retire();
    }
}

impl<T: Publish> fmt::Debug for Published<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Published").field(&self.value).finish()
    }
}
