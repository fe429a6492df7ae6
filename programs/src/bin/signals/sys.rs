//! The system calls that the checks make, with what the C library makes of them.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_void, siginfo_t, sigset_t};

/// A handler, as `SA_SIGINFO` has it.
pub(crate) type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

/// A set of signals.
pub(crate) fn set(signals: &[c_int]) -> sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: writes the whole set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for &signal in signals {
        // SAFETY: the set was written above.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: as above.
    unsafe { set.assume_init() }
}

/// Whether `signal` is in `set`.
pub(crate) fn has(set: &sigset_t, signal: c_int) -> bool {
    // SAFETY: reads the set.
    unsafe { libc::sigismember(set, signal) == 1 }
}

/// Has `handler` called for `signal`, with `mask` blocked beside what was.
pub(crate) fn handle_with(signal: c_int, handler: Handler, flags: c_int, mask: &[c_int]) {
    // SAFETY: all zeros is an action.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = flags | libc::SA_SIGINFO;
    action.sa_mask = set(mask);
    // SAFETY: the handlers here do nothing that a handler may not.
    let done = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    assert!(done == 0, "sigaction {signal}: {}", io::Error::last_os_error());
}

/// Has `handler` called for `signal`.
pub(crate) fn handle(signal: c_int, handler: Handler, flags: c_int) {
    handle_with(signal, handler, flags, &[]);
}

/// Sets what is done about `signal`: `SIG_DFL` or `SIG_IGN`.
pub(crate) fn dispose(signal: c_int, how: usize) {
    // SAFETY: no handler.
    unsafe { libc::signal(signal, how) };
}

/// Changes what is blocked, and returns what was.
pub(crate) fn mask(how: c_int, signals: &[c_int]) -> sigset_t {
    let mut before = set(&[]);
    let new = set(signals);
    // SAFETY: both sets are there.
    let done = unsafe { libc::pthread_sigmask(how, &raw const new, &raw mut before) };
    assert!(done == 0, "sigmask: {done}");
    before
}

/// What is pending and blocked.
pub(crate) fn pending() -> sigset_t {
    let mut found = set(&[]);
    // SAFETY: writes the set.
    unsafe { libc::sigpending(&raw mut found) };
    found
}

/// Sends `signal` to `process`. Whether that could be done.
pub(crate) fn kill(process: c_int, signal: c_int) -> bool {
    // SAFETY: what the checks send is to themselves and to their children.
    unsafe { libc::kill(process, signal) == 0 }
}

/// Sends `signal` to this process.
pub(crate) fn raise(signal: c_int) -> bool {
    kill(process_id(), signal)
}

/// This process.
pub(crate) fn process_id() -> c_int {
    std::process::id().cast_signed()
}

/// The number of this thread.
pub(crate) fn thread_id() -> c_int {
    // SAFETY: only asks.
    unsafe { libc::syscall(libc::SYS_gettid) as c_int }
}

/// Sends `signal` to one thread of this process.
pub(crate) fn kill_thread(thread: c_int, signal: c_int) -> bool {
    // SAFETY: a signal to a thread of ours.
    unsafe { libc::syscall(libc::SYS_tgkill, process_id(), thread, signal) == 0 }
}

/// Sends `signal` with a value. Whether that could be done.
pub(crate) fn queue(process: c_int, signal: c_int, value: usize) -> bool {
    let value = libc::sigval { sival_ptr: ptr::without_provenance_mut(value) };
    // SAFETY: as for `kill`.
    unsafe { libc::sigqueue(process, signal, value) == 0 }
}

/// Waits for one of `signals`, at most so long. The signal and its value.
pub(crate) fn wait_for(signals: &[c_int], time: Duration) -> io::Result<(c_int, usize)> {
    let wanted = set(signals);
    let time = libc::timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: i64::from(time.subsec_nanos()) };
    let mut info = MaybeUninit::<siginfo_t>::zeroed();
    // SAFETY: all three are there.
    let signal = unsafe { libc::sigtimedwait(&raw const wanted, info.as_mut_ptr(), &raw const time) };
    if signal < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, or written by the call.
    let info = unsafe { info.assume_init() };
    // SAFETY: all bits of a value are some pointer.
    Ok((signal, unsafe { info.si_value() }.sival_ptr.addr()))
}

/// Waits for a signal while `blocked` is.
pub(crate) fn suspend(blocked: &sigset_t) -> io::Error {
    // SAFETY: reads the set.
    unsafe { libc::sigsuspend(blocked) };
    io::Error::last_os_error()
}

/// A timer that sends ALRM after `first`, and then each `every`.
pub(crate) fn timer(first: Duration, every: Duration) {
    let time = |time: Duration| libc::timeval {
        tv_sec: time.as_secs().cast_signed(),
        tv_usec: i64::from(time.subsec_micros()),
    };
    let setting = libc::itimerval { it_interval: time(every), it_value: time(first) };
    // SAFETY: reads the setting.
    let done = unsafe { libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const setting, 0) };
    assert!(done == 0, "setitimer: {}", io::Error::last_os_error());
}

/// The last error's number.
pub(crate) fn errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// A page of memory with `rights`.
pub(crate) fn page(rights: c_int) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory.
    let page = unsafe { libc::mmap(ptr::null_mut(), 4096, rights, flags, -1, 0) };
    assert!(page != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
    page.cast()
}
