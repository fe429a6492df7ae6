//! What the architecture layer calls. See the table at the top of `arch/x86_64/mod.rs` for the stack and the context of each.

use core::sync::atomic::{AtomicU32, Ordering};

use vmstack::VirtAddr;
use vmstack_paging::FaultKind;
use vmstack_paging::x86_64::decode_fault;

use crate::arch::frame::{TrapFrame, vector};
use crate::arch::serial::{self, Port};
use crate::arch::{cpu, cut, percpu, provoke};
use crate::interrupts;
use crate::mm::memory::{FaultAccess, UserFault};
use crate::oops;
use crate::process::signal::{self, Signal, code};
use crate::syscall;
use crate::task::flags::{self, Flag};
use crate::task::sched;

/// The CPU that stops the machine, plus one; zero while it runs. An NMI makes the other CPUs look.
static STOPPER: AtomicU32 = AtomicU32::new(0);

/// An exception but a page fault in the kernel, on the stack that was current.
pub(crate) fn exception(frame: &mut TrapFrame) {
    let address = if frame.vector == vector::PAGE_FAULT { cpu::read_cr2() } else { VirtAddr::default() };
    if frame.is_user() {
        user_fault(frame, address);
    } else if !provoke::is_expected(frame) {
        oops::stop("an exception in the kernel", frame, address);
    }
}

/// A page fault in the kernel, on the stack of the fault handlers.
pub(crate) fn page_fault(frame: &mut TrapFrame, address: VirtAddr) {
    oops::kernel_page_fault(frame, address);
}

/// A page fault in a fault handler.
pub(crate) fn nested_page_fault(frame: &mut TrapFrame, address: VirtAddr) {
    oops::fault_in_handler(frame, address)
}

/// A fault of a program: a page comes, or it is a signal that the program cannot escape.
fn user_fault(frame: &TrapFrame, address: VirtAddr) {
    let fault = match frame.vector {
        vector::PAGE_FAULT => page_in(frame, address).err().map(page_signal),
        _ => Some(fault_signal(frame)),
    };
    let Some((signal, code)) = fault else { return };
    let said = match (frame.vector, code) {
        (_, code::KERNEL) => VirtAddr::default(),
        (vector::PAGE_FAULT, _) => address,
        _ => frame.instruction(),
    };
    signal::fault(frame, signal, code, said, address);
}

/// What signal it is that a page cannot come, and of which kind.
const fn page_signal(fault: UserFault) -> (Signal, i32) {
    match fault {
        UserFault::OutOfMemory => (signal::KILL, code::KERNEL),
        UserFault::BeyondFile => (signal::BUS, code::BEYOND_FILE),
        UserFault::NotMapped => (signal::SEGV, code::NOT_MAPPED),
        UserFault::NotAllowed => (signal::SEGV, code::NOT_ALLOWED),
    }
}

/// What signal another exception in user mode is, and of which kind.
fn fault_signal(frame: &TrapFrame) -> (Signal, i32) {
    match frame.vector {
        vector::DIVIDE => (signal::FPE, code::INTEGER_DIVIDE),
        vector::X87 | vector::SIMD => (signal::FPE, code::FLOATING_INVALID),
        vector::INVALID_OPCODE => (signal::ILL, code::ILLEGAL_OPERAND),
        vector::DEBUG => (signal::TRAP, code::STEP),
        vector::BREAKPOINT => (signal::TRAP, code::KERNEL),
        vector::NO_SEGMENT | vector::STACK_SEGMENT => (signal::BUS, code::KERNEL),
        vector::ALIGNMENT => (signal::BUS, code::ALIGNMENT),
        _ => (signal::SEGV, code::KERNEL),
    }
}

/// Makes the page of `address` come, which a program has touched.
fn page_in(frame: &TrapFrame, address: VirtAddr) -> Result<(), UserFault> {
    let fault = decode_fault(frame.error);
    let access = match fault.kind {
        FaultKind::Write => FaultAccess::Write,
        FaultKind::Fetch => FaultAccess::Execute,
        _ => FaultAccess::Read,
    };
    let task = sched::current();
    // SAFETY: the task itself, which does not change its memory meanwhile.
    let memory = unsafe { task.memory_place().get() }.ok_or(UserFault::NotMapped)?;
    // What it allocates from here on it does for this fault.
    task.heap().reset();
    // SAFETY: the entry is complete, CR2 has been read, and no lock is held.
    unsafe { cpu::enable_interrupts() };
    let paged_in = memory.fault(address, access);
    cpu::disable_interrupts();
    paged_in
}

