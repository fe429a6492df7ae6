//! The reference kernel: small, multi-processor, every kernel stack virtually mapped. It is the proof that the library works.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `arch` | the machine: entries, descriptor tables, APIC, serial ports |
//! | `mm` | frames, page tables, the heap, users' address spaces |
//! | `stacks` | the library's platform and the areas |
//! | `pressure` | when stacks that are kept ready are given back |
//! | `task` | tasks, the scheduler, waiting |
//! | `process`, `syscall` | programs, and what they may ask |
//! | `disk` | virtio-blk: requests in flight, a time limit, a reset |
//! | `dma` | memory for devices: buffers that own their frames, and the door for everything else |
//! | `block` | the storage stack: layers of block devices, to any depth |
//! | `fs` | files: what paths lead to, what is open, pipes, `/proc` |
//! | `hotplug` | CPUs that go and come |
//! | `hooks`, `interrupts`, `oops`, `trace`, `symbols` | faults, from the trap to the report |
//! | `crash`, `control`, `stale`, `story`, `count`, `requests`, `dice`, `thread_info` | what is provoked, shown and counted |
//! | `balance` | everything, counted again |
//!
//! The kernel holds nothing that the library should. It prints facts; the host judges them (`docs/console.md`).

#![no_std]
#![no_main]

extern crate alloc;

mod arch;
mod balance;
mod block;
mod boot;
mod console;
mod control;
mod count;
mod crash;
mod dice;
mod disk;
mod dma;
mod fs;
mod hooks;
mod hotplug;
mod interrupts;
mod mm;
mod oops;
mod options;
mod pressure;
mod process;
mod random;
mod requests;
mod run;
mod stacks;
mod stale;
mod story;
mod symbols;
mod sync;
mod syscall;
mod task;
mod text;
mod thread_info;
mod trace;
mod vmalloc;

use core::fmt::Write;
use core::panic::PanicInfo;

use vmstack::PhysAddr;

use crate::arch::cpu;
use crate::console::Console;

/// The boot CPU, from the loader.
pub(crate) extern "C" fn kernel_main(start_info: u64) -> ! {
    boot::start(PhysAddr::new(start_info))
}

/// Every other CPU.
pub(crate) extern "C" fn ap_main(_cpu: usize) -> ! {
    boot::start_ap()
}

/// A bug in the kernel: the machine stops in order, and says so.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    hooks::stop_machine();
    writeln!(Console::take(), "Kernel panic: {info}").ok();
    cpu::exit(17)
}
