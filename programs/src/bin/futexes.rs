//! Shows that futexes work as on Linux: each operation by raw calls, what the C library and Rust's library build on them, and what a
//! thread leaves behind when it ends.
//!
//! `futexes`, or `futexes NAME...` for some of the checks. Prints `fact futexes.NAME 1`, or 0 and then why. Exit status: 0 all is as
//! it should be, 1 something is not.

use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use libc::{EAGAIN, EFAULT, EINTR, EINVAL, ENOSYS, ETIMEDOUT, c_int, c_long};
use vmstack_programs::{spawn, wait};

/// What a check found wrong.
type Outcome = Result<(), String>;

/// Checks, with their names.
type Checks = [(&'static str, fn() -> Outcome)];

const CHECKS: &Checks = &[
    ("wait", wait_and_wake),
    ("bits", bits),
    ("requeue", requeue),
    ("wake-op", wake_op),
    ("times", times),
    ("interrupted", interrupted),
    ("shared", shared),
    ("robust", robust),
    ("robust-process", robust_process),
    ("robust-bad", robust_bad),
    ("cleared", cleared),
    ("mutex", mutex),
    ("condition", condition),
    ("locks", locks),
    ("bad", bad),
];

/// Linux's numbers.
const WAIT: c_int = 0;
const WAKE: c_int = 1;
const REQUEUE: c_int = 3;
const CMP_REQUEUE: c_int = 4;
const WAKE_OP: c_int = 5;
const LOCK_PI: c_int = 6;
const WAIT_BITSET: c_int = 9;
const WAKE_BITSET: c_int = 10;
const PRIVATE: c_int = 128;
const REALTIME: c_int = 256;

const SOON: Duration = Duration::from_millis(50);

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Outcome {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?}, not {wanted:?}")) }
}

/// Calls `futex`: what it answers, or the error's number, negative.
fn futex(word: *const AtomicU32, operation: c_int, value: u32, time: usize, second: usize, third: u32) -> c_long {
    // SAFETY: the kernel uses words and times that are there, or answers that they are not.
    let answer = unsafe { libc::syscall(libc::SYS_futex, word, operation, value, time, second, third) };
    if answer < 0 { -c_long::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { answer }
}

fn error(number: c_int) -> c_long {
    -c_long::from(number)
}

fn address<T>(place: &T) -> usize {
    std::ptr::from_ref(place).expose_provenance()
}

fn time(time: Duration) -> libc::timespec {
    libc::timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: i64::from(time.subsec_nanos()) }
}

/// What a clock shows.
fn now(clock: c_int) -> Duration {
    let mut now = time(Duration::ZERO);
    // SAFETY: writes the time.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
}

/// Asks until `wake` has woken so many.
fn wake_until(count: c_long, mut wake: impl FnMut() -> c_long) -> Outcome {
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

/// Words in memory that children share.
fn shared_words() -> Result<&'static [AtomicU32; 1024], String> {
    let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: new memory.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, rights, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(format!("mmap: {}", std::io::Error::last_os_error()));
    }
    // SAFETY: a page of zeros, which stays.
    Ok(unsafe { &*page.cast() })
}

fn shared() -> Outcome {
    let words = shared_words()?;
    let child = spawn(|| i32::from(futex(&words[0], WAIT, 0, 0, 0, 0) != 0)).map_err(|error| error.to_string())?;
    wake_until(1, || futex(&words[0], WAKE, 1, 0, 0, 0))?;
    equal("the child", wait(child).map_err(|error| error.to_string())?.status, 0)
}

const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;

/// A list of robust futexes, as Linux reads it.
#[repr(C)]
struct Head {
    next: AtomicUsize,
    offset: AtomicUsize,
    pending: AtomicUsize,
}

/// An entry: the pointer, and the word right after it.
#[repr(C)]
struct Entry {
    next: AtomicUsize,
    word: AtomicU32,
}

const fn entry() -> Entry {
    Entry { next: AtomicUsize::new(0), word: AtomicU32::new(0) }
}

fn set_robust_list(head: usize, bytes: usize) -> c_long {
    // SAFETY: the kernel looks at the list when the thread ends.
    unsafe { libc::syscall(libc::SYS_set_robust_list, head, bytes) }
}

