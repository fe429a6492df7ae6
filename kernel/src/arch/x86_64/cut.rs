//! A system call that is cut short: the current task's next one runs out of stack where that was chosen beforehand.
//!
//! | [`Cut`] | where |
//! | --- | --- |
//! | `Room` | at the first word that does not fit: all of the call is served so far above the stack's bottom |
//! | `After` | behind its Nth instruction, however much stack is left |
//!
//! The second way steps through the call with the trap flag, counts its instructions in the handler of #DB, and then goes on with a
//! push at the bottom of the stack. It counts what the task itself runs, from the call's first instruction to the last before user mode,
//! signals that are delivered on the way included; neither the interrupts that come between nor what other tasks do while it waits.
//! In a section nobody is killed, so there it waits for the section's end: [`steps`] says where it was.
//!
//! ```text
//!   system call ── TF on ── 1 ── 2 ── ... ── switch away          switched to again ── ... ── N ── push at the bottom ── #DF
//!                                              └─ its return address is exchanged ─┘ which turns TF on again
//! ```
//!
//! # Context
//!
//! [`again_after`] in a task, [`serve`] at the entry of its next call, [`step`] in the handler of #DB. One user at a time.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use vmstack::VirtAddr;

use super::frame::TrapFrame;
use super::percpu;
use crate::hooks;

/// Where a call is to be cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// It is served below this place.
    Room(VirtAddr),
    /// Behind so many instructions.
    After(usize),
}

const RFLAGS_TF: u64 = 1 << 8;
/// From where a suspended context's registers begin to its return address: see `vmstack_arch`.
const RETURN_ADDRESS: usize = 6 * size_of::<usize>();

global_asm!(
    ".section .text.cut, \"ax\", @progbits",
    ".globl cut_push",
    ".type cut_push, @function",
    "cut_push:",                    // stack: nothing, at its bottom
    "pushq %rax",                   // the word that does not fit
    "ud2",                          // it did not
    ".size cut_push, . - cut_push",
    ".globl cut_resume",
    ".type cut_resume, @function",
    "cut_resume:",                  // stack: as the caller of the switch has it
    "pushq {return_to}(%rip)",      // stack: the return address that was exchanged for ours
    "pushfq",                       // stack: flags, return address
    "orl $0x100, (%rsp)",           // the trap flag
    "popfq",                        // on, from behind the next instruction
    "ret",
    ".size cut_resume, . - cut_resume",
    return_to = sym RETURN_TO,
    options(att_syntax)
);

unsafe extern "C" {
    safe static cut_push: u8;
    safe static cut_resume: u8;
}

/// The task that is stepped through, as the per-CPU block has it; zero: none.
static TASK: AtomicUsize = AtomicUsize::new(0);
/// Its stack.
static BOTTOM: AtomicUsize = AtomicUsize::new(0);
static TOP: AtomicUsize = AtomicUsize::new(0);
/// Instructions of it so far, and how many there are to be.
static STEPS: AtomicUsize = AtomicUsize::new(0);
static WANTED: AtomicUsize = AtomicUsize::new(0);
/// Its stack pointer when it was last seen on its way out of the CPU, and where it is to go on.
static LEFT_AT: AtomicUsize = AtomicUsize::new(0);
static RETURN_TO: AtomicUsize = AtomicUsize::new(0);

/// The task that is to overflow again when it dies, how often, and behind how many instructions; how often it died, and where it did again.
static AGAIN_TASK: AtomicUsize = AtomicUsize::new(0);
static AGAIN_TIMES: AtomicUsize = AtomicUsize::new(0);
static AGAIN_DEATHS: AtomicUsize = AtomicUsize::new(0);
static AGAIN_AFTER: AtomicUsize = AtomicUsize::new(0);
static AGAIN_AT: AtomicUsize = AtomicUsize::new(0);

/// How many instructions of the last call were stepped through, until it was cut or over.
pub(crate) fn steps() -> usize {
    STEPS.load(Relaxed)
}

/// Serves the call in `frame`, of the current task, whose stack begins at `bottom`.
pub(super) fn serve(frame: &mut TrapFrame, cut: Cut, bottom: VirtAddr) {
    STEPS.store(0, Relaxed);
    let frame = core::ptr::from_mut(frame).expose_provenance();
    match cut {
        Cut::Room(top) => {
            // SAFETY: the stack below the entry's frames is empty, and `provoke::cut_next_call` was promised that `top` lies there. A
            // stack that is too short for the call faults.
            unsafe { vmstack_arch::call_on(top, whole_call, frame) };
        }
        Cut::After(instructions) => {
            begin(instructions, bottom, VirtAddr::new(frame));
            whole_call(frame);
            TASK.store(0, Relaxed);
        }
    }
}

