//! The scheduler: one queue, round robin, preemptive.
//!
//! The run queue's lock is held across a switch: the task that is switched *to* releases it. So nobody can take a task off the
//! queue while another CPU still stands on its stack, and a wake that comes between a task's decision to block and its switch
//! is not lost.
//!
//! Who waits is on one of the queues here, by links in its struct: nothing of a waiting task's stack is known to anybody
//! (INV-PRIVATE), and waiting allocates nothing. The *parking lot* ([`lot`]) is for everything but time: a task parks on a key, an
//! address that it agrees on with whoever wakes it, after a last look under the run queue's lock. Locks, processes and events need
//! no queues of their own. Whoever waits for a time, in the lot or only asleep, is on the wheels too ([`timers`]).
//!
//! However many tasks there are, each operation costs those whom it finds. Interrupts are off under the lock, so what may find many
//! goes in pieces of [`PIECE`], and lets go of the lock in between.
//!
//! ```text
//!   A: lock ── state ── switch ──────────────────────> B: unlock, reap the dead stack, go on
//!                        (A's registers are on A's stack)
//! ```
//!
//! A switch needs interrupts off; the lock sees to it. A task that is preempted is preempted at a return from an interrupt, on
//! its own stack.

use core::mem;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use vmstack::VirtAddr;

use super::flags;
use super::list::{InQueue, List};
use super::lot::{Choice, Lot};
use super::scheduling::NEVER;
use super::timers::Timers;
use super::{Key, Node, State, Task, TaskRef, TaskStack, Wait, Woken};
use crate::arch::cpu::{self, InterruptsOff};
use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::{clock, features, gdt};
use crate::control;
use crate::crash;
use crate::hotplug;
use crate::mm::memory;
use crate::stacks;
use crate::sync::{AnyLock, Section, VitalGuard, VitalLock, rcu};

/// Timer interrupts a second.
pub(crate) const TICKS_PER_SECOND: u64 = 100;
/// Ticks that a task may run before another gets its turn.
const SLICE: u64 = 2;
/// How many tasks are woken or moved before the lock is let go of.
const PIECE: usize = 128;

static QUEUE: VitalLock<RunQueue> = VitalLock::new("run-queue", RunQueue::new());
static TICKS: AtomicU64 = AtomicU64::new(0);
/// The task that each CPU switched away from, until the next one has let go of it.
static PREVIOUS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];
static IDLE: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

#[derive(Debug)]
struct RunQueue {
    ready: List<InQueue>,
    lot: Lot,
    timers: Timers,
    /// Tasks that were started and are not dead, idle ones apart. Each has a count of the scheduler's.
    tasks: usize,
    /// The CPUs that found nothing to do and wait for an interrupt, by bit.
    idle: u64,
}

const _: () = assert!(MAX_CPUS <= u64::BITS as usize);

impl RunQueue {
    const fn new() -> Self {
        Self { ready: List::new(), lot: Lot::new(), timers: Timers::new(), tasks: 0, idle: 0 }
    }

    /// Takes the task of `node` off its CPU's hands, into the queue that its state names.
    fn place(&mut self, node: Node) {
        match node.state.get() {
            State::Queued => self.ready.push(node),
            State::Sleeping => self.timers.insert(node),
            State::Parked => {
                self.lot.park(node, node.parked_on.get());
                self.timers.insert(node);
            }
            State::New | State::Running | State::Dead => {}
        }
    }

    /// Makes the task of `node`, which is on no queue, ready: its wait ended as `woken` says.
    fn ready(ready: &List<InQueue>, node: Node, woken: Woken) {
        node.state.set(State::Queued);
        node.woken.set(woken);
        ready.push(node);
    }

    /// Asks `choose` about those who parked on `key` before `end`, and wakes or moves a piece of them. Whether that was all.
    fn choose(&mut self, key: Key, end: u64, choose: impl FnMut(&Node) -> Choice) -> bool {
        let Self { ready, lot, timers, .. } = self;
        lot.choose(key, end, PIECE, choose, |node| {
            timers.remove(node);
            Self::ready(ready, node, Woken::Called);
        })
    }

    /// Wakes a piece of those whose time has come by `now`, and says how many.
    fn wake_due(&mut self, now: u64) -> usize {
        let Self { ready, lot, timers, .. } = self;
        let mut woken = 0;
        timers.advance(now, PIECE, |node| {
            if node.state.get() == State::Parked {
                lot.remove(node);
            }
            Self::ready(ready, node, Woken::TimedOut);
            woken += 1;
        });
        woken
    }

