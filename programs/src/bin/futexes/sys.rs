//! The call that the checks make, and what it says.

use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::{Duration, Instant};

use libc::{c_int, c_long};
use vmstack_programs::checks::{Outcome, equal};

/// Linux's numbers.
pub(crate) const WAIT: c_int = 0;
pub(crate) const WAKE: c_int = 1;
pub(crate) const REQUEUE: c_int = 3;
pub(crate) const CMP_REQUEUE: c_int = 4;
pub(crate) const WAKE_OP: c_int = 5;
pub(crate) const LOCK_PI: c_int = 6;
pub(crate) const WAIT_BITSET: c_int = 9;
pub(crate) const WAKE_BITSET: c_int = 10;
pub(crate) const PRIVATE: c_int = 128;
pub(crate) const REALTIME: c_int = 256;

pub(crate) const SOON: Duration = Duration::from_millis(50);

/// Calls `futex`: what it answers, or the error's number, negative.
pub(crate) fn futex(
    word: *const AtomicU32,
    operation: c_int,
    value: u32,
    time: usize,
    second: usize,
    third: u32,
) -> c_long {
    // SAFETY: the kernel uses words and times that are there, or answers that they are not.
    let answer = unsafe { libc::syscall(libc::SYS_futex, word, operation, value, time, second, third) };
    if answer < 0 { -c_long::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { answer }
}

pub(crate) fn error(number: c_int) -> c_long {
    -c_long::from(number)
}

pub(crate) fn address<T>(place: &T) -> usize {
    std::ptr::from_ref(place).expose_provenance()
}

pub(crate) fn time(time: Duration) -> libc::timespec {
    libc::timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: i64::from(time.subsec_nanos()) }
}

/// What a clock shows.
pub(crate) fn now(clock: c_int) -> Duration {
    let mut now = time(Duration::ZERO);
    // SAFETY: writes the time.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
}

/// Asks until `wake` has woken so many.
pub(crate) fn wake_until(count: c_long, mut wake: impl FnMut() -> c_long) -> Outcome {
    let (mut woken, begun) = (0, Instant::now());
    while woken < count {
        woken += wake();
        if begun.elapsed() > Duration::from_secs(20) {
            return Err(format!("{woken} of {count} were woken"));
        }
        thread::yield_now();
    }
    equal("woken", woken, count)
}
