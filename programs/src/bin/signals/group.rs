//! Other processes: groups, children, pipes, threads, another program.

use std::os::fd::FromRawFd;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use libc::{SIG_BLOCK, SIGCHLD, SIGKILL, SIGPIPE, SIGTERM, SIGUSR1, SIGUSR2, c_int, c_void, siginfo_t};
use vmstack_programs::checks::{Checks, Outcome, child, equal, expect, status};
use vmstack_programs::{Pid, wait};

use crate::sys;

pub(crate) const CHECKS: &Checks = &[
    ("groups", groups),
    ("children", children),
    ("no-wait", no_wait),
    ("stop", stop),
    ("pipe", pipe),
    ("threads", threads),
    ("program", program),
    ("nobody", nobody),
];

static COUNT: AtomicU32 = AtomicU32::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static CHILD: AtomicI32 = AtomicI32::new(0);
static STATUS: AtomicI32 = AtomicI32::new(0);
static TAKER: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel gives what it says.
    let info = unsafe { &*info };
    CODE.store(info.si_code, SeqCst);
    // SAFETY: whatever the bits are, they are a number.
    CHILD.store(unsafe { info.si_pid() }, SeqCst);
    // SAFETY: as above.
    STATUS.store(unsafe { info.si_status() }, SeqCst);
    TAKER.store(sys::thread_id(), SeqCst);
    COUNT.fetch_add(1, SeqCst);
}

