//! The scheduler: one queue, round robin, preemptive.
//!
//! The run queue's lock is held across a switch: the task that is switched *to* releases it. So nobody can take a task off the
//! queue while another CPU still stands on its stack, and a wake that comes between a task's decision to block and its switch
//! is not lost.
//!
//! Who waits is on one of the queues here, by links in its struct: nothing of a waiting task's stack is known to anybody
//! (INV-PRIVATE), and waiting allocates nothing. The *parking lot* ([`lot`](super::lot)) is for everything but time: a task parks on a key, an
//! address that it agrees on with whoever wakes it, after a last look under the run queue's lock. Locks, processes and events need
//! no queues of their own. Whoever waits for a time, in the lot or only asleep, is on the wheels too ([`timers`](super::timers)).
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

use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::lot::Choice;
use super::queue::RunQueue;
use super::ready;
use super::scheduling::NEVER;
use super::switch::leave_cpu;
use super::table;
use super::{Key, Node, State, Task, TaskRef, Wait, Woken};
use crate::arch::clock;
use crate::arch::percpu;
use crate::sync::{AnyLock, VitalLock, rcu};
use crate::{hotplug, interrupts};

pub(crate) use super::switch::{begin, cpu_goes_down, exit, idle, start_idle};

/// Timer interrupts a second.
pub(crate) const TICKS_PER_SECOND: u64 = 100;
/// Nanoseconds between them.
const TICK: u64 = clock::SECOND / TICKS_PER_SECOND;
/// Ticks that a task may run before another gets its turn.
const SLICE: u64 = 2;
/// How many tasks are looked at, and woken or moved, before the lock is let go of.
pub(super) const PIECE: usize = 128;

pub(super) static QUEUE: VitalLock<RunQueue> = VitalLock::new("run-queue", RunQueue::new());
static TICKS: AtomicU64 = AtomicU64::new(0);
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

pub(super) fn current_pointer() -> NonNull<Task> {
    let task = NonNull::new(percpu::current_task() as *mut Task);
    task.unwrap_or_else(|| panic!("there is no task on this CPU yet"))
}

/// Queues `task`, which is new, for the first time. From here on it is counted, and the scheduler keeps this count.
pub(crate) fn start(task: TaskRef) {
    let mut queue = QUEUE.lock();
    queue.tasks += 1;
    // SAFETY: (1) the count keeps the struct until the task is dead; (2) the lock is held.
    let node = unsafe { task.node() };
    let counted = task.into_raw();
    node.state.set(State::Queued);
    // SAFETY: the lock is held.
    node.cpus.set(unsafe { current().node() }.cpus.get());
    queue.place(node);
    // SAFETY: the lock is held; `leave_behind` takes it out when it is dead.
    unsafe { table::insert(counted) };
    let idle = queue.take_idle(1);
    drop(queue);
    interrupts::poke(idle);
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

/// The first tick that is not before the clock shows `nanoseconds`.
const fn ticks_at(nanoseconds: u64) -> u64 {
    nanoseconds.div_ceil(TICK)
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
    let mut walk = None;
    let mut done = false;
    while !done {
        let mut queue = QUEUE.lock();
        let walk = walk.get_or_insert_with(|| queue.lot.walk(key));
        let mut woken = 0;
        done = queue.choose(walk, |node| {
            let choice = choose(node);
            woken += usize::from(choice == Choice::Wake);
            choice
        });
        let idle = queue.take_idle(woken);
        drop(queue);
        interrupts::poke(idle);
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
    interrupts::poke(idle);
}

/// The CPUs that `task` may run on, by bit.
pub(crate) fn cpus_of(task: &Task) -> u64 {
    let _queue = QUEUE.lock();
    task.scheduling.cpus.get()
}

/// Has `task` run on `cpus` only, by bit: from its next turn on.
pub(crate) fn bind(task: &Task, cpus: u64) {
    let _queue = QUEUE.lock();
    task.scheduling.cpus.set(cpus);
}

/// Has the current task go on where it may run, if that is not here.
///
/// # Context
///
/// Tasks, with preemption on.
pub(crate) fn go_where_it_may() {
    leave_cpu(None, |node| !ready::suits(node.cpus.get(), 1 << percpu::cpu_number().index(), hotplug::away()));
}

/// Where `task` is: of the moment.
pub(crate) fn state_of(task: &Task) -> State {
    let _queue = QUEUE.lock();
    task.scheduling.state.get()
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
    // By the clock, not by counting: interrupts that were held up come in a row.
    let now = clock::now() / TICK;
    if now / SLICE != TICKS.swap(now, Ordering::Relaxed) / SLICE {
        percpu::this_cpu().set_need_resched(true);
    }
    let mut queue = QUEUE.lock();
    let woken = queue.wake_due(now);
    let idle = queue.take_idle(woken);
    drop(queue);
    interrupts::poke(idle);
}

/// Ticks of the clock, as of the timer's last interrupt.
pub(crate) fn ticks() -> u64 {
    TICKS.load(Ordering::Relaxed)
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
