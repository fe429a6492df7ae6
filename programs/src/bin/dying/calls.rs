//! The calls: each is armed right before it is made.

use std::ffi::CStr;
use std::io;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};

use vmstack_programs::{children, raw, spawn, wait};

use super::{Arm, Attempt};

pub(crate) const CALLS: [(&str, Attempt); 22] = [
    ("getpid", number),
    ("clone", thread),
    ("fork", fork),
    ("vfork", vfork),
    ("execve", execute),
    ("execve_of_two", execute_of_two),
    ("exit", end_of_thread),
    ("exit_group", end),
    ("exit_group_of_two", end_of_two),
    ("wait4", wait_for_child),
    ("wait4_sleeping", wait_for_end),
    ("futex_wait", futex_timed),
    ("futex_wait_woken", futex_woken),
    ("futex_wake", futex_wake),
    ("sigaction", act),
    ("kill", kill),
    ("mmap", map),
    ("munmap", unmap),
    ("pipe", pipe),
    ("dup", dup),
    ("open_layers", open_layers),
    ("read_layers", read_layers),
];

/// Makes a system call without the C library, so that it is the next one for certain.
pub(crate) fn call(number: i64, words: [usize; 4]) -> io::Result<usize> {
    // SAFETY: those who call this say why what they ask is right.
    let answer = unsafe { libc::syscall(number, words[0], words[1], words[2], words[3]) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer as usize) }
}

fn number(arm: Arm<'_>) -> io::Result<()> {
    arm()?;
    call(libc::SYS_getpid, [0; 4]).map(|_| ())
}

/// A word that threads wait for.
static WORD_OF_THREADS: AtomicI32 = AtomicI32::new(0);

pub(crate) fn address(word: &AtomicI32) -> usize {
    word.as_ptr().expose_provenance()
}

extern "C" fn nothing(_: usize) -> i32 {
    0
}

/// Sleeps until it is killed, or the word changes.
extern "C" fn sleep(_: usize) -> i32 {
    WORD_OF_THREADS.store(1, SeqCst);
    // SAFETY: a word that stays, and no timeout.
    unsafe { libc::syscall(libc::SYS_futex, WORD_OF_THREADS.as_ptr(), libc::FUTEX_WAIT, 1, 0) };
    0
}

/// Starts a thread that is over when `alive` is zero.
fn start(run: extern "C" fn(usize) -> i32, alive: &'static AtomicI32, argument: usize) -> io::Result<i32> {
    alive.store(1, SeqCst);
    let flags = raw::OF_THREAD | libc::CLONE_CHILD_CLEARTID as u64;
    // SAFETY: the thread makes system calls and touches words that stay, on a stack that nobody else has.
    unsafe { raw::clone(flags, raw::Stack::spare(0), core::ptr::null_mut(), alive.as_ptr(), run, argument) }
}

static ALIVE: AtomicI32 = AtomicI32::new(0);

/// A second thread, which sleeps.
fn second() -> io::Result<()> {
    start(sleep, &ALIVE, 0)?;
    while WORD_OF_THREADS.load(SeqCst) == 0 {
        std::thread::yield_now();
    }
    Ok(())
}

fn thread(arm: Arm<'_>) -> io::Result<()> {
    ALIVE.store(1, SeqCst);
    let flags = raw::OF_THREAD | libc::CLONE_CHILD_CLEARTID as u64;
    let stack = raw::Stack::spare(0);
    arm()?;
    // SAFETY: the thread does nothing.
    unsafe { raw::clone(flags, stack, core::ptr::null_mut(), ALIVE.as_ptr(), nothing, 0) }?;
    raw::spin_until_zero(&ALIVE);
    Ok(())
}

fn fork(arm: Arm<'_>) -> io::Result<()> {
    arm()?;
    wait(children::fork_and_exit()?).map(|_| ())
}

fn vfork(arm: Arm<'_>) -> io::Result<()> {
    arm()?;
    wait(children::vfork_and_exit()?).map(|_| ())
}

fn execute(arm: Arm<'_>) -> io::Result<()> {
    let (path, word) = (c"/proc/self/exe", c"--executed");
    let list = [path.as_ptr(), word.as_ptr(), core::ptr::null()];
    arm()?;
    // SAFETY: a string, a list that ends with a null pointer, and no environment.
    unsafe { libc::execve(path.as_ptr(), list.as_ptr(), core::ptr::null()) };
    Err(io::Error::last_os_error())
}

fn execute_of_two(arm: Arm<'_>) -> io::Result<()> {
    second()?;
    execute(arm)
}

/// The child waits for its thread, whose end it is, with a lock of the thread's that it has to give back.
fn end_of_thread(arm: Arm<'_>) -> io::Result<()> {
    static ARM: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn run(_: usize) -> i32 {
        let arm = core::ptr::with_exposed_provenance::<Arm<'_>>(ARM.load(SeqCst));
        // SAFETY: the child waits for this thread, and what `arm` points to is its caller's.
        i32::from(unsafe { *arm }().is_err())
    }
    ARM.store((&raw const arm).expose_provenance(), SeqCst);
    start(run, &ALIVE, 0)?;
    while ALIVE.load(SeqCst) != 0 {
        call(libc::SYS_futex, [address(&ALIVE), libc::FUTEX_WAIT as usize, 1, 0]).ok();
    }
    Ok(())
}