fn thread_number() -> u32 {
    // SAFETY: only asks.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// A list of these entries, of which the last is being taken.
fn link(head: &Head, entries: &[Entry]) {
    let me = thread_number();
    let Some((pending, listed)) = entries.split_last() else { return };
    let mut next = address(head);
    for entry in listed.iter().rev() {
        entry.next.store(next, SeqCst);
        next = address(entry);
    }
    head.next.store(next, SeqCst);
    head.offset.store(8, SeqCst);
    head.pending.store(address(pending), SeqCst);
    entries.iter().for_each(|entry| entry.word.store(me | WAITERS, SeqCst));
    set_robust_list(address(head), size_of::<Head>());
}

static HEAD: Head = Head { next: AtomicUsize::new(0), offset: AtomicUsize::new(0), pending: AtomicUsize::new(0) };
static ENTRIES: [Entry; 4] = [const { entry() }; 4];

fn robust() -> Outcome {
    equal("another size", set_robust_list(address(&HEAD), 23), -1)?;
    let ready = Barrier::new(2);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            ready.wait();
            let word = &ENTRIES[1].word;
            let held = word.load(SeqCst);
            if held & OWNER_DIED == 0 { futex(word, WAIT, held, 0, 0, 0) } else { 0 }
        });
        scope.spawn(|| {
            link(&HEAD, &ENTRIES);
            // Not this thread's: not marked.
            ENTRIES[2].word.store(1 | WAITERS, SeqCst);
            ready.wait();
            thread::sleep(SOON);
        });
        let answer = waiter.join().unwrap_or(-1);
        if answer == error(EAGAIN) { Ok(()) } else { equal("who waited", answer, 0) }
    })?;
    // The last one is marked after whoever waited for another has been woken.
    let begun = Instant::now();
    while ENTRIES[3].word.load(SeqCst) & OWNER_DIED == 0 && begun.elapsed() < Duration::from_secs(10) {
        thread::yield_now();
    }
    let words: Vec<u32> = ENTRIES.iter().map(|entry| entry.word.load(SeqCst)).collect();
    let died = OWNER_DIED | WAITERS;
    equal("the words", words, vec![died, died, 1 | WAITERS, died])
}

/// The same when a process is killed.
fn robust_process() -> Outcome {
    let words = shared_words()?;
    let child = spawn(|| {
        // SAFETY: the page holds words; the list is in its second half.
        let head: &Head = unsafe { &*(&raw const words[512]).cast() };
        // SAFETY: as above.
        let entries: &[Entry; 2] = unsafe { &*(&raw const words[528]).cast() };
        link(head, entries);
        words[0].store(1, SeqCst);
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    });
    let child = child.map_err(|error| error.to_string())?;
    while words[0].load(SeqCst) == 0 {
        thread::yield_now();
    }
    // SAFETY: our child.
    unsafe { libc::kill(child, libc::SIGKILL) };
    equal("how it ended", wait(child).map_err(|error| error.to_string())?.status, libc::SIGKILL)?;
    equal("its word", words[530].load(SeqCst), OWNER_DIED | WAITERS)
}

/// Lists that lead nowhere, or in a circle.
fn robust_bad() -> Outcome {
    let ends = |make: fn()| {
        let child = spawn(|| {
            make();
            0
        });
        child.and_then(wait).map_or(-1, |ended| ended.status)
    };
    equal("a head that is none", ends(|| _ = set_robust_list(0x10, 24)), 0)?;
    equal("the kernel's", ends(|| _ = set_robust_list(0xffff_8000_0000_0000, 24)), 0)?;
    let circle = || {
        link(&HEAD, &ENTRIES);
        ENTRIES[0].next.store(address(&ENTRIES[0]), SeqCst);
    };
    equal("a circle", ends(circle), 0)?;
    let nowhere = || {
        link(&HEAD, &ENTRIES);
        ENTRIES[1].next.store(0x8000_0000_0000_0001, SeqCst);
        HEAD.offset.store(usize::MAX / 2, SeqCst);
    };
    equal("entries that are none", ends(nowhere), 0)
}

static TID: AtomicI32 = AtomicI32::new(0);

