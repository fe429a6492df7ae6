//! A task: a body, a stack, and what became of it.
//!
//! ```text
//!   executor                                  task
//!   --------                                  ----
//!   switch ─────────────────────────────────> body ... yield_now()
//!   <───────────────────────────────────────────────── switch
//!   switch ─────────────────────────────────> ... the body returns, or panics
//!                                              stack.hand_over()            (phase: dead)
//!   reap()  (phase: ready) <────────────────────────── switch, for the last time
//! ```
//!
//! A task that is killed does none of the last part: its frames are lost, with what only they owned, and the executor
//! drops the stack itself. Contexts: [`Task`] belongs to one thread; only cells and shared references, because executor
//! and task see it by turns.

use core::any::Any;
use core::cell::{Cell, UnsafeCell};
use core::fmt;
use core::panic::AssertUnwindSafe;

use std::panic::catch_unwind;
use std::rc::Rc;

use vmstack::{KernelStack, Platform, StackFault, VirtAddr, VirtRange};
use vmstack_arch::Context;

use crate::platform::Hosted;
use crate::stray::Stray;
use crate::thread::{self, RunningTask};
use crate::trace::Trace;

/// The number of a task in its machine, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskId(u64);

impl TaskId {
    pub(crate) const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Why a task was killed: plain data, as the signal handler leaves it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Death {
    /// What the library found. [`StackArea::report`](vmstack::StackArea::report) makes text of it.
    pub fault: StackFault,
    /// The calls that led there.
    pub trace: Trace,
}

/// What the signal handler left of a task that it killed.
#[derive(Debug)]
pub(crate) enum Cause {
    Stack(Death),
    Area(Stray),
}

impl From<Cause> for Outcome {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Stack(death) => Self::Killed(Box::new(death)),
            Cause::Area(stray) => Self::Strayed(Box::new(stray)),
        }
    }
}

/// What became of a task.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Its body returned.
    Finished,
    /// Its body panicked, with this message.
    Panicked(String),
    /// It made a fault in the stack area, an overflow most likely, and was killed for it.
    Killed(Box<Death>),
    /// It accessed what no area of a vmalloc lets it access, a guard for instance, and was killed for it.
    Strayed(Box<Stray>),
}

/// A task that is no more.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Ended {
    /// Its number.
    pub id: TaskId,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The deepest use of its stack in bytes, if that was measured: for the killed, and where the machine's
    /// configuration says so.
    pub used: Option<usize>,
}

/// What a task runs.
pub(crate) type Body<'m> = Box<dyn FnOnce() + 'm>;

pub(crate) struct Task<'m> {
    pub(crate) id: TaskId,
    name: Cell<String>,
    pub(crate) context: UnsafeCell<Context>,
    bounds: RunningTask,
    /// There until it is handed over.
    stack: Cell<Option<KernelStack<'m, Hosted>>>,
    /// There until it runs.
    body: Cell<Option<Body<'m>>>,
    panicked: Cell<Option<String>>,
    measure: bool,
    used: Cell<Option<usize>>,
    done: Cell<bool>,
}

impl<'m> Task<'m> {
    /// A task that runs `body` on `stack`, suspended before its first instruction.
    pub(crate) fn new(
        id: TaskId,
        name: &str,
        stack: KernelStack<'m, Hosted>,
        body: Body<'m>,
        measure: bool,
    ) -> Rc<Self> {
        let (bottom, top) = (stack.bottom(), stack.top());
        let guard = stack.area().geometry().map_or(0, vmstack::Geometry::guard);
        let range = |from, to: VirtAddr| VirtRange::new(from, to.distance(from)).unwrap_or(VirtRange::EMPTY);
        let (stack_range, reach) = (range(bottom, top), range(bottom.wrapping_sub(guard), top.wrapping_add(guard)));
        let task = Rc::new(Self {
            id,
            name: Cell::new(name.to_owned()),
            context: UnsafeCell::new(Context::empty()),
            bounds: RunningTask { context: core::ptr::null_mut(), stack: stack_range, reach },
            stack: Cell::new(Some(stack)),
            body: Cell::new(Some(body)),
            panicked: Cell::new(None),
            measure,
            used: Cell::new(None),
            done: Cell::new(false),
        });
        let argument = Rc::as_ptr(&task).expose_provenance();
        // SAFETY: the stack is the task's alone, mapped, of at least a page, and its top is on a page boundary.
        let context = unsafe { Context::new(top, task_main, argument) };
        // SAFETY: nobody else has seen the task yet.
        unsafe { *task.context.get() = context };
        task
    }

    /// What the signal handler must know while the task runs.
    pub(crate) const fn running(&self) -> RunningTask {
        RunningTask { context: self.context.get(), ..self.bounds }
    }

    /// Whether the task has run to its end.
    pub(crate) fn is_done(&self) -> bool {
        self.done.get()
    }

    /// What is left of a task that has run to its end, or was killed.
    pub(crate) fn end(&self, cause: Option<Cause>) -> Ended {
        let stack = self.stack.take();
        let used = self.used.take().or_else(|| stack.as_ref().map(KernelStack::watermark));
        // Of the killed: it goes back here, on the executor's stack. The others have handed theirs over.
        drop(stack);
        let outcome = match (cause, self.panicked.take()) {
            (Some(cause), _) => cause.into(),
            (None, Some(message)) => Outcome::Panicked(message),
            (None, None) => Outcome::Finished,
        };
        Ended { id: self.id, name: self.name.take(), outcome, used }
    }

    fn run_body(&self) {
        let Some(body) = self.body.take() else { return };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
            self.panicked.set(Some(message(&*panic)));
        }
    }

    /// The last thing that a task does on its stack but for the switch.
    fn hand_over(&self) {
        let Some(stack) = self.stack.take() else { return };
        let area = stack.area();
        let guard = area.platform().enter();
        if self.measure {
            self.used.set(Some(stack.watermark()));
        }
        stack.hand_over(&guard);
        self.done.set(true);
        // Nothing enters on this thread between here and the switch: nobody else runs on it.
        drop(guard);
    }
}

impl fmt::Debug for Task<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("id", &self.id).finish_non_exhaustive()
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic whose message is not text").to_owned()
}

/// The first function on a task's stack.
extern "C" fn task_main(task: usize) -> ! {
    let task = core::ptr::with_exposed_provenance::<Task<'static>>(task);
    // SAFETY: (1) `Task::new` put its own address there, and the executor keeps the task until it is done or killed;
    // (2) what it borrows outlives the executor, so calling it static here, where it is only used, is harmless.
    let task = unsafe { &*task };
    task.run_body();
    task.hand_over();
    loop {
        // For ever: the executor does not resume a task that is done.
        if let Some(cpu) = thread::running() {
            cpu.go_home();
        }
    }
}
