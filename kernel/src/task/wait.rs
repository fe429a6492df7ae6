//! Events: what tasks wait for, and others announce.
//!
//! Nothing is queued here. A waiter notes the event's number before it looks for what it wants; whoever brings that about raises the
//! number and wakes the parking lot. So a task that is killed while it waits, or while it announces, leaves nothing behind
//! (INV-PRIVATE), and there is no lock to wedge.

use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::{Wait, Woken, sched};

/// Something that happens from time to time.
#[derive(Debug)]
pub(crate) struct Event {
    happened: AtomicUsize,
}

impl Event {
    pub(crate) const fn new() -> Self {
        Self { happened: AtomicUsize::new(0) }
    }

    fn key(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    /// Waits until `ready` gives something. It is asked again each time the event happened.
    pub(crate) fn wait_for<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        loop {
            // Before asking: what happens after the question is seen in the number, or wakes us. SeqCst, here and below: the number
            // and what is asked about are seen in one order.
            let seen = self.happened.load(Ordering::SeqCst);
            if let Some(value) = ready() {
                return value;
            }
            sched::park(self.key(), || self.happened.load(Ordering::SeqCst) == seen);
        }
    }

    /// As [`wait_for`](Self::wait_for), in the way that `wait` says.
    ///
    /// # Errors
    ///
    /// The time was over, or a signal came.
    pub(crate) fn wait_in<T>(&self, wait: &Wait, mut ready: impl FnMut() -> Option<T>) -> Result<T, Woken> {
        loop {
            let seen = self.happened.load(Ordering::SeqCst);
            if let Some(value) = ready() {
                return Ok(value);
            }
            match sched::park_for(self.key(), wait, || self.happened.load(Ordering::SeqCst) == seen) {
                Woken::Called => {}
                woken => return Err(woken),
            }
        }
    }

    /// How often it happened.
    pub(crate) fn times(&self) -> usize {
        self.happened.load(Ordering::SeqCst)
    }

    /// Makes everybody who waits ask again.
    pub(crate) fn announce(&self) {
        self.happened.fetch_add(1, Ordering::SeqCst);
        sched::unpark_all(self.key());
    }
}
