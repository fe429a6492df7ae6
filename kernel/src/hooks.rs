//! What the architecture layer calls: here, bodies that print and stop, so that the layer can be proved alone.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use vmstack::VirtAddr;

use crate::arch::{apic, cpu};
use crate::arch::frame::{TrapFrame, vector};
use crate::arch::percpu::{self, MAX_CPUS};
use crate::println;

/// Breakpoints that came and went.
pub(crate) static BREAKPOINTS: AtomicU32 = AtomicU32::new(0);
/// Timer interrupts, for each CPU.
pub(crate) static TICKS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

pub(crate) fn exception(frame: &mut TrapFrame) {
    let cr2 = cpu::read_cr2();
    match frame.vector {
        vector::BREAKPOINT => {
            BREAKPOINTS.fetch_add(1, Relaxed);
        }
        _ => stop("exception", frame, cr2),
    }
}

pub(crate) fn interrupt(frame: &mut TrapFrame) {
    let cpu = percpu::cpu_number().index();
    if frame.vector == u64::from(apic::VECTOR_TIMER) {
        TICKS[cpu].fetch_add(1, Relaxed);
    }
    apic::end_of_interrupt();
}



pub(crate) fn system_call(frame: &mut TrapFrame) {
    stop("system call", frame, VirtAddr::default())
}

pub(crate) fn before_return(_frame: &mut TrapFrame) {}

pub(crate) fn double_fault(frame: &mut TrapFrame, cr2: VirtAddr) -> ! {
    stop("double fault", frame, cr2)
}

pub(crate) fn nmi(_frame: &mut TrapFrame) {}

pub(crate) fn machine_check(frame: &mut TrapFrame) {
    stop("machine check", frame, VirtAddr::default())
}

pub(crate) fn debug(frame: &mut TrapFrame) {
    stop("debug", frame, VirtAddr::default())
}

pub(crate) fn last_resort(frame: &mut TrapFrame, cr2: VirtAddr) -> ! {
    stop("last resort", frame, cr2)
}

fn stop(what: &str, frame: &TrapFrame, cr2: VirtAddr) -> ! {
    println!("{what} on cpu {}, cr2 {cr2}\n{frame:?}", percpu::cpu_number());
    cpu::exit(17)
}
