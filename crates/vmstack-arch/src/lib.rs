//! The assembly that a kernel needs around its stacks: context switch, TLB instructions, entry to a known-good stack,
//! and a frame-pointer walk that cannot fault.
//!
//! One module an architecture, all with the same set of names; the crate exports the one that it is compiled for. What an
//! architecture module defines:
//!
//! | name | what |
//! | --- | --- |
//! | `Context` | where a suspended context stands: its stack pointer |
//! | `Context::new(stack top, entry, argument)` | a context that starts in `entry(argument)` on a fresh stack |
//! | `switch(save, load)` | suspends the running context and resumes another |
//! | `resume(load) -> !` | resumes a context and forgets the running one |
//! | `call_on(stack top, function, argument)` | calls a function on another stack, and comes back |
//! | `frame_pointer()` | the caller's frame pointer, where a walk starts |
//! | `Frame`, `frames(frame pointer, low, high)` | the walk |
//! | `stack_pointer()` | the current stack pointer |
//! | `tlb` | flush one page, flush everything; privileged |
//!
//! Nothing else of the project has assembly for these, and nothing outside the modules asks for the architecture.
#![cfg_attr(not(test), no_std)]

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::{Context, call_on, frame_pointer, resume, stack_pointer, switch, tlb};

#[cfg(not(target_arch = "x86_64"))]
compile_error!("vmstack-arch has no module for this architecture yet");

mod walk;
pub use walk::{Frame, Walk, frames};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
