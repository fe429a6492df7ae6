//! The end of a thread, and of a process.
//!
//! ```text
//!   exit_group, a signal that kills, an overflow:    the end is decided ── every thread is told
//!   each thread, at its next return to user mode or in a wait that can be interrupted:
//!       a zero where CLONE_CHILD_CLEARTID said ── a lent memory given back ── its memory given up ── off its process's list
//!   the last of them:
//!       the files closed ── children to the reaper ── the parent told
//! ```
//!
//! A thread that is killed on the way does it again on its empty stack: each step may be done twice, and the end that is told is the
//! first that was decided. If it dies again it goes through the steps that are left, one by one ([`end_in_steps`]): where it dies once more
//! that step is left out, if it may be, and what it would have given back is given back when the structs go, or never.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::{Relaxed, Release, SeqCst};

use super::futex::{self, Futex};
use super::signal::Signal;
use super::thread::Stage;
use super::tree::{self, Tree, thread_of};
use super::{End, Process, Thread, clone, robust, signal};
use crate::arch::{cpu, provoke};
use crate::mm::memory::Memory;
use crate::oops::marks::{self, reached};
use crate::syscall::Errno;
use crate::task::flags::Flag;
use crate::task::kept::Kept;
use crate::task::{Task, names, sched};

/// How many threads are told at a time, with interrupts off.
const AT_ONCE: usize = 64;

/// Ends the current process: its other threads end as soon as they look.
pub(crate) fn exit_current(end: End) -> ! {
    if let Some(thread) = sched::current().thread() {
        end_process(thread.process(), end);
    }
    exit_thread(end)
}

/// Ends the current thread; the process goes on if there are others.
pub(crate) fn exit_thread(end: End) -> ! {
    let task = sched::current();
    provoke::ends();
    if let Some(thread) = task.thread() {
        say_goodbye(&task, thread);
        clone::give_memory_back(thread);
        reached(marks::Step::Forgetting);
        task.give_up_memory();
        reached(marks::Step::Forgotten);
        leave_list(&task, thread, end);
        signal::leave(thread.process(), thread.signals());
        leave_files(thread);
        finish_last(thread);
    }
    sched::exit()
}

/// A step of a thread's end.
struct Step {
    act: fn(&Task, &Thread, End),
    /// Whether it is left out if the thread dies in it. Without the others the process would never end; what is not in a section of
    /// theirs is a few calls, for which an empty stack has room.
    optional: bool,
}

/// All of them, in their order. The futexes come before the number: whoever waits for that may give up the memory that they lie in.
static STEPS: [Step; 9] = [
    Step { act: |_, thread, end| end_process(thread.process(), end), optional: false },
    Step { act: |task, thread, _| give_back_futexes(task, thread), optional: true },
    Step { act: |task, thread, _| clear_number(task, thread), optional: true },
    Step { act: |_, thread, _| clone::give_memory_back(thread), optional: false },
    Step { act: |task, _, _| task.give_up_memory(), optional: true },
    Step { act: leave_list, optional: false },
    Step { act: |_, thread, _| signal::leave(thread.process(), thread.signals()), optional: true },
    Step { act: |_, thread, _| leave_files(thread), optional: true },
    Step { act: |_, thread, _| finish_last(thread), optional: false },
];

/// How often a task can die of overflows and go on with its end: twice, and once more in each step.
pub(crate) const MOST_DEATHS: usize = 2 + STEPS.len();

/// Ends the current process, whose thread died on its way out: each step that was not begun yet.
pub(crate) fn end_in_steps(end: End) -> ! {
    let task = sched::current();
    if let Some(thread) = task.thread() {
        while let Some(step) = STEPS.get(thread.steps()) {
            if step.optional {
                // First: who dies in it goes on behind it.
                thread.next_step();
                (step.act)(&task, thread, end);
            } else {
                (step.act)(&task, thread, end);
                thread.next_step();
            }
        }
    }
    sched::exit()
}

/// The files of a process without threads are closed.
fn leave_files(thread: &Thread) {
    if thread.stage() == Stage::Last {
        thread.process().files().leave();
    }
}

/// What is left to do for a process without threads.
fn finish_last(thread: &Thread) {
    if thread.stage() == Stage::Last {
        // Once more, for a thread that died while it left them: whoever waits for the process may rely on that.
        thread.process().files().resign();
        signal::timers::forget(thread.process().id());
        announce(thread.process());
    }
}

/// Ends the current thread if it has to end: the last thing before it returns to user mode.
pub(crate) fn obey() {
    if sched::current().must_end() {
        // SAFETY: nothing is held on the way to user mode.
        unsafe { cpu::enable_interrupts() };
        exit_thread(End::Killed(signal::KILL));
    }
}

/// Decides that `process` ends, and how, unless that is decided, and tells its threads.
pub(crate) fn end_process(process: &Process, end: End) {
    process.decide(end);
    process.signals().end_stop();
    tell(process);
}

/// Tells every thread of `process` that it has to end, but those that were told.
fn tell(process: &Process) {
    let is_of = |thread: &Thread| core::ptr::eq(&**thread.process(), process) && thread.stage() == Stage::Listed;
    if process.thread_count() == 1 && sched::current().thread().is_some_and(is_of) {
        return;
    }
    while tell_some(process) {}
}

/// Tells some, who go to the end of the list. False if there are no more.
fn tell_some(process: &Process) -> bool {
    let tree = tree::lock();
    for _ in 0..AT_ONCE {
        let Some(task) = process.threads.first(&tree) else { return false };
        let thread = thread_of(task);
        if thread.told.swap(true, Relaxed) {
            return false;
        }
        process.threads.remove(task, &tree);
        process.threads.push(task, &tree);
        task.raise(Flag::Signal);
        sched::interrupt(task);
        clone::stop_lending(thread);
    }
    true
}

