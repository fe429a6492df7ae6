//! [`Cpu`]: a thread that runs tasks.
//!
//! An executor in a few lines. Tasks wait in one queue and run in turn until each yields, ends or is killed; every switch
//! goes through the executor, on the thread's own stack. It does for a task what a kernel's scheduler does: it gives the
//! stack of a dead one back ([`StackArea::reap`](vmstack::StackArea::reap)), and goes on with the others.
//!
//! Contexts: the thread that made the CPU. [`Cpu::spawn`] may be called by a task, which needs
//! some kilobytes of stack for it.

use core::cell::RefCell;
use core::fmt;
use core::ptr::NonNull;

use std::collections::VecDeque;
use std::rc::Rc;

use vmstack::{AllocError, Cpu as CpuNumber, Platform};

use crate::alternate::AlternateStack;
use crate::machine::Machine;
use crate::platform::{HEADROOM, HostedError};
use crate::sys::Errno;
use crate::task::{Body, Ended, Task, TaskId};
use crate::thread::{self, CpuState};

/// The smallest stack that a task can run on, in bytes: a task enters the library when it ends.
const SMALLEST_STACK: usize = 2 * HEADROOM;

/// Why a thread cannot be a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CpuError {
    /// All the CPUs that the machine was made for are there.
    AllOnline {
        /// How many it was made for.
        cpus: usize,
    },
    /// This thread is one already.
    AlreadyOnline {
        /// The one that it is.
        cpu: CpuNumber,
    },
    /// The thread's alternate signal stack could not be made.
    AlternateStack(Errno),
}

impl fmt::Display for CpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllOnline { cpus } => write!(f, "all {cpus} CPUs of the machine are online: make it for more"),
            Self::AlreadyOnline { cpu } => write!(f, "this thread is CPU {cpu} of the machine already"),
            Self::AlternateStack(errno) => write!(f, "no alternate signal stack for this thread: {errno}"),
        }
    }
}

impl core::error::Error for CpuError {}

/// Why a task could not be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SpawnError {
    /// There was no stack for it.
    Stack(AllocError<HostedError>),
    /// The machine's stacks are too small to run tasks on. Sizes in bytes.
    StackTooSmall {
        /// The machine's stack size.
        size: usize,
        /// The smallest that a task can run on.
        min: usize,
    },
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stack(error) => write!(f, "no stack for the task: {error}"),
            Self::StackTooSmall { size, min } => write!(f, "stacks of {size} bytes are too small for tasks: {min}"),
        }
    }
}

impl core::error::Error for SpawnError {}

/// A CPU of a machine: this thread.
///
/// Having a `Cpu` means that this thread has a number of the machine which no other thread has, a cache of stacks under
/// that number, and an alternate stack for its signals. Dropping it gives all of that back: the stacks in its cache to the other
/// CPUs of its node, and the frames of all that are ready to the memory if it is the last.
pub struct Cpu<'m> {
    machine: &'m Machine,
    /// Where the signal handler finds it, so it is freed only after it left the thread's list.
    state: NonNull<CpuState>,
    ready: RefCell<VecDeque<Rc<Task<'m>>>>,
    _alternate_stack: Rc<AlternateStack>,
}

impl<'m> Cpu<'m> {
    pub(crate) fn new(machine: &'m Machine) -> Result<Self, CpuError> {
        let id = machine.platform().id();
        let cpu = thread::number_in(id);
        if cpu.index() < machine.cpus() {
            return Err(CpuError::AlreadyOnline { cpu });
        }
        let alternate_stack = AlternateStack::of_thread().map_err(CpuError::AlternateStack)?;
        let number = machine.online().take().ok_or(CpuError::AllOnline { cpus: machine.cpus() })?;
        let state = NonNull::from(Box::leak(Box::new(CpuState::new(id, number))));
        let cpu = Self { machine, state, ready: RefCell::default(), _alternate_stack: alternate_stack };
        // SAFETY: it is freed in `drop`, after it has left; the pointer keeps `Cpu` on this thread.
        unsafe { cpu.state().join() };
        Ok(cpu)
    }

    const fn state(&self) -> &CpuState {
        // SAFETY: made in `new`, freed in `drop`, and only ever shared.
        unsafe { self.state.as_ref() }
    }

