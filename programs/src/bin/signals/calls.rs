//! Calls that signals interrupt, and calls that wait for them.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use libc::{SIG_BLOCK, SIGALRM, SIGUSR1, SIGUSR2, c_int, c_void, siginfo_t};
use vmstack_programs::checks::{Checks, Outcome, equal, expect};
use vmstack_programs::{spawn, wait};

use crate::sys;

pub(crate) const CHECKS: &Checks = &[
    ("restart", restart),
    ("sleep", sleep),
    ("suspend", suspend),
    ("pause", pause),
    ("wait", wait_for),
    ("queue", queue),
    ("queue-full", queue_full),
    ("timer", timer),
    ("alarm", alarm),
];

static COUNT: AtomicU32 = AtomicU32::new(0);
const SOON: Duration = Duration::from_millis(50);
const MUCH_LATER: Duration = Duration::from_secs(20);

extern "C" fn count(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    COUNT.fetch_add(1, SeqCst);
}

/// Waits for a child that ends after `time`, and says with which error.
fn wait_interrupted(time: Duration) -> c_int {
    let child = spawn(|| {
        thread::sleep(time);
        0
    });
    let Ok(child) = child else { return -1 };
    // SAFETY: nothing is written.
    let ended = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    let error = if ended == child { 0 } else { sys::errno() };
    sys::kill(child, libc::SIGKILL);
    let _gone = wait(child);
    error
}

fn restart() -> Outcome {
    sys::handle(SIGALRM, count, libc::SA_RESTART);
    sys::timer(SOON, Duration::ZERO);
    equal("a wait that is made again", wait_interrupted(4 * SOON), 0)?;
    equal("handlers", COUNT.load(SeqCst), 1)?;
    sys::handle(SIGALRM, count, 0);
    sys::timer(SOON, Duration::ZERO);
    equal("a wait that is not", wait_interrupted(MUCH_LATER), libc::EINTR)?;
    equal("handlers", COUNT.load(SeqCst), 2)
}

fn sleep() -> Outcome {
    sys::handle(SIGALRM, count, libc::SA_RESTART);
    sys::timer(SOON, Duration::ZERO);
    let long = libc::timespec { tv_sec: 20, tv_nsec: 0 };
    let mut rest = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both are there.
    let slept = unsafe { libc::nanosleep(&raw const long, &raw mut rest) };
    equal("what it answers", (slept, sys::errno()), (-1, libc::EINTR))?;
    expect(rest.tv_sec == 19 && rest.tv_nsec > 0, "what is left of 20 seconds")?;
    let before = Instant::now();
    thread::sleep(SOON);
    expect(before.elapsed() >= SOON, "it slept too short")
}

fn suspend() -> Outcome {
    let before = sys::mask(SIG_BLOCK, &[SIGALRM, SIGUSR1]);
    sys::handle(SIGALRM, count, 0);
    sys::timer(SOON, Duration::ZERO);
    equal("sigsuspend", sys::suspend(&before).raw_os_error(), Some(libc::EINTR))?;
    equal("handlers", COUNT.load(SeqCst), 1)?;
    let now = sys::mask(SIG_BLOCK, &[]);
    expect(sys::has(&now, SIGALRM) && sys::has(&now, SIGUSR1), "the mask is not what it was")?;
    sys::raise(SIGALRM);
    sys::suspend(&before);
    equal("one that waited already", COUNT.load(SeqCst), 2)
}

fn pause() -> Outcome {
    sys::handle(SIGALRM, count, libc::SA_RESTART);
    sys::timer(SOON, Duration::ZERO);
    // SAFETY: only waits.
    let answer = unsafe { libc::pause() };
    equal("pause", (answer, sys::errno()), (-1, libc::EINTR))
}

fn wait_for() -> Outcome {
    sys::mask(SIG_BLOCK, &[SIGUSR1, SIGUSR2, SIGALRM]);
    sys::queue(sys::process_id(), SIGUSR2, 77);
    let found = sys::wait_for(&[SIGUSR1, SIGUSR2], MUCH_LATER).map_err(|error| error.to_string())?;
    equal("one that was there", found, (SIGUSR2, 77))?;
    sys::timer(SOON, Duration::ZERO);
    let found = sys::wait_for(&[SIGALRM], MUCH_LATER).map_err(|error| error.to_string())?;
    equal("one that came", found.0, SIGALRM)?;
    let before = Instant::now();
    let none = sys::wait_for(&[SIGUSR1], SOON).map_err(|error| error.raw_os_error());
    equal("none", none, Err(Some(libc::EAGAIN)))?;
    expect(before.elapsed() >= SOON, "it waited too short")
}

fn queue() -> Outcome {
    let (low, high) = (libc::SIGRTMIN(), libc::SIGRTMIN() + 1);
    sys::mask(SIG_BLOCK, &[low, high, SIGUSR1]);
    let me = sys::process_id();
    for (signal, value) in [(high, 1), (low, 2), (high, 3), (low, 4), (SIGUSR1, 5), (SIGUSR1, 6)] {
        expect(sys::queue(me, signal, value), "sigqueue")?;
    }
    let mut found = Vec::new();
    while let Ok(next) = sys::wait_for(&[low, high, SIGUSR1], Duration::ZERO) {
        found.push(next);
    }
    equal("what came", found, vec![(SIGUSR1, 5), (low, 2), (low, 4), (high, 1), (high, 3)])
}

fn queue_full() -> Outcome {
    let signal = libc::SIGRTMIN();
    sys::mask(SIG_BLOCK, &[signal]);
    let me = sys::process_id();
    let limit = libc::rlimit { rlim_cur: 200, rlim_max: 200 };
    // On Linux: else there is room for thousands.
    // SAFETY: reads the limit.
    unsafe { libc::setrlimit(libc::RLIMIT_SIGPENDING, &raw const limit) };
    let queued = (0..100_000).take_while(|&value| sys::queue(me, signal, value)).count();
    equal("the error when it is full", sys::errno(), libc::EAGAIN)?;
    expect((100..10_000).contains(&queued), "how many there was room for")?;
    expect(sys::raise(signal), "kill is not bound by it")?;
    let all = (0..queued).all(|value| sys::wait_for(&[signal], Duration::ZERO).is_ok_and(|found| found.1 == value));
    expect(all, "the queued ones, in their order")
}

fn timer() -> Outcome {
    sys::handle(SIGALRM, count, libc::SA_RESTART);
    let before = Instant::now();
    sys::timer(SOON, SOON);
    let unblocked = sys::mask(SIG_BLOCK, &[SIGALRM]);
    while COUNT.load(SeqCst) < 4 {
        sys::suspend(&unblocked);
    }
    expect(before.elapsed() >= 4 * SOON, "four periods were too short")?;
    sys::timer(Duration::ZERO, Duration::ZERO);
    thread::sleep(2 * SOON);
    expect(COUNT.load(SeqCst) <= 5, "it goes on after it was stopped")
}

fn alarm() -> Outcome {
    sys::handle(SIGALRM, count, 0);
    // SAFETY: there is a handler.
    unsafe { libc::alarm(40) };
    // SAFETY: as above.
    let left = unsafe { libc::alarm(1) };
    expect((39..=40).contains(&left), "what was left of 40 seconds")?;
    thread::sleep(Duration::from_millis(1500));
    equal("handlers", COUNT.load(SeqCst), 1)
}
