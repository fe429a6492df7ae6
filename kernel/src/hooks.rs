//! What the architecture layer calls. See the table at the top of `arch/x86_64/mod.rs` for the stack and the context of each.

use core::sync::atomic::{AtomicBool, Ordering};

use vmstack::VirtAddr;

use crate::arch::cpu;
use crate::arch::frame::{TrapFrame, vector};
use crate::interrupts;
use crate::oops;
use crate::println;
use crate::process::{self, End, signal};
use crate::syscall;
use crate::task::sched;

/// The machine is being stopped: an NMI says so to the other CPUs.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// An exception, on the stack that was current.
pub(crate) fn exception(frame: &mut TrapFrame) {
    let address = if frame.vector == vector::PAGE_FAULT { cpu::read_cr2() } else { VirtAddr::default() };
    if frame.is_user() {
        user_fault(frame, address);
    } else if frame.vector == vector::PAGE_FAULT {
        oops::kernel_page_fault(frame, address);
    } else {
        oops::stop("an exception in the kernel", frame, address);
    }
}

/// A fault of a program: it is killed, as by a signal that nobody handles.
fn user_fault(frame: &TrapFrame, address: VirtAddr) {
    const DIVIDE: u64 = 0;
    const INVALID_OPCODE: u64 = 6;
    const FLOATING_POINT: [u64; 2] = [16, 19];
    let signal = match frame.vector {
        DIVIDE => signal::FPE,
        exception if FLOATING_POINT.contains(&exception) => signal::FPE,
        INVALID_OPCODE => signal::ILL,
        vector::DEBUG | vector::BREAKPOINT => signal::TRAP,
        _ => signal::SEGV,
    };
    let (id, ip, sp) = (sched::current().id(), frame.instruction(), frame.stack_pointer());
    println!("pid {id}: killed by signal {signal}: vector {} at {ip}, address {address}, stack {sp}", frame.vector);
    process::exit_current(End::Killed(signal));
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

/// The last stop before an entry is left: another task may be due.
pub(crate) fn before_return(_frame: &mut TrapFrame) {
    if crate::arch::percpu::this_cpu().need_resched() {
        sched::yield_now();
    }
}

/// A fault while a fault was being delivered: the stack could not be used. Never goes back.
pub(crate) fn double_fault(frame: &mut TrapFrame, address: VirtAddr) -> ! {
    oops::double_fault(frame, address)
}

/// A non-maskable interrupt: the machine is being stopped, or nobody knows.
pub(crate) fn nmi(_frame: &mut TrapFrame) {
    if STOPPING.load(Ordering::Relaxed) {
        cpu::halt_forever();
    }
}

pub(crate) fn machine_check(frame: &mut TrapFrame) {
    oops::stop("a machine check", frame, VirtAddr::default());
}

pub(crate) fn debug(frame: &mut TrapFrame) {
    oops::stop("a debug exception in the kernel", frame, VirtAddr::default());
}

/// A fault in the handler of a fault.
pub(crate) fn last_resort(frame: &mut TrapFrame, address: VirtAddr) -> ! {
    oops::stop("a fault in a fault handler", frame, address)
}

/// Stops the other CPUs for good. False if another CPU is doing that already.
pub(crate) fn stop_machine() -> bool {
    let first = !STOPPING.swap(true, Ordering::Relaxed);
    if first {
        interrupts::stop_others();
    }
    first
}
