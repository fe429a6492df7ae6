//! A signal that plays the interrupt of the sweep: it is sent while the stack pointer is at the very end of a stack, and its
//! handler runs on the alternate stack, so it completes wherever it comes.

use core::ptr;
use core::sync::atomic::Ordering;

use super::ways::{INTERRUPT, INTERRUPTS};
use crate::sys::{Errno, check};

/// Serves the signal for as long as it lives. Whatever was installed for it before comes back then.
pub(super) struct Interrupts {
    before: libc::sigaction,
}

extern "C" fn on_interrupt(_: i32) {
    INTERRUPTS.fetch_add(1, Ordering::Relaxed);
}

impl Interrupts {
    pub(super) fn serve() -> Result<Self, Errno> {
        // SAFETY: zero is a valid value of all the fields: an empty mask, no flags.
        let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
        action.sa_sigaction = on_interrupt as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK;
        // SAFETY: as above.
        let mut before: libc::sigaction = unsafe { core::mem::zeroed() };
        // SAFETY: the handler is sound in signal context: it adds to a counter.
        check(unsafe { libc::sigaction(INTERRUPT, &raw const action, &raw mut before) })?;
        Ok(Self { before })
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        // SAFETY: what was there before, as the kernel gave it.
        unsafe { libc::sigaction(INTERRUPT, &raw const self.before, ptr::null_mut()) };
    }
}