    /// The number of this CPU.
    #[must_use]
    pub const fn number(&self) -> CpuNumber {
        self.state().number()
    }

    /// The machine that this is a CPU of.
    #[must_use]
    pub const fn machine(&self) -> &'m Machine {
        self.machine
    }

    /// Starts a task that runs `body` on a stack of its own, when [`run`](Self::run) comes to it.
    ///
    /// # Context
    ///
    /// This thread, outside `run` or in one of its tasks.
    ///
    /// # Errors
    ///
    /// [`SpawnError`]; then nothing is kept.
    ///
    /// # Safety
    ///
    /// A task that overflows is killed: its frames vanish without being dropped, and their memory is used again. So nothing
    /// outside the task points into its stack (INV-PRIVATE): it keeps no scoped threads, no pinned values that others
    /// know, no entries in others' lists. What it borrows from outside is safe.
    pub unsafe fn spawn(&self, name: &str, body: impl FnOnce() + 'm) -> Result<TaskId, SpawnError> {
        // A task that spawns must not be killed with the queue or the allocator in its hands.
        let _guard = self.machine.platform().enter();
        self.spawn_inside(name, Box::new(body))
    }

    fn spawn_inside(&self, name: &str, body: Body<'m>) -> Result<TaskId, SpawnError> {
        let size = self.machine.stack_size();
        if size < SMALLEST_STACK {
            return Err(SpawnError::StackTooSmall { size, min: SMALLEST_STACK });
        }
        let stack = self.machine.area().alloc(0).map_err(SpawnError::Stack)?;
        let id = self.machine.next_task();
        stack.set_owner(self.machine.platform().names.keep(stack.id().slot(), id.get(), name));
        self.ready.borrow_mut().push_back(Task::new(id, name, stack, body, self.machine.measures()));
        Ok(id)
    }

    /// Runs tasks, in turn, until none is left. Returns what became of each, in the order in which they ended.
    ///
    /// # Context
    ///
    /// This thread; also in a task of another machine.
    ///
    /// # Panics
    ///
    /// If one of this CPU's own tasks calls it.
    pub fn run(&self) -> Vec<Ended> {
        assert!(self.state().task().is_none(), "a task cannot run the tasks of its own CPU");
        let mut ended = Vec::new();
        self.state().enter_run();
        while let Some(task) = self.next() {
            ended.extend(self.step(task));
        }
        self.state().leave_run();
        ended
    }

    fn next(&self) -> Option<Rc<Task<'m>>> {
        self.ready.borrow_mut().pop_front()
    }

    /// Runs `task` until it comes back, and puts it in the queue again unless it has ended.
    fn step(&self, task: Rc<Task<'m>>) -> Option<Ended> {
        self.switch_to(&task);
        self.machine.area().reap();
        let death = self.state().take_death();
        if death.is_some() || task.is_done() {
            return Some(task.end(death));
        }
        self.ready.borrow_mut().push_back(task);
        None
    }

    fn switch_to(&self, task: &Task<'m>) {
        self.state().set_task(Some(task.running()));
        // SAFETY: (1) the task is new or has suspended itself, since it was in the queue; its stack is its own;
        // (2) the state stays where it is. Control comes back through `go_home`, or from the signal handler.
        unsafe { vmstack_arch::switch(self.state().home(), task.context.get()) };
        self.state().set_task(None);
    }
}

impl Drop for Cpu<'_> {
    fn drop(&mut self) {
        // Tasks that never ran, with their stacks, while this thread still has its number.
        self.ready.get_mut().clear();
        self.machine.area().leave_cpu();
        if self.machine.online().goes_last() {
            self.machine.area().drain();
        }
        self.state().leave();
        self.machine.online().give(self.number());
        // SAFETY: it was leaked in `new`, and the thread's list does not know it any more.
        drop(unsafe { Box::from_raw(self.state.as_ptr()) });
    }
}

impl fmt::Debug for Cpu<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cpu").field("number", &self.number()).finish_non_exhaustive()
    }
}

/// Lets the other tasks of this CPU run first. Outside a task, it lets other threads run.
pub fn yield_now() {
    match thread::running() {
        Some(cpu) => cpu.go_home(),
        None => std::thread::yield_now(),
    }
}
