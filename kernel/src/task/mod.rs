//! Tasks: what runs on a kernel stack.
//!
//! A task's stack holds nothing but its calls: the task struct, and all of thread_info with it, lies in a slab; `current` is a
//! per-CPU word. A task ends by [`sched::exit`]: it hands its stack to its CPU and switches away for the last time, and
//! the next task there gives the stack back.
//!
//! What may not enter: what a process is (`process`), what a fault is (`oops`).

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::{self, offset_of};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use vmstack::{StackId, VirtAddr};
use vmstack_arch::Context;

use crate::arch::clock;
use crate::arch::cpu::{self, InterruptsOff};
use crate::mm::heap::Account;
use crate::mm::memory::{self, Memory, MemoryPlace};
use crate::process::{Process, Thread};
use crate::sync::{HeldLocks, Section, rcu};

pub(crate) mod flags;
mod fpu;
pub(crate) mod kept;
mod list;
pub(crate) mod look;
mod lot;
pub(crate) mod names;
mod queue;
mod ready;
pub(crate) mod reference;
pub(crate) mod sched;
mod scheduling;
mod spawn;
mod stack;
mod switch;
pub(crate) mod table;
mod timers;
pub(crate) mod wait;

use flags::{Flag, TaskWords};
pub(crate) use fpu::{FpuState, Registers};
use kept::{Kept, KeptList};
pub(crate) use look::goes_on;
pub(crate) use reference::TaskRef;
pub(crate) use scheduling::{ANYWHERE, Key, State, Wait, Woken};
use scheduling::{Node, Scheduling};
pub(crate) use spawn::{give_up_alive, spawn_kernel, spawn_on};
pub(crate) use stack::{TaskStack, free_stacks_late, use_direct_stacks};

/// A task.
pub(crate) struct Task {
    /// How many references there are: see [`TaskRef`].
    count: AtomicUsize,
    id: usize,
    /// What a program's thread has; nothing for a task of the kernel.
    thread: Option<Thread>,
    /// The memory that it runs on; nothing for a task of the kernel, and for one that is ending.
    memory: MemoryPlace,
    /// Whether it runs on that: one word, for the switch.
    has_memory: AtomicBool,
    /// The fields below belong to the task itself while it runs, and to the scheduler while it does not.
    context: UnsafeCell<Context>,
    stack: UnsafeCell<TaskStack>,
    fpu: UnsafeCell<FpuState>,
    fs_base: AtomicUsize,
    gs_base: AtomicUsize,
    /// Cycles of a CPU that it had up to its last switch, and when it was switched to, for threads of programs.
    cycles: AtomicU64,
    on_since: AtomicU64,
    /// Under the run queue's lock.
    scheduling: Scheduling,
    /// An idle task: the kernel has one for each CPU, and it is never queued.
    idle: bool,
    /// What it has to do before it returns to user mode.
    flags: TaskWords,
    /// System calls that were noted because it is traced.
    calls: AtomicUsize,
    /// Its struct waits with it for a grace period.
    rcu: rcu::Head,
    /// Its place in the table of all tasks.
    place: table::Place,
    /// Which stack it was given, if that is a mapped one: for those who want to look at it.
    stack_id: Option<StackId>,
    /// It is dead, and its stack was given back: only the struct waits.
    over: AtomicBool,
    /// How often a fault killed it: once is enough, but it may overflow again on its way out.
    deaths: AtomicUsize,
    /// The locks that it holds, and the one that it takes.
    held: HeldLocks,
    /// What its frames use and it owns.
    kept: KeptList,
    /// What it has of the heap since it entered the kernel.
    heap: Account,
    /// Which of its allocations is to fail on purpose: see `mm::inject`.
    fail_nth: AtomicU32,
    /// It found no memory: see `mm::shortage`.
    ran_short: AtomicBool,
}

// SAFETY: the cells are used by the task itself while it runs and by the scheduler, under the run queue's lock, while it does
// not: never by two CPUs at once. The rest is atomics and shared values that are `Sync`.
unsafe impl Sync for Task {}
// SAFETY: nothing in a task is bound to a CPU.
unsafe impl Send for Task {}

