//! Signals at the edges of a thread's life: before its first instruction, while it waits for its memory, while its process ends.

use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use libc::{SIGCHLD, SIGCONT, SIGKILL, SIGSTOP, SIGTERM, SIGUSR1, c_int, c_void, siginfo_t};
use vmstack_programs::checks::{Checks, Outcome, child, equal, expect, shared_words, status, status_soon, until};
use vmstack_programs::raw::{self, OF_THREAD, Stack};

use crate::sys;

pub(crate) const CHECKS: &Checks = &[
    ("kill-lender", kill_lender),
    ("kill-stopped", kill_stopped),
    ("stop-at-end", stop_at_end),
    ("before-first", before_first),
    ("restart-forgotten", restart_forgotten),
];

fn wait_for_ever() -> ! {
    loop {
        // SAFETY: the call has no arguments.
        unsafe { libc::pause() };
    }
}

/// The words at an address that a thread was given.
fn words_at(addr: usize) -> &'static [AtomicU32; 2] {
    // SAFETY: they are in memory that is never given back.
    unsafe { &*ptr::with_exposed_provenance(addr) }
}

extern "C" fn borrow_for_ever(words: usize) -> i32 {
    words_at(words)[0].store(raw::thread_number() as u32, SeqCst);
    wait_for_ever()
}

extern "C" fn spin(words: usize) -> i32 {
    words_at(words)[1].store(1, SeqCst);
    loop {
        std::hint::spin_loop();
    }
}

/// Lends its memory to a child that never gives it back, beside a thread that never enters the kernel.
fn lend(words: usize) -> i32 {
    // SAFETY: the function stores a word, and that is all.
    let other = unsafe { raw::clone(OF_THREAD, Stack::new(), ptr::null_mut(), ptr::null_mut(), spin, words) };
    let flags = (libc::CLONE_VM | libc::CLONE_VFORK | SIGCHLD) as u64;
    // SAFETY: the function makes system calls and stores a word, and that is all.
    let lent = unsafe { raw::clone(flags, Stack::new(), ptr::null_mut(), ptr::null_mut(), borrow_for_ever, words) };
    i32::from(other.is_err() || lent.is_err())
}

/// A process whose oldest thread waits until its memory comes back ends at once, with all threads, by a signal that is sure to end it.
fn kill_lender() -> Outcome {
    for signal in [SIGKILL, SIGTERM] {
        let words = shared_words()?;
        let lender = child(|| lend(words.as_ptr().expose_provenance()))?;
        until("the memory was lent", || words[0].load(SeqCst) != 0 && words[1].load(SeqCst) != 0)?;
        let borrower = words[0].load(SeqCst) as c_int;
        expect(sys::kill(lender, signal), "kill")?;
        let ended = status_soon(lender);
        expect(sys::kill(borrower, SIGKILL), "who borrowed it lives on")?;
        equal("how it ended", ended?, signal)?;
    }
    Ok(())
}

static CONTINUED: AtomicU32 = AtomicU32::new(0);

extern "C" fn note_continued(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel gives what it says.
    let info = unsafe { &*info };
    CONTINUED.fetch_add(u32::from(info.si_code == libc::CLD_CONTINUED), SeqCst);
}

/// What is killed while it is stopped does not go on first.
fn kill_stopped() -> Outcome {
    sys::handle(SIGCHLD, note_continued, libc::SA_RESTART);
    for _ in 0..20 {
        let pid = child(|| wait_for_ever())?;
        sys::kill(pid, SIGSTOP);
        let mut status = 0;
        // SAFETY: the status can be written to.
        let found = unsafe { libc::waitpid(pid, &raw mut status, libc::WUNTRACED) };
        equal("stopped", (found, status), (pid, SIGSTOP << 8 | 0x7f))?;
        sys::kill(pid, SIGKILL);
        // SAFETY: as above.
        let found = unsafe { libc::waitpid(pid, &raw mut status, libc::WCONTINUED) };
        equal("killed", (found, status), (pid, SIGKILL))?;
    }
    equal("how often it went on", CONTINUED.load(SeqCst), 0)
}

/// Ends the process, after a while.
extern "C" fn end_soon(turns: usize) -> i32 {
    for _ in 0..turns {
        std::hint::spin_loop();
    }
    // SAFETY: ends the process.
    unsafe { libc::syscall(libc::SYS_exit_group, 9) as i32 }
}

/// Asks for the lock of the process's signals, over and over.
extern "C" fn crowd_the_lock(_: usize) -> i32 {
    loop {
        let _some = sys::pending();
    }
}