    /// Ends the wait of `node`, wherever it waits.
    fn end_wait(&mut self, node: Node, woken: Woken) {
        if node.state.get() == State::Parked {
            self.lot.remove(node);
        }
        self.timers.remove(node);
        Self::ready(&self.ready, node, woken);
    }

    /// Idle CPUs for `tasks` more tasks that are ready, by bit: the caller pokes them. This CPU looks by itself.
    fn take_idle(&mut self, tasks: usize) -> u64 {
        if tasks == 0 || self.idle == 0 {
            return 0;
        }
        let me = 1 << percpu::cpu_number().index();
        let mut wanted = tasks - usize::from(self.idle & me != 0);
        let mut taken = 0;
        self.idle &= !me;
        while wanted != 0 && self.idle != 0 {
            let lowest = self.idle & self.idle.wrapping_neg();
            self.idle &= !lowest;
            taken |= lowest;
            wanted -= 1;
        }
        taken
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
    CurrentTask(current_pointer().as_ptr())
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

fn current_pointer() -> NonNull<Task> {
    let task = NonNull::new(percpu::current_task() as *mut Task);
    task.unwrap_or_else(|| panic!("there is no task on this CPU yet"))
}

/// Makes the code that runs on `stack` this CPU's idle task.
///
/// # Panics
///
/// If there is no memory for it.
pub(crate) fn start_idle(stack: TaskStack) {
    let task = TaskRef::place(|fpu| Task::idle(stack, fpu), &Section::enter());
    let Some(task) = task.map(TaskRef::into_raw) else { panic!("there is no memory for an idle task") };
    let block = percpu::this_cpu();
    block.set_current(task.addr().get());
    IDLE[block.cpu().index()].store(task.expose_provenance().get(), Ordering::Relaxed);
}

/// Queues `task`, which is new, for the first time. From here on it is counted, and the scheduler keeps this count.
pub(crate) fn start(task: TaskRef) {
    let mut queue = QUEUE.lock();
    queue.tasks += 1;
    // SAFETY: (1) the count keeps the struct until the task is dead; (2) the lock is held.
    let node = unsafe { task.node() };
    let _counted = task.into_raw();
    node.state.set(State::Queued);
    queue.ready.push(node);
    let idle = queue.take_idle(1);
    drop(queue);
    crate::interrupts::poke(idle);
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
    let key = key.into();
    wait_as(State::Parked, wait, still_wanted, |node| node.parked_on.set(key))
}

/// Waits in the way that `wait` says for its time to be over, and says how the wait ended. An interrupt that came before counts.
///
/// # Context
///
/// Tasks, with preemption on.
pub(crate) fn sleep_for(wait: &Wait) -> Woken {
    wait_as(State::Sleeping, wait, || true, |_| ())
}

/// Waits in `state`, in the way that `wait` says.
fn wait_as(state: State, wait: &Wait, still_wanted: impl FnOnce() -> bool, prepare: impl FnOnce(Node)) -> Woken {
    assert!(percpu::this_cpu().preempt_count() == 0, "a task waits with preemption off");
    let mut woken = None;
    leave_cpu(None, |node| {
        if wait.interruptible && current().is_interrupted() {
            woken = Some(Woken::Interrupted);
            return false;
        }
        if !still_wanted() {
            woken = Some(Woken::Called);
            return false;
        }
        node.state.set(state);
        node.wake_at.set(wait.until.map_or(NEVER, ticks_at));
        node.word.set(wait.word);
        node.interruptible.set(wait.interruptible);
        prepare(node);
        true
    });
    // SAFETY: how a wait ended is written before the task is made ready, and not again before it waits anew.
    woken.unwrap_or_else(|| unsafe { current().node() }.woken.get())
}

/// A tick that is not before the clock shows `nanoseconds`.
fn ticks_at(nanoseconds: u64) -> u64 {
    match nanoseconds.saturating_sub(clock::now()).div_ceil(clock::SECOND / TICKS_PER_SECOND) {
        0 => ticks(),
        // The next tick is less than one away.
        more => ticks().saturating_add(more + 1),
    }
}

/// How many tasks are parked, on whatever.
pub(crate) fn parked() -> usize {
    QUEUE.lock().lot.parked()
}

/// Wakes everybody who is parked on `key`, and says how many that were.
pub(crate) fn unpark_all(key: impl Into<Key>) -> usize {
    unpark(key, usize::MAX, |_| true)
}

/// Wakes the first `count` of those who are parked on `key` with a word that is `wanted`, and says how many there were.
pub(crate) fn unpark(key: impl Into<Key>, count: usize, mut wanted: impl FnMut(u32) -> bool) -> usize {
    let mut woken = 0;
    in_pieces(key.into(), |node| {
        if woken == count {
            return Choice::Stop;
        }
        if !wanted(node.word.get()) {
            return Choice::Leave;
        }
        woken += 1;
        Choice::Wake
    });
    woken
}

/// Wakes the first `wake_count` of those who are parked on `from`, and parks the next `move_count` on `to`. Says how many each.
pub(crate) fn requeue(from: Key, to: Key, wake_count: usize, move_count: usize) -> (usize, usize) {
    let (mut woken, mut moved) = (0, 0);
    in_pieces(from, |_| {
        if woken < wake_count {
            woken += 1;
            Choice::Wake
        } else if moved < move_count {
            moved += 1;
            Choice::Move(to)
        } else {
            Choice::Stop
        }
    });
    (woken, moved)
}

/// Asks `choose` about everybody who is parked on `key` now, letting go of the lock between pieces.
fn in_pieces(key: Key, mut choose: impl FnMut(&Node) -> Choice) {
    let mut end = None;
    let mut done = false;
    while !done {
        let mut queue = QUEUE.lock();
        let end = *end.get_or_insert(queue.lot.end());
        let mut woken = 0;
        done = queue.choose(key, end, |node| {
            let choice = choose(node);
            woken += usize::from(choice == Choice::Wake);
            choice
        });
        let idle = queue.take_idle(woken);
        drop(queue);
        crate::interrupts::poke(idle);
    }
}

/// Ends the wait of `task`, if it is one that can be interrupted. Its flag was raised before.
pub(crate) fn interrupt(task: &Task) {
    let mut queue = QUEUE.lock();
    // SAFETY: the lock is held; a task that waits is not dead.
    let node = unsafe { task.node() };
    let waits = matches!(node.state.get(), State::Parked | State::Sleeping) && node.interruptible.get();
    if waits {
        queue.end_wait(node, Woken::Interrupted);
    }
    let idle = queue.take_idle(usize::from(waits));
    drop(queue);
    crate::interrupts::poke(idle);
}

/// Waits until the tick `at`.
pub(crate) fn sleep_until(at: u64) {
    leave_cpu(None, |node| {
        node.state.set(State::Sleeping);
        node.wake_at.set(at);
        node.interruptible.set(false);
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
    let mut queue = QUEUE.lock();
    let woken = queue.wake_due(now);
    let idle = queue.take_idle(woken);
    drop(queue);
    crate::interrupts::poke(idle);
}

/// Ticks since the timer was started.
pub(crate) fn ticks() -> u64 {
    TICKS.load(Ordering::Relaxed)
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
    leave_cpu(Some(section), |node| {
        node.state.set(State::Dead);
        true
    });
    unreachable!("a dead task was switched to")
}

/// Decides with `decide`, under the lock, whether the current task leaves the CPU, and switches to the next one. A `section` that
/// the task is in ends once the lock is held.
fn leave_cpu(section: Option<Section>, decide: impl FnOnce(Node) -> bool) {
    // Restored when the task comes back, however it was before: the lock's own guard goes to the next task.
    let _interrupts = InterruptsOff::new();
    let mut queue = QUEUE.lock();
    drop(section);
    rcu::note_switch();
    // SAFETY: the pointer is the current task's, which lives while it is current.
    let task = unsafe { current_pointer().as_ref() };
    // SAFETY: the lock is held.
    let node = unsafe { task.node() };
    if !decide(node) {
        return;
    }
    if queue.timers.is_behind(ticks()) {
        catch_up(&mut queue);
    }
    let Some(next) = next_task(&mut queue, task, node.state.get()) else { return };
    leave_behind(&mut queue, task, node);
    switch_to(next, queue);
}

/// Wakes some of those whose time has come and whom the last tick had to leave.
fn catch_up(queue: &mut RunQueue) {
    let woken = queue.wake_due(ticks());
    crate::interrupts::poke(queue.take_idle(woken));
}

/// Who runs next on this CPU, if the state of `task`, the current one, is `state`; `None` if the task itself goes on.
fn next_task(queue: &mut RunQueue, task: &Task, state: State) -> Option<NonNull<Task>> {
    // A CPU that goes offline has nothing to run but its idle task.
    let leaving = hotplug::is_leaving();
    if !leaving && let Some(next) = queue.ready.pop() {
        return Some(Task::of(next));
    }
    if state == State::Running && (task.is_idle() || !leaving) {
        return None;
    }
    let idle = IDLE[percpu::cpu_number().index()].load(Ordering::Relaxed);
    NonNull::new(VirtAddr::new(idle).as_mut_ptr())
}

/// Puts `task`, which another one follows on this CPU, where its state wants it.
fn leave_behind(queue: &mut RunQueue, task: &Task, node: Node) {
    if task.is_idle() {
        queue.idle &= !(1 << percpu::cpu_number().index());
        return;
    }
    match node.state.get() {
        State::Dead => queue.tasks -= 1,
        State::Running => node.state.set(State::Queued),
        _ => {}
    }
    queue.place(node);
}

/// Switches to `next`, holding the lock; comes back when the current task is switched to again.
fn switch_to(next: NonNull<Task>, queue: VitalGuard<'_, RunQueue>) {
    // SAFETY: the current task lives while it is current.
    let previous = unsafe { current_pointer().as_ref() };
    // SAFETY: `next` is an idle task, or came off the queue and is not dead: the scheduler has a count of it.
    let next_task = unsafe { next.as_ref() };
    // SAFETY: the lock is held.
    unsafe { next_task.node() }.state.set(State::Running);
    leave_user_state(previous);
    let block = percpu::this_cpu();
    PREVIOUS[block.cpu().index()].store(current_pointer().expose_provenance().get(), Ordering::Relaxed);
    block.set_current(next.addr().get());
    flags::switched(previous, next_task);
    enter_user_state(next_task);
    mem::forget(queue);
    let (save, load) = (previous.context.get(), next_task.context.get().cast_const());
    // SAFETY: (1) `next` was suspended by this function or is new, and the lock kept everybody else from it; (2) its stack is
    // mapped in all address spaces (INV-MAPPED); (3) `save` is in a task struct, which lives as long as the task.
    unsafe { vmstack_arch::switch(save, load) };
    after_switch();
}

/// The first thing that a task does when it runs again, and what a new task does first of all: releases the run queue,
/// gives the dead task's stack back at once, and lets go of its struct, which waits for a grace period.
fn after_switch() {
    let previous = PREVIOUS[percpu::cpu_number().index()].load(Ordering::Relaxed);
    let Some(previous) = NonNull::new(VirtAddr::new(previous).as_mut_ptr::<Task>()) else { return };
    // Until the dead task's stack and struct are dealt with, nobody is killed here: they would be lost.
    let _section = Section::enter();
    // SAFETY: it was current a moment ago, and if it is dead its count is let go of below.
    let task = unsafe { previous.as_ref() };
    // While the lock is held: a task that is not dead may be gone as soon as it is not.
    // SAFETY: it is.
    let is_dead = unsafe { task.node() }.state.get() == State::Dead;
    // SAFETY: the lock was taken by the task that switched to this one, which forgot its guard.
    unsafe { QUEUE.force_unlock() };
    if is_dead {
        stacks::reap();
        control::reap();
        // SAFETY: the count is the one that `start` was given; `give_up` gives it up, and nobody else does.
        unsafe { rcu::call(&task.rcu, super::give_up) };
    }
    rcu::poll(true);
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
    // SAFETY: the scheduler, which switches to the task.
    memory::active::load(unsafe { task.memory_to_load() });
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
        hotplug::heed();
        crash::while_idle();
        cpu::disable_interrupts();
        rcu::idle();
        if goes_idle() {
            // SAFETY: nothing is held here.
            unsafe { cpu::wait_for_interrupt() };
        }
        rcu::awake();
        // SAFETY: nothing is held here.
        unsafe { cpu::enable_interrupts() };
    }
}

/// Whether nothing is ready. From then on this CPU is poked when something is. Interrupts are off.
fn goes_idle() -> bool {
    let mut queue = QUEUE.lock();
    let idle = queue.ready.is_empty() && !hotplug::is_leaving();
    queue.idle |= u64::from(idle) << percpu::cpu_number().index();
    idle
}

/// This CPU goes offline: nobody pokes it when there is something to do. Its idle task runs, with interrupts off.
pub(crate) fn cpu_goes_down() {
    let mut queue = QUEUE.lock();
    queue.idle &= !(1 << percpu::cpu_number().index());
    // What it ran is ready, and nobody was told.
    let idle = queue.take_idle(1);
    drop(queue);
    crate::interrupts::poke(idle);
}

/// Tasks that are not dead, idle ones apart.
pub(crate) fn tasks_alive() -> usize {
    QUEUE.lock().tasks
}

/// Lets some ticks go by, so that every CPU has switched and reaped what died on it.
pub(crate) fn settle() {
    sleep_until(ticks() + 4 * SLICE);
    rcu::settle();
}
