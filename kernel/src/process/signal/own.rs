//! What the current thread does with its own signals: blocks them, waits for them, and raises them by faults.

use vmstack::VirtAddr;

use super::action::Action;
use super::info::Info;
use super::number::{Set, Signal};
use super::send;
use super::thread::ThreadSignals;
use crate::arch::frame::TrapFrame;
use crate::mm::heap::OutOfHeap;
use crate::process::Thread;
use crate::syscall::Errno;
use crate::task::sched::{self, CurrentTask};
use crate::task::{Wait, Woken};

/// The current thread, which a program's call is sure to have.
fn with<T>(use_it: impl FnOnce(&CurrentTask, &Thread, &ThreadSignals) -> T) -> Result<T, Errno> {
    let task = sched::current();
    let thread = task.thread().ok_or(Errno::SRCH)?;
    Ok(use_it(&task, thread, thread.signals()))
}

/// Raises the signal of a fault in user mode: the instruction in `frame` did what it may not, with `address`. It cannot be
/// escaped: where it is blocked or ignored it ends the process.
pub(crate) fn fault(frame: &TrapFrame, signal: Signal, code: i32, address: VirtAddr, accessed: VirtAddr) {
    let info = Info::from_fault(signal, code, address.get());
    let raised = with(|_, thread, own| {
        own.note_fault([frame.vector, frame.error, accessed.get() as u64]);
        thread.process().signals().force(own, &info, false);
    });
    debug_assert!(raised.is_ok(), "user mode is a thread's");
}

/// How `sigprocmask` changes what is blocked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Block,
    Unblock,
    Set,
}

/// What the current thread blocks.
pub(crate) fn blocked() -> Result<Set, Errno> {
    with(|_, _, own| own.blocked())
}

/// Changes what the current thread blocks.
pub(crate) fn block(change: Change, set: Set) -> Result<(), Errno> {
    with(|_, thread, own| {
        let before = own.blocked();
        let after = match change {
            Change::Block => before | set,
            Change::Unblock => before & !set,
            Change::Set => set,
        };
        if after != before {
            send::set_blocked(thread.process(), own, after);
        }
    })
}

/// Signals that wait for the current thread because it blocks them.
pub(crate) fn pending() -> Result<Set, Errno> {
    with(|_, thread, own| thread.process().signals().pending(own))
}

/// Waits for a signal while `mask` is blocked, in place of what is. Answers with the error that such a wait ends with.
pub(crate) fn suspend(mask: Set) -> Errno {
    mask_for_now(mask).err().unwrap_or_else(pause)
}

/// Blocks `mask` in place of what is blocked, until the current call ends: its handlers go back to what was.
pub(crate) fn mask_for_now(mask: Set) -> Result<(), Errno> {
    with(|_, thread, own| {
        let before = own.blocked();
        send::set_blocked(thread.process(), own, mask);
        own.save_mask(before);
    })
}

/// Undoes [`mask_for_now`], for a call that was not interrupted.
pub(crate) fn unmask() -> Result<(), Errno> {
    with(|_, thread, own| {
        if let Some(mask) = own.take_saved_mask() {
            send::set_blocked(thread.process(), own, mask);
        }
    })
}

/// Waits for a signal. Answers with the error that such a wait ends with.
pub(crate) fn pause() -> Errno {
    while sched::sleep_for(&Wait { interruptible: true, ..Wait::FOR_EVER }) != Woken::Interrupted {}
    Errno::RESTART_NO_HANDLER
}

/// Takes one of the `wanted` signals, blocked ones included; waits for one until the clock shows `until`.
///
/// # Errors
///
/// `EAGAIN`: the time is over. Another signal came.
pub(crate) fn wait_for(wanted: Set, until: Option<u64>) -> Result<Info, Errno> {
    with(|_, thread, own| {
        let signals = thread.process().signals();
        let found = loop {
            if let Some(info) = signals.take_awaited(own, wanted & !Set::UNSTOPPABLE) {
                return Ok(info);
            }
            match sched::sleep_for(&Wait { until, interruptible: true, word: 0 }) {
                Woken::Called => {}
                Woken::TimedOut => break Err(Errno::AGAIN),
                Woken::Interrupted => break Err(Errno::RESTART_TIMED),
            }
        };
        // What came last: the wait may have been ended by it.
        let taken = signals.take_awaited(own, wanted & !Set::UNSTOPPABLE);
        send::set_blocked(thread.process(), own, own.blocked());
        taken.map_or(found, Ok)
    })?
}

/// Changes what is to be done about `signal`, and returns what was.
pub(crate) fn set_action(signal: Signal, action: Action) -> Result<Action, Errno> {
    with(|_, thread, _| {
        let (before, nothing) = thread.process().signals().set_action(signal, action)?;
        if nothing {
            send::forget_everywhere(thread.process(), signal);
        }
        Ok::<_, OutOfHeap>(before)
    })?
    .map_err(Errno::from)
}

/// What is to be done about `signal`.
pub(crate) fn action(signal: Signal) -> Result<Action, Errno> {
    with(|_, thread, _| thread.process().signals().action(signal))
}

/// The current process runs a new program: nothing is handled any more, and there is no alternate stack.
pub(crate) fn begin_program() {
    let begun = with(|_, thread, own| {
        thread.process().signals().forget_handlers();
        own.stack().set(super::StackWords::NONE);
    });
    debug_assert!(begun.is_ok(), "a program is run by a thread");
}
