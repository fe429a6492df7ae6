//! The scheduler: one queue, round robin, preemptive.
//!
//! The run queue's lock is held across a switch: the task that is switched *to* releases it. So nobody can take a task off the
//! queue while another CPU still stands on its stack, and a wake that comes between a task's decision to block and its switch
//! is not lost.
//!
//! Who waits is on one of the queues here, by its struct: nothing of a waiting task's stack is known to anybody (INV-PRIVATE). The
//! *parking lot* is the queue for everything that has no time: a task parks on a key, an address that it agrees on with whoever
//! wakes it, after a last look under the run queue's lock. Locks, processes and events need no queues of their own.
//!
//! ```text
//!   A: lock ── state ── switch ──────────────────────> B: unlock, reap the dead stack, go on
//!                        (A's registers are on A's stack)
//! ```
//!
//! A switch needs interrupts off; the lock sees to it. A task that is preempted is preempted at a return from an interrupt, on
//! its own stack.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::mem;
use core::ops::Deref;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use vmstack::VirtAddr;

use super::{Key, Scheduling, State, Task, TaskStack, Wait, Woken};
use crate::arch::cpu::{self, InterruptsOff};
use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::{features, gdt};
use crate::control;
use crate::crash;
use crate::stacks;
use crate::sync::{AnyLock, Section, VitalGuard, VitalLock};

/// Timer interrupts a second.
pub(crate) const TICKS_PER_SECOND: u64 = 100;
/// Ticks that a task may run before another gets its turn.
const SLICE: u64 = 2;

static QUEUE: VitalLock<RunQueue> = VitalLock::new("run-queue", RunQueue::new());
static TICKS: AtomicU64 = AtomicU64::new(0);
/// The task that each CPU switched away from, until the next one has let go of it.
static PREVIOUS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];
static IDLE: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

#[derive(Debug)]
struct RunQueue {
    ready: VecDeque<Arc<Task>>,
    sleepers: VecDeque<Arc<Task>>,
    parked: VecDeque<Arc<Task>>,
    /// Tasks that were started and are not dead, idle ones apart. Each queue has room for all of them, so that only starting
    /// one allocates.
    tasks: usize,
}

impl RunQueue {
    const fn new() -> Self {
        Self { ready: VecDeque::new(), sleepers: VecDeque::new(), parked: VecDeque::new(), tasks: 0 }
    }

    /// Counts one more task, and makes room for it.
    fn admit(&mut self) {
        self.tasks += 1;
        let tasks = self.tasks;
        for queue in [&mut self.ready, &mut self.sleepers, &mut self.parked] {
            queue.reserve(tasks.saturating_sub(queue.len()));
        }
    }

    /// Takes `task` off its CPU's hands, into the queue that its state names.
    fn place(&mut self, state: State, task: Arc<Task>) {
        match state {
            State::Queued => self.ready.push_back(task),
            State::Sleeping => self.sleepers.push_back(task),
            State::Parked => self.parked.push_back(task),
            State::New | State::Running | State::Dead => {}
        }
    }
}

/// The run queue's lock.
pub(crate) fn lock() -> &'static dyn AnyLock {
    &QUEUE
}

/// The task that runs this code.
///
/// Having one means that the task is alive: it cannot end while its own code runs, and it cannot be sent to another task. It
/// holds no count, so a task that is killed loses nothing with it.
#[derive(Debug)]
pub(crate) struct CurrentTask(*const Task);

impl Deref for CurrentTask {
    type Target = Task;

    fn deref(&self) -> &Task {
        // SAFETY: the CPU holds a count of the task while it runs, and this is the task's own code (see the type).
        unsafe { &*self.0 }
    }
}

/// The task that runs this code.
///
/// # Panics
///
/// Before [`start_idle`] on this CPU.
pub(crate) fn current() -> CurrentTask {
    CurrentTask(current_pointer())
}

/// The task that runs this code, with a count of its own.
fn current_counted() -> Arc<Task> {
    let task = current_pointer();
    // SAFETY: (1) `current` is a pointer from `Arc::into_raw`, of which the CPU holds one count while the task runs, and it is the
    // caller's own; (2) the count is raised before an `Arc` is made of it.
    unsafe { Arc::increment_strong_count(task) };
    // SAFETY: as above.
    unsafe { Arc::from_raw(task) }
}

/// The current task, if there is one yet, for the fault path.
pub(crate) fn current_if_any() -> Option<CurrentTask> {
    let task = percpu::current_task() as *const Task;
    (!task.is_null()).then_some(CurrentTask(task))
}

