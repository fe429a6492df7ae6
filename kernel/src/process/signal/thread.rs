//! What a thread has of signals: which it blocks, those that were sent to it alone, and the stack that its handlers run on.
//!
//! The words are the thread's own, but that senders look at `blocked` and `awaited`. What is in the cell is used under the lock of the
//! process's signals.

use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::number::Set;
use super::pending::Pending;
use crate::syscall::Errno;

/// What a thread has of signals.
pub(crate) struct ThreadSignals {
    blocked: AtomicU64,
    /// What `sigtimedwait` waits for, blocked or not.
    awaited: AtomicU64,
    /// What was sent to the thread alone.
    own: UnsafeCell<Pending>,
    /// What was blocked before `sigsuspend` and its like, which handlers go back to.
    saved: AtomicU64,
    has_saved: AtomicBool,
    stack: AlternateStack,
    /// What the last fault of the thread was: vector, error code, address.
    fault: [AtomicU64; 3],
    restart: Restart,
}

// SAFETY: the cell is used under a lock (see the top of the file).
unsafe impl Sync for ThreadSignals {}

impl ThreadSignals {
    /// Of a thread that nothing was sent to, and that blocks nothing.
    pub(crate) const fn new() -> Self {
        Self {
            blocked: AtomicU64::new(0),
            awaited: AtomicU64::new(0),
            own: UnsafeCell::new(Pending::new()),
            saved: AtomicU64::new(0),
            has_saved: AtomicBool::new(false),
            stack: AlternateStack::new(),
            fault: [const { AtomicU64::new(0) }; 3],
            restart: Restart::new(),
        }
    }

    /// A thread that has not run yet blocks what `parent` does, which makes it. One with a memory of its own also has its alternate
    /// stack, and so has one that only borrows the memory.
    pub(crate) fn inherit(&self, parent: &Self, with_stack: bool) {
        self.set_blocked(parent.blocked());
        if with_stack {
            self.stack.set(parent.stack.get());
        }
    }

    /// What is blocked.
    pub(crate) fn blocked(&self) -> Set {
        Set(self.blocked.load(Ordering::Relaxed))
    }

    /// Changes what is blocked; the lock is held.
    pub(super) fn set_blocked(&self, set: Set) {
        self.blocked.store((set & !Set::UNSTOPPABLE).0, Ordering::Relaxed);
    }

    /// Changes what is waited for; the lock is held.
    pub(super) fn set_awaited(&self, set: Set) {
        self.awaited.store(set.0, Ordering::Relaxed);
    }

    /// What is waited for.
    pub(super) fn awaited(&self) -> Set {
        Set(self.awaited.load(Ordering::Relaxed))
    }

    /// What the thread would act upon.
    pub(super) fn wants(&self) -> Set {
        !self.blocked() | self.awaited()
    }

    /// What was sent to the thread alone.
    ///
    /// # Safety
    ///
    /// The caller holds the lock of the signals of the thread's process, and has no other reference from here.
    #[expect(clippy::mut_from_ref, reason = "the lock makes it exclusive")]
    pub(super) unsafe fn own(&self) -> &mut Pending {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.own.get() }
    }

    /// Keeps `set` as what handlers go back to.
    pub(super) fn save_mask(&self, set: Set) {
        self.saved.store(set.0, Ordering::Relaxed);
        self.has_saved.store(true, Ordering::Relaxed);
    }

    /// What handlers go back to, if that is not what is blocked.
    pub(super) fn saved_mask(&self) -> Option<Set> {
        self.has_saved.load(Ordering::Relaxed).then(|| Set(self.saved.load(Ordering::Relaxed)))
    }

    /// As [`saved_mask`](Self::saved_mask), forgotten hereby.
    pub(super) fn take_saved_mask(&self) -> Option<Set> {
        let saved = self.saved_mask();
        self.has_saved.store(false, Ordering::Relaxed);
        saved
    }

    pub(crate) const fn stack(&self) -> &AlternateStack {
        &self.stack
    }

    pub(super) fn note_fault(&self, words: [u64; 3]) {
        self.fault.iter().zip(words).for_each(|(place, word)| place.store(word, Ordering::Relaxed));
    }

    pub(super) fn last_fault(&self) -> [u64; 3] {
        [0, 1, 2].map(|index: usize| self.fault[index].load(Ordering::Relaxed))
    }

    pub(crate) const fn restart(&self) -> &Restart {
        &self.restart
    }
}

impl fmt::Debug for ThreadSignals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadSignals").field("blocked", &self.blocked()).finish_non_exhaustive()
    }
}

/// Where handlers run that ask for it: the words of Linux's `stack_t`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StackWords {
    pub(crate) base: usize,
    pub(crate) flags: u32,
    pub(crate) bytes: usize,
}