/// Tells those who wait for the end of `thread`, the current one, in its memory.
fn say_goodbye(task: &Task, thread: &Thread) {
    give_back_futexes(task, thread);
    clear_number(task, thread);
}

/// Gives back the robust futexes of `thread`, the current one. Who is killed in here begins it again: what is marked is not its any more.
fn give_back_futexes(task: &Task, thread: &Thread) {
    let list = thread.robust_list();
    // SAFETY: the task itself, which does not replace its memory meanwhile.
    if let Some(memory) = unsafe { task.memory_place().get() }
        && list != 0
    {
        robust::give_back(memory, list, thread.id());
    }
    thread.set_robust_list(0);
}

/// Writes a zero where those look who wait for the end of `thread`, the current one, if somebody else has that memory too. Once:
/// they may have made something else of it when it is done again.
fn clear_number(task: &Task, thread: &Thread) {
    let addr = thread.take_clear_child_tid();
    // SAFETY: the task itself, which does not replace its memory meanwhile.
    if let Some(memory) = unsafe { task.memory_place().get() }
        && addr != 0
        && Arc::strong_count(memory) > 1
    {
        // Where it cannot be written, nobody waits.
        let _written = memory.write_u32(addr, 0);
        let _woken = futex::wake(memory, Futex { addr, private: false }, 1, futex::ANY);
    }
}

/// Takes the current thread off its process's list. The last one decides how the process ends, if nobody has.
fn leave_list(task: &Task, thread: &Thread, end: End) {
    let process = thread.process();
    if thread.stage() == Stage::Listed {
        let tree = tree::lock();
        if tree.dismiss(task, process) {
            process.end.set(end);
            thread.set_stage(Stage::Last);
        } else {
            thread.set_stage(Stage::Off);
            if process.heir() != 0 {
                process.news.announce();
            }
        }
    }
}

/// Ends `process`, whose threads are gone: its children get another parent, and its parent is told, once.
fn announce(process: &Process) {
    let tree = tree::lock();
    if process.has_ended() {
        return;
    }
    tree.orphan(process, |child, parent| {
        if child.has_ended() {
            report(child, parent, &tree);
        }
    });
    // Release: whoever sees it sees how it ended.
    process.ended.store(true, Release);
    report(process, tree.parent(process), &tree);
}

/// Tells `parent` that `process` has ended; nobody has to wait for one that has no parent.
fn report(process: &Process, parent: Option<&Process>, tree: &Tree) {
    if parent.is_none_or(|parent| lets_go(process, parent, tree)) {
        let count = tree.uproot(process);
        process.news.announce();
        drop(count);
    }
    if let Some(parent) = parent {
        parent.news.announce();
    }
}

/// Sends `parent` the signal of its child's end. Whether it does not wait for its children.
fn lets_go(process: &Process, parent: &Process, tree: &Tree) -> bool {
    let signal = Signal::new(usize::from(process.exit_signal.load(Relaxed)));
    let end = process.end.get();
    signal.zip(end).is_some_and(|(signal, end)| signal::child_ended(tree, parent, signal, process.id(), end))
}

/// Ends the other threads of the current process, for `execve`. The caller has the process's number from here on.
///
/// # Errors
///
/// `EINTR`: another thread was first, or the process ends. This one ends as soon as it returns.
pub(crate) fn become_only_thread() -> Result<(), Errno> {
    let task = sched::current();
    let thread = task.thread().ok_or(Errno::SRCH)?;
    let process = thread.process();
    if process.thread_count() > 1 || thread.id() != process.id() {
        claim(process, &task, thread)?;
        tell(process);
        process.news.wait_for(|| (process.thread_count() == 1 || process.is_ending()).then_some(()));
        inherit(process, thread);
        names::copy(task.id(), process.id());
    }
    if thread.must_end() { Err(Errno::INTR) } else { Ok(()) }
}

/// Makes `thread` the one that the others make room for.
fn claim(process: &Process, task: &Task, thread: &Thread) -> Result<(), Errno> {
    let tree = tree::lock();
    if thread.must_end() {
        return Err(Errno::INTR);
    }
    thread.told.store(true, Relaxed);
    // Those that were told are behind those that were not.
    process.threads.remove(task, &tree);
    process.threads.push(task, &tree);
    process.heir.store(thread.id(), SeqCst);
    Ok(())
}

/// Makes `thread`, which is alone, the first thread of `process`.
fn inherit(process: &Process, thread: &Thread) {
    let _tree = tree::lock();
    process.heir.store(0, SeqCst);
    thread.told.store(false, Relaxed);
    thread.become_first();
}

/// Runs the current thread, the only one of its process, on `memory` from here on, with another program.
pub(crate) fn change_program(memory: Kept<Arc<Memory>>) {
    let task = sched::current();
    let Some(thread) = task.thread() else { return };
    say_goodbye(&task, thread);
    task.change_memory(memory);
    clone::give_memory_back(thread);
    thread.process().executed.store(true, Relaxed);
    thread.process().exit_signal.store(signal::CHLD.number(), Relaxed);
    signal::own::begin_program();
}

/// Kills all processes, lets nothing new in meanwhile, and waits until they are gone: after the first program's end.
pub(crate) fn end_all() {
    tree::lock().close(true);
    loop {
        let found = tree::lock().processes().find(|process| !process.is_ending()).map(Process::counted);
        let Some(process) = found else { break };
        end_process(&process, End::Killed(signal::KILL));
    }
    tree::wait_until_empty();
    tree::lock().close(false);
}
