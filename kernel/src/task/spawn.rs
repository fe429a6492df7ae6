//! New tasks of the kernel. Those of programs are made by `process::start`, for they are put into the tree on the way.

use super::{NewTask, Registers, State, TaskRef, TaskStack, names, never, next_id, sched};
use crate::stacks;
use crate::sync::Section;

/// Makes a kernel task that runs `entry(argument)` on a mapped stack, and queues it.
pub(crate) fn spawn_kernel(
    name: &str,
    entry: extern "C" fn(usize) -> !,
    argument: usize,
) -> Result<TaskRef, vmstack::AllocError<stacks::StackError>> {
    let id = next_id();
    let stack = TaskStack::Mapped(stacks::TASKS.alloc_waiting(id)?);
    let out_of_memory = vmstack::AllocError::NoFrames(stacks::StackError::OutOfFrames { wanted: 1 });
    spawn_on(id, name, stack, entry, argument).ok_or(out_of_memory)
}

/// Gives up the struct of a task that could run, on a stack of its own, as no code should: for the crash that shows what comes of it.
pub(crate) fn give_up_alive() {
    let id = next_id();
    let Some((stack, section)) = TaskStack::in_section(id) else { return };
    let (registers, entry) = (Registers::None, never);
    let new = NewTask { id, process: None, memory: None, stack, registers, entry, argument: 0, below: 0 };
    if let Some(task) = TaskRef::new(new, &section) {
        task.scheduling.state.set(State::Parked);
    }
}

/// Makes a kernel task that runs `entry(argument)` on `stack`, and queues it. `None` if there is no memory.
pub(crate) fn spawn_on(
    id: usize,
    name: &str,
    stack: TaskStack,
    entry: extern "C" fn(usize) -> !,
    argument: usize,
) -> Option<TaskRef> {
    names::set(id, name);
    let section = Section::enter();
    let registers = Registers::None;
    let new = NewTask { id, process: None, memory: None, stack, registers, entry, argument, below: 0 };
    let task = TaskRef::new(new, &section)?;
    sched::start(task.clone());
    Some(task)
}