/// An interrupt, on the interrupt stack.
pub(crate) fn interrupt(frame: &mut TrapFrame) {
    interrupts::handle(frame);
}

/// A system call, on the task's stack. Interrupts may come while it is served.
pub(crate) fn system_call(frame: &mut TrapFrame) {
    // SAFETY: the entry is complete, and no lock is held.
    unsafe { cpu::enable_interrupts() };
    syscall::handle(frame);
    cpu::disable_interrupts();
}

/// Whether the current task, which runs in the kernel, has the room that being preempted takes. One that has not goes on: to be
/// interrupted is not its fault.
pub(crate) fn may_be_preempted() -> bool {
    let room =
        sched::current_if_any().and_then(|task| vmstack_arch::stack_pointer().offset_from(task.stack_bounds().0));
    room.is_some_and(|bytes| bytes > cpu::HEADROOM + PREEMPTION)
}

/// What a preemption takes of the stack before its section begins, in bytes.
const PREEMPTION: usize = 512;

/// The last stop before user mode, if a flag of this CPU is up.
pub(crate) fn before_return(frame: &mut TrapFrame) {
    if flags::of_current(Flag::Trace) {
        syscall::trace::returned(frame);
    }
    look(frame);
    if flags::of_current(Flag::Provoked) && !provoke::moves_entry() {
        flags::lower(Flag::Provoked);
    }
}

/// Does what the flags of this CPU ask for, until none is left that asks for something. With interrupts off, and they may be on meanwhile.
pub(crate) fn look(frame: &mut TrapFrame) {
    loop {
        if flags::of_current(Flag::Resched) {
            sched::yield_now();
        } else if flags::of_current(Flag::Signal) {
            // SAFETY: nothing is held on the way to user mode.
            unsafe { cpu::enable_interrupts() };
            signal::deliver(frame);
            cpu::disable_interrupts();
        } else {
            break;
        }
    }
}

/// The last stop before the kernel goes on where it was interrupted: another task is due.
pub(crate) fn preempt() {
    sched::yield_now();
}

/// A fault while a fault was being delivered: the stack could not be used. Never goes back.
pub(crate) fn double_fault(frame: &mut TrapFrame, address: VirtAddr) -> ! {
    provoke::fault_if_asked();
    oops::double_fault(frame, address)
}

/// A non-maskable interrupt: the machine is being stopped, or a crash script wants to see what happens. It takes no lock, and
/// nothing points into its frames.
pub(crate) fn nmi(_frame: &mut TrapFrame) {
    heed_stop();
    provoke::note_nmi();
    interrupts::nmi();
}

/// Ends this CPU here if another one stops the machine.
pub(crate) fn heed_stop() {
    let stopper = STOPPER.load(Ordering::Relaxed);
    if stopper != 0 && stopper != percpu::cpu_number().index() as u32 + 1 {
        cpu::halt_forever();
    }
}

/// Whether the machine is being stopped: whoever holds something then will not let go of it.
pub(crate) fn is_stopping() -> bool {
    STOPPER.load(Ordering::Relaxed) != 0
}

pub(crate) fn machine_check(frame: &mut TrapFrame) {
    oops::stop("a machine check", frame, VirtAddr::default());
}

pub(crate) fn debug(frame: &mut TrapFrame) {
    if !cut::step(frame) {
        oops::stop("a debug exception in the kernel", frame, VirtAddr::default());
    }
}

/// A fault in the handler of a fault.
pub(crate) fn last_resort(frame: &mut TrapFrame, address: VirtAddr) -> ! {
    oops::fault_in_handler(frame, address)
}

/// Stops the other CPUs for good, and comes back on the first CPU that calls it. Any other CPU ends here.
///
/// The same CPU again means that stopping failed: it says so, without a lock, and ends the machine.
pub(crate) fn stop_machine() {
    let me = percpu::cpu_number().index() as u32 + 1;
    match STOPPER.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => interrupts::stop_others(),
        Err(stopper) if stopper == me => {
            serial::write_bytes_forced(
                Port::Com1,
                b"Kernel panic: another fault while the machine was being stopped\n",
            );
            cpu::exit(17)
        }
        Err(_) => cpu::halt_forever(),
    }
}
