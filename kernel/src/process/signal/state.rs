//! What a process has of signals: what is done about each, those that were sent to it, and whether one has stopped it.
//!
//! ```text
//!   sender                                   thread
//!   lock the tree, lock the signals          a call waits: asks for its flag under the run queue's lock, then parks
//!     pending += signal                      ...
//!   a thread that wants it:                  on the way to user mode, its flag raised:
//!     raise its flag                         lower the flag
//!     wake it if it waits                    lock the signals, take what it wants
//! ```
//!
//! *No signal is lost.* A thread lowers its flag before it looks, and raises it itself when it changes what it blocks; and a sender who
//! finds it waiting wakes it. A sender who comes between the question and the park waits for the run queue's lock and
//! finds the thread parked. A thread that does not take what it was told of (it blocks it, or ends) tells another.
//!
//! The lock guards the threads' own signals too. It is held in a [`Section`]: nobody is killed while what it guards is cut. It is taken
//! after the tree's, and before those of the scheduler.
//!
//! # Context
//!
//! Tasks, or interrupt handlers for those that send.

use core::ops::{Deref, DerefMut};
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use super::action::{Action, Actions};
use super::info::Info;
use super::number::{self, Effect, Set, Signal};
use super::pending::{Full, Pending};
use super::thread::ThreadSignals;
use crate::mm::heap::OutOfHeap;
use crate::sync::{AnyLock, Section, SpinGuard, SpinLock};
use crate::task::flags::Flag;
use crate::task::sched;

/// What a process has of signals.
#[derive(Debug)]
pub(crate) struct ProcessSignals {
    state: SpinLock<State>,
    /// The signal that stopped the process, or zero. Changed under the lock.
    stopped: AtomicU32,
    /// What the parent has not been told: see [`Report`]. Zero: nothing.
    report: AtomicU32,
}

/// What is behind the lock.
#[derive(Debug)]
struct State {
    actions: Actions,
    /// What was sent to the process, for whichever thread takes it.
    shared: Pending,
}

/// What `wait4` tells of a process that has not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Report {
    /// This signal stopped it.
    Stopped(Signal),
    /// It goes on.
    Continued,
}

const CONTINUED: u32 = 1 << 8;

/// What a thread finds when it looks for signals.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing that it wants.
    Nothing,
    /// A signal, taken.
    Taken(Info),
    /// A signal, taken, that has stopped the process.
    Stop(Signal),
}

/// What came of sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    /// It waits for whoever wants it.
    Pending,
    /// It would do nothing.
    Ignored,
}

/// The state, locked, in a section.
struct Locked<'a> {
    state: SpinGuard<'a, State>,
    /// Left after the lock is released.
    _section: Section,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl State {
    /// All that waits for the thread, wanted or not.
    fn pending(&self, thread: &ThreadSignals) -> Set {
        // SAFETY: the lock is held, and the reference ends here.
        self.shared.set() | unsafe { thread.own() }.set()
    }

    fn take(&mut self, thread: &ThreadSignals, wanted: Set) -> Option<Info> {
        // SAFETY: the lock is held, and the reference ends here.
        let own = unsafe { thread.own() }.take(wanted);
        own.or_else(|| self.shared.take(wanted))
    }

    /// Makes `thread`, the current one, look if there is something for it.
    fn look_again(&self, thread: &ThreadSignals) {
        if self.pending(thread).meets(thread.wants()) {
            sched::current().raise(Flag::Signal);
        }
    }
}

impl ProcessSignals {
    /// Nothing special, and nothing sent.
    pub(crate) const fn new() -> Self {
        let state = State { actions: Actions::new(), shared: Pending::new() };
        Self { state: SpinLock::new("process-signals", state), stopped: AtomicU32::new(0), report: AtomicU32::new(0) }
    }

    /// Gives a process that has not run yet the actions of its parent.
    pub(crate) fn copy_actions(&self, parent: &Self) -> Result<(), OutOfHeap> {
        // What was allocated is nobody's for a moment.
        let _section = Section::enter();
        let actions = parent.lock().actions.copy()?;
        self.lock().actions = actions;
        Ok(())
    }

