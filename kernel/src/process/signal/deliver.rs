//! Delivering signals: what a thread does about them on its way back to user mode.
//!
//! A call that was interrupted has answered with one of the kernel's own errors. It is settled here: made again, or `EINTR`.
//!
//! | the call answered | no handler runs | a handler runs |
//! | --- | --- | --- |
//! | `RESTART` | again | again after the handler if it was set with `SA_RESTART`, else `EINTR` |
//! | `RESTART_ALWAYS_INTR` | again | `EINTR` |
//! | `RESTART_TIMED` | again, until the time that was noted | `EINTR` |
//!
//! # Context
//!
//! The thread itself, with nothing in its frames, interrupts on.

use super::action::{self, Action};
use super::info::{Info, code};
use super::number::{self, Effect, Set, Signal};
use super::state::Next;
use super::thread::{Restart, StackWords, ThreadSignals};
use super::{frame, send};
use crate::arch::frame::TrapFrame;
use crate::process::{self, End, Process, tree};
use crate::syscall::Errno;
use crate::task::flags::{self, Flag};
use crate::task::{Task, sched};
use crate::{println, syscall};

/// Acts upon the signals of the current thread, which is about to return to user mode with the registers of `frame`.
pub(crate) fn deliver(registers: &mut TrapFrame) {
    let task = sched::current();
    let Some(thread) = task.thread() else { return };
    let (own, process) = (thread.signals(), thread.process());
    loop {
        flags::lower(Flag::Signal);
        process.signals().wait_while_stopped(|| process.is_ending());
        process::obey();
        match process.signals().next(own) {
            Next::Nothing => break,
            Next::Stop(signal) => stop(process, signal),
            Next::Taken(info) => {
                if act(registers, &task, process, &info) {
                    return;
                }
            }
        }
    }
    settle_call(registers, own.restart(), None);
    if let Some(mask) = own.take_saved_mask() {
        send::set_blocked(process, own, mask);
    }
}

/// Makes the other threads stop too, and tells the parent.
fn stop(process: &Process, signal: Signal) {
    let tree = tree::lock();
    send::alert_all(&tree, process);
    send::tell_parent(&tree, process, code::STOPPED, signal);
}

/// Does what is to be done about a signal. Whether a handler runs.
fn act(registers: &mut TrapFrame, task: &Task, process: &Process, info: &Info) -> bool {
    let Some(own) = task.thread().map(process::Thread::signals) else { return false };
    let (action, effect) = process.signals().take_action(info.signal());
    match effect {
        Some(Effect::End) => die(registers, task, own, info),
        // One that stops does so when it is taken: somebody has changed his mind since.
        Some(Effect::Nothing | Effect::Stop) => false,
        None => {
            settle_call(registers, own.restart(), Some(&action));
            handle(registers, task, own, process, info, &action);
            true
        }
    }
}

/// Ends the process. Of a fault there is something to say.
fn die(registers: &TrapFrame, task: &Task, own: &ThreadSignals, info: &Info) -> ! {
    let signal = info.signal();
    if Set::OF_FAULTS.has(signal) && info.code() > code::USER {
        let [vector, _, address] = own.last_fault();
        let (ip, sp) = (registers.instruction(), registers.stack_pointer());
        let id = task.id();
        println!("pid {id}: killed by signal {signal}: vector {vector} at {ip}, address {address:#018x}, stack {sp}");
    }
    process::exit_current(End::Killed(signal))
}

/// Makes the registers those of the handler. If its frame cannot be written the signal is one of a bad access instead.
fn handle(
    registers: &mut TrapFrame,
    task: &Task,
    own: &ThreadSignals,
    process: &Process,
    info: &Info,
    action: &Action,
) {
    let signal = info.signal();
    let mask = own.saved_mask().unwrap_or_else(|| own.blocked());
    if frame::push(registers, task, own, mask, info, action).is_err() {
        let bad = Info::from_kernel(number::SEGV);
        process.signals().force(own, &bad, signal == number::SEGV);
        return;
    }
    own.take_saved_mask();
    let itself = if action.has(action::flags::NO_DEFER) { Set::EMPTY } else { Set::of(signal) };
    send::set_blocked(process, own, own.blocked() | action.mask | itself);
    let stack = own.stack().get();
    if stack.flags & StackWords::AUTO_DISARM != 0 {
        own.stack().set(StackWords::NONE);
    }
}

/// Settles the call that was interrupted, if one was: see the top of the file.
fn settle_call(registers: &mut TrapFrame, restart: &Restart, handler: Option<&Action>) {
    let Some(number) = registers.call_number() else { return };
    let Some(error) = Errno::of_interrupted(registers.rax) else { return };
    let again = handler.is_none_or(|action| error == Errno::RESTART && action.has(action::flags::RESTART));
    if !again {
        registers.rax = Errno::INTR.word();
    } else if error == Errno::RESTART_TIMED {
        if number != syscall::RESTART_CALL {
            restart.note_call(number);
        }
        registers.make_call_again(syscall::RESTART_CALL);
    } else {
        registers.make_call_again(number);
    }
}