/// The number of the task that the machine cannot do without; zero until there is one.
static INIT: AtomicUsize = AtomicUsize::new(0);

/// Makes the current task the one that the machine cannot do without.
pub(crate) fn become_init() {
    INIT.store(current().id(), Ordering::Relaxed);
}

/// Whether the current task is the one that the machine cannot do without. Any context.
pub(crate) fn is_init() -> bool {
    current_if_any().is_some_and(|task| !task.is_idle() && task.id() == INIT.load(Ordering::Relaxed))
}

fn current_pointer() -> *const Task {
    let task = percpu::current_task() as *const Task;
    assert!(!task.is_null(), "there is no task on this CPU yet");
    task
}

/// Makes the code that runs on `stack` this CPU's idle task.
pub(crate) fn start_idle(stack: TaskStack) {
    let task = Arc::into_raw(Arc::new(Task::idle(stack)));
    let block = percpu::this_cpu();
    block.set_current(task.addr());
    IDLE[block.cpu().index()].store(task.expose_provenance(), Ordering::Relaxed);
}

/// Queues `task`, which is new, for the first time. From here on it is counted.
pub(crate) fn start(task: &Arc<Task>) {
    let mut queue = QUEUE.lock();
    queue.admit();
    // SAFETY: the lock is held.
    unsafe { task.scheduling() }.state = State::Queued;
    queue.ready.push_back(Arc::clone(task));
    drop(queue);
    crate::interrupts::poke_others();
}

/// Waits until somebody wakes who is parked on `key`, if that is `still_wanted`: it is asked under the lock that wakes take too,
/// so a wake that comes after the question is not lost.
///
/// # Context
///
/// Tasks, with preemption on.
pub(crate) fn park(key: impl Into<Key>, still_wanted: impl FnOnce() -> bool) {
    let _woken = park_for(key, &Wait::FOR_EVER, still_wanted);
}

/// As [`park`], in the way that `wait` says, and says how the wait ended. An interrupt that came before the question counts.
///
/// # Context
///
/// Tasks, with preemption on.
pub(crate) fn park_for(key: impl Into<Key>, wait: &Wait, still_wanted: impl FnOnce() -> bool) -> Woken {
    assert!(percpu::this_cpu().preempt_count() == 0, "a task waits with preemption off");
    leave_cpu(None, |scheduling| {
        scheduling.woken = Woken::Called;
        if wait.interruptible && current().is_interrupted() {
            scheduling.woken = Woken::Interrupted;
        } else if still_wanted() {
            scheduling.state = State::Parked;
            scheduling.wake_at = wait.until.map_or(u64::MAX, ticks_at);
            scheduling.parked_on = key.into();
            scheduling.word = wait.word;
            scheduling.interruptible = wait.interruptible;
        }
        scheduling.state == State::Parked
    });
    let task = current();
    // SAFETY: only what waits is changed by others, and the task runs.
    unsafe { task.scheduling() }.woken
}

/// The first tick at or after `nanoseconds`.
fn ticks_at(nanoseconds: u64) -> u64 {
    nanoseconds.div_ceil(1_000_000_000 / TICKS_PER_SECOND)
}

/// How many tasks are parked, on whatever.
pub(crate) fn parked() -> usize {
    QUEUE.lock().parked.len()
}

/// Wakes everybody who is parked on `key`, and says how many that were.
pub(crate) fn unpark_all(key: impl Into<Key>) -> usize {
    unpark(key, usize::MAX, |_| true)
}

/// Wakes the first `count` of those who are parked on `key` with a word that is `wanted`, and says how many there were.
pub(crate) fn unpark(key: impl Into<Key>, count: usize, mut wanted: impl FnMut(u32) -> bool) -> usize {
    let key = key.into();
    let mut woken = 0;
    wake(|_, scheduling| {
        let chosen = woken < count && scheduling.parked_on == key && wanted(scheduling.word);
        woken += usize::from(chosen);
        chosen.then_some(Woken::Called)
    })
}

/// Wakes the first `wake_count` of those who are parked on `from`, and parks the next `move_count` on `to`. Says how many each.
pub(crate) fn requeue(from: Key, to: Key, wake_count: usize, move_count: usize) -> (usize, usize) {
    let mut moved = 0;
    let mut woken = 0;
    wake(|_, scheduling| {
        if scheduling.parked_on != from {
            return None;
        }
        if woken < wake_count {
            woken += 1;
            return Some(Woken::Called);
        }
        if moved < move_count {
            moved += 1;
            scheduling.parked_on = to;
        }
        None
    });
    (woken, moved)
}

