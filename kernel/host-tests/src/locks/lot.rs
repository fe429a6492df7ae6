//! A parking lot for two: the victim parks or wakes, and the other one does.
//!
//! As in the kernel, a wake waits until who is about to park has parked: both are under the run queue's lock.

use std::cell::Cell;

use super::word;

thread_local! {
    static PARKING: Cell<bool> = const { Cell::new(false) };
    static PARKED: Cell<usize> = const { Cell::new(0) };
    static LATE_WAKE: Cell<bool> = const { Cell::new(false) };
}

/// Puts somebody there who is parked on `key`.
pub(crate) fn somebody_parks(key: usize) {
    PARKED.set(key);
}

/// Whether nobody is parked.
pub(crate) fn is_empty() -> bool {
    PARKED.get() == 0
}

/// Forgets what earlier runs left.
pub(crate) fn clear() {
    PARKING.set(false);
    PARKED.set(0);
    LATE_WAKE.set(false);
}

/// The victim parks. The other one acts then, if it has not: who is not woken by it stays for ever.
pub(crate) fn park(key: usize, still_wanted: impl FnOnce() -> bool) {
    assert!(is_empty(), "both are parked");
    PARKING.set(true);
    let wanted = still_wanted();
    PARKING.set(false);
    if wanted {
        PARKED.set(key);
    }
    if LATE_WAKE.take() {
        unpark_all(key);
    }
    word::act_now();
    assert!(is_empty(), "parked for ever");
}

pub(crate) fn unpark_all(key: usize) {
    if PARKING.get() {
        LATE_WAKE.set(true);
    } else if PARKED.get() == key {
        PARKED.set(0);
    }
}