impl StackWords {
    /// A handler runs there.
    pub(crate) const ON_STACK: u32 = 1;
    /// There is none.
    pub(crate) const DISABLED: u32 = 2;
    /// It is none while a handler runs there.
    pub(crate) const AUTO_DISARM: u32 = 1 << 31;

    /// How small it may be, in bytes.
    const LEAST: usize = 2048;

    /// No stack.
    pub(crate) const NONE: Self = Self { base: 0, flags: Self::DISABLED, bytes: 0 };

    /// Whether `sp` is on the stack, and not because it was left there by a handler that took it over.
    pub(crate) const fn is_under(&self, sp: usize) -> bool {
        self.flags & Self::AUTO_DISARM == 0 && self.holds(sp)
    }

    /// The flags as a program sees them, whose stack pointer is `sp`.
    pub(crate) const fn shown_flags(&self, sp: usize) -> u32 {
        let state = match () {
            () if self.bytes == 0 => Self::DISABLED,
            () if self.is_under(sp) => Self::ON_STACK,
            () => 0,
        };
        state | self.flags & Self::AUTO_DISARM
    }

    /// Whether `sp` lies in the stack.
    pub(crate) const fn holds(&self, sp: usize) -> bool {
        self.bytes != 0 && sp > self.base && sp - self.base <= self.bytes
    }
}

/// The alternate stack of a thread.
#[derive(Debug)]
pub(crate) struct AlternateStack {
    base: AtomicUsize,
    flags: AtomicUsize,
    bytes: AtomicUsize,
}

impl AlternateStack {
    const fn new() -> Self {
        let StackWords { base, flags, bytes } = StackWords::NONE;
        Self { base: AtomicUsize::new(base), flags: AtomicUsize::new(flags as usize), bytes: AtomicUsize::new(bytes) }
    }

    pub(crate) fn get(&self) -> StackWords {
        let load = |word: &AtomicUsize| word.load(Ordering::Relaxed);
        StackWords { base: load(&self.base), flags: load(&self.flags) as u32, bytes: load(&self.bytes) }
    }

    /// Changes the stack as a program asks whose stack pointer is `sp`.
    ///
    /// # Errors
    ///
    /// `EPERM`: it is on the stack. `EINVAL`: flags that are none. `ENOMEM`: too small.
    pub(crate) fn change(&self, words: StackWords, sp: usize) -> Result<(), Errno> {
        let mode = words.flags & !StackWords::AUTO_DISARM;
        if self.get().is_under(sp) {
            return Err(Errno::PERM);
        }
        match mode {
            StackWords::DISABLED => self.set(StackWords::NONE),
            0 | StackWords::ON_STACK if words.bytes < StackWords::LEAST => return Err(Errno::NOMEM),
            0 | StackWords::ON_STACK => self.set(StackWords { flags: words.flags & StackWords::AUTO_DISARM, ..words }),
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }

    pub(super) fn set(&self, words: StackWords) {
        self.base.store(words.base, Ordering::Relaxed);
        self.flags.store(words.flags as usize, Ordering::Relaxed);
        self.bytes.store(words.bytes, Ordering::Relaxed);
    }
}

/// A call with a time-out of its own that was interrupted, and is made again if no handler runs: until when it was to wait.
#[derive(Debug)]
pub(crate) struct Restart {
    call: AtomicUsize,
    until: AtomicU64,
    resumed: AtomicBool,
}

/// No call has this number.
const NO_CALL: usize = usize::MAX;

impl Restart {
    const fn new() -> Self {
        Self { call: AtomicUsize::new(NO_CALL), until: AtomicU64::new(0), resumed: AtomicBool::new(false) }
    }

    /// Notes which call was interrupted.
    pub(super) fn note_call(&self, call: usize) {
        self.call.store(call, Ordering::Relaxed);
    }

    /// Notes until when it was to wait, in nanoseconds of the clock.
    pub(crate) fn note_time(&self, until: u64) {
        self.until.store(until, Ordering::Relaxed);
    }

    /// There is no such call any more.
    pub(super) fn forget(&self) {
        self.call.store(NO_CALL, Ordering::Relaxed);
    }

    /// The call that is made again from here on; none if none was interrupted.
    pub(crate) fn resume(&self) -> Option<usize> {
        let call = self.call.load(Ordering::Relaxed);
        (call != NO_CALL).then(|| {
            self.resumed.store(true, Ordering::Relaxed);
            call
        })
    }

    /// That call has ended.
    pub(crate) fn end(&self) {
        self.resumed.store(false, Ordering::Relaxed);
    }

    /// Until when the current call is to wait, if it is made again.
    pub(crate) fn time(&self) -> Option<u64> {
        self.resumed.load(Ordering::Relaxed).then(|| self.until.load(Ordering::Relaxed))
    }
}