fn end(arm: Arm<'_>) -> io::Result<()> {
    arm()?;
    call(libc::SYS_exit_group, [0; 4]).map(|_| ())
}

fn end_of_two(arm: Arm<'_>) -> io::Result<()> {
    second()?;
    end(arm)
}

fn wait_for_child(arm: Arm<'_>) -> io::Result<()> {
    let child = children::vfork_and_exit()?;
    arm()?;
    call(libc::SYS_wait4, [child as usize, 0, 0, 0]).map(|_| ())
}

/// A child that ends a little later.
fn wait_for_end(arm: Arm<'_>) -> io::Result<()> {
    let pause = [0_usize, 300_000];
    let child = spawn(|| i32::from(call(libc::SYS_nanosleep, [(&raw const pause).addr(), 0, 0, 0]).is_err()))?;
    arm()?;
    call(libc::SYS_wait4, [child as usize, 0, 0, 0]).map(|_| ())
}

fn futex_timed(arm: Arm<'_>) -> io::Result<()> {
    let timeout = [0_usize, 100_000];
    arm()?;
    let words = [address(&WORD_OF_THREADS), libc::FUTEX_WAIT as usize, 0, (&raw const timeout).expose_provenance()];
    match call(libc::SYS_futex, words) {
        Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// A thread changes the word and wakes us.
fn futex_woken(arm: Arm<'_>) -> io::Result<()> {
    extern "C" fn wake(_: usize) -> i32 {
        let pause = [0_usize, 300_000];
        let words = [address(&WORD_OF_THREADS), libc::FUTEX_WAKE as usize, 1, 0];
        let done = call(libc::SYS_nanosleep, [(&raw const pause).addr(), 0, 0, 0]);
        WORD_OF_THREADS.store(1, SeqCst);
        i32::from(done.is_err() || call(libc::SYS_futex, words).is_err())
    }
    start(wake, &ALIVE, 0)?;
    arm()?;
    match call(libc::SYS_futex, [address(&WORD_OF_THREADS), libc::FUTEX_WAIT as usize, 0, 0]) {
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(()),
        other => other.map(|_| ()),
    }
}

fn futex_wake(arm: Arm<'_>) -> io::Result<()> {
    second()?;
    arm()?;
    call(libc::SYS_futex, [address(&WORD_OF_THREADS), libc::FUTEX_WAKE as usize, 1, 0]).map(|_| ())
}

extern "C" fn handler(_: i32) {}

fn act(arm: Arm<'_>) -> io::Result<()> {
    let action = [libc::SIG_IGN, 0x0400_0000, 0, 0];
    arm()?;
    call(libc::SYS_rt_sigaction, [libc::SIGUSR1 as usize, (&raw const action).expose_provenance(), 0, 8]).map(|_| ())
}

fn kill(arm: Arm<'_>) -> io::Result<()> {
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGUSR1, handler as *const () as libc::sighandler_t) };
    let me = call(libc::SYS_getpid, [0; 4])?;
    arm()?;
    call(libc::SYS_kill, [me, libc::SIGUSR1 as usize, 0, 0]).map(|_| ())
}

/// Eight pages, far from others.
const PLACE: usize = 0x3000_0000;
pub(crate) const PAGE: usize = 4096;

fn map(arm: Arm<'_>) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_POPULATE;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let place = core::ptr::without_provenance_mut(PLACE);
    arm()?;
    // SAFETY: nothing else is there.
    let got = unsafe { libc::mmap(place, 8 * PAGE, rights, flags, -1, 0) };
    if got == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn unmap(arm: Arm<'_>) -> io::Result<()> {
    map(&|| Ok(()))?;
    arm()?;
    call(libc::SYS_munmap, [PLACE + PAGE, 4 * PAGE, 0, 0]).map(|_| ())
}

fn pipe(arm: Arm<'_>) -> io::Result<()> {
    let mut ends = [0; 2];
    arm()?;
    call(libc::SYS_pipe, [(&raw mut ends).expose_provenance(), 0, 0, 0]).map(|_| ())
}

/// Layers of block devices over a file of the archive: the reference kernel's.
const LAYERS: &CStr = c"/disk/linear*2.compare(mirror.file=symbols,file=symbols)";

fn open_layers(arm: Arm<'_>) -> io::Result<()> {
    arm()?;
    call(libc::SYS_open, [LAYERS.as_ptr().expose_provenance(), 0, 0, 0]).map(|_| ())
}

/// The first time its buffers are made.
fn read_layers(arm: Arm<'_>) -> io::Result<()> {
    let file = call(libc::SYS_open, [LAYERS.as_ptr().expose_provenance(), 0, 0, 0])?;
    let mut bytes = [0_u8; 600];
    arm()?;
    call(libc::SYS_read, [file, bytes.as_mut_ptr().expose_provenance(), bytes.len(), 0]).map(|_| ())
}

/// So far up that the table grows.
fn dup(arm: Arm<'_>) -> io::Result<()> {
    arm()?;
    call(libc::SYS_dup2, [1, 300, 0, 0]).map(|_| ())
}