/// Ends the wait of `task`, if it is one that can be interrupted. Its flag was raised before.
pub(crate) fn interrupt(task: &Task) {
    wake(|parked, scheduling| (core::ptr::eq(parked, task) && scheduling.interruptible).then_some(Woken::Interrupted));
}

/// Wakes those parked tasks for which `choose` says how, and says how many that were.
fn wake(mut choose: impl FnMut(&Task, &mut Scheduling) -> Option<Woken>) -> usize {
    let mut queue = QUEUE.lock();
    let ready = queue.ready.len();
    for _ in 0..queue.parked.len() {
        let Some(task) = queue.parked.pop_front() else { break };
        // SAFETY: the lock is held.
        let scheduling = unsafe { task.scheduling() };
        if let Some(woken) = choose(&task, scheduling) {
            scheduling.state = State::Queued;
            scheduling.woken = woken;
        }
        queue.place(scheduling.state, task);
    }
    let woken = queue.ready.len() - ready;
    drop(queue);
    if woken != 0 {
        crate::interrupts::poke_others();
    }
    woken
}

/// Waits until the tick `at`.
pub(crate) fn sleep_until(at: u64) {
    leave_cpu(None, |scheduling| {
        scheduling.state = State::Sleeping;
        scheduling.wake_at = at;
        true
    });
}

/// Lets another task run, if one is ready.
pub(crate) fn yield_now() {
    percpu::this_cpu().set_need_resched(false);
    leave_cpu(None, |_| true);
}

/// The timer's tick: time goes on, sleepers wake, and whoever ran for its slice is preempted on the way back.
pub(crate) fn tick() {
    if let Some(process) = current_if_any().as_deref().and_then(Task::process) {
        process.count_tick();
    }
    if percpu::cpu_number().index() != 0 {
        percpu::this_cpu().set_need_resched(true);
        return;
    }
    let now = TICKS.fetch_add(1, Ordering::Relaxed) + 1;
    if now.is_multiple_of(SLICE) {
        percpu::this_cpu().set_need_resched(true);
    }
    wake_sleepers(now);
}

/// Ticks since the timer was started.
pub(crate) fn ticks() -> u64 {
    TICKS.load(Ordering::Relaxed)
}

fn wake_sleepers(now: u64) {
    let mut queue = QUEUE.lock();
    for _ in 0..queue.sleepers.len() {
        let Some(task) = queue.sleepers.pop_front() else { break };
        // SAFETY: the lock is held.
        let scheduling = unsafe { task.scheduling() };
        if scheduling.wake_at <= now {
            scheduling.state = State::Queued;
        }
        queue.place(scheduling.state, task);
    }
    drop(queue);
    wake(|_, scheduling| (scheduling.wake_at <= now).then_some(Woken::TimedOut));
}

/// Ends the current task: its stack goes to the next one.
pub(crate) fn exit() -> ! {
    // Nothing may come between the hand-over and the last switch, and an overflow comes before: one section over both. It ends
    // with the run queue's lock held, where interrupts stay off.
    let _interrupts = InterruptsOff::new();
    let section = Section::enter();
    // SAFETY: the task is the current one, and this is its last act.
    match unsafe { current().take_stack() } {
        TaskStack::Mapped(stack) => stack.hand_over(&section),
        TaskStack::Direct(stack) => stack.hand_over(),
        TaskStack::Gone => {}
    }
    leave_cpu(Some(section), |scheduling| {
        scheduling.state = State::Dead;
        true
    });
    unreachable!("a dead task was switched to")
}

/// Decides with `decide`, under the lock, whether the current task leaves the CPU, and switches to the next one. A `section` that
/// the task is in ends once the lock is held.
fn leave_cpu(section: Option<Section>, decide: impl FnOnce(&mut Scheduling) -> bool) {
    // Restored when the task comes back, however it was before: the lock's own guard goes to the next task.
    let _interrupts = InterruptsOff::new();
    let mut queue = QUEUE.lock();
    drop(section);
    // SAFETY: the pointer is the current task's, which lives while it is current.
    let task = unsafe { &*current_pointer() };
    // SAFETY: the lock is held.
    let scheduling = unsafe { task.scheduling() };
    if !decide(scheduling) {
        return;
    }
    if scheduling.state == State::Dead {
        queue.tasks -= 1;
    }
    let next = match queue.ready.pop_front() {
        Some(next) => Arc::into_raw(next),
        None if scheduling.state == State::Running => return,
        None => {
            VirtAddr::new(IDLE[percpu::cpu_number().index()].load(Ordering::Relaxed)).as_mut_ptr::<Task>().cast_const()
        }
    };
    if scheduling.state == State::Running {
        scheduling.state = State::Queued;
    }
    // The queue's count; the CPU's own is given up after the switch.
    if !task.is_idle() && scheduling.state != State::Dead {
        queue.place(scheduling.state, current_counted());
    }
    switch_to(next, queue);
}

