//! Each operation, by raw calls.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use libc::{EAGAIN, EFAULT, EINTR, EINVAL, ENOSYS, ETIMEDOUT, c_int};
use vmstack_programs::checks::{Checks, Outcome, child, equal, shared_words, status};

use crate::sys::{
    CMP_REQUEUE, LOCK_PI, PRIVATE, REALTIME, REQUEUE, SOON, WAIT, WAIT_BITSET, WAKE, WAKE_BITSET, WAKE_OP, address,
    error, futex, now, time, wake_until,
};

pub(crate) const CHECKS: &Checks = &[
    ("wait", wait_and_wake),
    ("bits", bits),
    ("requeue", requeue),
    ("wake-op", wake_op),
    ("times", times),
    ("interrupted", interrupted),
    ("shared", shared),
    ("bad", bad),
];

fn wait_and_wake() -> Outcome {
    let word = AtomicU32::new(7);
    equal("another value", futex(&word, WAIT | PRIVATE, 8, 0, 0, 0), error(EAGAIN))?;
    equal("nobody waits", futex(&word, WAKE | PRIVATE, 9, 0, 0, 0), 0)?;
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..5).map(|_| scope.spawn(|| futex(&word, WAIT | PRIVATE, 7, 0, 0, 0))).collect();
        wake_until(3, || futex(&word, WAKE | PRIVATE, 1, 0, 0, 0))?;
        wake_until(2, || futex(&word, WAKE | PRIVATE, 1000, 0, 0, 0))?;
        waiters.into_iter().try_for_each(|waiter| equal("the wait", waiter.join().unwrap_or(-1), 0))
    })
}

fn bits() -> Outcome {
    let word = AtomicU32::new(0);
    thread::scope(|scope| {
        let wait = |bits: u32| futex(&word, WAIT_BITSET | PRIVATE, 0, 0, 0, bits);
        let (first, second) = (scope.spawn(move || wait(1)), scope.spawn(move || wait(6)));
        wake_until(1, || futex(&word, WAKE_BITSET | PRIVATE, 10, 0, 0, 2))?;
        equal("the second", second.join().unwrap_or(-1), 0)?;
        equal("nobody has this bit", futex(&word, WAKE_BITSET | PRIVATE, 10, 0, 0, 8), 0)?;
        wake_until(1, || futex(&word, WAKE | PRIVATE, 10, 0, 0, 0))?;
        equal("the first", first.join().unwrap_or(-1), 0)
    })?;
    equal("no bit", futex(&word, WAIT_BITSET | PRIVATE, 0, 0, 0, 0), error(EINVAL))?;
    equal("no bit", futex(&word, WAKE_BITSET | PRIVATE, 1, 0, 0, 0), error(EINVAL))
}

fn requeue() -> Outcome {
    let (first, second) = (AtomicU32::new(1), AtomicU32::new(2));
    let at_second = address(&second);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| futex(&first, WAIT | PRIVATE, 1, 0, 0, 0));
        }
        let moved = |expected: u32| futex(&first, CMP_REQUEUE | PRIVATE, 0, 4, at_second, expected);
        equal("another value", moved(9), error(EAGAIN))?;
        let begun = Instant::now();
        let mut all = 0;
        while all < 4 && begun.elapsed() < Duration::from_secs(20) {
            all += futex(&first, CMP_REQUEUE | PRIVATE, 0, 4 - all as usize, at_second, 1);
        }
        equal("moved", all, 4)?;
        wake_until(2, || futex(&first, WAKE | PRIVATE, 10, 0, 0, 0))?;
        wake_until(1, || futex(&second, WAKE | PRIVATE, 1, 0, 0, 0))?;
        // One is woken, the others go back to where they came from.
        equal("woken and moved", futex(&second, REQUEUE | PRIVATE, 1, 10, address(&first), 0), 3)?;
        wake_until(2, || futex(&first, WAKE | PRIVATE, 10, 0, 0, 0))
    })
}

fn wake_op() -> Outcome {
    const ADD: u32 = 1;
    const GREATER: u32 = 4;
    const SHIFTED_OR: u32 = 8 | 2;
    let encode =
        |change: u32, compare: u32, operand: u32, with: u32| change << 28 | compare << 24 | operand << 12 | with;
    let (first, second) = (AtomicU32::new(0), AtomicU32::new(5));
    let at_second = address(&second);
    thread::scope(|scope| {
        scope.spawn(|| futex(&first, WAIT | PRIVATE, 0, 0, 0, 0));
        let other = scope.spawn(|| futex(&second, WAIT | PRIVATE, 5, 0, 0, 0));
        thread::sleep(2 * SOON);
        // 5 + 3, and 5 is not greater than 7: only the first word's wake.
        let woken = futex(&first, WAKE_OP | PRIVATE, 1, 1, at_second, encode(ADD, GREATER, 3, 7));
        equal("what was woken", woken, 1)?;
        equal("the word", second.load(SeqCst), 8)?;
        let woken = futex(&first, WAKE_OP | PRIVATE, 1, 1, at_second, encode(SHIFTED_OR, GREATER, 4, 7));
        equal("what was woken", woken, 1)?;
        equal("the word", second.load(SeqCst), 8 | 1 << 4)?;
        equal("the other", other.join().unwrap_or(-1), 0)
    })?;
    equal("no change", futex(&first, WAKE_OP, 1, 1, at_second, encode(7, 0, 0, 0)), error(ENOSYS))
}

