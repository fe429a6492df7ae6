//! Sending signals: to a thread, to a process, to all of a group.
//!
//! Senders hold the tree's lock, so whom they send to is there and has not ended.

use super::info::{Info, code};
use super::number::{self, Set, Signal};
use super::pending::Full;
use super::state::Sent;
use super::thread::ThreadSignals;
use crate::process::tree::{self, Tree};
use crate::process::{End, Process, clone};
use crate::syscall::Errno;
use crate::task::flags::Flag;
use crate::task::{Task, sched};

impl From<Full> for Errno {
    fn from(_: Full) -> Self {
        Self::AGAIN
    }
}

fn signals_of(task: &Task) -> &ThreadSignals {
    match task.thread() {
        Some(thread) => thread.signals(),
        None => unreachable!("only threads of programs are in the tree"),
    }
}

/// Makes `task` look for signals: on its way to user mode, or at once if it waits.
fn alert(task: &Task) {
    task.raise(Flag::Signal);
    sched::interrupt(task);
}

/// Makes all threads of `process` look.
pub(super) fn alert_all(tree: &Tree, process: &Process) {
    tree.threads(process).for_each(alert);
}

/// Makes threads of `process` look for those of its signals that are in `set`: whoever was to take them does not.
fn hand_on(tree: &Tree, process: &Process, mut set: Set) {
    while let Some(signal) = set.first() {
        set = set & !Set::of(signal);
        if let Some(task) = tree.threads(process).find(|task| signals_of(task).wants().has(signal)) {
            alert(task);
            doom(tree, process, task, signal);
        }
    }
}

/// Changes what the current thread blocks.
pub(super) fn set_blocked(process: &Process, thread: &ThreadSignals, set: Set) {
    let left = process.signals().set_blocked(thread, set);
    if !left.is_empty() {
        hand_on(&tree::lock(), process, left);
    }
}

/// What is to be done about the signals of a thread that ends: `thread`, the current one, which is off its process's list.
pub(crate) fn leave(process: &Process, thread: &ThreadSignals) {
    let left = process.signals().leave(thread);
    if !left.is_empty() {
        hand_on(&tree::lock(), process, left);
    }
}

/// Forgets `unwanted` signals of `process` and of all its threads.
fn forget(tree: &Tree, process: &Process, unwanted: Set) {
    process.signals().forget(unwanted);
    tree.threads(process).for_each(|task| process.signals().forget_own(signals_of(task), unwanted));
}

/// Forgets what waits of a signal that does nothing from here on.
pub(super) fn forget_everywhere(process: &Process, signal: Signal) {
    forget(&tree::lock(), process, Set::of(signal));
}

/// Decides the end of `process` if `signal`, which was sent to it and which `task` would take, is sure to end it, and makes all of its
/// threads look: also one that waits for its memory, and takes no signal while it does.
fn doom(tree: &Tree, process: &Process, task: &Task, signal: Signal) {
    if !process.signals().is_ended_by(signals_of(task), signal) || process.is_ending() {
        return;
    }
    process.decide(End::Killed(signal));
    for task in tree.threads(process) {
        alert(task);
        clone::stop_lending(tree::thread_of(task));
    }
}

/// What a signal does to the process before anybody takes it: stopping and going on cancel each other.
fn cancel(tree: &Tree, process: &Process, signal: Signal) {
    if Set::STOPPING.has(signal) {
        forget(tree, process, Set::of(number::CONT));
    } else if signal == number::CONT {
        forget(tree, process, Set::STOPPING);
    }
    if process.signals().set_going(signal) {
        tell_parent(tree, process, code::CONTINUED, number::CONT);
    }
}

/// Sends a signal to `process`: to the oldest of its threads that does not block it. `value_matters` if the sender wants to know when
/// what it says is lost.
pub(crate) fn to_process(tree: &Tree, process: &Process, info: &Info, value_matters: bool) -> Result<(), Full> {
    let Some(oldest) = tree.threads(process).next() else { return Ok(()) };
    cancel(tree, process, info.signal());
    if process.signals().add(signals_of(oldest), info, value_matters)? == Sent::Pending {
        hand_on(tree, process, Set::of(info.signal()));
    }
    Ok(())
}

/// Sends a signal to `task`, a thread of `process`.
pub(crate) fn to_thread(
    tree: &Tree,
    task: &Task,
    process: &Process,
    info: &Info,
    value_matters: bool,
) -> Result<(), Full> {
    cancel(tree, process, info.signal());
    let thread = signals_of(task);
    let sent = process.signals().add_own(thread, info, value_matters)?;
    if sent == Sent::Pending && thread.wants().has(info.signal()) {
        alert(task);
        doom(tree, process, task, info.signal());
    }
    Ok(())
}

/// Tells the parent of `process` that it was stopped or goes on, because of `signal`.
pub(super) fn tell_parent(tree: &Tree, process: &Process, code: i32, signal: Signal) {
    use super::action::flags::NO_CHILD_STOP;
    let Some(parent) = tree.parent(process) else { return };
    if !parent.signals().action(number::CHLD).has(NO_CHILD_STOP) {
        let info = Info::from_child(code, process.id(), signal.number());
        let _full_or_not = to_process(tree, parent, &info, false);
    }
    parent.child_has_news();
}

/// Sends `parent` the signal that it gets when its child `id` ends, and says whether nobody will wait for the child.
pub(crate) fn child_ended(tree: &Tree, parent: &Process, signal: Signal, id: usize, end: End) -> bool {
    let (code, status) = match end {
        End::Exited(status) => (code::EXITED, status),
        End::Killed(signal) => (code::KILLED, signal.number()),
    };
    let info = Info::from_child(code, id, status);
    let info = if signal == number::CHLD { info } else { Info::from_kernel(signal) };
    let _full_or_not = to_process(tree, parent, &info, false);
    signal == number::CHLD && parent.signals().lets_children_go()
}

/// Sends the current thread SIGPIPE: it wrote where nobody reads.
pub(crate) fn broken_pipe() {
    let task = sched::current();
    if let Some(thread) = task.thread() {
        let info = Info::from_process(number::PIPE, code::USER, thread.process().id());
        let _full_or_not = to_thread(&tree::lock(), &task, thread.process(), &info, false);
    }
}
