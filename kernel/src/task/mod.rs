//! Tasks: what runs on a kernel stack.
//!
//! A task's stack holds nothing but its calls: the task struct, and all of thread_info with it, lives on the heap; `current`
//! is a per-CPU word. A task ends by [`sched::exit`]: it hands its stack to its CPU and switches away for the last time, and
//! the next task there gives the stack back.
//!
//! What may not enter: what a process is (`process`), what a fault is (`oops`).

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use vmstack::{PhysAddr, VirtAddr};
use vmstack_arch::Context;

use crate::arch::cpu::{self, InterruptsOff};
use crate::control::DirectStack;
use crate::mm::heap::Account;
use crate::mm::memory::{Memory, MemoryPlace};
use crate::mm::tables;
use crate::process::{Process, Thread};
use crate::stacks::{self, Stack};
use crate::sync::{HeldLocks, Section};

mod fpu;
pub(crate) mod kept;
pub(crate) mod names;
pub(crate) mod sched;
pub(crate) mod wait;

pub(crate) use fpu::FpuState;
use kept::KeptList;

/// What a task stands on.
#[derive(Debug)]
pub(crate) enum TaskStack {
    /// Mapped page by page between guards.
    Mapped(Stack),
    /// Contiguous frames in the direct map, no guards: the control.
    Direct(DirectStack),
    /// Handed over by a task that is dead.
    Gone,
}

/// Whether new tasks of processes stand on direct stacks: what `stacks=direct` asks.
static DIRECT_STACKS: AtomicBool = AtomicBool::new(false);

/// Makes the stacks of processes contiguous and unguarded from here on.
pub(crate) fn use_direct_stacks() {
    DIRECT_STACKS.store(true, Ordering::Relaxed);
}

impl TaskStack {
    /// A stack for task `id`, of the kind that this boot is for; `None` if there is no memory.
    pub(crate) fn new(id: usize) -> Option<Self> {
        if DIRECT_STACKS.load(Ordering::Relaxed) {
            return DirectStack::new().map(Self::Direct);
        }
        stacks::TASKS.alloc_waiting(id).ok().map(Self::Mapped)
    }

    /// As [`new`](Self::new), without waiting for stacks that are on their way back.
    pub(crate) fn at_once(id: usize) -> Option<Self> {
        if DIRECT_STACKS.load(Ordering::Relaxed) {
            return DirectStack::new().map(Self::Direct);
        }
        stacks::TASKS.alloc(id).ok().map(Self::Mapped)
    }

    pub(crate) fn top(&self) -> VirtAddr {
        match self {
            Self::Mapped(stack) => stack.top(),
            Self::Direct(stack) => stack.top(),
            Self::Gone => VirtAddr::default(),
        }
    }

    pub(crate) fn bottom(&self) -> VirtAddr {
        match self {
            Self::Mapped(stack) => stack.bottom(),
            Self::Direct(stack) => stack.bottom(),
            Self::Gone => VirtAddr::default(),
        }
    }
}

/// Where a task is, as the scheduler sees it. Changed under the run queue's lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// On a CPU.
    Running,
    /// Not started yet.
    New,
    /// Ready to run.
    Queued,
    /// Waiting for a tick.
    Sleeping,
    /// Waiting in the parking lot.
    Parked,
    /// Never to run again.
    Dead,
}

/// What the scheduler keeps of a task.
#[derive(Debug)]
pub(crate) struct Scheduling {
    pub(crate) state: State,
    /// When the timer wakes it, in ticks, while it sleeps or is parked for a time.
    pub(crate) wake_at: u64,
    /// What it is parked on, while it is.
    pub(crate) parked_on: Key,
    /// A word for whoever wakes it to judge by.
    pub(crate) word: u32,
    /// Whether [`sched::interrupt`] ends its wait.
    pub(crate) interruptible: bool,
    /// How its last wait ended.
    pub(crate) woken: Woken,
}

impl Scheduling {
    const fn new(state: State) -> Self {
        let (parked_on, woken) = (Key(0, 0), Woken::Called);
        Self { state, wake_at: u64::MAX, parked_on, word: 0, interruptible: false, woken }
    }
}

/// What tasks park on: two words that who waits and who wakes agree on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key(pub(crate) usize, pub(crate) usize);

impl From<usize> for Key {
    /// An address of the kernel's.
    fn from(address: usize) -> Self {
        Self(address, 0)
    }
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// Somebody woke it, or it was not wanted any more.
    Called,
    /// Its time was over.
    TimedOut,
    /// [`sched::interrupt`] ended it.
    Interrupted,
}

/// How a task wants to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wait {
    /// Until when, in nanoseconds of the kernel's clock, if not for ever.
    pub(crate) until: Option<u64>,
    /// Whether [`sched::interrupt`] ends it.
    pub(crate) interruptible: bool,
    /// A word for whoever wakes to judge by.
    pub(crate) word: u32,
}

impl Wait {
    /// For ever, and nothing interrupts it.
    pub(crate) const FOR_EVER: Self = Self { until: None, interruptible: false, word: 0 };
}