/// The highest number that there can be, as on a 64-bit Linux, and the first that is handed out again.
const HIGHEST_ID: usize = 4_194_303;
pub(crate) const FIRST_AGAIN: usize = 300;
/// The number that is next, and a bit: whether numbers were handed out up to the last.
static NEXT_ID: AtomicUsize = AtomicUsize::new(1);
const AGAIN: usize = 1 << (usize::BITS - 1);
static LAST_ID: AtomicUsize = AtomicUsize::new(HIGHEST_ID);

/// What an idle task would run if it were new: it is not.
extern "C" fn never(_: usize) -> ! {
    unreachable!("an idle task is never new")
}

/// The next task number, and whether numbers begin again: then somebody may have it. Process numbers are the numbers of their first tasks.
pub(crate) fn next_number() -> (usize, bool) {
    let word = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    if word & !AGAIN > highest_id() { first_again() } else { (word & !AGAIN, word & AGAIN != 0) }
}

/// The number after the last. Two CPUs that come here at once do not both begin again.
#[cold]
fn first_again() -> (usize, bool) {
    let begin = |word: usize| (word & !AGAIN > highest_id()).then_some((FIRST_AGAIN + 1) | AGAIN);
    match NEXT_ID.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begin) {
        Ok(_) => (FIRST_AGAIN, true),
        Err(_) => next_number(),
    }
}

/// The next task number, for the kernel's own.
pub(crate) fn next_id() -> usize {
    next_number().0
}

/// The highest number that is handed out.
pub(crate) fn highest_id() -> usize {
    LAST_ID.load(Ordering::Relaxed)
}

/// Sets the highest number that is handed out. False if that is out of bounds.
pub(crate) fn set_highest_id(number: usize) -> bool {
    let good = (FIRST_AGAIN..=HIGHEST_ID).contains(&number);
    if good {
        LAST_ID.store(number, Ordering::Relaxed);
    }
    good
}

/// The last number that was given to a task.
pub(crate) fn last_id() -> usize {
    (NEXT_ID.load(Ordering::Relaxed) & !AGAIN).saturating_sub(1)
}

/// What a new task is made of.
#[derive(Debug)]
pub(crate) struct NewTask {
    pub(crate) id: usize,
    /// What it is a thread of; nothing for a task of the kernel.
    pub(crate) process: Option<Arc<Process>>,
    pub(crate) memory: Option<Arc<Memory>>,
    pub(crate) stack: TaskStack,
    /// What its vector registers hold.
    pub(crate) registers: Registers,
    /// What it runs first, and with which argument, from `below` bytes under the top of its stack.
    pub(crate) entry: extern "C" fn(usize) -> !,
    pub(crate) argument: usize,
    pub(crate) below: usize,
}

impl Task {
    /// Offset of its flags, in bytes: where Linux's entry code would look.
    pub(crate) const FLAGS: usize = offset_of!(Self, flags);

    /// A task that has not run yet, whose vector registers are at `fpu`.
    #[inline(always)]
    fn new(new: NewTask, mut fpu: FpuState) -> Self {
        let top = new.stack.top().wrapping_sub(new.below);
        // SAFETY: the stack is new and owned here, `below` is a multiple of 16 and leaves room for the context.
        let context = unsafe { Context::new(top, new.entry, new.argument) };
        new.registers.write_to(&mut fpu);
        Self::with_context(new, fpu, context, false)
    }

    /// The task that stands for the code that already runs on `stack`: it becomes the CPU's idle task.
    fn idle(stack: TaskStack, fpu: FpuState) -> Self {
        let (process, memory, registers) = (None, None, Registers::None);
        let new = NewTask { id: 0, process, memory, stack, registers, entry: never, argument: 0, below: 0 };
        Self::with_context(new, fpu, Context::empty(), true)
    }

