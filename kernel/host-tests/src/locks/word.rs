//! A word of the protocol that can stop the world: after each access the script may cut the victim short, or let somebody else
//! act.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

#[derive(Debug)]
pub(crate) struct Word(AtomicU64);

impl Word {
    pub(crate) const fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    pub(crate) fn load(&self) -> u64 {
        after(self.0.load(SeqCst))
    }

    pub(crate) fn store(&self, value: u64) {
        self.0.store(value, SeqCst);
        after(());
    }

    pub(crate) fn swap(&self, value: u64) -> u64 {
        after(self.0.swap(value, SeqCst))
    }

    pub(crate) fn replace(&self, old: u64, new: u64) -> bool {
        after(self.0.compare_exchange(old, new, SeqCst, SeqCst).is_ok())
    }

    pub(crate) fn store_own(&self, value: u64) {
        self.store(value);
    }
}

/// What somebody else does, once.
type Act = Box<dyn FnOnce()>;

thread_local! {
    /// Accesses since the run began; `None`: nobody counts.
    static STEPS: Cell<Option<usize>> = const { Cell::new(None) };
    static CUT: Cell<usize> = const { Cell::new(usize::MAX) };
    static ACT: RefCell<Option<(usize, Act)>> = const { RefCell::new(None) };
}

/// The victim is dead: what its frames would still do is not done.
struct Cut;

fn after<T>(result: T) -> T {
    let Some(steps) = STEPS.get() else { return result };
    STEPS.set(Some(steps + 1));
    if ACT.with_borrow(|act| act.as_ref().is_some_and(|(at, _)| *at == steps + 1)) {
        act_now();
    }
    if CUT.get() == steps + 1 {
        STEPS.set(None);
        panic::resume_unwind(Box::new(Cut));
    }
    result
}

/// Lets the other one act again, when the victim parks.
pub(crate) fn act_when_parked(act: Act) {
    ACT.set(Some((usize::MAX, act)));
}

/// Lets the other one act, if it has not.
pub(crate) fn act_now() {
    let Some((_, act)) = ACT.take() else { return };
    uncounted(act);
}

/// Runs what is not the victim's.
pub(crate) fn uncounted<T>(run: impl FnOnce() -> T) -> T {
    let steps = STEPS.take();
    let result = run();
    STEPS.set(steps);
    result
}

/// How far the victim came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ran {
    /// To the end, after so many accesses.
    Through(usize),
    Cut,
}

/// Runs `victim`, which is cut after `cut` accesses; `act` happens after so many.
pub(crate) fn run(cut: usize, act: Option<(usize, Act)>, victim: impl FnOnce()) -> Ran {
    CUT.set(cut);
    ACT.set(act);
    if cut == 0 {
        return Ran::Cut;
    }
    STEPS.set(Some(0));
    let ended = panic::catch_unwind(AssertUnwindSafe(victim));
    let steps = STEPS.take();
    ACT.set(None);
    match (ended, steps) {
        (Ok(()), steps) => Ran::Through(steps.unwrap_or(0)),
        (Err(payload), _) if payload.is::<Cut>() => Ran::Cut,
        (Err(payload), _) => panic::resume_unwind(payload),
    }
}

/// How many accesses `victim` makes.
pub(crate) fn steps(victim: impl FnOnce()) -> usize {
    match run(usize::MAX, None, victim) {
        Ran::Through(steps) => steps,
        Ran::Cut => unreachable!("nobody cuts it"),
    }
}