/// Threads, of which one ends the process at about the time at which the first is to stop, and has to wait for a lock then. The number of
/// the one is in the word before it runs.
fn end_beside(word: &AtomicU32, turns: usize) -> i32 {
    let null = ptr::null_mut();
    for _ in 0..2 {
        // SAFETY: the function makes system calls, and that is all.
        let _crowd = unsafe { raw::clone(OF_THREAD, Stack::new(), null, null, crowd_the_lock, 0) };
    }
    let flags = OF_THREAD | libc::CLONE_PARENT_SETTID as u64;
    // SAFETY: the function makes a system call, and that is all.
    let made = unsafe { raw::clone(flags, Stack::new(), word.as_ptr().cast(), null, end_soon, turns) };
    if made.is_err() {
        return 1;
    }
    wait_for_ever()
}

/// Whether thread `thread` of `process` is there.
fn has_thread(process: c_int, thread: c_int) -> bool {
    // SAFETY: only asks.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) == 0 }
}

/// A process that is stopped while it ends does end; only one that was stopped before waits until it goes on.
fn stop_at_end() -> Outcome {
    let words = shared_words()?;
    for (round, word) in words.iter().enumerate().take(200) {
        let pid = child(|| end_beside(word, round % 40 * 500))?;
        while word.load(SeqCst) == 0 {
            std::hint::spin_loop();
        }
        sys::kill(pid, SIGSTOP);
        let mut status = 0;
        // SAFETY: the status can be written to.
        let mut look = || unsafe { libc::waitpid(pid, &raw mut status, libc::WUNTRACED | libc::WNOHANG) };
        until("it ended or stopped", || look() != 0)?;
        if libc::WIFSTOPPED(status) {
            let stays = |_: &i32| {
                thread::yield_now();
                has_thread(pid, word.load(SeqCst) as c_int)
            };
            if (0..200).all(|turn| stays(&turn)) {
                sys::kill(pid, SIGCONT);
            }
            status = status_soon(pid)?;
        }
        equal("how it ended", status, 9 << 8)?;
    }
    Ok(())
}

extern "C" fn say_that_it_runs(words: usize) -> i32 {
    words_at(words)[0].store(1, SeqCst);
    wait_for_ever()
}

/// Keeps this thread and its children on one CPU, where that is possible. Whether it is one.
fn on_one_cpu() -> bool {
    // SAFETY: all zeros is a set of none.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: it can be read and written to.
    unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    // SAFETY: as above.
    let first = (0..64).find(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) });
    // SAFETY: all zeros is a set of none.
    let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    unsafe { libc::CPU_SET(first.unwrap_or(0), &mut one) };
    // SAFETY: as above.
    unsafe { libc::sched_setaffinity(0, size_of_val(&one), &raw const one) };
    // SAFETY: as above.
    unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    // SAFETY: as above.
    unsafe { libc::CPU_COUNT(&set) == 1 }
}

/// What is sent before a thread first runs is acted upon before its first instruction. On one CPU it is clear what came first.
fn before_first() -> Outcome {
    let words = shared_words()?;
    let clear = on_one_cpu();
    let mut late = 0;
    for word in &words[..200] {
        let flags = (libc::CLONE_VM | SIGCHLD) as u64;
        let place = ptr::from_ref(word).expose_provenance();
        let stack = Stack::spare(0);
        // SAFETY: the function stores a word and waits; nobody else is on the stack.
        let made = unsafe { raw::clone(flags, stack, ptr::null_mut(), ptr::null_mut(), say_that_it_runs, place) };
        let pid = made.map_err(|error| error.to_string())?;
        sys::kill(pid, SIGKILL);
        let ran_before = word.load(SeqCst) == 1;
        equal("how it ended", status(pid)?, SIGKILL)?;
        late += usize::from(!ran_before && word.load(SeqCst) == 1);
    }
    if clear { equal("how many ran first", late, 0) } else { Ok(()) }
}

static INTERRUPTED: AtomicI32 = AtomicI32::new(0);

/// A wait that is interrupted without a handler, and goes on.
extern "C" fn poll_interrupted(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: no files.
    INTERRUPTED.store(unsafe { libc::poll(ptr::null_mut(), 0, 300) }, SeqCst);
}

/// A handler's interrupted calls are not those of what it interrupted: once it is over there is no call to go on with.
fn restart_forgotten() -> Outcome {
    sys::handle(SIGUSR1, poll_interrupted, 0);
    INTERRUPTED.store(-1, SeqCst);
    let me = sys::process_id();
    let helper = child(|| {
        thread::sleep(Duration::from_millis(60));
        let stopped = sys::kill(me, SIGSTOP);
        thread::sleep(Duration::from_millis(30));
        i32::from(!(stopped && sys::kill(me, SIGCONT)))
    })?;
    expect(sys::raise(SIGUSR1), "kill")?;
    equal("the wait in the handler", INTERRUPTED.load(SeqCst), 0)?;
    // SAFETY: the call goes on with one that was interrupted, of which there is none.
    let answer = unsafe { libc::syscall(libc::SYS_restart_syscall, 0, 0, 0) };
    equal("going on with nothing", (answer, sys::errno()), (-1, libc::EINTR))?;
    equal("the helper", status(helper)?, 0)
}
