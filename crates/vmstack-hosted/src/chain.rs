//! The handler that was there before ours, and how a signal gets to it as if we were not there.
//!
//! | before us | a fault (the kernel sent it) | a message (kill, raise, sigqueue) |
//! | --- | --- | --- |
//! | a handler | called, with its mask, its flags and its kind of arguments | the same |
//! | the default | set again; the instruction repeats, and the process dies of it | set again and raised |
//! | ignore | as the default: Linux ignores no fault | nothing |
//!
//! Two things differ from a process without us: the handler runs on the thread's alternate stack even if it did not ask
//! for it (ours had to), and the core file of a message shows a second one of the same number.
//!
//! Context: the fault path. Takes no lock, allocates nothing.

use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::sys::{Errno, check};

/// The signals that a bad access can raise.
const SIGNALS: [i32; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// A three-argument signal handler.
pub(crate) type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

struct Previous {
    action: libc::sigaction,
    /// It asked to be called once (`SA_RESETHAND`), and was.
    spent: AtomicBool,
}

static PREVIOUS: [OnceLock<Previous>; SIGNALS.len()] = [const { OnceLock::new() }; SIGNALS.len()];
static INSTALLED: Mutex<bool> = Mutex::new(false);

/// Installs `handler` for good, once in a process, and remembers what was there.
pub(crate) fn install(handler: Handler) -> Result<(), Errno> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*installed {
        for (signal, previous) in SIGNALS.into_iter().zip(&PREVIOUS) {
            // Known before ours can be called. Whoever installs one in this very moment on another thread is not seen.
            let action = action_of(signal)?;
            let _ = previous.set(Previous { action, spent: AtomicBool::new(false) });
            set_action(signal, &ours(handler))?;
        }
        *installed = true;
    }
    Ok(())
}

fn action_of(signal: i32) -> Result<libc::sigaction, Errno> {
    // SAFETY: zero is a valid value of all the fields.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    // SAFETY: asks, changes nothing, and fills `action`.
    check(unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) })?;
    Ok(action)
}

fn set_action(signal: i32, action: &libc::sigaction) -> Result<(), Errno> {
    // SAFETY: `action` names a handler that is sound in signal context, or the default.
    check(unsafe { libc::sigaction(signal, action, ptr::null_mut()) })
}

/// On the alternate stack, and without the interrupted code's mask but for the signal itself.
fn ours(handler: Handler) -> libc::sigaction {
    // SAFETY: zero is a valid value of all the fields: the default, an empty mask.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    action
}

/// Sets the default action again: the fault repeats when the handler returns, and ends the process.
pub(crate) fn restore_default(signal: i32) {
    // SAFETY: zero is a valid value of all the fields, and means the default.
    let action = unsafe { core::mem::zeroed() };
    let _ = set_action(signal, &action);
}

/// Gives a signal that is not ours to whoever had it before us. `is_fault`: the kernel sent it for an access.
///
/// # Safety
///
/// Called by the handler of `signal`, with its arguments.
pub(crate) unsafe fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void, is_fault: bool) {
    let place = SIGNALS.iter().position(|&known| known == signal);
    let previous = place.and_then(|i| PREVIOUS.get(i)).and_then(OnceLock::get);
    let handler = previous.map_or(libc::SIG_DFL, Previous::handler);
    match (previous, handler) {
        (_, libc::SIG_IGN) if !is_fault => {}
        (_, libc::SIG_DFL | libc::SIG_IGN) | (None, _) => die(signal, is_fault),
        // SAFETY: the arguments are the signal's, and the action has a handler.
        (Some(previous), _) => unsafe { previous.call(signal, info, context) },
    }
}

fn die(signal: i32, is_fault: bool) {
    restore_default(signal);
    if !is_fault {
        // A fault repeats itself; a message must be sent again. It is blocked until the handler returns.
        // SAFETY: sends a signal to this thread.
        let _ = unsafe { libc::raise(signal) };
    }
}

impl Previous {
    /// The handler, as a word: an address, or one of the two special values.
    fn handler(&self) -> usize {
        if self.spent.load(Ordering::Relaxed) { libc::SIG_DFL } else { self.action.sa_sigaction }
    }

    /// Calls the handler as the kernel would have.
    ///
    /// # Safety
    ///
    /// There is one, and the arguments are those of the signal that is being handled.
    unsafe fn call(&self, signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        let handler = self.action.sa_sigaction;
        if self.action.sa_flags & libc::SA_RESETHAND != 0 {
            self.spent.store(true, Ordering::Relaxed);
        }
        self.set_mask(signal);
        if self.action.sa_flags & libc::SA_SIGINFO != 0 {
            // SAFETY: it was installed with SA_SIGINFO, so it has this type.
            let handler = unsafe { core::mem::transmute::<usize, Handler>(handler) };
            handler(signal, info, context);
        } else {
            // SAFETY: it was installed without SA_SIGINFO, so it has this type.
            let handler = unsafe { core::mem::transmute::<usize, extern "C" fn(i32)>(handler) };
            handler(signal);
        }
    }

    /// Blocks what the kernel would have blocked. The return from our handler puts the interrupted code's mask back.
    fn set_mask(&self, signal: i32) {
        // SAFETY: adds to this thread's mask.
        let _ = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const self.action.sa_mask, ptr::null_mut()) };
        if self.action.sa_flags & libc::SA_NODEFER != 0 {
            unblock(signal);
        }
    }
}

fn unblock(signal: i32) {
    // SAFETY: zero is the empty set.
    let mut set: libc::sigset_t = unsafe { core::mem::zeroed() };
    // SAFETY: adds a valid signal to a valid set.
    let _ = unsafe { libc::sigaddset(&raw mut set, signal) };
    // SAFETY: takes from this thread's mask.
    let _ = unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) };
}
