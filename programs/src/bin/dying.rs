//! A task is killed at every instruction of the calls of its life, one after the other: `dying [STRIDE [CALL...]]`.
//!
//! ```text
//!   overflow-nth = n  ── the call ── killed: its stack overflowed behind instruction n      n = 1, 1 + stride, ... until the call
//!                          └──────── done: it has no more than n instructions               is done
//!   overflow-room = d ── the call ── killed: it needs more stack than d bytes               d = 0, 8, ... until it is done
//!   overflow-again = n ── killed ── and again behind instruction n of its end               n = 1, 1 + stride, ... until it has fewer
//! ```
//!
//! Three files of the reference kernel's in `/proc/thread-self` say where the next call of the thread that writes to them runs out of stack,
//! or its end. A child makes the call and dies of SIGSEGV, with its threads, or goes on; this process goes on in any case. Prints:
//!
//! ```text
//! fact dying.nth CALL INSTRUCTIONS OVERFLOWS      instructions of the call, and how often it was killed
//! fact dying.room CALL BYTES OVERFLOWS DONE       the stack that it takes, how often it was killed, and children that ended well
//! fact dying.again WHO INSTRUCTIONS OVERFLOWS NUMBERS FUTEXES      instructions of its end; how often its number was not cleared, and
//!                                                                  its robust futex not marked, for those who share its memory
//! ```
//!
//! Whether anything was lost or is held is for the kernel's own count at the end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering::SeqCst};

use vmstack_programs::{children, raw, spawn, wait};

/// More instructions than any call has, and more bytes than any stack.
const MOST: usize = 400_000;
/// From one depth to the next, in bytes, for a stride of one.
const WORD: usize = 8;
/// After so many calls in a row that had enough stack, the call is taken to need no more.
const ENOUGH: usize = 8;

/// One of the two files.
struct Control(File);

impl Control {
    fn open(name: &str) -> io::Result<Self> {
        File::options().read(true).write(true).open(format!("/proc/thread-self/{name}")).map(Self)
    }

    /// The next call of this thread is the one that is meant.
    fn set(&self, number: usize) -> io::Result<()> {
        let digits = [100_000, 10_000, 1000, 100, 10, 1].map(|unit| b'0' + (number / unit % 10) as u8);
        // Zeros before it would make it octal.
        let first = digits.iter().position(|&digit| digit != b'0').unwrap_or(digits.len() - 1);
        self.0.write_at(&digits[first..], 0).map(|_| ())
    }

    /// Of `overflow-nth`: how many instructions the last call had, of whoever made it, until it was killed or done. Of `overflow-again`: how
    /// many its end had until it was killed again, if it was. Of `overflow-room`: how many overflows there were.
    fn count(&self) -> io::Result<usize> {
        let mut digits = [0; 16];
        let length = self.0.read_at(&mut digits, 0)?;
        let text = core::str::from_utf8(&digits[..length]).unwrap_or_default();
        text.trim().parse().map_err(io::Error::other)
    }
}

/// Says where the next call is to overflow.
type Arm<'a> = &'a dyn Fn() -> io::Result<()>;