/// Switches to `next`, holding the lock; comes back when the current task is switched to again.
fn switch_to(next: *const Task, queue: VitalGuard<'_, RunQueue>) {
    // SAFETY: `next` is an idle task or came off the queue, with a count that is the CPU's from here on.
    let (previous, next_task) = (unsafe { &*current_pointer() }, unsafe { &*next });
    // SAFETY: the lock is held.
    unsafe { next_task.scheduling() }.state = State::Running;
    leave_user_state(previous);
    let block = percpu::this_cpu();
    PREVIOUS[block.cpu().index()].store(current_pointer().expose_provenance(), Ordering::Relaxed);
    block.set_current(next.addr());
    enter_user_state(next_task);
    mem::forget(queue);
    let (save, load) = (previous.context.get(), next_task.context.get().cast_const());
    // SAFETY: (1) `next` was suspended by this function or is new, and the lock kept everybody else from it; (2) its stack is
    // mapped in all address spaces (INV-MAPPED); (3) `save` is in a task struct, which lives as long as the task.
    unsafe { vmstack_arch::switch(save, load) };
    after_switch();
}

/// The first thing that a task does when it runs again, and what a new task does first of all: releases the run queue,
/// gives the dead task's stack back, and lets go of its struct.
fn after_switch() {
    let previous = PREVIOUS[percpu::cpu_number().index()].load(Ordering::Relaxed);
    let previous = VirtAddr::new(previous).as_mut_ptr::<Task>().cast_const();
    // Until the dead task's stack and struct are dealt with, nobody is killed here: they would be lost.
    let _section = Section::enter();
    // SAFETY: the lock was taken by the task that switched to this one, which forgot its guard.
    unsafe { QUEUE.force_unlock() };
    stacks::reap();
    control::reap();
    // SAFETY: the pointer came from `Arc::into_raw`, with the count that the CPU held while the task was current. Idle tasks
    // keep theirs.
    if !unsafe { &*previous }.is_idle() {
        // SAFETY: as above.
        drop(unsafe { Arc::from_raw(previous) });
    }
}

/// What a new task runs first: it was switched to with the queue locked and interrupts off.
pub(crate) fn begin() {
    after_switch();
    // The guard that switched here belongs to another task: this one starts with interrupts on.
    // SAFETY: no lock is held, and the CPU is set up.
    unsafe { cpu::enable_interrupts() };
}

fn leave_user_state(task: &Task) {
    if task.process().is_some() {
        // SAFETY: the task is current, with interrupts off.
        unsafe { task.fpu() }.save();
        task.set_fs_base(features::user_fs_base());
        task.set_gs_base(features::user_gs_base());
    }
}

fn enter_user_state(task: &Task) {
    let root = task.page_tables();
    if cpu::read_cr3() != root {
        // SAFETY: every address space has the kernel's half (INV-MAPPED).
        unsafe { cpu::write_cr3(root) };
    }
    // SAFETY: interrupts are off; it is the stack of the task that is about to run.
    unsafe { gdt::set_kernel_stack(task.stack_bounds().1) };
    if task.process().is_some() {
        // SAFETY: the task does not run yet, and the lock is held.
        unsafe { task.fpu() }.restore();
        features::restore_user_bases(task.fs_base(), task.gs_base());
    }
}

/// What a CPU does when there is nothing to do. Never returns.
pub(crate) fn idle() -> ! {
    loop {
        yield_now();
        // What it frees for the dead is not its own.
        current().heap().reset();
        crash::while_idle();
        cpu::disable_interrupts();
        if QUEUE.lock().ready.is_empty() {
            // SAFETY: nothing is held here.
            unsafe { cpu::wait_for_interrupt() };
        }
        // SAFETY: nothing is held here.
        unsafe { cpu::enable_interrupts() };
    }
}

/// Tasks that are not dead, idle ones apart.
pub(crate) fn tasks_alive() -> usize {
    QUEUE.lock().tasks
}

/// Lets some ticks go by, so that every CPU has switched and reaped what died on it.
pub(crate) fn settle() {
    sleep_until(ticks() + 4 * SLICE);
}