    fn lock(&self) -> Locked<'_> {
        let section = Section::enter();
        Locked { state: self.state.lock_anyway(), _section: section }
    }

    /// The lock.
    pub(crate) const fn any_lock(&self) -> &dyn AnyLock {
        &self.state
    }

    /// What a signal that is sent does to the process at once: CONT and KILL set it going again. Whether that is to be told: it was
    /// stopped, and does not end.
    pub(super) fn set_going(&self, signal: Signal) -> bool {
        let starts = signal == number::CONT || signal == number::KILL;
        let state = self.lock();
        if !starts || self.stopped.swap(0, Ordering::SeqCst) == 0 {
            return false;
        }
        let continues = signal == number::CONT;
        self.report.store(if continues { CONTINUED } else { 0 }, Ordering::Relaxed);
        drop(state);
        sched::unpark_all(self.stop_key());
        continues
    }

    /// Adds a signal to those of the process, unless it does nothing. `thread` is the one that would take it: what it blocks waits,
    /// whatever it would do now.
    pub(super) fn add(&self, thread: &ThreadSignals, info: &Info, value_matters: bool) -> Result<Sent, Full> {
        let mut state = self.lock();
        if !thread.blocked().has(info.signal()) && state.actions.does_nothing(info.signal()) {
            return Ok(Sent::Ignored);
        }
        state.shared.add(info, value_matters)?;
        Ok(Sent::Pending)
    }

    /// Whether `signal`, which was sent, ends the process as soon as `thread` takes it, which it does. One that is stopped, or that waits for
    /// such a signal, does not take it yet; KILL is taken by everybody.
    pub(super) fn is_ended_by(&self, thread: &ThreadSignals, signal: Signal) -> bool {
        let takes = !thread.blocked().has(signal) && !thread.awaited().has(signal) && !self.is_stopped();
        signal == number::KILL || takes && self.lock().actions.effect(signal) == Some(Effect::End)
    }

    /// As [`add`](Self::add), to those of `thread` alone.
    pub(super) fn add_own(&self, thread: &ThreadSignals, info: &Info, value_matters: bool) -> Result<Sent, Full> {
        let state = self.lock();
        if !thread.blocked().has(info.signal()) && state.actions.does_nothing(info.signal()) {
            return Ok(Sent::Ignored);
        }
        // SAFETY: the lock is held, and the reference ends here.
        unsafe { thread.own() }.add(info, value_matters)?;
        Ok(Sent::Pending)
    }

    /// Sends `thread`, the current one, a signal that it cannot escape: one that it blocks or ignores does what it does by default,
    /// and so does any that is `fatal`.
    pub(super) fn force(&self, thread: &ThreadSignals, info: &Info, fatal: bool) {
        let mut state = self.lock();
        let signal = info.signal();
        if fatal || thread.blocked().has(signal) || state.actions.does_nothing(signal) {
            state.actions.reset(signal);
            thread.set_blocked(thread.blocked() & !Set::of(signal));
        }
        // SAFETY: the lock is held, and the reference ends here.
        let added = unsafe { thread.own() }.add(info, false);
        debug_assert!(added.is_ok(), "what it says does not matter");
        sched::current().raise(Flag::Signal);
    }

    /// Forgets `unwanted` signals of the process.
    pub(super) fn forget(&self, unwanted: Set) {
        self.lock().shared.forget(unwanted);
    }

    /// Forgets `unwanted` signals of `thread`.
    pub(super) fn forget_own(&self, thread: &ThreadSignals, unwanted: Set) {
        let _state = self.lock();
        // SAFETY: the lock is held, and the reference ends here.
        unsafe { thread.own() }.forget(unwanted);
    }

    /// Forgets what was sent to `thread`, which takes nothing any more. Returns those of the process's signals that it would have taken.
    pub(super) fn leave(&self, thread: &ThreadSignals) -> Set {
        let state = self.lock();
        // SAFETY: the lock is held, and the reference ends here.
        unsafe { thread.own() }.forget(!Set::EMPTY);
        state.shared.set() & thread.wants()
    }

    /// What the threads of a stopped process wait on.
    fn stop_key(&self) -> usize {
        ptr::from_ref(&self.stopped).addr()
    }

    /// Whether the process is stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) != 0
    }

    /// Waits until the process is not stopped, or ends. SeqCst on both sides: who ends it sees the stop, or who stops sees the end.
    pub(super) fn wait_while_stopped(&self, ends: impl Fn() -> bool) {
        let stays = || self.is_stopped() && !ends();
        while stays() {
            sched::park(self.stop_key(), stays);
        }
    }

    /// Lets the threads of a process go that has to end.
    pub(crate) fn end_stop(&self) {
        if self.is_stopped() {
            self.stopped.store(0, Ordering::SeqCst);
            sched::unpark_all(self.stop_key());
        }
    }

    /// What the parent has not been told, if it is `wanted`: forgotten hereby, unless it is to be kept.
    pub(crate) fn report(&self, wanted: impl Fn(Report) -> bool, keep: bool) -> Option<Report> {
        let word = self.report.load(Ordering::Relaxed);
        let report = match word {
            CONTINUED => Report::Continued,
            number => Report::Stopped(Signal::new(number as usize)?),
        };
        let taken = || self.report.compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        (wanted(report) && (keep || taken())).then_some(report)
    }

    /// Takes a signal that `thread`, the current one, does not block. One that stops the process has done so.
    pub(super) fn next(&self, thread: &ThreadSignals) -> Next {
        let mut state = self.lock();
        let Some(info) = state.take(thread, !thread.blocked()) else { return Next::Nothing };
        let signal = info.signal();
        if state.actions.effect(signal) != Some(Effect::Stop) {
            return Next::Taken(info);
        }
        // Under the lock: a CONT that comes later is not overtaken.
        self.stopped.store(u32::from(signal), Ordering::SeqCst);
        self.report.store(u32::from(signal), Ordering::Relaxed);
        Next::Stop(signal)
    }

    /// Takes a signal of `wanted` for `thread`, the current one, that waits for it, whether it blocks it or not. Without one, such
    /// signals interrupt the thread from here on.
    pub(super) fn take_awaited(&self, thread: &ThreadSignals, wanted: Set) -> Option<Info> {
        let mut state = self.lock();
        let taken = state.take(thread, wanted);
        thread.set_awaited(if taken.is_some() { Set::EMPTY } else { wanted });
        state.look_again(thread);
        taken
    }

    /// Changes what `thread`, the current one, blocks, and waits for no signals any more. Returns those of the process's signals
    /// that it would have taken and does not: they are for other threads.
    pub(super) fn set_blocked(&self, thread: &ThreadSignals, set: Set) -> Set {
        let state = self.lock();
        let before = thread.wants();
        thread.set_awaited(Set::EMPTY);
        thread.set_blocked(set);
        state.look_again(thread);
        before & !thread.wants() & state.shared.set()
    }

    /// What waits and is blocked.
    pub(super) fn pending(&self, thread: &ThreadSignals) -> Set {
        self.lock().pending(thread) & thread.blocked()
    }

    /// What is to be done about `signal`.
    pub(crate) fn action(&self, signal: Signal) -> Action {
        self.lock().actions.get(signal)
    }

    /// As [`action`](Self::action), now that it is delivered: one that is handled once is reset. With what it does if nobody handles it.
    pub(super) fn take_action(&self, signal: Signal) -> (Action, Option<Effect>) {
        let mut state = self.lock();
        let effect = state.actions.effect(signal);
        (state.actions.take(signal), effect)
    }

    /// Changes what is to be done about `signal`, and returns what was; and whether it does nothing from here on.
    pub(super) fn set_action(&self, signal: Signal, action: Action) -> Result<(Action, bool), OutOfHeap> {
        let mut state = self.lock();
        let before = state.actions.set(signal, action)?;
        Ok((before, state.actions.does_nothing(signal)))
    }

    /// Whether children of the process are not kept when they end.
    pub(super) fn lets_children_go(&self) -> bool {
        let state = self.lock();
        let action = state.actions.get(number::CHLD);
        action.has(super::action::flags::NO_CHILD_WAIT) || state.actions.ignores(number::CHLD)
    }

    /// The process runs a new program: what was handled is not any more.
    pub(super) fn forget_handlers(&self) {
        self.lock().actions.forget_handlers();
    }
}
