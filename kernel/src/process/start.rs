//! New threads: the stack, the registers and the struct of one, and its first step into user mode; and the first thread of a
//! program that the kernel starts.
//!
//! From the stack on, everything that a thread is made of has an owner only in the maker's frames until the thread is in the tree. So
//! all of it happens in one section, in which nobody is killed; what takes long or may wait comes before, and is kept
//! ([`kept`](crate::task::kept)).

use alloc::sync::Arc;

use vmstack::VirtAddr;

use super::Process;
use super::exec::{self, Program, Strings};
use super::tree::{self, Tree};
use crate::arch::frame::TrapFrame;
use crate::arch::{cpu, trap};
use crate::fs::{self, node};
use crate::hooks;
use crate::mm::heap;
use crate::mm::memory::Memory;
use crate::sync::Section;
use crate::syscall::Errno;
use crate::task::{NewTask, Registers, Task, TaskRef, TaskStack, flags, names, sched};

/// Starts the program at `path` in the archive, as a process without a parent.
pub(crate) fn start(path: &[u8], strings: &Strings) -> Result<Arc<Process>, Errno> {
    start_as(path, strings, |_, _| ())
}

/// As [`start`], and the process gets all orphans.
pub(crate) fn start_reaper(path: &[u8], strings: &Strings) -> Result<Arc<Process>, Errno> {
    start_as(path, strings, |tree, process| tree.set_reaper(process.id()))
}

fn start_as(path: &[u8], strings: &Strings, then: impl FnOnce(&Tree, &Process)) -> Result<Arc<Process>, Errno> {
    let (file, data) = fs::program(node::ROOT, path.to_vec())?;
    let Program { memory, entry, stack } = exec::build(node::ROOT, path, data, strings)?;
    let id = tree::next_number()?;
    let process = heap::try_arc(Process::new(id, fs::standard()?))?;
    process.place().set_program(file, strings.arguments.to_shared().ok());
    names::set(id, base_name(path));
    let frame = TrapFrame::user(entry, stack);
    let make = |_: &Section| (Arc::clone(&process), Arc::clone(&memory));
    spawn(
        id,
        &frame,
        |_| (),
        Registers::Initial,
        make,
        |tree, task| {
            tree.admit(task, &process, tree::most_threads())?;
            tree.plant(Arc::clone(&process), None);
            then(tree, &process);
            Ok(())
        },
    )?;
    Ok(process)
}

/// The part of a path after its last slash, as far as it is text.
pub(crate) fn base_name(path: &[u8]) -> &str {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    core::str::from_utf8(name).unwrap_or("?")
}

/// Makes task `id`, which enters user mode with the registers of `frame`, but for what `adjust` changes of them, and queues it once
/// `admit` has put it into the tree.
pub(super) fn spawn(
    id: usize,
    frame: &TrapFrame,
    adjust: impl FnOnce(&mut TrapFrame),
    registers: Registers,
    make: impl FnOnce(&Section) -> (Arc<Process>, Arc<Memory>),
    admit: impl FnOnce(&Tree, &Task) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let (stack, section) = TaskStack::in_section(id).ok_or(Errno::AGAIN)?;
    let place = stack.top().wrapping_sub(size_of::<TrapFrame>());
    let top = place.as_mut_ptr::<TrapFrame>();
    // SAFETY: the stack is new; its top is aligned, and a frame fits.
    unsafe { top.copy_from_nonoverlapping(frame, 1) };
    // SAFETY: the frame was written just now, and nobody else knows it.
    adjust(unsafe { &mut *top });
    let (process, memory) = make(&section);
    let (process, memory, below) = (Some(process), Some(memory), size_of::<TrapFrame>());
    let new = NewTask { id, process, memory, stack, registers, entry: enter, argument: place.get(), below };
    let task = TaskRef::new(new, &section).ok_or(Errno::NOMEM)?;
    admit(&tree::lock(), &task)?;
    sched::start(task);
    drop(section);
    Ok(())
}

/// The first thing that a thread runs: it goes to user mode with the frame at the top of its stack.
extern "C" fn enter(frame: usize) -> ! {
    sched::begin();
    cpu::disable_interrupts();
    let frame = VirtAddr::new(frame).as_mut_ptr::<TrapFrame>();
    // SAFETY: `spawn` wrote it at the top of this very stack, and nobody else knows it.
    let frame = unsafe { &mut *frame };
    // As after a call: what was sent before it first ran is acted upon before its first instruction.
    if flags::any_of_current() {
        hooks::look(frame);
    }
    // SAFETY: (1) it is a frame of user mode; (2) nothing below it is needed; (3) the scheduler loaded the task's state; (4) it lies
    // on the task's own stack.
    unsafe { trap::enter_user(frame) }
}