fn times() -> Outcome {
    let word = AtomicU32::new(0);
    let timed = |operation: c_int, until: Duration| {
        let (until, begun) = (time(until), Instant::now());
        let answer = futex(&word, operation | PRIVATE, 0, address(&until), 0, u32::MAX);
        (answer, begun.elapsed() >= SOON)
    };
    equal("for a time", timed(WAIT, SOON), (error(ETIMEDOUT), true))?;
    equal("until a time", timed(WAIT_BITSET, now(libc::CLOCK_MONOTONIC) + SOON), (error(ETIMEDOUT), true))?;
    let date = now(libc::CLOCK_REALTIME) + SOON;
    equal("until a date", timed(WAIT_BITSET | REALTIME, date), (error(ETIMEDOUT), true))?;
    equal("until one that is over", timed(WAIT_BITSET, Duration::ZERO), (error(ETIMEDOUT), false))?;
    let bad = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    equal("no time", futex(&word, WAIT, 0, address(&bad), 0, 0), error(EINVAL))?;
    let bad = libc::timespec { tv_sec: -1, tv_nsec: 0 };
    equal("a negative time", futex(&word, WAIT, 0, address(&bad), 0, 0), error(EINVAL))
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: c_int) {
    HANDLED.fetch_add(1, SeqCst);
}

/// Has [`count`] called for ALRM, which comes after a while.
fn alarm(flags: c_int) {
    // SAFETY: all zeros is an action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = count as *const () as usize;
    action.sa_flags = flags;
    // SAFETY: the handler counts, and no more.
    unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
    let soon = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
    let never = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let setting = libc::itimerval { it_interval: never, it_value: soon };
    // SAFETY: reads the setting.
    unsafe { libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const setting, 0) };
}

fn interrupted() -> Outcome {
    let word = AtomicU32::new(0);
    alarm(0);
    equal("without a time", futex(&word, WAIT | PRIVATE, 0, 0, 0, 0), error(EINTR))?;
    alarm(libc::SA_RESTART);
    let until = time(now(libc::CLOCK_MONOTONIC) + 4 * SOON);
    let answer = futex(&word, WAIT_BITSET | PRIVATE, 0, address(&until), 0, u32::MAX);
    equal("with one, and a handler", answer, error(EINTR))?;
    alarm(libc::SA_RESTART);
    let answer = thread::scope(|scope| {
        scope.spawn(|| {
            while HANDLED.load(SeqCst) < 3 {
                thread::yield_now();
            }
            thread::sleep(SOON);
            wake_until(1, || futex(&word, WAKE | PRIVATE, 1, 0, 0, 0))
        });
        futex(&word, WAIT | PRIVATE, 0, 0, 0, 0)
    });
    equal("made again", answer, 0)
}

fn shared() -> Outcome {
    let words = shared_words()?;
    let child = child(|| i32::from(futex(&words[0], WAIT, 0, 0, 0, 0) != 0))?;
    wake_until(1, || futex(&words[0], WAKE, 1, 0, 0, 0))?;
    equal("the child", status(child)?, 0)
}

fn bad() -> Outcome {
    let at = |address: usize| std::ptr::without_provenance::<AtomicU32>(address);
    let word = AtomicU32::new(0);
    for nowhere in [0x10, 0xffff_8000_0000_0000, 0x8000_0000_0000_0000, usize::MAX - 3] {
        equal("wait", futex(at(nowhere), WAIT, 0, 0, 0, 0), error(EFAULT))?;
        equal("a time", futex(&word, WAIT, 0, nowhere, 0, 0), error(EFAULT))?;
    }
    equal("between words", futex(at(address(&word) + 1), WAIT, 0, 0, 0, 0), error(EINVAL))?;
    equal("between words", futex(at(address(&word) + 2), WAKE, 1, 0, 0, 0), error(EINVAL))?;
    equal("no operation", futex(&word, 77, 0, 0, 0, 0), error(ENOSYS))?;
    equal("a wake by date", futex(&word, WAKE | REALTIME, 0, 0, 0, 0), error(ENOSYS))?;
    // Here, and not on Linux, there is no priority inheritance.
    let inherits = futex(&word, LOCK_PI, 0, 0, 0, 0);
    if inherits == 0 { Ok(()) } else { equal("priority inheritance", inherits, error(ENOSYS)) }
}
