//! Whether a file has something to read or room to write, and waiting for files.
//!
//! A file that has news announces it to its own event, for those who read or write it, and to one event for everybody who waits for
//! several files. There nothing is registered: who waits looks at all its files again. So a task that is killed while it waits is
//! on nobody's list (INV-PRIVATE).

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::arch::clock;
use crate::sync::Section;
use crate::syscall::Errno;
use crate::task::kept::{self, Keep};
use crate::task::sched::TICKS_PER_SECOND;
use crate::task::wait::Event;
use crate::task::{Wait, Woken};

/// What a file is ready for, in `poll`'s bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ready(pub(crate) u16);

impl Ready {
    pub(crate) const NOTHING: Self = Self(0);
    pub(crate) const READ: Self = Self(0x41);
    pub(crate) const WRITE: Self = Self(0x104);
    pub(crate) const ERROR: Self = Self(0x8);
    pub(crate) const HANG_UP: Self = Self(0x10);
    pub(crate) const INVALID: Self = Self(0x20);

    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This, if it `is` so.
    pub(crate) const fn when(self, is: bool) -> Self {
        if is { self } else { Self::NOTHING }
    }

    /// What of this was asked for by `wanted`; errors and ends are told unasked.
    pub(crate) const fn asked(self, wanted: u16) -> Self {
        Self(self.0 & (wanted | Self::ERROR.0 | Self::HANG_UP.0 | Self::INVALID.0))
    }

    pub(crate) const fn is_something(self) -> bool {
        self.0 != 0
    }
}

/// Between two looks at what nobody announces, in nanoseconds.
pub(crate) const TICK: u64 = clock::SECOND / TICKS_PER_SECOND;

/// Some file has news.
static NEWS: Event = Event::new();
/// Tasks that wait for several files.
static WAITERS: AtomicUsize = AtomicUsize::new(0);

/// Says that a file has news: to `own`, its event, and to those who wait for several.
pub(crate) fn announce(own: &Event) {
    own.announce();
    if WAITERS.load(Ordering::SeqCst) != 0 {
        NEWS.announce();
    }
}

/// Counts a waiter, for as long as it lives.
#[derive(Debug)]
struct Waiter;

impl Waiter {
    fn new() -> Self {
        WAITERS.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Keep for Waiter {}

impl Drop for Waiter {
    fn drop(&mut self) {
        WAITERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits until `look` finds something, a signal comes (then the call is to be made again), or it is not to `wait` at all.
pub(crate) fn wait_for<T>(
    event: &Event,
    wait: bool,
    mut look: impl FnMut() -> Option<Result<T, Errno>>,
) -> Result<T, Errno> {
    if !wait {
        return look().unwrap_or(Err(Errno::AGAIN));
    }
    let interruptible = Wait { interruptible: true, ..Wait::FOR_EVER };
    event.wait_in(&interruptible, look).unwrap_or(Err(Errno::RESTART))
}

/// Waits until `look` finds something among several files, at most until `until`: then what is found last counts, whatever it is.
///
/// # Errors
///
/// A signal came.
pub(crate) fn wait_for_any<T>(until: Option<u64>, mut look: impl FnMut() -> Option<T>) -> Result<Option<T>, Errno> {
    // Nobody is killed between the count and the list that has it.
    let section = Section::enter();
    let _waiter = kept::keep(&"waiter", Waiter::new(), &section);
    drop(section);
    let wait = Wait { until, interruptible: true, ..Wait::FOR_EVER };
    match NEWS.wait_in(&wait, &mut look) {
        Ok(found) => Ok(Some(found)),
        Err(Woken::Interrupted) => Err(Errno::RESTART_TIMED),
        Err(_) => Ok(look()),
    }
}

/// Lets a tick go by, for what nobody announces.
///
/// # Errors
///
/// A signal came.
pub(crate) fn nap() -> Result<(), Errno> {
    static NOBODY: Event = Event::new();
    let until = Some(clock::now() + TICK);
    let wait = Wait { until, interruptible: true, ..Wait::FOR_EVER };
    match NOBODY.wait_in(&wait, || None::<()>) {
        Err(Woken::Interrupted) => Err(Errno::RESTART),
        _ => Ok(()),
    }
}