/// A task.
pub(crate) struct Task {
    id: usize,
    /// What a program's thread has; nothing for a task of the kernel.
    thread: Option<Thread>,
    /// The memory that it runs on; nothing for a task of the kernel, and for one that is ending.
    memory: MemoryPlace,
    /// The root of the page tables that go with it: one word, for the switch.
    root: AtomicU64,
    /// The fields below belong to the task itself while it runs, and to the scheduler while it does not.
    context: UnsafeCell<Context>,
    stack: UnsafeCell<TaskStack>,
    fpu: UnsafeCell<FpuState>,
    fs_base: AtomicUsize,
    gs_base: AtomicUsize,
    /// Under the run queue's lock.
    scheduling: UnsafeCell<Scheduling>,
    /// An idle task: the kernel has one for each CPU, and it is never queued.
    idle: bool,
    /// How often a fault killed it: once is enough, but it may overflow again on its way out.
    deaths: AtomicUsize,
    /// The locks that it holds, and the one that it takes.
    held: HeldLocks,
    /// What its frames use and it owns.
    kept: KeptList,
    /// What it has of the heap since it entered the kernel.
    heap: Account,
}

// SAFETY: the cells are used by the task itself while it runs and by the scheduler, under the run queue's lock, while it does
// not: never by two CPUs at once. The rest is atomics and shared values that are `Sync`.
unsafe impl Sync for Task {}
// SAFETY: nothing in a task is bound to a CPU.
unsafe impl Send for Task {}

static NEXT_ID: AtomicUsize = AtomicUsize::new(1);

/// What an idle task would run if it were new: it is not.
extern "C" fn never(_: usize) -> ! {
    unreachable!("an idle task is never new")
}

