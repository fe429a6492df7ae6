//! The switch: from one task to the next, with the run queue's lock held across it, and what comes right before and after.
//!
//! See the essay of `sched` for why. A task leaves its CPU in [`leave_cpu`] and nowhere else; whoever comes after it lets go of the lock,
//! and of the task if that is dead.

use core::mem;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use vmstack::VirtAddr;

use super::queue::RunQueue;
use super::sched::{QUEUE, current, current_pointer, ticks, yield_now};
use super::{Node, State, Task, TaskRef, TaskStack, flags, ready, table};
use crate::arch::cpu::{self, InterruptsOff};
use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::{features, gdt};
use crate::control;
use crate::crash;
use crate::hotplug;
use crate::interrupts;
use crate::mm::memory;
use crate::oops::marks::{Step, reached};
use crate::stacks::{self, shootdown};
use crate::sync::{Section, VitalGuard, rcu};

/// The task that each CPU switched away from, until the next one has let go of it.
static PREVIOUS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];
static IDLE: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// Makes the code that runs on `stack` this CPU's idle task.
///
/// # Panics
///
/// If there is no memory for it.
pub(crate) fn start_idle(stack: TaskStack) {
    let task = TaskRef::idle(stack, &Section::enter());
    let Some(task) = task.map(TaskRef::into_raw) else { panic!("there is no memory for an idle task") };
    let block = percpu::this_cpu();
    block.set_current(task.addr().get());
    IDLE[block.cpu().index()].store(task.expose_provenance().get(), Ordering::Relaxed);
}

/// Ends the current task: its stack goes to the next one.
pub(crate) fn exit() -> ! {
    reached(Step::Leaving);
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
pub(super) fn leave_cpu(section: Option<Section>, decide: impl FnOnce(Node) -> bool) {
    // Restored when the task comes back, however it was before: the lock's own guard goes to the next task.
    let _interrupts = InterruptsOff::new();
    shootdown::pass();
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
    let next = next_task(&mut queue, task, node.state.get());
    if next.is_some() {
        leave_behind(&mut queue, task, node);
    }
    // For the one who was left behind, or whom `next_task` found where it may not run any more: also if nobody comes next.
    if queue.ready.calls() {
        interrupts::poke(queue.take_idle(0));
    }
    if let Some(next) = next {
        switch_to(next, queue);
    }
}

/// Wakes some of those whose time has come and whom the last tick had to leave.
fn catch_up(queue: &mut RunQueue) {
    let woken = queue.wake_due(ticks());
    interrupts::poke(queue.take_idle(woken));
}

/// Who runs next on this CPU, if the state of `task`, the current one, is `state`; `None` if the task itself goes on.
fn next_task(queue: &mut RunQueue, task: &Task, state: State) -> Option<NonNull<Task>> {
    let (cpu, away) = (percpu::cpu_number().index(), hotplug::away());
    // A CPU that goes offline has nothing to run but its idle task.
    let leaving = away & 1 << cpu != 0;
    if !leaving && let Some(next) = queue.ready.pop(cpu, away) {
        return Some(Task::of(next));
    }
    // Nor does a task go on that is to run elsewhere.
    let stays = || !leaving && ready::suits(task.scheduling.cpus.get(), 1 << cpu, away);
    if state == State::Running && (task.is_idle() || stays()) {
        return None;
    }
    let idle = IDLE[cpu].load(Ordering::Relaxed);
    NonNull::new(VirtAddr::new(idle).as_mut_ptr())
}

/// Puts `task`, which another one follows on this CPU, where its state wants it.
fn leave_behind(queue: &mut RunQueue, task: &Task, node: Node) {
    if task.is_idle() {
        queue.ready.note_busy(percpu::cpu_number().index());
        return;
    }
    match node.state.get() {
        State::Dead => {
            queue.tasks -= 1;
            // SAFETY: the lock is held; `start` put it in.
            unsafe { table::remove(task) };
        }
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
        // Release: who sees it sees the stack given back.
        task.over.store(true, Ordering::Release);
        // SAFETY: the count is the one that `start` was given; `give_up` gives it up, and nobody else does.
        unsafe { rcu::call(&task.rcu, super::give_up) };
    }
    rcu::poll_switch();
}

/// What a new task runs first: it was switched to with the queue locked and interrupts off.
pub(crate) fn begin() {
    after_switch();
    // The guard that switched here belongs to another task: this one starts with interrupts on.
    // SAFETY: no lock is held, and the CPU is set up.
    unsafe { cpu::enable_interrupts() };
}

fn leave_user_state(task: &Task) {
    if let Some(process) = task.process() {
        task.end_turn(process);
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
        task.begin_turn();
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
        shootdown::idle();
        if goes_idle() {
            // SAFETY: nothing is held here.
            unsafe { cpu::wait_for_interrupt() };
        }
        shootdown::awake();
        rcu::awake();
        // SAFETY: nothing is held here.
        unsafe { cpu::enable_interrupts() };
    }
}

/// Whether nothing is ready. From then on this CPU is poked when something is. Interrupts are off.
fn goes_idle() -> bool {
    let mut queue = QUEUE.lock();
    let cpu = percpu::cpu_number().index();
    let idle = queue.ready.is_empty(cpu) && !hotplug::is_leaving();
    if idle {
        queue.ready.note_idle(cpu);
    }
    idle
}

/// This CPU goes offline: nobody pokes it when there is something to do. Its idle task runs, with interrupts off.
pub(crate) fn cpu_goes_down() {
    let mut queue = QUEUE.lock();
    queue.ready.leave(percpu::cpu_number().index(), hotplug::away());
    // What it ran is ready, and nobody was told.
    let idle = queue.take_idle(1);
    drop(queue);
    interrupts::poke(idle);
}