/// The word that is cleared at a thread's end.
fn cleared() -> Outcome {
    let other = thread::spawn(|| {
        TID.store(1, SeqCst);
        // SAFETY: the word stays. (What the C library waits on is another one from here on, so this thread is not joined.)
        unsafe { libc::syscall(libc::SYS_set_tid_address, TID.as_ptr()) };
    });
    let begun = Instant::now();
    while TID.load(SeqCst) != 1 && begun.elapsed() < Duration::from_secs(10) {
        thread::yield_now();
    }
    let word = (&raw const TID).cast::<AtomicU32>();
    let answer = futex(word, WAIT, 1, 0, 0, 0);
    std::mem::forget(other);
    if answer != error(EAGAIN) {
        equal("the wait", answer, 0)?;
    }
    equal("the word", TID.load(SeqCst), 0)
}

const THREADS: usize = 8;
const TURNS: usize = 5000;

fn mutex() -> Outcome {
    let sum = Mutex::new(0_usize);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for turn in 0..TURNS {
                    let Ok(mut sum) = sum.lock() else { return };
                    *sum += 1;
                    if turn.is_multiple_of(64) {
                        // Held for a while, so that others wait.
                        thread::yield_now();
                    }
                }
            });
        }
    });
    equal("the sum", sum.into_inner().unwrap_or(0), THREADS * TURNS)
}

/// Two threads take turns.
fn condition() -> Outcome {
    let shared = Arc::new((Mutex::new(0_usize), Condvar::new()));
    let play = |me: usize, shared: &(Mutex<usize>, Condvar)| {
        let Ok(mut turn) = shared.0.lock() else { return };
        for _ in 0..TURNS {
            while *turn % 2 != me {
                turn = match shared.1.wait(turn) {
                    Ok(turn) => turn,
                    Err(_) => return,
                };
            }
            *turn += 1;
            shared.1.notify_one();
        }
    };
    let other = Arc::clone(&shared);
    let thread = thread::spawn(move || play(1, &other));
    play(0, &shared);
    thread.join().map_err(|_| "the thread panicked".to_owned())?;
    equal("turns", shared.0.lock().map_or(0, |turn| *turn), 2 * TURNS)
}

/// Read-write locks, barriers, time-outs.
fn locks() -> Outcome {
    let value = RwLock::new((0_usize, 0_usize));
    let barrier = Barrier::new(THREADS);
    let torn = AtomicU32::new(0);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (value, barrier, torn) = (&value, &barrier, &torn);
            scope.spawn(move || {
                barrier.wait();
                for _ in 0..TURNS / 4 {
                    if number.is_multiple_of(4)
                        && let Ok(mut value) = value.write()
                    {
                        value.0 += 1;
                        value.1 += 1;
                    } else if let Ok(value) = value.read() {
                        torn.fetch_add(u32::from(value.0 != value.1), SeqCst);
                    }
                }
            });
        }
    });
    equal("torn values", torn.load(SeqCst), 0)?;
    equal("writes", value.into_inner().map_or(0, |value| value.0), THREADS.div_ceil(4) * (TURNS / 4))?;
    let (lock, nobody) = (Mutex::new(()), Condvar::new());
    let guard = lock.lock().map_err(|error| error.to_string())?;
    let timed_out = nobody.wait_timeout(guard, SOON).map(|(_, result)| result.timed_out());
    equal("a wait that nobody ends", timed_out.unwrap_or(false), true)
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

/// Runs a check in a child: a thread that waits for ever is its own.
fn run(name: &str, check: fn() -> Outcome) -> bool {
    let child = spawn(|| {
        // SAFETY: without a handler it ends this process.
        unsafe { libc::alarm(60) };
        match check() {
            Ok(()) => 0,
            Err(why) => {
                println!("{name}: {why}");
                1
            }
        }
    });
    let status = child.and_then(wait).map_or(-1, |ended| ended.status);
    if status != 0 && status != 1 << 8 {
        println!("{name}: ended with status {status:#x}");
    }
    println!("fact futexes.{name} {}", u8::from(status == 0));
    status == 0
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let chosen = CHECKS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name));
    let failed = chosen.filter(|&&(name, check)| !run(name, check)).count();
    println!("fact futexes.failed {failed}");
    ExitCode::from(u8::from(failed != 0))
}
