//! A process of four threads, of which one overflows its kernel stack: what another process sees of that.
//!
//! ```text
//!   observer ── clone(CLONE_VM) ──> first thread ──> victim     holds a robust futex, and overflows in a system call
//!      │                                 │       ──> sleeper    waits for a futex that nobody wakes
//!      │                                 │       ──> spinner    never enters the kernel
//!      │                                 └── waits for the victim's end, by the word that its CLONE_CHILD_CLEARTID names
//!      └── shares the memory: waits for the robust futex, then for the process, and looks at the words
//! ```
//!
//! Nothing here uses the C library's threads: the words are told by the kernel alone.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::raw::{self, OF_THREAD, Stack};
use crate::{PROVOKE, is_alive, wait};

/// The crash that the victim provokes.
const CRASH: &[u8] = b"EXHAUST_STACK";
/// In a robust futex's word: somebody waits.
const WAITERS: u32 = 0x8000_0000;
/// Where a robust futex's word lies behind its link, in bytes.
const OFFSET: usize = size_of::<AtomicPtr<()>>();
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A robust futex: a link in its owner's list, and the word.
#[repr(C)]
struct Robust {
    next: AtomicPtr<()>,
    word: AtomicU32,
}

/// What `set_robust_list` is told.
#[repr(C)]
struct Head {
    first: AtomicPtr<()>,
    offset: AtomicUsize,
    pending: AtomicPtr<()>,
}

static ROBUST: Robust = Robust { next: AtomicPtr::new(ptr::null_mut()), word: AtomicU32::new(0) };
static HEAD: Head = Head {
    first: AtomicPtr::new(ptr::null_mut()),
    offset: AtomicUsize::new(OFFSET),
    pending: AtomicPtr::new(ptr::null_mut()),
};

/// The numbers of the three threads, which the kernel clears; threads that are ready; and whether the victim may.
static NUMBERS: [AtomicI32; 3] = [const { AtomicI32::new(0) }; 3];
static READY: AtomicU32 = AtomicU32::new(0);
static GO: AtomicU32 = AtomicU32::new(0);
/// The device that provokes crashes.
static DEVICE: AtomicI32 = AtomicI32::new(-1);

/// What the observer saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The process's status word.
    pub status: i32,
    /// The robust futex's word.
    pub word: u32,
    /// Threads whose word the kernel did not clear.
    pub left: usize,
    /// Whether the process is still there.
    pub alive: bool,
}

/// Waits until `word` is not `value` any more, or for a while.
fn wait_while(word: &AtomicU32, value: u32) {
    let while_long = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    // SAFETY: the word and the time can be read.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const while_long) };
    // Where there are no futexes, others run at least.
    // SAFETY: the call has no arguments.
    unsafe { libc::sched_yield() };
}

/// The word of a thread's number.
fn word_of(number: &AtomicI32) -> &AtomicU32 {
    // SAFETY: both are atomics of 32 bits.
    unsafe { AtomicU32::from_ptr(number.as_ptr().cast()) }
}

extern "C" fn first_thread(_: usize) -> i32 {
    let threads = [victim as extern "C" fn(usize) -> i32, sleeper, spinner];
    let flags = OF_THREAD | (libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID) as u64;
    for (index, run) in threads.into_iter().enumerate() {
        // SAFETY: the numbers are static, and the stacks were made before.
        let made =
            unsafe { raw::clone(flags, Stack::spare(index), NUMBERS[index].as_ptr(), NUMBERS[index].as_ptr(), run, 0) };
        if made.is_err() {
            return 1;
        }
    }
    loop {
        match NUMBERS[0].load(Ordering::SeqCst) {
            0 => return 2,
            number => wait_while(word_of(&NUMBERS[0]), number as u32),
        }
    }
}

extern "C" fn victim(_: usize) -> i32 {
    let number = raw::thread_number();
    // SAFETY: the head is static.
    unsafe { libc::syscall(libc::SYS_set_robust_list, &raw const HEAD, size_of::<Head>()) };
    ROBUST.word.store(number as u32, Ordering::SeqCst);
    ROBUST.next.store((&raw const HEAD).cast_mut().cast(), Ordering::SeqCst);
    HEAD.first.store((&raw const ROBUST).cast_mut().cast(), Ordering::SeqCst);
    READY.fetch_add(1, Ordering::SeqCst);
    while GO.load(Ordering::SeqCst) == 0 {
        wait_while(&GO, 0);
    }
    // SAFETY: the words can be read.
    unsafe { libc::write(DEVICE.load(Ordering::SeqCst), CRASH.as_ptr().cast(), CRASH.len()) };
    3
}

extern "C" fn sleeper(_: usize) -> i32 {
    static NEVER: AtomicU32 = AtomicU32::new(0);
    READY.fetch_add(1, Ordering::SeqCst);
    loop {
        // SAFETY: the word can be read.
        unsafe { libc::syscall(libc::SYS_futex, NEVER.as_ptr(), libc::FUTEX_WAIT, 0, ptr::null::<libc::timespec>()) };
    }
}

extern "C" fn spinner(_: usize) -> i32 {
    READY.fetch_add(1, Ordering::SeqCst);
    loop {
        std::hint::spin_loop();
    }
}

/// Starts the process, lets the victim overflow, and says what came of it.
///
/// # Errors
///
/// The system's; or it took too long.
pub fn observe() -> io::Result<Seen> {
    let device = OpenOptions::new().write(true).open(PROVOKE)?;
    DEVICE.store(device.as_raw_fd(), Ordering::SeqCst);
    for word in [&READY, &GO] {
        word.store(0, Ordering::SeqCst);
    }
    HEAD.first.store((&raw const HEAD).cast_mut().cast(), Ordering::SeqCst);
    let flags = (libc::CLONE_VM | libc::SIGCHLD) as u64;
    // SAFETY: the threads use what is static, and system calls.
    let pid = unsafe { raw::clone(flags, Stack::spare(3), ptr::null_mut(), ptr::null_mut(), first_thread, 0) }?;
    let deadline = Instant::now() + PATIENCE;
    wait_for(deadline, || READY.load(Ordering::SeqCst) == 3)?;
    let owned = ROBUST.word.fetch_or(WAITERS, Ordering::SeqCst) | WAITERS;
    GO.store(1, Ordering::SeqCst);
    // SAFETY: the word can be read.
    unsafe { libc::syscall(libc::SYS_futex, GO.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    wait_for(deadline, || {
        wait_while(&ROBUST.word, owned);
        ROBUST.word.load(Ordering::SeqCst) != owned
    })?;
    let status = wait(pid)?.status;
    let left = NUMBERS.iter().filter(|number| number.load(Ordering::SeqCst) != 0).count();
    Ok(Seen { status, word: ROBUST.word.load(Ordering::SeqCst), left, alive: is_alive(pid) })
}

fn wait_for(deadline: Instant, mut over: impl FnMut() -> bool) -> io::Result<()> {
    while !over() {
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::yield_now();
    }
    Ok(())
}
