//! Virtually mapped stacks in Linux user space: the hosted port of vmstack.
//!
//! The parts of a kernel that the library needs are all there in a Linux process, and they are real:
//!
//! | in a kernel | here |
//! | --- | --- |
//! | physical memory | a memfd (`memory`) |
//! | the direct map | one shared mapping of all of it |
//! | page tables of the stack area | a reserved range, and `mmap(MAP_FIXED)` of one frame at a time (`space`) |
//! | CPUs | threads ([`Cpu`]) |
//! | NUMA nodes | shares of CPUs and frames, as a matter of numbers ([`Config::nodes`]) |
//! | interrupts off | nothing to turn off: tasks of one CPU are run by one thread and yield ([`yield_now`]) |
//! | the fault handler on its emergency stack | a SIGSEGV handler on an alternate stack (`signal`) |
//! | the context switch | the same one, `vmstack_arch::switch` |
//!
//! So an overflow here is an overflow: the MMU catches it, a handler on a stack of its own judges it, the task is killed
//! and the other tasks go on. The logic of the library is tested and measured here, at native speed, without an emulator.
//!
//! ```
//! use vmstack_hosted::{Config, Machine, Outcome, yield_now};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let machine = Machine::new(&Config::new(8, 64 << 10))?;
//!     let cpu = machine.cpu()?;
//!     // SAFETY: nothing outside the task points into its stack.
//!     unsafe { cpu.spawn("worker", || (0..3).for_each(|_| yield_now())) }?;
//!     let ended = cpu.run();
//!     assert!(matches!(ended[0].outcome, Outcome::Finished));
//!     Ok(())
//! }
//! ```
//!
//! # Areas of any size
//!
//! [`Areas`] is a vmalloc in a process (`vmstack-vmalloc`), beside machines or without one: memory of its own, whose frames come in runs, and areas
//! with guards that fault. [`Areas::mapped`] maps by `mmap`. [`Areas::tabled`] writes page tables that nobody walks: it measures what is left when the
//! host's mapping calls, which wait for each other, are taken away.
//!
//! | in a kernel | here |
//! | --- | --- |
//! | the page allocator | zones of 512 frames, a bitmap and a lock each (`runs`) |
//! | the kernel's pager | [`Paged`], over one of two kinds of page tables (`mapped`, `tabled`) |
//! | a TLB that still knows what was unmapped | mappings that stay until the shootdown of their batch |
//! | an oops that names an area | [`Stray`]: a task that leaves an area is killed for it |
//!
//! # What the port adds to a process
//!
//! A handler for SIGSEGV and SIGBUS, installed with the first [`Machine`] or [`Areas`] and kept. It acts on faults in the address ranges of
//! those that are alive, and passes every other one to the handler that was there before. An alternate signal stack for every
//! thread that is a [`Cpu`], for as long as it is one.
//!
//! # What it cannot do
//!
//! A task that is killed in the middle of `malloc` or of a print leaves the lock held that it took there: it is lost with
//! the frames (INV-ALONE). The port's own sections, where that would end all tasks, begin with a check that there is
//! headroom, so that an overflow comes before them. Linux shows no dirty bits cheaply, so a reused stack is cleared whole, unless [`Config::scrub`] says otherwise.
//!
//! In the order of the story: `sys` (system calls), `limit`, `division`, `frames`, `memory`, `space`, `plain`, `names`, `platform`, `thread`, `config`,
//! `machine`, `online`, `task`, `cpu`; then areas: `runs`, `paged`, `mapped`, `tabled`, `areas`, `stray`; then the fault path: `arch`, `trace`, `registry`, `chain`,
//! `alternate`, `signal`; then [`story`], [`crash`], [`dma`] and [`current`].

mod alternate;
mod arch;
mod areas;
mod chain;
mod config;
mod cpu;
pub mod crash;
pub mod current;
mod division;
pub mod dma;
mod frames;
mod limit;
mod machine;
mod mapped;
mod memory;
mod names;
mod online;
mod paged;
mod plain;
mod platform;
mod registry;
mod runs;
mod signal;
mod space;
pub mod story;
mod stray;
mod sys;
mod tabled;
mod task;
mod thread;
mod trace;

pub use areas::{AreaCpu, Areas, AreasConfig};
pub use config::Config;
pub use cpu::{Cpu, CpuError, SpawnError, yield_now};
pub use frames::{FrameCount, Frames};
pub use limit::max_mappings;
pub use machine::{Fragmentation, Machine, MachineError, SlotState};
pub use mapped::Mapped;
pub use paged::{Backing, Entry, Lending, Paged, RamRef};
pub use platform::{Guard, Hosted, HostedError};
pub use runs::Runs;
pub use stray::Stray;
pub use sys::Errno;
pub use tabled::Tabled;
pub use task::{Death, Ended, Outcome, TaskId};
pub use trace::Trace;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
