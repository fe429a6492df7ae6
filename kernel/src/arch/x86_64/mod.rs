//! x86-64: everything that the kernel needs from a PC.
//!
//! What this layer owns: the way from the loader to `kernel_main`, the boot page tables, the descriptor tables, the
//! entries and exits of the kernel, the local and I/O APICs, the serial ports, the clock, and starting the other CPUs.
//! What may not enter: tasks, stacks other than those of the image, memory allocation, the final page tables, and any
//! policy.
//!
//! # The contract
//!
//! The crate defines two functions that this layer enters once a CPU is up, interrupts off:
//!
//! ```text
//! extern "C" fn kernel_main(start_info: u64) -> !   the boot CPU, on stacks::BOOT, nothing set up: init_boot_cpu first
//! extern "C" fn ap_main(cpu: usize) -> !            every other CPU, on the stack it was given, set up like the first
//! ```
//!
//! and a module `hooks` that this layer calls. "Task" is whichever stack was interrupted. All are entered with
//! interrupts off and with GS at the per-CPU block.
//!
//! ```text
//! hook                                   stack         may sleep,  called for
//!                                                      switch
//! exception(&mut TrapFrame)              task          yes         vectors below 32, but for #DF, NMI, #MC, #DB and
//!                                                                  the kernel's #PF; #MC and #DB from user mode
//! page_fault(&mut TrapFrame, cr2)        that of #DF   no          #PF in the kernel: the stack that it came on may be
//!                                                                  at its end; leaves as `double_fault` does, or
//!                                                                  comes back to try again
//! nested_page_fault(.., cr2)             that of #DF   no          #PF in the handler of #DF or #PF: stop
//! interrupt(&mut TrapFrame)              interrupt     no          vectors from 32; irq_depth counts it already
//! system_call(&mut TrapFrame)            task, empty   yes         SYSCALL from user mode
//! before_return(&mut TrapFrame)          task          yes         after each of the three: to user mode always;
//!                                                                  to the kernel only if interrupts were on there,
//!                                                                  need_resched is set, irq_depth and preempt_count
//!                                                                  are 0, and may_be_preempted() says yes
//! double_fault(&mut TrapFrame, cr2) -> ! its IST       no          #DF; leaves by trap::run_on_stack, which frees
//!                                                                  this one, or by trap::abandon_interrupt or
//!                                                                  trap::abandon_nmi
//! nmi(&mut TrapFrame)                    its IST       no          NMI; those that come meanwhile make one more call
//! machine_check(&mut TrapFrame)          its IST       no          #MC that interrupted the kernel
//! debug(&mut TrapFrame)                  its IST       no          #DB that interrupted the kernel
//! last_resort(&mut TrapFrame, cr2) -> !  last resort   no          #DF, #MC or #DB inside its own handler: stop
//! ```
//!
//! Such a fault while `last_resort` runs calls no hook: the entry says so on the console and ends the machine, without a
//! stack. So does another CPU's, when the first has not stopped the machine within some seconds.
//!
//! `exception` reads CR2 first thing when the vector is #PF: any later fault overwrites it. NMIs do not.
//!
//! A hook that leaves for good (a killed task) must leave this CPU as an entry finds it: irq_depth zero or the
//! abandoned interrupt's, interrupts off until the next task turns them on.

use core::fmt;

use vmstack::Cpu;

pub(crate) mod acpi;
pub(crate) mod apic;
mod boot;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod cut;
pub(crate) mod edu;
pub(crate) mod edu_dma;
pub(crate) mod features;
pub(crate) mod fpu;
pub(crate) mod frame;
pub(crate) mod gdt;
mod idt;
pub(crate) mod ioapic;
pub(crate) mod layout;
pub(crate) mod memory;
mod msr;
pub(crate) mod pci;
pub(crate) mod percpu;
mod pic;
pub(crate) mod pit;
pub(crate) mod provoke;
mod rtc;
pub(crate) mod serial;
pub(crate) mod signal;
pub(crate) mod smp;
pub(crate) mod stacks;
pub(crate) mod start_info;
pub(crate) mod trap;

/// Why a CPU could not be set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CpuError {
    /// The kernel has no block for this CPU: it can use `percpu::MAX_CPUS`.
    TooManyCpus(Cpu),
}

impl fmt::Display for CpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyCpus(cpu) => write!(f, "CPU {cpu} is one more than the kernel can use ({})", percpu::MAX_CPUS),
        }
    }
}

/// Sets up the boot CPU: serial ports, per-CPU block, descriptor tables, CPU features, system calls. The stacks are
/// those of the image. After it faults are caught; interrupts are still off, and so is the APIC.
///
/// # Safety
///
/// Called once, first thing in `kernel_main`.
pub(crate) unsafe fn init_boot_cpu() -> Result<features::Features, CpuError> {
    serial::init();
    let stacks = gdt::CpuStacks {
        kernel: stacks::BOOT.top(),
        interrupt: stacks::INTERRUPT.top(),
        ist: [stacks::DOUBLE_FAULT.top(), stacks::NMI.top(), stacks::MACHINE_CHECK.top(), stacks::DEBUG.top()],
    };
    let cpu = Cpu::new(0);
    let block = percpu::prepare(cpu, features::initial_apic_id()).ok_or(CpuError::TooManyCpus(cpu))?;
    // SAFETY: the stacks are static and nobody else's (`stacks.rs`), and this CPU has not loaded its tables.
    unsafe { gdt::set_stacks(block, &stacks) };
    // SAFETY: no CPU has loaded the table: this is the first, and it does so below.
    unsafe { idt::fill() };
    // SAFETY: the block was prepared above, with its stacks, for this CPU.
    Ok(unsafe { load_tables(block) })
}

/// Loads the tables of `block`'s CPU on the CPU that runs this, and turns its features on.
///
/// # Safety
///
/// The block is this CPU's, prepared, with its stacks set; the interrupt table is filled in; interrupts are off.
unsafe fn load_tables(block: &'static percpu::PerCpu) -> features::Features {
    // SAFETY: the caller's promise.
    unsafe { gdt::load(block.cpu()) };
    // SAFETY: the block is this CPU's, and loading the GDT is what would have changed GS.
    unsafe { percpu::install(block) };
    // SAFETY: the table is filled in, the GDT, TSS and block are in place.
    unsafe { idt::load() };
    // SAFETY: interrupts are off, the GDT is loaded, and kernel mappings have no user bit, in boot tables and final
    // ones.
    unsafe { features::set_up() }
}
