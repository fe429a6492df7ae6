//! The stack on which signals are handled: the emergency stack of a thread.
//!
//! ```text
//!   | guard, a page | alternate stack: what the kernel saves of the registers, and 64 KiB |
//! ```
//!
//! A fault on it cannot be handled: SIGSEGV is blocked there, so Linux ends the process. It is large enough for our handler
//! and for one that somebody else installed. Context: task; the handler never looks here.

use core::cell::RefCell;
use core::ptr;

use std::rc::{Rc, Weak};

use crate::arch::PAGE_SIZE;
use crate::sys::{Errno, Region, check};

/// The least that the alternate stack has beside the registers that the kernel saves on it, in bytes.
const ALTERNATE_STACK: usize = 64 << 10;

/// A thread's alternate signal stack, with a guard below it.
///
/// Having one means that signals of this thread whose handlers ask for it run on this stack. Dropping it puts the one
/// before back.
#[derive(Debug)]
pub(crate) struct AlternateStack {
    before: libc::stack_t,
    _region: Region,
}

thread_local! {
    /// One for all the CPUs that a thread is. The handler does not look here.
    static SHARED: RefCell<Weak<AlternateStack>> = const { RefCell::new(Weak::new()) };
}

impl AlternateStack {
    /// This thread's, installed if it is the first use.
    pub(crate) fn of_thread() -> Result<Rc<Self>, Errno> {
        if let Some(shared) = SHARED.with_borrow(Weak::upgrade) {
            return Ok(shared);
        }
        let new = Rc::new(Self::install()?);
        SHARED.with_borrow_mut(|shared| *shared = Rc::downgrade(&new));
        Ok(new)
    }

    fn install() -> Result<Self, Errno> {
        // SAFETY: reads the process's auxiliary vector.
        let for_registers = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
        let bytes = (ALTERNATE_STACK + for_registers).next_multiple_of(PAGE_SIZE);
        let region = Region::reserve(PAGE_SIZE + bytes)?;
        region.open(PAGE_SIZE, bytes)?;
        let bottom = region.start().wrapping_add(PAGE_SIZE).as_mut_ptr();
        let before = set_alternate_stack(&libc::stack_t { ss_sp: bottom, ss_flags: 0, ss_size: bytes })?;
        Ok(Self { before, _region: region })
    }
}

impl Drop for AlternateStack {
    fn drop(&mut self) {
        // If it cannot be put back, the region goes all the same, and a fault then ends the process.
        let _ = set_alternate_stack(&self.before);
    }
}

/// Makes `stack` this thread's alternate stack, and returns the one before.
fn set_alternate_stack(stack: &libc::stack_t) -> Result<libc::stack_t, Errno> {
    let mut before = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: 0, ss_size: 0 };
    // SAFETY: both point to valid records, and the stack is memory that nobody else uses as long as it is installed.
    check(unsafe { libc::sigaltstack(stack, &raw mut before) })?;
    Ok(before)
}
