//! Handlers' frames: written to a thread's stack, and read back when the handler returns.
//!
//! What they look like is the architecture's (`arch/signal.rs`). A frame that cannot be written or read, and registers that user mode cannot
//! have, are a bad access of the program's.

use super::action::{Action, flags};
use super::info::Info;
use super::number::{self, Set};
use super::send;
use super::thread::{StackWords, ThreadSignals};
use crate::arch::cpu::InterruptsOff;
use crate::arch::frame::TrapFrame;
use crate::arch::signal::{self, Call, FpuImage, Places};
use crate::mm::memory::Memory;
use crate::mm::space::SpaceError;
use crate::syscall::Errno;
use crate::task::{Task, sched};

/// What the memory of the current task, which `task` is, gives.
fn memory(task: &Task) -> Result<&Memory, Errno> {
    // SAFETY: the task itself, which does not replace its memory while it is in here.
    unsafe { task.memory_place().get() }.map(|memory| &**memory).ok_or(Errno::FAULT)
}

fn write_words(memory: &Memory, addr: usize, words: &[u64]) -> Result<(), SpaceError> {
    words.iter().enumerate().try_for_each(|(index, word)| memory.write(addr + index * 8, &word.to_le_bytes()))
}

/// The vector registers of the current task, which `task` is.
fn save_fpu(task: &Task, image: &mut FpuImage) {
    let _interrupts = InterruptsOff::new();
    // SAFETY: the task is the current one, with interrupts off.
    unsafe { task.fpu() }.copy_to(image.area());
    image.describe();
}

fn load_fpu(task: &Task, image: &mut FpuImage) -> Result<(), Errno> {
    image.accept().then_some(()).ok_or(Errno::FAULT)?;
    let _interrupts = InterruptsOff::new();
    // SAFETY: the task is the current one, with interrupts off.
    let fpu = unsafe { task.fpu() };
    // SAFETY: the image was accepted.
    unsafe { fpu.load(image.area()) };
    Ok(())
}

/// The end of the stack that a handler runs on, if that is not the one that its thread is on.
fn other_stack(registers: &TrapFrame, stack: StackWords, action: &Action) -> Option<usize> {
    let wanted = action.has(flags::ON_STACK) && stack.flags & StackWords::DISABLED == 0;
    let there = stack.is_under(registers.rsp as usize);
    (wanted && !there).then(|| stack.base.wrapping_add(stack.bytes))
}

/// Writes the frame of a handler of `task`, the current one, and makes `registers` those with which it starts.
pub(super) fn push(
    registers: &mut TrapFrame,
    task: &Task,
    own: &ThreadSignals,
    mask: Set,
    info: &Info,
    action: &Action,
) -> Result<(), Errno> {
    if !action.has(flags::RESTORER) {
        return Err(Errno::FAULT);
    }
    let stack = own.stack().get();
    let other = other_stack(registers, stack, action);
    let places = Places::under(registers, other).ok_or(Errno::FAULT)?;
    if (other.is_some() || stack.is_under(registers.rsp as usize)) && !stack.holds(places.frame) {
        // It would run over the end of the alternate stack.
        return Err(Errno::FAULT);
    }
    let call = Call {
        signal: info.signal().number(),
        info: info.to_words(),
        handler: action.handler,
        restorer: action.restorer,
        mask: mask.0,
        stack: [stack.base as u64, u64::from(stack.shown_flags(registers.rsp as usize)), stack.bytes as u64],
        fault: own.last_fault(),
    };
    write_fpu(task, places.fpu)?;
    write_words(memory(task)?, places.frame, &signal::frame(registers, &call, places))?;
    signal::enter_handler(registers, &call, places);
    Ok(())
}

fn write_fpu(task: &Task, addr: usize) -> Result<(), Errno> {
    let mut image = FpuImage::new();
    save_fpu(task, &mut image);
    Ok(memory(task)?.write(addr, image.bytes())?)
}

/// Goes back to what a handler of the current thread interrupted. A frame that cannot be read is a bad access.
pub(crate) fn pop(registers: &mut TrapFrame) {
    let task = sched::current();
    let Some(thread) = task.thread() else { return };
    let own = thread.signals();
    // What the handler did since is not what the frame is about: a call that the frame goes on with is `EINTR`, as on Linux.
    own.restart().forget();
    match read(registers, &task) {
        Ok((mask, stack)) => {
            send::set_blocked(thread.process(), own, mask & !Set::UNSTOPPABLE);
            // As Linux: a stack that cannot be is left as it was.
            let _refused = own.stack().change(stack, registers.rsp as usize);
        }
        Err(_) => thread.process().signals().force(own, &Info::from_kernel(number::SEGV), false),
    }
}

/// Reads the frame at the stack pointer into `registers`.
fn read(registers: &mut TrapFrame, task: &Task) -> Result<(Set, StackWords), Errno> {
    let mut words = [0_u64; signal::CONTEXT_WORDS];
    let start = registers.rsp as usize;
    for (index, word) in words.iter_mut().enumerate() {
        let mut bytes = [0; 8];
        memory(task)?.read(start.checked_add(index * 8).ok_or(Errno::FAULT)?, &mut bytes)?;
        *word = u64::from_le_bytes(bytes);
    }
    let returned = signal::leave_handler(registers, &words);
    read_fpu(task, returned.fpu)?;
    let [base, flags, bytes] = returned.stack;
    let stack = StackWords { base: base as usize, flags: flags as u32, bytes: bytes as usize };
    Ok((Set(returned.mask), stack))
}

fn read_fpu(task: &Task, addr: usize) -> Result<(), Errno> {
    if addr == 0 {
        task.reset_fpu();
        return Ok(());
    }
    let mut image = FpuImage::new();
    let memory = memory(task)?;
    // A program may give no more than the old registers.
    if memory.read(addr, image.bytes()).is_err() {
        memory.read(addr, &mut image.bytes()[..FpuImage::LEGACY_BYTES])?;
    }
    load_fpu(task, &mut image)
}
