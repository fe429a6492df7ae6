//! New processes: the first one, and copies of others.

use alloc::sync::{Arc, Weak};

use vmstack::VirtAddr;

use super::exec::{self, Program, Strings};
use super::{Process, Thread};
use crate::arch::features;
use crate::arch::frame::TrapFrame;
use crate::arch::trap;
use crate::fs::{self, node};
use crate::mm::memory::Memory;
use crate::sync::Section;
use crate::syscall::Errno;
use crate::task::kept::Kept;
use crate::task::{self, NewTask, Registers, Task, TaskRef, TaskStack, names, sched};

/// Starts the program at `path` in the archive, as a process without a parent.
pub(crate) fn start(path: &[u8], strings: &Strings) -> Result<Arc<Process>, Errno> {
    let (file, data) = fs::program(node::ROOT, path.to_vec())?;
    let Program { memory, entry, stack } = exec::build(path, data, strings)?;
    let id = task::next_id();
    let process = Process::new(id, Weak::new(), fs::standard()?).ok_or(Errno::AGAIN)?;
    process.place().set_program(file, strings.arguments.to_shared().ok());
    names::set(id, base_name(path));
    spawn(&process, |_| memory, Registers::Initial, &TrapFrame::user(entry, stack))?;
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
    let me = sched::current();
    let id = task::next_id();
    let files = parent.files().duplicate()?;
    let section = Section::enter();
    let files = files.take(&section);
    drop(section);
    let child = Process::new(id, Arc::downgrade(&parent), files).ok_or(Errno::AGAIN)?;
    let returning = TrapFrame { rax: 0, ..*frame };
    // First a child without memory: if the parent is killed from here on, what the child has is found with it.
    let child = parent.adopt(child);
    names::copy(me.id(), id);
    child.place().copy_from(parent.place());
    let spawned = copy_memory(&me)
        .and_then(|memory| spawn(child, |section| memory.take(section), Registers::Current, &returning));
    if let Err(error) = spawned {
        child.abandon(&parent);
        return Err(error);
    }
    Ok(id)
}

/// A copy of the memory of the current task, which `me` is.
fn copy_memory(me: &Task) -> Result<Kept<Arc<Memory>>, Errno> {
    // SAFETY: the task itself, which does nothing else meanwhile.
    let memory = unsafe { me.memory_place().get() }.ok_or(Errno::NOMEM)?;
    Ok(memory.fork()?)
}

/// Makes the task of `process`, which enters user mode with the registers of `frame`.
fn spawn(
    process: &Process,
    memory: impl FnOnce(&Section) -> Arc<Memory>,
    registers: Registers,
    frame: &TrapFrame,
) -> Result<(), Errno> {
    let id = process.id();
    let (stack, section) = TaskStack::in_section(id).ok_or(Errno::NOMEM)?;
    let place = stack.top().wrapping_sub(size_of::<TrapFrame>());
    // SAFETY: the stack is new; its top is aligned, and a frame fits.
    unsafe { place.as_mut_ptr::<TrapFrame>().write(*frame) };
    let (thread, memory) = (Some(Thread::new(process.counted())), Some(memory(&section)));
    let below = size_of::<TrapFrame>();
    let new = NewTask { id, thread, memory, stack, registers, entry: enter, argument: place.get(), below };
    let task = TaskRef::new(new, &section).ok_or(Errno::NOMEM)?;
    if registers == Registers::Current {
        // The parent runs: its bases are in the registers.
        task.set_fs_base(features::user_fs_base());
        task.set_gs_base(features::user_gs_base());
    }
    sched::start(task);
    drop(section);
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
