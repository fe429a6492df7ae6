//! New threads: the stack, the registers and the struct of one, and its first step into user mode; and the first thread of a
//! program that the kernel starts.
//!
//! From the stack on, everything that a thread is made of has an owner only in the maker's frames until the thread is in the tree. So
//! all of it happens in one section, in which nobody is killed; what takes long or may wait comes before, and is kept
//! ([`kept`](crate::task::kept)).

use alloc::sync::Arc;

use vmstack::VirtAddr;

use super::exec::{self, Program, Strings};
use super::files::Files;
use super::tree::{self, Tree};
use super::{FileTable, Process, Thread, exit};
use crate::arch::frame::TrapFrame;
use crate::arch::{cpu, trap};
use crate::boot;
use crate::mm::heap;
use crate::mm::memory::Memory;
use crate::sync::Section;
use crate::syscall::Errno;
use crate::task::{FpuState, NewTask, Task, TaskStack, names, sched};

/// Starts the program at `path` in the archive, as a process without a parent.
pub(crate) fn start(path: &[u8], strings: &Strings) -> Result<Arc<Process>, Errno> {
    start_as(path, strings, |_, _| ())
}

/// As [`start`], and the process gets all orphans.
pub(crate) fn start_reaper(path: &[u8], strings: &Strings) -> Result<Arc<Process>, Errno> {
    start_as(path, strings, |tree, process| tree.set_reaper(process.id()))
}

fn start_as(path: &[u8], strings: &Strings, then: impl FnOnce(&Tree, &Process)) -> Result<Arc<Process>, Errno> {
    let entry = boot::archive().find(path).ok_or(Errno::NOENT)?;
    let Program { memory, entry, stack } = exec::build(path, entry.data, strings)?;
    let id = tree::next_number();
    let process = heap::try_arc(Process::new(id, FileTable::new(Files::standard())?))?;
    names::set(id, base_name(path));
    let frame = TrapFrame::user(entry, stack);
    let make = |_: &Section| (Thread::new(Arc::clone(&process), id), memory);
    spawn(id, &frame, FpuState::initial, make, |tree, task, _| {
        tree.admit(task, &process, tree::most_threads())?;
        tree.plant(Arc::clone(&process), None);
        then(tree, &process);
        Ok(())
    })?;
    Ok(process)
}

/// The part of a path after its last slash, as far as it is text.
pub(crate) fn base_name(path: &[u8]) -> &str {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    core::str::from_utf8(name).unwrap_or("?")
}

/// Makes task `id`, which enters user mode with the registers of `frame`, and queues it once `admit` has put it into the tree.
pub(super) fn spawn(
    id: usize,
    frame: &TrapFrame,
    fpu: impl FnOnce() -> Option<FpuState>,
    make: impl FnOnce(&Section) -> (Thread, Arc<Memory>),
    admit: impl FnOnce(&Tree, &Task, &Section) -> Result<(), Errno>,
) -> Result<(), Errno> {
    // If there is no stack at once, waiting may make one.
    let mut section = Section::enter();
    let mut stack = TaskStack::at_once(id);
    if stack.is_none() {
        drop(section);
        drop(TaskStack::new(id));
        section = Section::enter();
        stack = TaskStack::at_once(id);
    }
    let stack = stack.ok_or(Errno::AGAIN)?;
    let place = stack.top().wrapping_sub(size_of::<TrapFrame>());
    // SAFETY: the stack is new; its top is aligned, and a frame fits.
    unsafe { place.as_mut_ptr::<TrapFrame>().write(*frame) };
    let fpu = fpu().ok_or(Errno::NOMEM)?;
    let (thread, memory) = make(&section);
    let (thread, memory, below) = (Some(thread), Some(memory), size_of::<TrapFrame>());
    let task = Task::new(NewTask { id, thread, memory, stack, fpu, entry: enter, argument: place.get(), below });
    let task = heap::try_arc(task)?;
    admit(&tree::lock(), &task, &section)?;
    sched::start(&task);
    drop(task);
    drop(section);
    Ok(())
}

/// The first thing that a thread runs: it goes to user mode with the frame at the top of its stack.
extern "C" fn enter(frame: usize) -> ! {
    sched::begin();
    exit::obey();
    cpu::disable_interrupts();
    let frame = VirtAddr::new(frame).as_mut_ptr::<TrapFrame>();
    // SAFETY: `spawn` wrote it at the top of this very stack, and nobody else knows it.
    let frame = unsafe { &mut *frame };
    // SAFETY: (1) it is a frame of user mode; (2) nothing below it is needed; (3) the scheduler loaded the task's state; (4) it lies
    // on the task's own stack.
    unsafe { trap::enter_user(frame) }
}