/// The next task number. Process numbers are the numbers of their first tasks.
pub(crate) fn next_id() -> usize {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// Hands out numbers from `number` on again.
pub(crate) fn numbers_from(number: usize) {
    NEXT_ID.store(number, Ordering::Relaxed);
}

/// What a new task is made of.
#[derive(Debug)]
pub(crate) struct NewTask {
    pub(crate) id: usize,
    pub(crate) thread: Option<Thread>,
    pub(crate) memory: Option<Arc<Memory>>,
    pub(crate) stack: TaskStack,
    pub(crate) fpu: FpuState,
    /// What it runs first, and with which argument, from `below` bytes under the top of its stack.
    pub(crate) entry: extern "C" fn(usize) -> !,
    pub(crate) argument: usize,
    pub(crate) below: usize,
}

impl Task {
    /// A task that has not run yet.
    pub(crate) fn new(new: NewTask) -> Self {
        let top = new.stack.top().wrapping_sub(new.below);
        // SAFETY: the stack is new and owned here, `below` is a multiple of 16 and leaves room for the context.
        let context = unsafe { Context::new(top, new.entry, new.argument) };
        Self::with_context(new, context, false)
    }

    /// The task that stands for the code that already runs on `stack`: it becomes the CPU's idle task.
    pub(crate) fn idle(stack: TaskStack) -> Self {
        let (thread, memory, fpu) = (None, None, FpuState::none());
        let new = NewTask { id: 0, thread, memory, stack, fpu, entry: never, argument: 0, below: 0 };
        Self::with_context(new, Context::empty(), true)
    }

    fn with_context(new: NewTask, context: Context, idle: bool) -> Self {
        let NewTask { id, thread, memory, stack, fpu, .. } = new;
        let root = memory.as_ref().map_or_else(tables::kernel_root, |memory| memory.root());
        let state = if idle { State::Running } else { State::New };
        Self {
            id,
            thread,
            memory: MemoryPlace::new(memory),
            root: AtomicU64::new(root.get()),
            context: UnsafeCell::new(context),
            stack: UnsafeCell::new(stack),
            fpu: UnsafeCell::new(fpu),
            fs_base: AtomicUsize::new(0),
            gs_base: AtomicUsize::new(0),
            scheduling: UnsafeCell::new(Scheduling::new(state)),
            idle,
            deaths: AtomicUsize::new(0),
            held: HeldLocks::new(),
            kept: KeptList::new(),
            heap: Account::new(),
        }
    }

    pub(crate) const fn id(&self) -> usize {
        self.id
    }

    pub(crate) const fn is_idle(&self) -> bool {
        self.idle
    }

    /// What a program's thread has; nothing for a task of the kernel.
    pub(crate) const fn thread(&self) -> Option<&Thread> {
        self.thread.as_ref()
    }

    pub(crate) fn process(&self) -> Option<&Arc<Process>> {
        self.thread().map(Thread::process)
    }

    /// Where the memory is that the task runs on.
    pub(crate) const fn memory_place(&self) -> &MemoryPlace {
        &self.memory
    }

    /// Runs the current task, which this is, on `memory` from here on, or on the kernel's own tables, and returns what it had.
    pub(crate) fn change_memory(&self, memory: Option<Arc<Memory>>) -> Option<Arc<Memory>> {
        // One step as seen by a switch and by a fault: neither comes in between.
        let _section = Section::enter();
        let root = memory.as_ref().map_or_else(tables::kernel_root, |memory| memory.root());
        self.root.store(root.get(), Ordering::Relaxed);
        // SAFETY: every address space has the kernel's half (INV-MAPPED).
        unsafe { cpu::write_cr3(root) };
        // SAFETY: the task itself, by this function's contract; the CPU has left the old memory.
        unsafe { self.memory.replace(memory) }
    }

    /// Gives up the memory of the current task, which this is. May be done again by one that was killed in the middle of it.
    pub(crate) fn give_up_memory(&self) {
        // First the word that a switch back to this task loads, then the register: a preemption in between does no harm.
        self.root.store(tables::kernel_root().get(), Ordering::Relaxed);
        // SAFETY: the kernel's own tables have everything that the kernel uses.
        unsafe { tables::load() };
        // SAFETY: the task itself, on the kernel's tables.
        unsafe { self.memory.give_up() };
    }

    /// What the task's frames use and it owns.
    pub(crate) const fn kept(&self) -> &KeptList {
        &self.kept
    }

    /// The locks that the task holds.
    pub(crate) const fn held(&self) -> &HeldLocks {
        &self.held
    }

    /// What the task allocated and did not free since it entered the kernel.
    pub(crate) const fn heap(&self) -> &Account {
        &self.heap
    }

    /// The root of the page tables that the task runs on.
    pub(crate) fn page_tables(&self) -> PhysAddr {
        PhysAddr::new(self.root.load(Ordering::Relaxed))
    }

    /// The bounds of the task's stack. Any context, while the task is alive.
    pub(crate) fn stack_bounds(&self) -> (VirtAddr, VirtAddr) {
        // SAFETY: the stack is set once and taken only by the task's own last act.
        let stack = unsafe { &*self.stack.get() };
        (stack.bottom(), stack.top())
    }

    /// Whether a signal waits for the task: what ends interruptible waits.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.thread().is_some_and(Thread::is_interrupted)
    }

    /// Whether a fault killed it.
    pub(crate) fn was_killed(&self) -> bool {
        self.deaths.load(Ordering::Relaxed) != 0
    }

    /// Notes that a fault kills the task, and says the how-manieth time it is.
    pub(crate) fn die(&self) -> usize {
        self.deaths.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn fs_base(&self) -> VirtAddr {
        VirtAddr::new(self.fs_base.load(Ordering::Relaxed))
    }

    pub(crate) fn set_fs_base(&self, base: VirtAddr) {
        self.fs_base.store(base.get(), Ordering::Relaxed);
    }

    pub(crate) fn gs_base(&self) -> VirtAddr {
        VirtAddr::new(self.gs_base.load(Ordering::Relaxed))
    }

    pub(crate) fn set_gs_base(&self, base: VirtAddr) {
        self.gs_base.store(base.get(), Ordering::Relaxed);
    }

    /// The vector registers of the task's user mode.
    ///
    /// # Safety
    ///
    /// The caller is the task itself with preemption off, or the scheduler while the task does not run.
    #[expect(clippy::mut_from_ref, reason = "the caller proves that it is alone")]
    pub(crate) unsafe fn fpu(&self) -> &mut FpuState {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.fpu.get() }
    }

    /// Gives the current task's user mode the vector registers that a program starts with.
    pub(crate) fn reset_fpu(&self) {
        let _interrupts = InterruptsOff::new();
        // SAFETY: callers are the task itself; interrupts are off.
        unsafe { self.fpu() }.reset();
    }

    /// What the scheduler keeps.
    ///
    /// # Safety
    ///
    /// The caller holds the run queue's lock, and no other reference from this function is alive.
    #[expect(clippy::mut_from_ref, reason = "the run queue's lock makes it exclusive")]
    unsafe fn scheduling(&self) -> &mut Scheduling {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.scheduling.get() }
    }

    /// Takes the stack of the task, whose last act this is.
    ///
    /// # Safety
    ///
    /// The caller is the task itself, and never returns.
    unsafe fn take_stack(&self) -> TaskStack {
        // SAFETY: only the task itself changes the stack, and only here.
        let stack = unsafe { &mut *self.stack.get() };
        core::mem::replace(stack, TaskStack::Gone)
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Makes a kernel task that runs `entry(argument)` on a mapped stack, and queues it.
pub(crate) fn spawn_kernel(
    name: &str,
    entry: extern "C" fn(usize) -> !,
    argument: usize,
) -> Result<Arc<Task>, vmstack::AllocError<stacks::StackError>> {
    let id = next_id();
    let stack = TaskStack::Mapped(stacks::TASKS.alloc_waiting(id)?);
    Ok(spawn_on(id, name, stack, entry, argument))
}

/// Makes a kernel task that runs `entry(argument)` on `stack`, and queues it.
pub(crate) fn spawn_on(
    id: usize,
    name: &str,
    stack: TaskStack,
    entry: extern "C" fn(usize) -> !,
    argument: usize,
) -> Arc<Task> {
    let fpu = FpuState::none();
    names::set(id, name);
    let task = Arc::new(Task::new(NewTask { id, thread: None, memory: None, stack, fpu, entry, argument, below: 0 }));
    sched::start(&task);
    task
}