fn wait_for_ever() -> i32 {
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

fn groups() -> Outcome {
    let first = child(wait_for_ever)?;
    let second = child(wait_for_ever)?;
    for pid in [first, second] {
        // SAFETY: both are children of this process.
        expect(unsafe { libc::setpgid(pid, first) } == 0, "setpgid")?;
    }
    expect(sys::kill(-first, 0) && sys::kill(-first, SIGTERM), "kill")?;
    equal("the first", status(first)?, SIGTERM)?;
    equal("the second", status(second)?, SIGTERM)?;
    expect(!sys::kill(-first, 0) && sys::errno() == libc::ESRCH, "a group that is gone")?;
    let leader = child(|| {
        // SAFETY: a group of its own.
        unsafe { libc::setpgid(0, 0) };
        sys::kill(0, SIGUSR1);
        1
    })?;
    equal("one that signals its own group", status(leader)?, SIGUSR1)
}

fn children() -> Outcome {
    const EXITED: c_int = 1;
    const KILLED: c_int = 2;
    sys::handle(SIGCHLD, note, 0);
    let unblocked = sys::mask(SIG_BLOCK, &[SIGCHLD]);
    let exits = child(|| 7)?;
    sys::suspend(&unblocked);
    let said = || (CODE.load(SeqCst), CHILD.load(SeqCst), STATUS.load(SeqCst));
    equal("one that exited", said(), (EXITED, exits, 7))?;
    equal("its status", status(exits)?, 7 << 8)?;
    let dies = child(wait_for_ever)?;
    sys::kill(dies, SIGKILL);
    sys::suspend(&unblocked);
    equal("one that was killed", said(), (KILLED, dies, SIGKILL))?;
    equal("its status", status(dies)?, SIGKILL)
}

fn no_wait() -> Outcome {
    sys::dispose(SIGCHLD, libc::SIG_IGN);
    let pid = child(|| 0)?;
    let answer = wait(pid).map_err(|error| error.raw_os_error());
    expect(answer == Err(Some(libc::ECHILD)), "a child that nobody waits for")
}

fn wait_with(pid: Pid, options: c_int) -> c_int {
    let mut status = 0;
    // SAFETY: the status can be written to.
    let found = unsafe { libc::waitpid(pid, &raw mut status, options) };
    if found == pid { status } else { -1 }
}

fn stop() -> Outcome {
    let pid = child(wait_for_ever)?;
    expect(sys::kill(pid, libc::SIGSTOP), "kill")?;
    equal("stopped", wait_with(pid, libc::WUNTRACED), libc::SIGSTOP << 8 | 0x7f)?;
    // It waits while it is stopped.
    sys::kill(pid, SIGTERM);
    equal("while it is stopped", wait_with(pid, libc::WNOHANG), -1)?;
    expect(sys::kill(pid, libc::SIGCONT), "kill")?;
    equal("ended", status(pid)?, SIGTERM)?;
    let pid = child(wait_for_ever)?;
    sys::kill(pid, libc::SIGTSTP);
    equal("stopped", wait_with(pid, libc::WUNTRACED), libc::SIGTSTP << 8 | 0x7f)?;
    sys::kill(pid, libc::SIGCONT);
    equal("goes on", wait_with(pid, libc::WCONTINUED), 0xffff)?;
    sys::kill(pid, libc::SIGSTOP);
    equal("stopped", wait_with(pid, libc::WUNTRACED), libc::SIGSTOP << 8 | 0x7f)?;
    sys::kill(pid, SIGKILL);
    equal("killed while it is stopped", status(pid)?, SIGKILL)
}

/// A pipe that nobody reads.
fn broken() -> c_int {
    let mut ends = [0; 2];
    // SAFETY: two numbers are written.
    unsafe { libc::pipe(ends.as_mut_ptr()) };
    // SAFETY: the number is this process's, and nobody else's.
    drop(unsafe { std::fs::File::from_raw_fd(ends[0]) });
    ends[1]
}

fn write(descriptor: c_int) -> isize {
    // SAFETY: one byte is read.
    unsafe { libc::write(descriptor, b"x".as_ptr().cast(), 1) }
}

fn pipe() -> Outcome {
    let pid = child(|| {
        sys::dispose(SIGPIPE, libc::SIG_DFL);
        write(broken());
        1
    })?;
    equal("one that does not expect it", status(pid)?, SIGPIPE)?;
    sys::handle(SIGPIPE, note, 0);
    equal("one that does", (write(broken()), sys::errno()), (-1, libc::EPIPE))?;
    equal("handlers", COUNT.load(SeqCst), 1)
}

fn threads() -> Outcome {
    sys::handle(SIGUSR1, note, 0);
    sys::handle(SIGUSR2, note, 0);
    sys::mask(SIG_BLOCK, &[SIGUSR1]);
    let (tell, told) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let other = thread::spawn(move || {
        sys::mask(libc::SIG_UNBLOCK, &[SIGUSR1]);
        tell.send(sys::thread_id()).ok();
        ended.recv().ok();
    });
    let id = told.recv().map_err(|error| error.to_string())?;
    let until = |count: u32| {
        while COUNT.load(SeqCst) < count {
            thread::sleep(Duration::from_millis(1));
        }
    };
    sys::raise(SIGUSR1);
    until(1);
    equal("who took what the first thread blocks", TAKER.load(SeqCst), id)?;
    sys::raise(SIGUSR2);
    until(2);
    equal("who took what both would", TAKER.load(SeqCst), sys::thread_id())?;
    sys::kill_thread(id, SIGUSR2);
    until(3);
    equal("who took what was sent to it", TAKER.load(SeqCst), id)?;
    drop(end);
    other.join().map_err(|_| "the thread panicked".to_owned())?;
    // It is joined a little before it is gone.
    while sys::kill_thread(id, 0) {
        thread::yield_now();
    }
    equal("the error of a thread that is gone", sys::errno(), libc::ESRCH)
}

/// A new program ignores what was ignored and handles nothing.
fn program() -> Outcome {
    sys::handle(SIGUSR1, note, 0);
    sys::dispose(SIGUSR2, libc::SIG_IGN);
    sys::mask(SIG_BLOCK, &[SIGTERM]);
    let path = std::env::args_os().next().unwrap_or_default();
    let child = Command::new(path).arg("look").status().map_err(|error| error.to_string())?;
    equal("what it found", child.code(), Some(0))
}

/// What a new program finds: exit status 0 if it is as [`program`] left it.
pub(crate) fn look() -> ExitCode {
    let asked = |signal: c_int| {
        // SAFETY: all zeros is an action.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: only asks.
        unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
        action.sa_sigaction
    };
    let right = asked(SIGUSR1) == libc::SIG_DFL && asked(SIGUSR2) == libc::SIG_IGN;
    ExitCode::from(u8::from(!right))
}

fn nobody() -> Outcome {
    expect(!sys::kill(0x3f_0000, SIGTERM) && sys::errno() == libc::ESRCH, "a process that is not there")?;
    expect(!sys::kill(sys::process_id(), 65) && sys::errno() == libc::EINVAL, "signal 65")?;
    expect(!sys::kill(sys::process_id(), -1) && sys::errno() == libc::EINVAL, "signal -1")?;
    expect(!sys::kill_thread(-1, SIGTERM) && sys::errno() == libc::EINVAL, "thread -1")?;
    expect(!sys::queue(0x3f_0000, SIGTERM, 0) && sys::errno() == libc::ESRCH, "a queue that is not there")
}
