//! What a thread knows of itself: which CPUs it is, which of them runs a task, and whether it is inside the library.
//!
//! A thread is a CPU of a machine from [`Machine::cpu`](crate::Machine::cpu) until that [`Cpu`](crate::Cpu) is dropped. It may
//! be a CPU of several machines, and a task of one may run the tasks of another, so there are two lists:
//!
//! ```text
//!   cpus ─────> CpuState(machine 3) ──next──> CpuState(machine 1)        all that this thread is
//!   running ──> CpuState(machine 1) ──outer─> null                       those in `run`, innermost first
//! ```
//!
//! The signal handler reads and writes them on the same thread, between two instructions of the rest. So everything is a
//! cell that one store changes, thread-local without initialisation, and a [`CpuState`] stays where it was made.

use core::cell::{Cell, UnsafeCell};
use core::ptr;

use vmstack::{Cpu, VirtAddr, VirtRange};
use vmstack_arch::Context;

use crate::task::Cause;

/// All of it in one place, so that it takes one address to reach it.
struct Thread {
    cpus: Cell<*const CpuState>,
    running: Cell<*const CpuState>,
    /// How often the thread has entered the library and not left.
    inside: Cell<u32>,
}

thread_local! {
    static THREAD: Thread =
        const { Thread { cpus: Cell::new(ptr::null()), running: Cell::new(ptr::null()), inside: Cell::new(0) } };
}

#[inline]
fn cpus() -> *const CpuState {
    THREAD.with(|me| me.cpus.get())
}

#[inline]
fn innermost() -> *const CpuState {
    THREAD.with(|me| me.running.get())
}

fn set_innermost(state: *const CpuState) {
    THREAD.with(|me| me.running.set(state));
}

/// The task that a CPU is running.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunningTask {
    /// Where it is suspended when it yields.
    pub(crate) context: *mut Context,
    /// Its stack.
    pub(crate) stack: VirtRange,
    /// The stack with the guards on both sides: where its stack pointer may be. No other task of that machine runs here.
    pub(crate) reach: VirtRange,
}

/// One CPU of a machine, as its thread and the signal handler on that thread see it.
#[derive(Debug)]
pub(crate) struct CpuState {
    machine: u64,
    number: Cpu,
    next: Cell<*const Self>,
    outer: Cell<*const Self>,
    /// Where the executor is suspended while a task runs.
    home: UnsafeCell<Context>,
    task: Cell<Option<RunningTask>>,
    death: UnsafeCell<Option<Cause>>,
}

impl CpuState {
    pub(crate) const fn new(machine: u64, number: Cpu) -> Self {
        Self {
            machine,
            number,
            next: Cell::new(ptr::null()),
            outer: Cell::new(ptr::null()),
            home: UnsafeCell::new(Context::empty()),
            task: Cell::new(None),
            death: UnsafeCell::new(None),
        }
    }

    pub(crate) const fn number(&self) -> Cpu {
        self.number
    }

    /// Adds this to what the thread is.
    ///
    /// # Safety
    ///
    /// It stays where it is until [`leave`](Self::leave), on this thread.
    pub(crate) unsafe fn join(&self) {
        self.next.set(cpus());
        THREAD.with(|me| me.cpus.set(self));
    }

    /// Takes this off what the thread is.
    pub(crate) fn leave(&self) {
        let me: *const Self = self;
        match list(cpus(), |state| &state.next).find(|state| state.next.get() == me) {
            Some(before) => before.next.set(self.next.get()),
            None if cpus() == me => THREAD.with(|me| me.cpus.set(self.next.get())),
            None => {}
        }
    }

    /// Makes this the innermost CPU that runs tasks.
    pub(crate) fn enter_run(&self) {
        self.outer.set(innermost());
        set_innermost(self);
    }

    pub(crate) fn leave_run(&self) {
        set_innermost(self.outer.get());
    }

    pub(crate) fn task(&self) -> Option<RunningTask> {
        self.task.get()
    }

    pub(crate) fn set_task(&self, task: Option<RunningTask>) {
        self.task.set(task);
    }

    /// Where the executor is suspended, for a switch to or from it.
    pub(crate) const fn home(&self) -> *mut Context {
        self.home.get()
    }

    /// Suspends the task that this CPU runs and resumes the executor. Returns when the task is resumed.
    pub(crate) fn go_home(&self) {
        if let Some(task) = self.task.get() {
            // SAFETY: (1) the executor suspended itself in `home` when it switched to the task, and nobody has resumed it
            // since, because the task runs; (2) the task's context stays where it is as long as the task exists.
            unsafe { vmstack_arch::switch(task.context, self.home()) };
        }
    }

    /// Kills the running task: notes why, and returns the instruction and the stack pointer at which the executor goes on.
    ///
    /// For the signal handler on this thread, which interrupted the task.
    pub(crate) fn kill(&self, death: Cause) -> (VirtAddr, VirtAddr) {
        // Tasks of other machines that the task was running are lost with its frames.
        set_innermost(self);
        // SAFETY: the interrupted code is a task's, and the record is only read by the executor, on this thread.
        unsafe { *self.death.get() = Some(death) };
        // SAFETY: the executor is suspended, so nobody else uses the context.
        unsafe { &*self.home.get() }.resume_point()
    }

    /// What the handler left, if the task that ran last was killed.
    pub(crate) fn take_death(&self) -> Option<Cause> {
        // SAFETY: the executor runs on this thread, so no task does, and the handler writes only while one does.
        let death = unsafe { &mut *self.death.get() };
        death.take()
    }
}

/// The states from `first` on, along `link`.
fn list(
    first: *const CpuState,
    link: fn(&CpuState) -> &Cell<*const CpuState>,
) -> impl Iterator<Item = &'static CpuState> {
    // SAFETY: a state is on a list only while it stays where it is (`join`), and no reference outlives a call on this thread.
    let at = |state: *const CpuState| unsafe { state.as_ref() };
    core::iter::successors(at(first), move |state| at(link(state).get()))
}

/// The number of this thread as a CPU of `machine`, or one that no machine has.
#[inline]
pub(crate) fn number_in(machine: u64) -> Cpu {
    let state = list(cpus(), |state| &state.next).find(|state| state.machine == machine);
    state.map_or(Cpu::new(u32::MAX), CpuState::number)
}

/// The innermost CPU of this thread that is running a task.
pub(crate) fn running() -> Option<&'static CpuState> {
    list(innermost(), |state| &state.outer).find(|state| state.task().is_some())
}

/// The CPU of this thread whose running task has `stack_pointer`.
pub(crate) fn running_at(stack_pointer: VirtAddr) -> Option<&'static CpuState> {
    list(innermost(), |state| &state.outer)
        .find(|state| state.task().is_some_and(|task| task.reach.contains(stack_pointer)))
}

/// Whether this thread is inside the library, where nobody can be killed.
pub(crate) fn is_inside() -> bool {
    THREAD.with(|me| me.inside.get() != 0)
}

/// Whether a task may be running that can be killed: it comes from outside the library.
#[inline]
pub(crate) fn may_be_killed() -> bool {
    THREAD.with(|me| !me.running.get().is_null() && me.inside.get() == 0)
}

#[inline]
pub(crate) fn note_entered() {
    THREAD.with(|me| me.inside.set(me.inside.get() + 1));
}

#[inline]
pub(crate) fn note_left() {
    THREAD.with(|me| me.inside.set(me.inside.get().wrapping_sub(1)));
}