/// One call, made by a child, which arms it right before.
type Attempt = fn(arm: Arm<'_>) -> io::Result<()>;

const CALLS: [(&str, Attempt); 20] = [
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
];

/// Makes a system call without the C library, so that it is the next one for certain.
fn call(number: i64, words: [usize; 4]) -> io::Result<usize> {
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

fn address(word: &AtomicI32) -> usize {
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
const PAGE: usize = 4096;

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

/// So far up that the table grows.
fn dup(arm: Arm<'_>) -> io::Result<()> {
    arm()?;
    call(libc::SYS_dup2, [1, 300, 0, 0]).map(|_| ())
}

/// What came of one child.
enum Outcome {
    Killed,
    Done,
}

/// In a child: the call, armed with `number` in the file that `name` is of. Other children that this one left behind are waited for here,
/// for they come to the first process.
fn attempt(name: &str, number: usize, attempt: Attempt) -> io::Result<Outcome> {
    let child = spawn(|| {
        let armed = Control::open(name).and_then(|control| attempt(&|| control.set(number)));
        i32::from(armed.is_err())
    })?;
    let mut outcome = Err(io::Error::other("the child is nobody's"));
    while let Ok(ended) = wait(-1) {
        if ended.pid != child {
            continue;
        }
        outcome = match ended.status {
            0 => Ok(Outcome::Done),
            libc::SIGSEGV => Ok(Outcome::Killed),
            status => Err(io::Error::other(format!("{name} {number}: the child's status is {status:#x}"))),
        };
    }
    outcome
}

/// Every `stride`th instruction of one call.
fn each_instruction(name: &str, call: Attempt, stride: usize) -> io::Result<()> {
    let control = Control::open("overflow-nth")?;
    let (mut killed, mut next) = (0, 1);
    while next < MOST {
        let outcome = attempt("overflow-nth", next, call)?;
        let reached = control.count()?;
        match outcome {
            // It may have waited for the end of a section.
            Outcome::Killed => killed += 1,
            Outcome::Done if reached < next => {
                println!("fact dying.nth {name} {reached} {killed}");
                return Ok(());
            }
            // It ended well, and died after that.
            Outcome::Done => killed += 1,
        }
        next = reached.max(next) + stride;
    }
    Err(io::Error::other(format!("{name}: more than {MOST}")))
}

/// Every `stride`th depth of one call.
fn each_depth(name: &str, call: Attempt, stride: usize) -> io::Result<()> {
    let control = Control::open("overflow-room")?;
    let (mut overflows, mut done, mut enough, mut room) = (0, 0, 0, 0);
    while enough < ENOUGH {
        let before = control.count()?;
        let outcome = attempt("overflow-room", room, call)?;
        // Whose end was told before it died of this did well, too.
        done += usize::from(matches!(outcome, Outcome::Done));
        match control.count()? - before {
            0 => enough += 1,
            more => (overflows, enough) = (overflows + more, 0),
        }
        room += stride * WORD;
    }
    println!("fact dying.room {name} {} {overflows} {done}", room - enough * stride * WORD);
    Ok(())
}

/// What a thread that dies shares with this process: its number, which the kernel clears; a robust futex, and its list.
#[repr(C)]
struct Shared {
    number: AtomicI32,
    next: AtomicPtr<Shared>,
    word: AtomicI32,
    /// First, offset, pending: what `set_robust_list` is told.
    head: [AtomicPtr<Shared>; 3],
}

/// Where it is, once it is mapped.
static SHARED: AtomicPtr<Shared> = AtomicPtr::new(core::ptr::null_mut());
/// In a robust futex's word.
const OWNER_DIED: i32 = 0x4000_0000;

fn shared() -> &'static Shared {
    // SAFETY: mapped for good before anybody asks, and made of atomics.
    unsafe { &*SHARED.load(SeqCst) }
}

fn share() -> io::Result<()> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: new memory.
    let got = unsafe { libc::mmap(core::ptr::null_mut(), PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if got == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    SHARED.store(got.cast(), SeqCst);
    Ok(())
}

/// A thread with a futex and a number that others look at, which overflows in its next call.
extern "C" fn holder(_: usize) -> i32 {
    let shared = shared();
    let list = (&raw const shared.head).cast_mut().cast::<Shared>();
    shared.head[1].store(core::ptr::without_provenance_mut(core::mem::offset_of!(Shared, word) - NEXT), SeqCst);
    shared.next.store(list, SeqCst);
    shared.head[0].store((&raw const *shared).cast_mut().wrapping_byte_add(NEXT), SeqCst);
    shared.word.store(raw::thread_number(), SeqCst);
    // SAFETY: the head is there for good.
    unsafe { libc::syscall(libc::SYS_set_robust_list, list, size_of::<[usize; 3]>()) };
    i32::from(ARM.load(SeqCst).is_null() || overflow().is_err())
}

/// Where an entry's link is.
const NEXT: usize = core::mem::offset_of!(Shared, next);
/// The two files.
static ARM: AtomicPtr<[Control; 2]> = AtomicPtr::new(core::ptr::null_mut());
/// Behind which instruction the thread overflows again.
static AGAIN: AtomicUsize = AtomicUsize::new(0);

/// Whether it does so twice.
static TWICE: AtomicBool = AtomicBool::new(false);

/// Dies.
fn overflow() -> io::Result<()> {
    // SAFETY: the child that this is set it, and waits.
    let [nth, again] = unsafe { &*ARM.load(SeqCst) };
    again.set(AGAIN.load(SeqCst))?;
    if TWICE.load(SeqCst) {
        again.set(AGAIN.load(SeqCst))?;
    }
    nth.set(1)?;
    call(libc::SYS_getpid, [0; 4]).map(|_| ())
}

/// One child that dies, and again `number` instructions later. Whether its thread's number was cleared and its futex marked.
fn die_again(of_two: bool, number: usize) -> io::Result<(bool, bool)> {
    let shared = shared();
    shared.number.store(1, SeqCst);
    let child = spawn(|| {
        let files = Control::open("overflow-nth").and_then(|nth| Ok([nth, Control::open("overflow-again")?]));
        let Ok(mut files) = files else { return 1 };
        ARM.store(&raw mut files, SeqCst);
        AGAIN.store(number, SeqCst);
        if !of_two {
            return holder(0);
        }
        let flags = raw::OF_THREAD | libc::CLONE_CHILD_CLEARTID as u64;
        // SAFETY: the thread makes system calls, and the words are there for good.
        let thread = unsafe {
            raw::clone(flags, raw::Stack::spare(0), core::ptr::null_mut(), shared.number.as_ptr(), holder, 0)
        };
        while thread.is_ok() {
            call(libc::SYS_futex, [address(&shared.number), libc::FUTEX_WAIT as usize, 1, 0]).ok();
        }
        1
    })?;
    match wait(child)?.status {
        libc::SIGSEGV => Ok((shared.number.load(SeqCst) == 0, shared.word.load(SeqCst) & OWNER_DIED != 0)),
        status => Err(io::Error::other(format!("again {number}: the child's status is {status:#x}"))),
    }
}

/// Who dies: of a process of two threads, and three times instead of two.
const ENDS: [(&str, bool, bool); 4] =
    [("again", false, false), ("again_of_two", true, false), ("third", false, true), ("third_of_two", true, true)];

/// Every `stride`th instruction of the end of a process of one thread, or of two.
fn each_end(name: &str, of_two: bool, stride: usize) -> io::Result<()> {
    let (again, reports) = (Control::open("overflow-again")?, Control::open("overflow-room")?);
    let (mut overflows, mut numbers, mut futexes, mut next, mut last) = (0, 0, 0, 1, 0);
    while next < MOST {
        let before = reports.count()?;
        let (cleared, marked) = die_again(of_two, next)?;
        let died = reports.count()? - before;
        overflows += died;
        if died == 1 {
            println!("fact dying.again {name} {last} {overflows} {numbers} {futexes}");
            return Ok(());
        }
        numbers += usize::from(of_two && !cleared);
        futexes += usize::from(!marked);
        // It may have waited for the end of a section.
        last = again.count()?.max(next);
        next = last + stride;
    }
    Err(io::Error::other(format!("{name}: more than {MOST}")))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "--executed") {
        return ExitCode::SUCCESS;
    }
    let stride: usize = words.first().and_then(|word| word.parse().ok()).unwrap_or(1);
    let chosen = |name: &str| words.len() < 2 || words[1..].iter().any(|word| word == name);
    let mut well = true;
    for (name, call) in CALLS.into_iter().filter(|(name, _)| chosen(name)) {
        // Instructions are four times as near to each other as depths are, if these are not far apart.
        let swept =
            each_depth(name, call, stride.div_ceil(4).min(8)).and_then(|()| each_instruction(name, call, stride));
        well &= swept.inspect_err(|error| println!("dying: {name}: {error}")).is_ok();
    }
    for (name, of_two, twice) in ENDS.into_iter().filter(|(name, ..)| chosen(name)) {
        TWICE.store(twice, SeqCst);
        let swept = share().and_then(|()| each_end(name, of_two, stride));
        well &= swept.inspect_err(|error| println!("dying: {name}: {error}")).is_ok();
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
