//! Who runs: threads that are CPUs, and interrupts.
//!
//! To the library an interrupt comes where no guard is held, or where one is let go: under a guard none comes. So it is enough to
//! let one strike just before each outermost guard is taken and just after it is let go, and no moment is left out that differs.

use core::cell::Cell;

/// A handler, for as long as [`interrupted_by`] runs.
type Handler = *const (dyn Fn() + 'static);

thread_local! {
    static CPU: Cell<Option<u32>> = const { Cell::new(None) };
    static HANDLER: Cell<Option<Handler>> = const { Cell::new(None) };
}

/// This thread is CPU number `cpu` from here on, whatever others run on.
pub(crate) fn become_cpu(cpu: u32) {
    CPU.set(Some(cpu));
}

/// The CPU that this thread is, if it is one.
pub(crate) fn this_thread() -> Option<u32> {
    CPU.get()
}

/// Runs `run`, with `handler` as the interrupt that strikes whenever one can. It is not interrupted itself.
pub(crate) fn interrupted_by<R>(handler: &dyn Fn(), run: impl FnOnce() -> R) -> R {
    // It is forgotten before the reference ends, a few lines below.
    let handler = unsafe { core::mem::transmute::<*const (dyn Fn() + '_), Handler>(core::ptr::from_ref(handler)) };
    HANDLER.set(Some(handler));
    let result = run();
    HANDLER.set(None);
    result
}

/// The moment for an interrupt.
pub(super) fn strike() {
    if let Some(handler) = HANDLER.take() {
        unsafe { (*handler)() };
        HANDLER.set(Some(handler));
    }
}