    /// Inlined, as what calls it is: so the fields are written where the struct is to lie, and not copied there.
    #[inline(always)]
    fn with_context(new: NewTask, fpu: FpuState, context: Context, idle: bool) -> Self {
        let NewTask { id, process, memory, stack, .. } = new;
        // Who is traced has children that are.
        let inherited = sched::current_if_any().map_or(0, |parent| parent.flags.raised() & Flag::Trace as u32);
        let state = if idle { State::Running } else { State::New };
        let stack_id = if let TaskStack::Mapped(stack) = &stack { Some(stack.id()) } else { None };
        Self {
            count: AtomicUsize::new(1),
            id,
            // Made here, where it is to lie: it is large.
            thread: process.map(|process| Thread::new(process, id)),
            has_memory: AtomicBool::new(memory.is_some()),
            memory: MemoryPlace::new(memory),
            context: UnsafeCell::new(context),
            stack: UnsafeCell::new(stack),
            fpu: UnsafeCell::new(fpu),
            fs_base: AtomicUsize::new(0),
            gs_base: AtomicUsize::new(0),
            cycles: AtomicU64::new(0),
            on_since: AtomicU64::new(0),
            scheduling: Scheduling::new(state),
            idle,
            flags: TaskWords::new(inherited),
            calls: AtomicUsize::new(0),
            rcu: rcu::Head::new(),
            place: table::Place::new(),
            stack_id,
            over: AtomicBool::new(false),
            deaths: AtomicUsize::new(0),
            held: HeldLocks::new(),
            kept: KeptList::new(),
            heap: Account::new(),
            fail_nth: AtomicU32::new(0),
            ran_short: AtomicBool::new(false),
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

    /// Runs the current task, which this is, on `memory` from here on, and gives up what it had.
    pub(crate) fn change_memory(&self, memory: Kept<Arc<Memory>>) {
        self.give_up_memory();
        // One step as seen by a switch and by a fault: neither comes in between.
        let section = Section::enter();
        let memory = memory.take(&section);
        memory::active::load(Some(&memory));
        // SAFETY: the task itself, which has given up what was there.
        unsafe { self.memory.put(memory, &section) };
        self.has_memory.store(true, Ordering::Relaxed);
    }

    /// Gives up the memory of the current task, which this is. May be done again by one that was killed in the middle of it.
    pub(crate) fn give_up_memory(&self) {
        // First the word that a switch back to this task looks at, then the register: a preemption in between does no harm.
        self.has_memory.store(false, Ordering::Relaxed);
        let interrupts = InterruptsOff::new();
        memory::active::load(None);
        drop(interrupts);
        // SAFETY: the task itself, on the kernel's tables.
        unsafe { self.memory.give_up() };
    }

    /// The memory that a CPU which switches to the task is to run on.
    ///
    /// # Safety
    ///
    /// As for [`MemoryPlace::get`].
    pub(crate) unsafe fn memory_to_load(&self) -> Option<&Memory> {
        // SAFETY: the caller's promise.
        let memory = unsafe { self.memory.get() };
        memory.filter(|_| self.has_memory.load(Ordering::Relaxed)).map(|memory| &**memory)
    }

    /// What the task's frames use and it owns.
    pub(crate) const fn kept(&self) -> &KeptList {
        &self.kept
    }

    /// Counts a system call that is noted, and says the how-manieth it is.
    pub(crate) fn count_call(&self) -> usize {
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The words of its flags; [`Task::raise`] is what to call.
    pub(crate) const fn flags(&self) -> &TaskWords {
        &self.flags
    }

    /// The locks that the task holds.
    pub(crate) const fn held(&self) -> &HeldLocks {
        &self.held
    }

    /// What the task allocated and did not free since it entered the kernel.
    pub(crate) const fn heap(&self) -> &Account {
        &self.heap
    }

    /// The bounds of the task's stack. Any context, while the task is alive.
    pub(crate) fn stack_bounds(&self) -> (VirtAddr, VirtAddr) {
        // SAFETY: the stack is set once and taken only by the task's own last act.
        let stack = unsafe { &*self.stack.get() };
        (stack.bottom(), stack.top())
    }

    /// Whether something waits for the task that it has to look at: what ends interruptible waits. It may be a false alarm.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.is_raised(Flag::Signal)
    }

    /// Whether it is a thread that has to end.
    pub(crate) fn must_end(&self) -> bool {
        self.thread().is_some_and(Thread::must_end)
    }

    /// How long it had CPUs, in nanoseconds. For the task itself.
    pub(crate) fn cpu_time(&self) -> u64 {
        clock::nanoseconds(self.cycles.load(Ordering::Relaxed).saturating_add(self.cycles_since_switch()))
    }

    /// For how many cycles it has had its CPU now. For the task itself.
    pub(crate) fn cycles_since_switch(&self) -> u64 {
        cpu::cycles().saturating_sub(self.on_since.load(Ordering::Relaxed))
    }

    /// Notes that it gets a CPU.
    fn begin_turn(&self) {
        self.on_since.store(cpu::cycles(), Ordering::Relaxed);
    }

    /// Notes that it leaves its CPU.
    fn end_turn(&self, process: &Process) {
        let cycles = self.cycles_since_switch();
        self.cycles.store(self.cycles.load(Ordering::Relaxed) + cycles, Ordering::Relaxed);
        process.count_cycles(cycles);
    }

    /// Whether it is dead, and its stack was given back.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
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

    /// The task in the scheduler's queues.
    ///
    /// # Safety
    ///
    /// The caller holds the run queue's lock for as long as it uses the node, and the task is not dead while it is on a queue.
    unsafe fn node(&self) -> Node {
        let task = ptr::from_ref(self);
        // By way of the whole struct, so that `of` may go back to it.
        // SAFETY: the field of a task that is there.
        let place = unsafe { &raw const (*task).scheduling };
        // SAFETY: it is a field's address, so it is not null.
        let place = unsafe { NonNull::new_unchecked(place.cast_mut()) };
        // SAFETY: the caller's promise.
        unsafe { Node::new(place) }
    }

    /// The task that `node` is of.
    fn of(node: Node) -> NonNull<Self> {
        // SAFETY: nodes are made by `node` above, of the field of a task.
        unsafe { node.place().byte_sub(offset_of!(Self, scheduling)).cast() }
    }

    /// Which of its allocations is to fail on purpose.
    pub(crate) const fn fail_nth(&self) -> &AtomicU32 {
        &self.fail_nth
    }

    /// Whether it found no memory.
    pub(crate) const fn ran_short(&self) -> &AtomicBool {
        &self.ran_short
    }

    /// Takes the stack of the task, whose last act this is; nothing if it is to stay with the struct.
    ///
    /// # Safety
    ///
    /// The caller is the task itself, and never returns.
    unsafe fn take_stack(&self) -> TaskStack {
        if stack::are_freed_late() {
            return TaskStack::Gone;
        }
        // SAFETY: only the task itself changes the stack, and only here.
        let stack = unsafe { &mut *self.stack.get() };
        mem::replace(stack, TaskStack::Gone)
    }
}

/// Stacks of tasks that were given up before they were dead.
static LEAKED: AtomicUsize = AtomicUsize::new(0);

/// How many stacks were leaked, because their tasks were not dead when their structs went.
pub(crate) fn leaked_stacks() -> usize {
    LEAKED.load(Ordering::Relaxed)
}

impl Drop for Task {
    /// A stack that is there still belongs to a task that never ran, or to one whose stack waits for a grace period. That of any other
    /// one may be stood on: it is not freed, and that is counted (INV-LIVE).
    fn drop(&mut self) {
        let stack = mem::replace(self.stack.get_mut(), TaskStack::Gone);
        let may_go = matches!(self.scheduling.state.get(), State::New | State::Dead);
        if !may_go && !matches!(stack, TaskStack::Gone) {
            LEAKED.fetch_add(1, Ordering::Relaxed);
            mem::forget(stack);
        }
    }
}

/// Gives up a count of the task whose struct `head` lies in: the callback of a dead one.
///
/// # Safety
///
/// As for [`rcu::Callback`]: the count is nobody's any more.
unsafe fn give_up(head: *const rcu::Head) {
    // SAFETY: the head lies so far from the start of its task.
    let task = unsafe { head.byte_sub(offset_of!(Task, rcu)) }.cast::<Task>().cast_mut();
    // SAFETY: the head is in a task, so it is not null.
    let task = unsafe { NonNull::new_unchecked(task) };
    // SAFETY: the caller's promise.
    drop(unsafe { TaskRef::from_raw(task) });
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("id", &self.id).finish_non_exhaustive()
    }
}
