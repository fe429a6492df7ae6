//! Which machine an address belongs to: tables that the signal handler reads without a lock, one of stack areas and one of vmallocs.
//!
//! An entry is one of them. A reader announces itself on the entry before it looks, and whoever takes the entry away
//! clears it first and then waits until no reader is left: so an area that the handler has in hand is not dropped. The
//! reader never waits (INV-FAULT); the wait is bounded by the time of one handler.

use core::fmt;
use core::hint;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use std::sync::Arc;

use vmstack::{StackArea, VirtAddr, VirtRange};
use vmstack_vmalloc::Vmalloc;

use crate::mapped::Mapped;
use crate::paged::Paged;
use crate::platform::Hosted;

/// How many machines a process can have at a time.
pub(crate) const MACHINES: usize = 64;

struct Entry<T> {
    claimed: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    /// Null while there is no area: written last, cleared first.
    area: AtomicPtr<T>,
    readers: AtomicUsize,
}

/// Every one of a kind in this process.
pub(crate) struct Registry<T: 'static>([Entry<T>; MACHINES]);

/// The stack areas.
pub(crate) static STACKS: Registry<StackArea<Hosted>> = Registry([const { Entry::new() }; MACHINES]);
/// The vmallocs.
pub(crate) static AREAS: Registry<Vmalloc<Paged<Mapped>>> = Registry([const { Entry::new() }; MACHINES]);

impl<T> Entry<T> {
    const fn new() -> Self {
        Self {
            claimed: AtomicBool::new(false),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            area: AtomicPtr::new(ptr::null_mut()),
            readers: AtomicUsize::new(0),
        }
    }

    fn holds(&self, addr: VirtAddr) -> bool {
        (self.start.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed)).contains(&addr.get())
    }

    /// Calls `look` with the area, if there is one and `addr` is in it.
    fn read<R>(&self, addr: VirtAddr, look: impl FnOnce(&T) -> R) -> Option<R> {
        // SeqCst, here and in `drop`: either the reader sees that the area is gone, or the other sees the reader.
        self.readers.fetch_add(1, Ordering::SeqCst);
        let area = self.area.load(Ordering::SeqCst);
        // SAFETY: not null, so it was registered and not taken away when we had announced ourselves: its owner waits.
        let area = unsafe { area.as_ref() };
        let seen = area.filter(|_| self.holds(addr)).map(look);
        self.readers.fetch_sub(1, Ordering::SeqCst);
        seen
    }
}

/// An area's place in a table. Dropping it takes the area out.
pub(crate) struct Registration<T: 'static> {
    entry: &'static Entry<T>,
    /// Alive for as long as the handler may look.
    _area: Arc<T>,
}

impl<T: Sync> Registry<T> {
    /// Makes `area`, which owns `range`, known to the signal handler, if there is a place left.
    pub(crate) fn add(&'static self, range: VirtRange, area: Arc<T>) -> Option<Registration<T>> {
        let claim = |entry: &&Entry<T>| !entry.claimed.swap(true, Ordering::AcqRel);
        let entry = self.0.iter().find(claim)?;
        entry.start.store(range.start().get(), Ordering::Relaxed);
        entry.end.store(range.end().get(), Ordering::Relaxed);
        // Publishes the bounds too.
        entry.area.store(Arc::as_ptr(&area).cast_mut(), Ordering::SeqCst);
        Some(Registration { entry, _area: area })
    }

    /// Calls `look` with the area that `addr` belongs to, if any does. Any context, the fault path included.
    pub(crate) fn with_owner<R>(&self, addr: VirtAddr, mut look: impl FnMut(&T) -> R) -> Option<R> {
        self.0.iter().find_map(|entry| entry.read(addr, &mut look))
    }
}

impl<T> Drop for Registration<T> {
    fn drop(&mut self) {
        self.entry.area.store(ptr::null_mut(), Ordering::SeqCst);
        while self.entry.readers.load(Ordering::SeqCst) != 0 {
            hint::spin_loop();
        }
        self.entry.claimed.store(false, Ordering::Release);
    }
}

impl<T> fmt::Debug for Registration<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").finish_non_exhaustive()
    }
}
