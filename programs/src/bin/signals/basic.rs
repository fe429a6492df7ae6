//! Handlers and masks.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering::SeqCst};

use libc::{SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SIGUSR1, SIGUSR2, c_int, c_void, siginfo_t};
use vmstack_programs::checks::{Checks, Outcome, equal, expect};
use vmstack_programs::{spawn, wait};

use crate::sys::{self, has};

pub(crate) const CHECKS: &Checks = &[
    ("info", info),
    ("mask", mask),
    ("nested", nested),
    ("no-defer", no_defer),
    ("once", once),
    ("ignored", ignored),
    ("alternate-stack", alternate_stack),
];

static COUNT: AtomicU32 = AtomicU32::new(0);
static NUMBER: AtomicI32 = AtomicI32::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static SENDER: AtomicI32 = AtomicI32::new(0);
static PLACE: AtomicUsize = AtomicUsize::new(0);
static ORDER: AtomicU32 = AtomicU32::new(0);

extern "C" fn note(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    let local = 0_u8;
    PLACE.store((&raw const local).addr(), SeqCst);
    COUNT.fetch_add(1, SeqCst);
    NUMBER.store(signal, SeqCst);
    // SAFETY: the kernel gives what it says.
    let info = unsafe { &*info };
    CODE.store(info.si_code, SeqCst);
    // SAFETY: whatever the bits are, they are a number.
    SENDER.store(unsafe { info.si_pid() }, SeqCst);
}

fn info() -> Outcome {
    sys::handle(SIGUSR1, note, 0);
    expect(sys::raise(SIGUSR1), "kill")?;
    equal("handlers", COUNT.load(SeqCst), 1)?;
    equal("signal", NUMBER.load(SeqCst), SIGUSR1)?;
    equal("code of kill", CODE.load(SeqCst), libc::SI_USER)?;
    equal("sender", SENDER.load(SeqCst), sys::process_id())?;
    expect(sys::kill_thread(sys::thread_id(), SIGUSR1), "tgkill")?;
    equal("handlers", COUNT.load(SeqCst), 2)?;
    equal("code of tgkill", CODE.load(SeqCst), libc::SI_TKILL)
}

fn mask() -> Outcome {
    sys::handle(SIGUSR1, note, 0);
    sys::mask(SIG_BLOCK, &[SIGUSR1]);
    expect(sys::raise(SIGUSR1) && sys::raise(SIGUSR1), "kill")?;
    equal("handlers while it is blocked", COUNT.load(SeqCst), 0)?;
    expect(has(&sys::pending(), SIGUSR1), "it is not pending")?;
    let before = sys::mask(SIG_UNBLOCK, &[SIGUSR1]);
    expect(has(&before, SIGUSR1), "it was not blocked")?;
    equal("handlers afterwards", COUNT.load(SeqCst), 1)?;
    expect(!has(&sys::pending(), SIGUSR1), "it is pending still")?;
    sys::mask(SIG_SETMASK, &[libc::SIGKILL, libc::SIGSTOP, SIGUSR2]);
    let now = sys::mask(SIG_BLOCK, &[]);
    expect(has(&now, SIGUSR2) && !has(&now, libc::SIGKILL) && !has(&now, libc::SIGSTOP), "KILL or STOP is blocked")
}

/// Writes down that a handler begins and ends.
fn step(what: u32) {
    ORDER.store(ORDER.load(SeqCst) * 10 + what, SeqCst);
}

extern "C" fn outer(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    step(1);
    sys::raise(SIGUSR2);
    step(2);
}

extern "C" fn inner(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    step(3);
}

fn nested() -> Outcome {
    sys::handle(SIGUSR2, inner, 0);
    sys::handle(SIGUSR1, outer, 0);
    sys::raise(SIGUSR1);
    equal("a handler in a handler", ORDER.swap(0, SeqCst), 132)?;
    sys::handle_with(SIGUSR1, outer, 0, &[SIGUSR2]);
    sys::raise(SIGUSR1);
    equal("one that is blocked meanwhile", ORDER.swap(0, SeqCst), 123)?;
    let blocked = sys::mask(SIG_BLOCK, &[]);
    expect(!has(&blocked, SIGUSR1) && !has(&blocked, SIGUSR2), "the mask was not given back")
}

extern "C" fn again(signal: c_int, _: *mut siginfo_t, _: *mut c_void) {
    if COUNT.fetch_add(1, SeqCst) < 3 {
        step(1);
        sys::raise(signal);
        step(2);
    }
}

fn no_defer() -> Outcome {
    sys::handle(SIGUSR1, again, libc::SA_NODEFER);
    sys::raise(SIGUSR1);
    equal("a handler in itself", ORDER.swap(0, SeqCst), 111_222)?;
    COUNT.store(0, SeqCst);
    sys::handle(SIGUSR1, again, 0);
    sys::raise(SIGUSR1);
    equal("one after the other", ORDER.swap(0, SeqCst), 121_212)
}

fn once() -> Outcome {
    let child = spawn(|| {
        sys::handle(SIGUSR1, note, libc::SA_RESETHAND);
        sys::raise(SIGUSR1);
        if COUNT.load(SeqCst) != 1 {
            return 1;
        }
        sys::raise(SIGUSR1);
        2
    });
    equal("how it ended", child.and_then(wait).map_err(|error| error.to_string())?.status, SIGUSR1)
}

fn ignored() -> Outcome {
    sys::dispose(SIGUSR1, libc::SIG_IGN);
    sys::mask(SIG_BLOCK, &[SIGUSR1]);
    sys::raise(SIGUSR1);
    expect(has(&sys::pending(), SIGUSR1), "what is blocked waits, though it is ignored")?;
    sys::dispose(SIGUSR1, libc::SIG_IGN);
    expect(!has(&sys::pending(), SIGUSR1), "ignoring takes it away")?;
    sys::mask(SIG_UNBLOCK, &[SIGUSR1]);
    expect(sys::raise(SIGUSR1) && sys::raise(libc::SIGCHLD) && sys::raise(libc::SIGWINCH), "kill")
}

fn alternate_stack() -> Outcome {
    let mut memory = vec![0_u8; 64 << 10];
    let bottom = memory.as_mut_ptr();
    let stack = libc::stack_t { ss_sp: bottom.cast(), ss_flags: 0, ss_size: memory.len() };
    // SAFETY: the memory stays until the end of this check.
    expect(unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) } == 0, "sigaltstack")?;
    let inside = |place: usize| place.wrapping_sub(bottom.addr()) < memory.len();
    sys::handle(SIGUSR1, note, libc::SA_ONSTACK);
    sys::raise(SIGUSR1);
    expect(inside(PLACE.load(SeqCst)), "the handler did not run there")?;
    sys::handle(SIGUSR1, note, 0);
    sys::raise(SIGUSR1);
    expect(!inside(PLACE.load(SeqCst)), "a handler ran there that did not ask for it")?;
    // SAFETY: all zeros is a stack.
    let mut old: libc::stack_t = unsafe { std::mem::zeroed() };
    let none = libc::stack_t { ss_flags: libc::SS_DISABLE, ..old };
    // SAFETY: both are there.
    expect(unsafe { libc::sigaltstack(&raw const none, &raw mut old) } == 0, "sigaltstack")?;
    equal("the old one", (old.ss_sp.addr(), old.ss_size, old.ss_flags), (bottom.addr(), memory.len(), 0))
}