/// Has the current task, which dies of its next overflow, overflow again behind so many instructions of what it does then. Asked twice: and
/// once more behind as many of what it does after that.
pub(crate) fn again_after(instructions: usize) {
    let times = if AGAIN_TASK.load(Relaxed) == percpu::current_task() { AGAIN_TIMES.load(Relaxed) } else { 0 };
    AGAIN_AFTER.store(instructions.max(1), Relaxed);
    AGAIN_TIMES.store(times + 1, Relaxed);
    AGAIN_DEATHS.store(0, Relaxed);
    AGAIN_TASK.store(percpu::current_task(), Relaxed);
}

/// How many instructions there were until it overflowed again, the first time; zero if it did not.
pub(crate) fn again_at() -> usize {
    AGAIN_AT.load(Relaxed)
}

/// The current task, which is dying, goes on from here on its empty stack, `stack`.
pub(crate) fn dies((bottom, top): (VirtAddr, VirtAddr)) {
    if AGAIN_TASK.load(Relaxed) != percpu::current_task() {
        return;
    }
    let deaths = AGAIN_DEATHS.fetch_add(1, Relaxed);
    match deaths {
        0 => AGAIN_AT.store(0, Relaxed),
        1 => AGAIN_AT.store(STEPS.load(Relaxed), Relaxed),
        _ => {}
    }
    if deaths == AGAIN_TIMES.load(Relaxed) {
        AGAIN_TASK.store(0, Relaxed);
        return;
    }
    begin(AGAIN_AFTER.load(Relaxed), bottom, top);
}

/// Steps through what the current task does from here on.
fn begin(instructions: usize, bottom: VirtAddr, top: VirtAddr) {
    STEPS.store(0, Relaxed);
    BOTTOM.store(bottom.get(), Relaxed);
    TOP.store(top.get(), Relaxed);
    WANTED.store(instructions, Relaxed);
    TASK.store(percpu::current_task(), Relaxed);
    // SAFETY: the handler of #DB expects it, and turns it off again.
    unsafe { asm!("pushfq", "or dword ptr [rsp], {0}", "popfq", const RFLAGS_TF) };
}

/// The call, and what is to be done before user mode.
extern "C" fn whole_call(frame: usize) -> usize {
    // SAFETY: `serve` passes its own frame, and waits.
    let frame = unsafe { &mut *VirtAddr::new(frame).as_mut_ptr::<TrapFrame>() };
    hooks::system_call(frame);
    if percpu::this_cpu().flags().load(Relaxed) != 0 {
        hooks::before_return(frame);
    }
    0
}

/// A debug exception in the kernel: whether it is a step of ours. The call is cut here, if it is time.
pub(crate) fn step(frame: &mut TrapFrame) -> bool {
    if frame.rflags & RFLAGS_TF == 0 {
        return false;
    }
    let sp = frame.stack_pointer();
    let inside = (BOTTOM.load(Relaxed)..TOP.load(Relaxed)).contains(&sp.get());
    match TASK.load(Relaxed) {
        0 => frame.rflags &= !RFLAGS_TF,
        task if task == percpu::current_task() => {
            let steps = STEPS.fetch_add(1, Relaxed) + 1;
            let busy = percpu::vital() != 0 || percpu::this_cpu().irq_depth() != 0;
            if steps >= WANTED.load(Relaxed) && inside && !busy {
                cut(frame);
            }
        }
        // On its way out: the last that is seen of it is its stack pointer as it is saved.
        _ if inside => LEFT_AT.store(sp.get(), Relaxed),
        _ => leave(frame),
    }
    true
}

/// Goes on with a push at the bottom of the stack.
fn cut(frame: &mut TrapFrame) {
    TASK.store(0, Relaxed);
    frame.rflags &= !RFLAGS_TF;
    frame.rip = VirtAddr::of(&raw const cut_push).get() as u64;
    frame.rsp = BOTTOM.load(Relaxed) as u64;
}

/// Another task stands on its own stack: it is not stepped through, and the other one will be again when it comes back. The run queue
/// is locked, so that is not before this is done.
fn leave(frame: &mut TrapFrame) {
    frame.rflags &= !RFLAGS_TF;
    let place = VirtAddr::new(LEFT_AT.load(Relaxed)).wrapping_add(RETURN_ADDRESS).as_mut_ptr::<usize>();
    // SAFETY: the context of a task that was switched from just now; its stack is there until the lock is released.
    let return_to = unsafe { place.replace(VirtAddr::of(&raw const cut_resume).get()) };
    RETURN_TO.store(return_to, Relaxed);
}
