//! Announcements of memory pressure, which every CPU answers once.
//!
//! A CPU's magazines are its own, so nobody else can empty them. It is told to, by a number that it compares with the last one that it
//! has answered, whenever it leaves its fast path anyway.
//!
//! Contexts: any.

use crate::sync::{AtomicU32, Ordering};

/// How often memory pressure was announced, modulo 2^32.
#[derive(Debug)]
pub struct Pressure(AtomicU32);

#[cfg(not(all(loom, test)))]
impl Default for Pressure {
    fn default() -> Self {
        Self::new()
    }
}

impl Pressure {
    /// With nothing announced yet.
    #[cfg(not(all(loom, test)))]
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    #[cfg(all(loom, test))]
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Tells all CPUs to give back what they keep.
    pub fn announce(&self) {
        // Release: pairs with the Acquire below: whoever answers sees what led to the announcement.
        self.0.fetch_add(1, Ordering::Release);
    }

    /// The last announcement, if it is not the one that was `answered` last.
    #[inline]
    #[must_use]
    pub fn since(&self, answered: u32) -> Option<u32> {
        let announced = self.0.load(Ordering::Acquire);
        (announced != answered).then_some(announced)
    }
}

/// Models of announcements and answers at the same time, checked by loom in every order (`--cfg loom`).
#[cfg(all(loom, test))]
mod models;
