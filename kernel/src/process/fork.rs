//! New processes: the first one, and copies of others.

use alloc::sync::{Arc, Weak};

use vmstack::VirtAddr;

use super::exec::{self, Program, Strings};
use super::files::Files;
use super::{Memory, Process};
use crate::arch::features;
use crate::arch::frame::TrapFrame;
use crate::arch::trap;
use crate::boot;
use crate::syscall::Errno;
use crate::task::{self, FpuState, NewTask, Task, TaskStack, names, sched};

/// Starts the program at `path` in the archive, as a process without a parent.
pub(crate) fn start(path: &[u8], strings: &Strings) -> Result<Arc<Process>, Errno> {
    let entry = boot::archive().find(path).ok_or(Errno::NOENT)?;
    let Program { memory, entry, stack } = exec::build(path, entry.data, strings)?;
    let id = task::next_id();
    let process = Process::new(id, Weak::new(), memory, Files::standard()).ok_or(Errno::AGAIN)?;
    let fpu = FpuState::initial().ok_or(Errno::NOMEM)?;
    names::set(id, base_name(path));
    spawn(&process, fpu, &TrapFrame::user(entry, stack), false)?;
    Ok(process)
}

/// The part of a path after its last slash, as far as it is text.
pub(crate) fn base_name(path: &[u8]) -> &str {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    core::str::from_utf8(name).unwrap_or("?")
}

/// Copies the current process: its memory, its files and its registers. The child returns 0 from the call.
pub(crate) fn fork(frame: &TrapFrame) -> Result<usize, Errno> {
    let parent = super::current().ok_or(Errno::NOSYS)?;
    let memory = {
        let guard = parent.memory();
        let memory = guard.as_ref().ok_or(Errno::NOMEM)?;
        Memory { space: memory.space.duplicate()?, layout: memory.layout }
    };
    let files = parent.files().clone();
    let me = sched::current();
    let fpu = copy_fpu(&me).ok_or(Errno::NOMEM)?;
    let id = task::next_id();
    let child = Process::new(id, Arc::downgrade(&parent), memory, files).ok_or(Errno::AGAIN)?;
    let returning = TrapFrame { rax: 0, ..*frame };
    parent.adopt(Arc::clone(&child));
    names::copy(me.id(), id);
    if let Err(error) = spawn(&child, fpu, &returning, true) {
        child.abandon(&parent);
        return Err(error);
    }
    Ok(id)
}

/// The current task's vector registers: saved, and copied.
fn copy_fpu(me: &Task) -> Option<FpuState> {
    let _interrupts = crate::arch::cpu::InterruptsOff::new();
    // SAFETY: the task is the current one, with interrupts off.
    let fpu = unsafe { me.fpu() };
    fpu.save();
    fpu.duplicate()
}

/// Makes the task of `process`, which enters user mode with the registers of `frame`.
fn spawn(process: &Arc<Process>, fpu: FpuState, frame: &TrapFrame, forked: bool) -> Result<(), Errno> {
    let id = process.id();
    let stack = TaskStack::new(id).ok_or(Errno::NOMEM)?;
    let place = stack.top().wrapping_sub(size_of::<TrapFrame>());
    // SAFETY: the stack is new; its top is aligned, and a frame fits.
    unsafe { place.as_mut_ptr::<TrapFrame>().write(*frame) };
    let process = Some(Arc::clone(process));
    let below = size_of::<TrapFrame>();
    let task = Task::new(NewTask { id, process, stack, fpu, entry: enter, argument: place.get(), below });
    if forked {
        // The parent runs: its bases are in the registers.
        task.set_fs_base(features::user_fs_base());
        task.set_gs_base(features::user_gs_base());
    }
    sched::start(&Arc::new(task));
    Ok(())
}

/// The first thing that a process's task runs: it goes to user mode with the frame at the top of its stack.
extern "C" fn enter(frame: usize) -> ! {
    sched::begin();
    crate::arch::cpu::disable_interrupts();
    let frame = VirtAddr::new(frame).as_mut_ptr::<TrapFrame>();
    // SAFETY: `spawn` wrote it at the top of this very stack, and nobody else knows it.
    let frame = unsafe { &mut *frame };
    // SAFETY: (1) it is a frame of user mode; (2) nothing below it is needed; (3) the scheduler loaded the task's state; (4) it lies
    // on the task's own stack.
    unsafe { trap::enter_user(frame) }
}
